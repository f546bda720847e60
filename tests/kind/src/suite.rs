//! What one story is told with: a kubeconfig, a client, namespaces of its own, and a promise to leave nothing.
//!
//! Each story has a thread and a runtime of its own, and so has its client: the connections of one are served by the runtime
//! that made them.

use crate::installation::Image;
use crate::nodes::Nodes;
use crate::release::Release;
use crate::store::Store;
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::{Person, Runs};
use serde_json::json;
use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long anything may take on a cluster whose nodes share a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Label of the suite's namespaces.
pub const OURS: &str = "lockstep-e2e";
/// How much of a log is shown when a story goes wrong, lines.
const LOG_LINES: i64 = 60;

/// What came of a story.
#[derive(Clone, Debug)]
pub enum Found {
    /// It is so; figures, for the table.
    Shown(String),
    /// This cluster cannot show it; why.
    NotShown(String),
}

/// What all stories share.
#[derive(Clone, Debug)]
pub struct Common {
    /// The kubeconfig of an admin.
    pub kubeconfig: PathBuf,
    /// Where caches lie.
    pub directory: PathBuf,
    /// The image of agents and operators.
    pub image: Image,
    /// The ways to the nodes.
    pub nodes: Nodes,
}

impl Common {
    /// All of it for the cluster of a kubeconfig; caches lie in `directory`.
    pub fn of(kubeconfig: PathBuf, directory: &Path) -> Self {
        Self {
            nodes: Nodes::of(&kubeconfig),
            kubeconfig,
            directory: directory.to_owned(),
            image: Image::named(),
        }
    }
}

/// What a story undoes at its end, also when it went wrong.
#[derive(Clone, Debug)]
pub enum Undo {
    /// A release in this namespace.
    Release(String),
    /// `kubectl` with these arguments.
    Kubectl(Vec<String>),
    /// An order to a node.
    Node(String, &'static [&'static str]),
}

/// What one story is told with.
pub struct Suite {
    /// The story's name.
    pub name: &'static str,
    /// Somebody with kubectl, helm and the plugin, who is an admin of the cluster.
    pub person: Person,
    /// The same somebody's client.
    pub client: Client,
    /// What all share.
    pub common: Common,
    /// The storage in the cluster.
    pub store: Store,
    namespaces: RefCell<Vec<String>>,
    undo: RefCell<Vec<Undo>>,
}

