//! The tools that people and other programs use on a cluster: kubectl, helm, kstatus' library, and what GitOps controllers make
//! of the samples that are shipped for them.

use crate::ControlPlane;
use crate::access::Caller;
use crate::binaries::Tool;
use anyhow::{Context, Result};
use lockstep_testkit::process::Ended;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A tool that is not done by then hangs. `kubectl wait` in a test has a timeout of its own, far below.
const LIMIT: Duration = Duration::from_secs(300);

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
        self.run(Tool::Kubectl, &self.kubeconfig_as(caller).await, args, "").await
    }

    /// Runs kubectl as the admin with something to read: `kubectl_with("...", &["apply", "-f", "-"])`.
    ///
    /// # Panics
    /// As [`ControlPlane::kubectl`].
    pub async fn kubectl_with(&self, input: &str, args: &[&str]) -> Ended {
        self.run(Tool::Kubectl, &self.kubeconfig(), args, input).await
    }

    /// `kubectl apply` of manifests into a namespace, which must succeed.
    ///
    /// # Panics
    /// It is refused; the panic shows what kubectl said.
    pub async fn apply(&self, namespace: &str, manifests: &str) {
        self.kubectl_with(manifests, &["apply", "--namespace", namespace, "-f", "-"]).await.expect_code(0);
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
        self.run(Tool::Helm, &self.kubeconfig_as(caller).await, args, "").await
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
        let ended = self.run(tool, &self.kubeconfig(), args, &lines).await;
        let answers = ended.expect_code(0).stdout.lines().map(serde_json::from_str);
        answers.collect::<Result<_, _>>().expect("it answers in JSON")
    }

    async fn run(&self, tool: Tool, kubeconfig: &Path, args: &[&str], input: &str) -> Ended {
        let began = Instant::now();
        let output = tokio::time::timeout(LIMIT, self.output(tool, kubeconfig, args, input)).await;
        let output = output.unwrap_or_else(|_| panic!("{tool:?} {args:?} hangs: not done after {LIMIT:?}"));
        let output = output.unwrap_or_else(|error| panic!("{tool:?} {args:?}: {error:?}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took: began.elapsed(),
        }
    }

    async fn output(&self, tool: Tool, kubeconfig: &Path, args: &[&str], input: &str) -> Result<Output> {
        let mut command = Command::new(tool.path()?);
        command.args(args).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Nothing of the user's own: neither clusters, nor plugins, nor caches.
        command.env("KUBECONFIG", kubeconfig).env("HOME", self.directory());
        for (variable, directory) in
            [("HELM_CONFIG_HOME", "helm"), ("HELM_DATA_HOME", "helm"), ("HELM_CACHE_HOME", "helm-cache")]
        {
            command.env(variable, self.directory().join(directory));
        }
        let mut running = command.spawn().with_context(|| format!("{tool:?} cannot be started"))?;
        let mut stdin = running.stdin.take().context("stdin is a pipe")?;
        let write = async {
            // A tool that ends before it has read everything says why by itself.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        };
        let (output, ()) = tokio::join!(running.wait_with_output(), write);
        Ok(output?)
    }
}
