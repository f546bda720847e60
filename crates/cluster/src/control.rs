//! The control plane's machine: etcd, API server, controllers, scheduler, and, as processes beside them, CoreDNS and the
//! provisioner of volumes.
//!
//! CoreDNS is no pod here, so that names are resolved whatever a test does to nodes; its Service and EndpointSlice look to
//! pods as anywhere else. Everybody has a token of his own, made anew with each cluster.

use crate::cluster::say;
use crate::images::BUSYBOX;
use crate::machine::{Daemon, Machine, expect, last_lines};
use crate::programs::Programs;
use crate::state::{Settings, State};
use crate::wait;
use anyhow::{Context, Result};
use lockstep_core::problem::Problem;
use lockstep_testcluster::{Components, User, flags};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a cluster is expected to have beside its components.
const ADDONS: &str = include_str!("addons.yaml");
/// How long a component may take: seconds, unless the machine is busy.
const LIMIT: Duration = Duration::from_secs(120);
/// Where CoreDNS says whether it knows the cluster by now.
const DNS_READY: u16 = 8181;

/// The control plane of a cluster.
pub(crate) struct Control<'a> {
    pub machine: Machine,
    settings: &'a Settings,
    programs: &'a Programs,
    components: Components,
    directory: PathBuf,
}

impl<'a> Control<'a> {
    pub(crate) fn new(state: &State, settings: &'a Settings, programs: &'a Programs) -> Self {
        let machine = Machine::new(state, "control");
        let directory = machine.var("lib/control");
        let components = Components::new(&directory, settings.control());
        Self { machine, settings, programs, components, directory }
    }

    /// The kubeconfig of somebody who was named when it was furnished.
    pub(crate) fn kubeconfig(&self, file: &str) -> PathBuf {
        self.directory.join(format!("{file}.kubeconfig"))
    }

    /// Certificate by which the API server comes to kubelets, and which alone they trust for that.
    pub(crate) fn kubelet_client(&self) -> PathBuf {
        self.directory.join("kubelet-client.crt")
    }

