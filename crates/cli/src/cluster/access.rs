//! Which cluster, which namespace, and a client for it: as kubectl finds them.

use super::object::Run;
use super::trouble::{self, Asked};
use kube::api::{Api, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Client, Config};
use lockstep_api::BenchmarkRun;
use lockstep_api::manifest::suggest::closest;
use lockstep_core::problem::{Problem, exit};
use serde_json::Value;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Objects per page of a list.
const PAGE: u32 = 500;

/// What was said on the command line about which cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// A kubeconfig, instead of `KUBECONFIG` and `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it, instead of the current one.
    pub context: Option<String>,
    /// A namespace, instead of the context's.
    pub namespace: Option<String>,
}

impl Choice {
    /// Whether anything was said.
    #[must_use]
    pub fn is_made(&self) -> bool {
        *self != Self::default()
    }
}

/// A cluster, and the namespace that is meant.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Where the API server is.
    pub url: String,
    /// The namespace that is meant.
    pub namespace: String,
}

/// Finds the cluster. Nothing is asked of it yet.
///
/// # Errors
/// No configuration, or one that does not make sense.
pub async fn connect(choice: &Choice) -> Result<Cluster, Box<Problem>> {
    let options = KubeConfigOptions { context: choice.context.clone(), ..KubeConfigOptions::default() };
    let config = match &choice.kubeconfig {
        Some(path) => match Kubeconfig::read_from(path) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        },
        None => Config::from_kubeconfig(&options).await,
    };
    // In a pod there is no kubeconfig, but a ServiceAccount.
    let config = match config {
        Err(_) if choice.context.is_none() && choice.kubeconfig.is_none() && Config::incluster().is_ok() => {
            Config::incluster().map_err(|_| None)
        }
        other => other.map_err(Some),
    };
    let mut config =
        config.map_err(|error| no_configuration(choice, error.as_ref().map(|error| error as &dyn Error)))?;
    config.connect_timeout = Some(CONNECT_LIMIT);
    // A person waits: say what is wrong rather than try for minutes.
    config.default_retry = false;
    let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let namespace = choice.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| no_configuration(choice, Some(&error)))?;
    Ok(Cluster { client, url, namespace })
}

fn no_configuration(choice: &Choice, error: Option<&dyn Error>) -> Box<Problem> {
    let cause = error.map_or_else(|| "the pod's ServiceAccount cannot be used".to_owned(), trouble::chain);
    let problem = Problem::new("no cluster is configured", cause);
    let problem = match (&choice.context, &choice.kubeconfig) {
        (Some(context), _) => problem
            .likely(format!("there is no context {context} in the kubeconfig"))
            .next("kubectl config get-contexts"),
        (None, Some(path)) => problem.likely(format!("{} is no kubeconfig", path.display())),
        (None, None) => problem
            .likely("there is no kubeconfig yet, or it names no current context")
            .next("kubectl config get-contexts"),
    };
    Box::new(
        problem.next("--kubeconfig FILE and --context NAME say which cluster is meant").exit(exit::REFUSED),
    )
}

impl Cluster {
    /// Runs of the namespace.
    #[must_use]
    pub fn runs(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource())
    }

    /// ConfigMaps of the namespace.
    #[must_use]
    pub fn config_maps(&self) -> Api<k8s_openapi::api::core::v1::ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One run.
    ///
    /// # Errors
    /// There is none, or nobody says.
    pub async fn run(&self, name: &str) -> Result<Run, Box<Problem>> {
        match self.runs().get(name).await {
            Ok(object) => Ok(Run::of(object)),
            Err(kube::Error::Api(status)) if trouble::is_missing_object(&status) => {
                Err(self.missing(name).await)
            }
            Err(error) => Err(self.trouble(&Asked::run("get", name), &error)),
        }
    }

    /// Creates a run. A field that the API server does not know is refused, not dropped.
    ///
    /// # Errors
    /// One of its name is there already, or the API server does not take it.
    pub async fn create(&self, document: &Value) -> Result<Run, Box<Problem>> {
        let url = format!("{}?fieldManager=lockstep&fieldValidation=Strict", self.runs().resource_url());
        let request = http::Request::post(url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(document).unwrap_or_default());
        let created = match request {
            Ok(request) => self.client.request(request).await,
            Err(error) => Err(kube::Error::HttpError(error)),
        };
        let name = document["metadata"]["name"].as_str();
        match created {
            Ok(object) => Ok(Run::of(object)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                Err(self.there_already(name.unwrap_or_default(), &status.message))
            }
            Err(error) => {
                let asked = Asked { verb: "create", what: "benchmarkruns", name, everywhere: false };
                Err(self.trouble(&asked, &error))
            }
        }
    }

    fn there_already(&self, name: &str, message: &str) -> Box<Problem> {
        let namespace = &self.namespace;
        let problem = Problem::new(format!("run {namespace}/{name} is there already"), message)
            .likely("it was started before: a BenchmarkRun is one execution")
            .next(format!("lockstep watch {name} -n {namespace}"))
            .next("metadata.generateName instead of metadata.name gives each run a name of its own")
            .next(format!("kubectl delete brun {name} -n {namespace}, which takes its report too"));
        Box::new(problem.kept("nothing was created").exit(exit::REFUSED))
    }

    /// The runs of the namespace, or of all.
    ///
    /// # Errors
    /// Nobody says which there are.
    pub async fn list(&self, everywhere: bool) -> Result<Vec<Run>, Box<Problem>> {
        let found = self.pages(everywhere).await;
        let asked = Asked { verb: "list", what: "benchmarkruns", name: None, everywhere };
        Ok(found.map_err(|error| self.trouble(&asked, &error))?.into_iter().map(Run::of).collect())
    }

    async fn pages(&self, everywhere: bool) -> Result<Vec<DynamicObject>, kube::Error> {
        let runs = if everywhere { Api::all_with(self.client.clone(), &resource()) } else { self.runs() };
        let mut params = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = runs.list(&params).await?;
            found.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// What is wrong when the API server does not do what was asked.
    #[must_use]
    pub fn trouble(&self, asked: &Asked<'_>, error: &kube::Error) -> Box<Problem> {
        trouble::problem(asked, &self.namespace, &self.url, error)
    }

    /// There is no such run: where one of that name is, or one whose name is nearly that, as far as may be seen.
    async fn missing(&self, name: &str) -> Box<Problem> {
        let namespace = &self.namespace;
        let problem = Problem::new(
            format!("there is no run {name} in namespace {namespace}"),
            format!("benchmarkruns.lockstep.dev \"{name}\" not found, says {}", self.url),
        );
        let here = self.pages(false).await.unwrap_or_default();
        let names: Vec<&str> = here.iter().filter_map(|run| run.metadata.name.as_deref()).collect();
        let meant = closest(name, names.iter().copied()).map(|meant| format!("{meant} was meant"));
        let elsewhere = self.pages(true).await.unwrap_or_default();
        let other = elsewhere.iter().find(|run| run.metadata.name.as_deref() == Some(name));
        let other = other.and_then(|run| run.metadata.namespace.as_deref());
        let problem = match (meant, other) {
            (Some(meant), _) => problem.likely(meant),
            (None, Some(other)) => problem.likely(format!("it is in namespace {other}: -n {other}")),
            (None, None) => {
                problem.likely("it was deleted, perhaps by its ttlAfterFinished, or is in another cluster")
            }
        };
        Box::new(problem.next(format!("lockstep get -n {namespace}")).exit(exit::REFUSED))
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<BenchmarkRun>(&())
}
