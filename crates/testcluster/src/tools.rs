//! The tools that people and other programs use on a cluster: kubectl, helm, kstatus' library, and what GitOps controllers make
//! of the samples that are shipped for them.

use crate::ControlPlane;
use crate::access::Caller;
use crate::binaries::Tool;
use crate::person::Person;
use lockstep_testkit::process::Ended;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What kstatus says of an object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Kstatus {
    /// `Current`, `InProgress`, `Failed`, `Terminating`, `NotFound` or `Unknown`.
    pub status: String,
    /// Why.
    pub message: String,
}

/// What GitOps controllers make of an object by the samples in `deploy/gitops`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GitOps {
    /// Argo CD, by `health.lua`: `Healthy`, `Degraded`, `Progressing`, `Suspended`, with its message.
    pub argocd: Kstatus,
    /// Flux, by `healthCheckExprs`: `Current`, `InProgress`, `Failed`.
    pub flux: String,
}

impl ControlPlane {
    /// Somebody with the admin's kubeconfig.
    #[must_use]
    pub fn admin(&self) -> Person {
        self.person(self.kubeconfig())
    }

    /// Somebody with a kubeconfig.
    #[must_use]
    pub fn person(&self, kubeconfig: impl Into<PathBuf>) -> Person {
        Person::new(kubeconfig, self.directory())
    }

    /// Runs kubectl as the admin.
    ///
    /// # Panics
    /// It cannot be had, or hangs.
    pub async fn kubectl(&self, args: &[&str]) -> Ended {
        self.kubectl_as(&Caller::Admin, args).await
    }

    /// Runs kubectl as somebody.
    ///
    /// # Panics
    /// As [`ControlPlane::kubectl`].
    pub async fn kubectl_as(&self, caller: &Caller, args: &[&str]) -> Ended {
        self.person(self.kubeconfig_as(caller).await).kubectl(args).await
    }

    /// Runs kubectl as the admin with something to read: `kubectl_with("...", &["apply", "-f", "-"])`.
    ///
    /// # Panics
    /// As [`ControlPlane::kubectl`].
    pub async fn kubectl_with(&self, input: &str, args: &[&str]) -> Ended {
        self.admin().kubectl_with(input, args).await
    }

    /// `kubectl apply` of manifests into a namespace, which must succeed.
    ///
    /// # Panics
    /// It is refused; the panic shows what kubectl said.
    pub async fn apply(&self, namespace: &str, manifests: &str) {
        self.admin().apply(namespace, manifests).await;
    }

    /// Runs helm as the admin.
    ///
    /// # Panics
    /// It cannot be had, or hangs.
    pub async fn helm(&self, args: &[&str]) -> Ended {
        self.helm_as(&Caller::Admin, args).await
    }

    /// Runs helm as somebody.
    ///
    /// # Panics
    /// As [`ControlPlane::helm`].
    pub async fn helm_as(&self, caller: &Caller, args: &[&str]) -> Ended {
        self.person(self.kubeconfig_as(caller).await).helm(args).await
    }

    /// What kstatus says of each of these objects, in their order.
    ///
    /// # Panics
    /// It cannot be had, or does not understand an object.
    pub async fn kstatus<K: Serialize>(&self, objects: &[K]) -> Vec<Kstatus> {
        self.ask(Tool::Kstatus, &[], objects).await
    }

    /// What Argo CD and Flux make of each of these runs, in their order.
    ///
    /// # Panics
    /// As [`ControlPlane::kstatus`].
    pub async fn gitops<K: Serialize>(&self, runs: &[K]) -> Vec<GitOps> {
        const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/gitops");
        let (lua, flux) = (format!("{ROOT}/argocd/health.lua"), format!("{ROOT}/flux/benchmarks.yaml"));
        self.ask(Tool::GitOps, &[&lua, &flux], runs).await
    }

    /// Asks a program about objects, a line of JSON each; it answers in lines.
    async fn ask<K: Serialize, A: DeserializeOwned>(
        &self,
        tool: Tool,
        args: &[&str],
        objects: &[K],
    ) -> Vec<A> {
        let line = |object| serde_json::to_string(object).expect("an object is JSON") + "\n";
        let lines: String = objects.iter().map(line).collect();
        let ended = self.admin().run(tool, args, &lines).await;
        let answers = ended.expect_code(0).stdout.lines().map(serde_json::from_str);
        answers.collect::<Result<_, _>>().expect("it answers in JSON")
    }
}
