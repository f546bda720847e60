//! A node's machine: containerd, kubelet, kube-proxy, and how they are set up.
//!
//! What is not as on most nodes, each for a reason: images are never collected, since nothing could pull them again; no
//! memory or CPU is set apart for the system, since all nodes are one machine, of which each reports the whole; scores for
//! the OOM killer are only ever raised, since the right to lower them may be missing (CAP_SYS_RESOURCE); ports of the host
//! (`hostPort`) are not mapped, since that wants iptables; and conntrack is not tuned, since its limits are the kernel's.

use crate::cgroups;
use crate::control::Control;
use crate::images::POD;
use crate::machine::{Daemon, Machine};
use crate::network::{PODS, pods};
use crate::programs::Programs;
use crate::state::{Settings, State};
use crate::wait;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A node of a cluster.
pub(crate) struct Node<'a> {
    pub machine: Machine,
    pub number: u8,
    settings: &'a Settings,
    programs: &'a Programs,
}

impl<'a> Node<'a> {
    pub(crate) fn new(state: &State, settings: &'a Settings, programs: &'a Programs, number: u8) -> Self {
        Self { machine: Machine::new(state, &format!("node-{number}")), number, settings, programs }
    }

    /// Writes what its daemons read.
    pub(crate) fn furnish(&self, control: &Control) -> Result<()> {
        cgroups::make(self.settings, &self.machine.name)?;
        self.file("lib/node/containerd.toml", &self.containerd_toml())?;
        self.file("lib/node/cni/10-bridge.conflist", &self.cni())?;
        self.file("lib/node/kubelet.yaml", &self.kubelet_yaml())?;
        self.file("lib/node/kube-proxy.yaml", &self.proxy_yaml())?;
        let copy = |from: &Path, to: &str| {
            std::fs::copy(from, self.machine.var(to))
                .with_context(|| format!("failed to copy {}", from.display()))
        };
        copy(&control.kubeconfig(&self.machine.name), "lib/node/kubelet.kubeconfig")?;
        copy(&control.kubeconfig("kube-proxy"), "lib/node/kube-proxy.kubeconfig")?;
        copy(&control.kubelet_client(), "lib/node/kubelet-client.crt")?;
        Ok(())
    }

    fn file(&self, path: &str, content: &str) -> Result<()> {
        let path = self.machine.var(path);
        std::fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
        std::fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))
    }

    /// Starts all of its daemons that do not run.
    pub(crate) fn start_all(&self) -> Result<()> {
        self.start("containerd")?;
        // A kubelet that finds no runtime ends.
        self.wait_for_containerd()?;
        self.start("kubelet")?;
        self.start("kube-proxy").map(drop)
    }

    /// Waits until containerd serves.
    pub(crate) fn wait_for_containerd(&self) -> Result<()> {
        let ctr = self.programs.packages.bin().join("ctr");
        let serves = || {
            let asked = self.machine.command(&ctr).and_then(|mut ctr| Ok(ctr.arg("version").output()?));
            asked.is_ok_and(|output| output.status.success())
        };
        if wait::until(LIMIT, serves) {
            return Ok(());
        }
        let log = self.machine.log("containerd");
        Err(self.machine.problem("containerd does not serve", &format!("not after {LIMIT:?}"), &log).into())
    }

    /// Starts one of its daemons, unless it runs; says whether it had to.
    pub(crate) fn start(&self, name: &str) -> Result<bool> {
        let path = |name: &str| self.machine.var("lib/node").join(name).display().to_string();
        let (program, arguments) = match name {
            "containerd" => (
                self.programs.packages.bin().join("containerd"),
                vec!["--config".to_owned(), path("containerd.toml")],
            ),
            "kubelet" => (
                self.programs.kubelet.clone(),
                lockstep_testcluster::flags(&[
                    ("config", &path("kubelet.yaml")),
                    ("kubeconfig", &path("kubelet.kubeconfig")),
                    ("hostname-override", &self.machine.name),
                    ("node-ip", &self.settings.node(self.number).to_string()),
                ]),
            ),
            _ => (self.programs.proxy.clone(), vec![format!("--config={}", path("kube-proxy.yaml"))]),
        };
        self.machine.start(&Daemon { program, arguments, path: self.programs.packages.bin() })
    }

    fn containerd_toml(&self) -> String {
        let cni = self.programs.packages.cni();
        format!(
            r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{POD}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{}"
    conf_dir = "{}"
"#,
            cni.display(),
            self.machine.var("lib/node/cni").display(),
        )
    }

    fn cni(&self) -> String {
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [{{
  "type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}
}}]}}
"#,
            pods(self.number),
        )
    }

    fn kubelet_yaml(&self) -> String {
        format!(
            r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {client}}}
authorization: {{mode: Webhook}}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
resolvConf: ""
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}}
"#,
            client = self.machine.var("lib/node/kubelet-client.crt").display(),
            cgroup = cgroups::of_node(self.settings, &self.machine.name),
        )
    }

    fn proxy_yaml(&self) -> String {
        format!(
            r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: {kubeconfig}}}
hostnameOverride: {name}
clusterCIDR: {PODS}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"#,
            kubeconfig = self.machine.var("lib/node/kube-proxy.kubeconfig").display(),
            name = self.machine.name,
        )
    }
}
