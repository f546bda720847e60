//! What the API server refused, or why it was not heard, for people: in four parts, with the right that is missing.

use kube::core::Status;
use lockstep_core::problem::{Problem, exit};
use std::error::Error;

/// What was asked of the API server.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The right that it takes.
    pub verb: &'static str,
    /// On what.
    pub what: &'static str,
    /// Which.
    pub name: Option<&'a str>,
    /// Whether of all namespaces.
    pub everywhere: bool,
}

impl<'a> Asked<'a> {
    /// Something of one run.
    #[must_use]
    pub const fn run(verb: &'static str, name: &'a str) -> Self {
        Self { verb, what: "benchmarkruns", name: Some(name), everywhere: false }
    }

    /// The ConfigMap of a report.
    #[must_use]
    pub const fn config_map(name: &'a str) -> Self {
        Self { verb: "get", what: "configmaps", name: Some(name), everywhere: false }
    }
}

/// An error and what is behind it, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Whether an object is not there, while its kind is.
#[must_use]
pub fn is_missing_object(status: &Status) -> bool {
    status.is_not_found() && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// Whether the namespace is not there in which something was to be created.
fn is_missing_namespace(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// Whether asking again cannot help.
#[must_use]
pub fn is_final(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 401 | 403 | 404 | 405 | 422),
        kube::Error::Auth(_) => true,
        _ => false,
    }
}

/// What is wrong, and what to do.
#[must_use]
pub fn problem(asked: &Asked<'_>, namespace: &str, url: &str, error: &kube::Error) -> Box<Problem> {
    let Asked { verb, what, name, everywhere } = *asked;
    let group = if what == "benchmarkruns" { "benchmarkruns.lockstep.dev" } else { what };
    let place = if everywhere { "any namespace".to_owned() } else { format!("namespace {namespace}") };
    let of = name.map(|name| format!(" {name}")).unwrap_or_default();
    let scope = if everywhere { "-A".to_owned() } else { format!("-n {namespace}") };
    let problem = match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            let message = format!("you may not {verb} {what}{of} in {place}");
            Problem::new(message, status.message.clone())
                .likely(format!("your role lacks the verb {verb} on {group}"))
                .next(format!("kubectl auth can-i {verb} {group} {scope}"))
                .next("ask whoever manages the namespace's roles for it; docs/security.md lists what is needed")
                .exit(exit::REFUSED)
        }
        kube::Error::Api(status) if status.code == 401 => {
            Problem::new(format!("{url} does not know who you are"), status.message.clone())
                .likely("your login has expired")
                .next("kubectl auth whoami")
                .exit(exit::REFUSED)
        }
        kube::Error::Api(status) if is_missing_namespace(status) => {
            Problem::new(format!("there is no namespace {namespace}"), status.message.clone())
                .likely("its name is misspelt, or another cluster is meant: --context NAME")
                .next("kubectl get namespaces")
                .next(format!("kubectl create namespace {namespace}"))
                .exit(exit::REFUSED)
        }
        // Without the kind there is no path, and the answer is no Status.
        kube::Error::Api(status) if status.code == 404 && what == "benchmarkruns" => {
            Problem::new(format!("{url} has no BenchmarkRuns"), status.message.trim().to_owned())
                .likely("Lockstep is not installed there")
                .likely("another cluster is meant: --context NAME")
                .next("kubectl get crd benchmarkruns.lockstep.dev")
                .next("helm install lockstep deploy/helm/lockstep -n lockstep-system --create-namespace; docs/installing.md")
                .exit(exit::REFUSED)
        }
        kube::Error::Api(status) => {
            let message = format!("{url} refused to {verb} {what}{of}");
            Problem::new(message, status.message.clone()).exit(exit::REFUSED)
        }
        kube::Error::Auth(_) => Problem::new(format!("there are no credentials for {url}"), chain(error))
            .likely("the login helper of the kubeconfig is missing, or wants you to log in")
            .next("kubectl auth whoami")
            .exit(exit::REFUSED),
        error => Problem::new(format!("the API server {url} does not answer"), chain(error))
            .likely("the cluster is off, or behind a VPN or proxy that is not up")
            .likely("another cluster is meant: --context NAME")
            .next("kubectl version")
            .exit(exit::UNREACHABLE),
    };
    Box::new(problem)
}