impl Suite {
    /// Begins a story.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub async fn begin(name: &'static str, common: &Common) -> Result<Self> {
        let client = client(&common.kubeconfig).await?;
        let person = Person::new(&common.kubeconfig, &common.directory);
        Ok(Self {
            name,
            store: Store::new(person.clone(), client.clone()),
            person,
            client,
            common: common.clone(),
            namespaces: RefCell::default(),
            undo: RefCell::default(),
        })
    }

    /// A fresh namespace.
    pub async fn namespace(&self, what: &str) -> String {
        self.namespace_with(what, &[]).await
    }

    /// A fresh namespace with labels.
    pub async fn namespace_with(&self, what: &str, labels: &[(&str, &str)]) -> String {
        let name = format!("e2e-{what}-{:06x}", RandomState::new().hash_one(self.name) & 0xff_ffff);
        let mut object = json!({"metadata": {"name": name, "labels": {OURS: self.name}}});
        for (key, value) in labels {
            object["metadata"]["labels"][*key] = json!(value);
        }
        let object: Namespace = serde_json::from_value(object).expect("a namespace");
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let made = namespaces.create(&PostParams::default(), &object).await;
        made.unwrap_or_else(|error| panic!("namespace {name}: {error}"));
        self.namespaces.borrow_mut().push(name.clone());
        name
    }

    /// A fresh namespace, and its runs.
    pub async fn runs(&self, what: &str) -> Runs {
        let namespace = self.namespace(what).await;
        self.runs_in(&namespace)
    }

    /// The runs of a namespace.
    pub fn runs_in(&self, namespace: &str) -> Runs {
        Runs::new(self.client.clone(), namespace).within(LIMIT)
    }

    /// A release of the chart in a namespace of its own, which serves `namespaces` and goes with the story.
    pub async fn release(&self, namespaces: &[&str], values: &[&str]) -> Release {
        let home = self.namespace("home").await;
        let watched = format!("watchNamespaces={{{}}}", namespaces.join(","));
        let values: Vec<&str> = std::iter::once(watched.as_str()).chain(values.iter().copied()).collect();
        self.release_in(&home, &values).await
    }

    /// A release of the chart in a namespace, which goes with the story.
    pub async fn release_in(&self, home: &str, values: &[&str]) -> Release {
        self.finally(Undo::Release(home.to_owned()));
        let release = Release::new(&self.person, &self.common.image, home);
        release.helm("install", values).await.expect_code(0);
        release
    }

    /// Will be undone at the end of the story; what comes last is undone first.
    pub fn finally(&self, undo: Undo) {
        self.undo.borrow_mut().push(undo);
    }

    /// `kubectl` that must succeed; what it prints.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        let ended = self.person.kubectl(args).await;
        assert_eq!(ended.code, 0, "kubectl {}: {}{}", args.join(" "), ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Undoes what the story did. Runs go first, by whoever serves them; those that nobody lets go, are let go.
    pub async fn leave(&self) {
        let made = self.namespaces.borrow().clone();
        for namespace in &made {
            self.remove_runs(namespace).await;
        }
        let undo: Vec<Undo> = self.undo.borrow_mut().drain(..).rev().collect();
        for step in undo {
            match step {
                Undo::Release(home) => {
                    self.person.helm(&["uninstall", "lockstep", "-n", &home, "--ignore-not-found"]).await;
                }
                Undo::Kubectl(args) => {
                    self.person.kubectl(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
                }
                Undo::Node(node, order) => {
                    if let Err(error) = self.common.nodes.order(&node, order) {
                        eprintln!("{}: node {node} {order:?}: {error:#}", self.name);
                    }
                }
            }
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in &made {
            let _ = namespaces.delete(namespace, &DeleteParams::default()).await;
        }
    }

    async fn remove_runs(&self, namespace: &str) {
        let runs: Api<BenchmarkRun> = Api::namespaced(self.client.clone(), namespace);
        let list =
            async || runs.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for run in list().await {
            let _ = runs.delete(&run.name_any(), &DeleteParams::default()).await;
        }
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !list().await.is_empty() && std::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for run in list().await {
            eprintln!("{}: nobody lets run {} go", self.name, run.name_any());
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = runs.patch(&run.name_any(), &PatchParams::default(), &free).await;
        }
    }

    /// What there is to know when a story went wrong: pods, Events and logs of its namespaces, and of the installation.
    pub async fn said(&self, installation: &str) -> String {
        let mut said = String::new();
        let mut namespaces = self.namespaces.borrow().clone();
        namespaces.push(installation.to_owned());
        for namespace in &namespaces {
            for what in ["pods,pvc", "events"] {
                let ended = self.person.kubectl(&["get", what, "-n", namespace, "-o", "wide"]).await;
                said += &format!("--- {namespace}: {what}\n{}{}", ended.stdout, ended.stderr);
            }
            let pods = self.runs_in(namespace).pods;
            for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
                let how = LogParams { tail_lines: Some(LOG_LINES), ..LogParams::default() };
                let log = pods.logs(&pod.name_any(), &how).await.unwrap_or_else(|error| error.to_string());
                said += &format!("--- {namespace}/{}\n{log}\n", pod.name_any());
            }
        }
        said
    }
}

/// A client for a kubeconfig.
///
/// # Errors
/// The kubeconfig cannot be used.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let what = || format!("the kubeconfig {} cannot be used", kubeconfig.display());
    let config = Kubeconfig::read_from(kubeconfig).with_context(what)?;
    let config =
        Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.with_context(what)?;
    Client::try_from(config).with_context(what)
}