    /// Writes what its components read, unless it is there: a machine that boots again has the users that it had.
    pub(crate) fn furnish(&self) -> Result<()> {
        if self.directory.join("furnished").exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.directory)?;
        self.components.write(&self.users()?)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver-kubelet-client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        std::fs::write(self.kubelet_client(), params.self_signed(&key)?.pem())?;
        std::fs::write(self.directory.join("kubelet-client.key"), key.serialize_pem())?;
        std::fs::write(self.directory.join("Corefile"), self.corefile())?;
        std::fs::write(self.directory.join("local-path.json"), LOCAL_PATH)?;
        std::fs::write(self.directory.join("helper-pod.yaml"), helper_pod())?;
        std::fs::write(self.directory.join("furnished"), "")?;
        Ok(())
    }

    fn users(&self) -> Result<Vec<User>> {
        let mut random = std::fs::File::open("/dev/urandom")?;
        let mut token = || -> Result<String> {
            let mut bytes = [0; 16];
            random.read_exact(&mut bytes)?;
            Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        };
        let mut users = User::of_control_plane(str::to_owned);
        let mut add = |file: &str, name: String, group: &str| {
            let (file, group) = (file.to_owned(), group.to_owned());
            users.push(User { file, name, group, token: String::new() });
        };
        add("kube-proxy", "system:kube-proxy".to_owned(), "");
        add("coredns", "system:coredns".to_owned(), "");
        add("local-path-provisioner", "local-path-provisioner".to_owned(), "");
        for number in 1..=self.settings.nodes {
            let name = format!("node-{number}");
            add(&name, format!("system:node:{name}"), "system:nodes");
        }
        for user in &mut users {
            user.token = token()?;
        }
        Ok(users)
    }

    /// Starts what does not run, waits until the API server is ready, and gives it what a cluster has.
    pub(crate) fn start(&self) -> Result<()> {
        self.daemon(&self.programs.etcd, self.components.etcd())?;
        self.daemon(&self.programs.api_server, self.api_server())?;
        self.wait_for("kube-apiserver", "the API server is not ready", || {
            self.kubectl().args(["get", "--raw=/readyz"]).output().is_ok_and(|output| output.status.success())
        })?;
        let grace = Duration::from_secs(self.settings.node_grace_s);
        self.daemon(&self.programs.controller_manager, self.components.kube_controller_manager(grace))?;
        self.daemon(&self.programs.scheduler, self.components.kube_scheduler())?;
        self.apply(&ADDONS.replace("{control}", &self.settings.control().to_string()))?;
        self.daemon(&self.programs.coredns, flags(&[("conf", &self.path("Corefile"))]))?;
        let mut arguments = vec!["start".to_owned()];
        arguments.extend(flags(&[
            ("config", &self.path("local-path.json")),
            ("kubeconfig", &self.path("local-path-provisioner.kubeconfig")),
            ("namespace", "local-path-storage"),
            ("service-account-name", "default"),
            ("helper-image", BUSYBOX),
            ("helper-pod-file", &self.path("helper-pod.yaml")),
        ]));
        self.daemon(&self.programs.local_path, arguments)
    }

    fn api_server(&self) -> Vec<String> {
        let mut arguments = self.components.kube_apiserver(self.settings.toleration_s);
        arguments.extend(flags(&[
            ("authorization-mode", "Node,RBAC"),
            ("enable-admission-plugins", "NodeRestriction"),
            ("allow-privileged", "true"),
            // Its machine serves no Services: it goes to the pods behind them itself.
            ("enable-aggregator-routing", "true"),
            ("kubelet-preferred-address-types", "InternalIP"),
            ("kubelet-client-certificate", &self.kubelet_client().display().to_string()),
            ("kubelet-client-key", &self.path("kubelet-client.key")),
            ("audit-log-maxsize", "100"),
            ("audit-log-maxbackup", "2"),
        ]));
        arguments
    }

    /// Waits until names of Services are answered.
    pub(crate) fn wait_for_dns(&self) -> Result<()> {
        let address = (self.settings.control(), DNS_READY);
        self.wait_for("coredns", "CoreDNS does not answer", || is_ok(address))
    }

    /// Waits until nodes are ready.
    pub(crate) fn wait_for_nodes<'m>(&self, nodes: impl Iterator<Item = &'m Machine>) -> Result<()> {
        let is_ready = |node: &str| {
            let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            let output = self.kubectl().args(["get", "node", node, "-o", path]).output();
            output.is_ok_and(|output| output.stdout == b"True")
        };
        for node in nodes {
            if !wait::until(LIMIT, || is_ready(&node.name)) {
                let log = node.log("kubelet");
                let of_containerd = last_lines(&node.log("containerd"), 5);
                let cause = format!("no after {LIMIT:?}; containerd says last:\n{of_containerd}");
                return Err(node.problem("The node is not ready", &cause, &log).into());
            }
        }
        Ok(())
    }

    fn wait_for(&self, daemon: &str, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
        let mut is_ended = false;
        let is_up = wait::until(LIMIT, || {
            is_ended = self.machine.find(daemon).is_none();
            is_ended || condition()
        });
        if is_up && !is_ended {
            return Ok(());
        }
        let cause = if is_ended { format!("{daemon} ended") } else { format!("not after {LIMIT:?}") };
        Err(self.machine.problem(what, &cause, &self.machine.log(daemon)).into())
    }

    fn daemon(&self, program: &std::path::Path, arguments: Vec<String>) -> Result<()> {
        let path = self.programs.packages.bin();
        let daemon = Daemon { program: program.to_owned(), arguments, path };
        if self.machine.start(&daemon)? {
            say(&format!("{} started", daemon.name()));
        }
        Ok(())
    }

    /// kubectl, as the admin.
    pub(crate) fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.programs.kubectl);
        command.arg("--kubeconfig").arg(self.components.admin_kubeconfig()).arg("--request-timeout=10s");
        // Nothing of the user's own, caches included.
        command.env("HOME", &self.directory);
        command
    }

    /// `kubectl apply` of manifests.
    fn apply(&self, manifests: &str) -> Result<()> {
        let mut command = self.kubectl();
        command.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = command.spawn().context("kubectl cannot be run")?;
        running.stdin.take().context("stdin is a pipe")?.write_all(manifests.as_bytes())?;
        let applied = expect("kubectl apply", &running.wait_with_output()?);
        applied.map(drop).map_err(|error| {
            Problem::new("What belongs to the cluster was not taken by the API server", format!("{error:#}"))
                .likely("the API server is overloaded")
                .next(format!("read {}", self.machine.log("kube-apiserver").display()))
                .into()
        })
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Names of the cluster; there are no others, and that is said at once.
    fn corefile(&self) -> String {
        format!(
            ".:53 {{\n    bind {control}\n    errors\n    ready {control}:{DNS_READY}\n    \
             kubernetes cluster.local in-addr.arpa {{\n        kubeconfig {kubeconfig}\n        pods insecure\n        \
             ttl 30\n    }}\n    template IN ANY . {{\n        rcode NXDOMAIN\n    }}\n}}\n",
            control = self.settings.control(),
            kubeconfig = self.path("coredns.kubeconfig"),
        )
    }
}

/// Whether an HTTP server says 200.
fn is_ok((address, port): (Ipv4Addr, u16)) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(1))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
        let mut start = [0; 12];
        socket.read_exact(&mut start)?;
        Ok(start.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}

/// Where volumes are, by StorageClass: on the disk of the node, or in the directory that all machines share.
const LOCAL_PATH: &str = r#"{"storageClassConfigs": {
  "standard": {"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": ["/var/lib/local-path"]}]},
  "shared": {"sharedFileSystemPath": "/var/lib/shared"}
}}"#;

fn helper_pod() -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: helper-pod}}\nspec:\n  \
         containers: [{{name: helper-pod, image: {BUSYBOX}, imagePullPolicy: Never}}]\n"
    )
}
