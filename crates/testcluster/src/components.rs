//! Command lines and files of the control plane's components: how a cluster as in production is set up, in a directory.
//!
//! | who | how it proves itself |
//! |---|---|
//! | admin, controller-manager, scheduler | a token of the API server's token file |
//! | ServiceAccounts | tokens that the API server signs (RS256, as most clusters do) |
//! | nodes, other users | impersonated by the admin, so the audit log knows them |
//!
//! What is not as in production, each for a reason: etcd does not sync to disk; the endpoint controllers are off, since
//! the API server takes no loopback address into Endpoints or EndpointSlices (`ValidateEndpointIP` in
//! pkg/apis/core/validation/validation.go), so `node::names` does what they and a DNS server would; and the key that
//! signs tokens is the one of the serving certificate, which the API server makes before it reads the other.

use crate::Options;
use crate::addresses::Network;
use crate::binaries::Tool;
use crate::keeper::Keeper;
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bearer tokens of the token file: who has them is who it says.
const TOKENS: &str = "\
admin-token,admin,admin,system:masters
controller-manager-token,system:kube-controller-manager,controller-manager
scheduler-token,system:kube-scheduler,scheduler
";

/// What is logged of every request: who, what, with which answer; no bodies.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
";

/// Where things are in the directory of a control plane, and who listens where.
pub(crate) struct Layout {
    directory: PathBuf,
    address: Ipv4Addr,
}

impl Layout {
    /// Writes the files that the components read.
    pub(crate) fn write(keeper: &Keeper, network: &Network) -> Result<Self> {
        let layout = Self { directory: keeper.path().to_owned(), address: network.host(1) };
        layout.file("tokens.csv", TOKENS)?;
        layout.file("audit-policy.yaml", AUDIT_POLICY)?;
        for user in ["admin", "controller-manager", "scheduler"] {
            layout.kubeconfig(user, &format!("token: {user}-token"), "default")?;
        }
        Ok(layout)
    }

    /// Writes a kubeconfig for somebody, who proves himself by these fields of `user`, and returns its path.
    pub(crate) fn kubeconfig(&self, name: &str, credentials: &str, namespace: &str) -> Result<PathBuf> {
        let (server, ca) = (self.url(), self.ca().display().to_string());
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: '{server}', certificate-authority: '{ca}'}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test, namespace: '{namespace}'}}}}]\n\
             users: [{{name: test, user: {{{credentials}}}}}]\n"
        );
        self.file(&format!("{name}.kubeconfig"), &text)
    }

    /// The kubeconfig of the admin.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        std::fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Address of the API server.
    pub(crate) fn api_server(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, 6443)
    }

    /// URL of the API server.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.api_server())
    }

    /// Address of etcd.
    pub(crate) fn etcd_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, 2379)
    }

    /// The certificate of the API server, with its CA; the API server makes it when it starts first.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.join("certificates/apiserver.crt")
    }

    /// The audit log.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    pub(crate) fn etcd(&self, keeper: &Keeper) -> Result<Command> {
        let mut etcd = keeper.command(Tool::Etcd.path()?);
        let (client, peer) = (self.etcd_address(), SocketAddrV4::new(self.address, 2380));
        flags(
            &mut etcd,
            &[
                ("data-dir", &self.path("etcd")),
                ("unsafe-no-fsync", "true"),
                ("log-level", "warn"),
                ("listen-client-urls", &format!("http://{client}")),
                ("advertise-client-urls", &format!("http://{client}")),
                ("listen-peer-urls", &format!("http://{peer}")),
                ("initial-advertise-peer-urls", &format!("http://{peer}")),
                ("initial-cluster", &format!("default=http://{peer}")),
            ],
        );
        Ok(etcd)
    }

    pub(crate) fn kube_apiserver(&self, keeper: &Keeper, options: &Options) -> Result<Command> {
        let mut server = keeper.command(Tool::ApiServer.path()?);
        let (address, key) = (self.address.to_string(), self.path("certificates/apiserver.key"));
        let grace_s = options.unreachable_toleration.as_secs().to_string();
        flags(
            &mut server,
            &[
                ("etcd-servers", &format!("http://{}", self.etcd_address())),
                ("bind-address", &address),
                ("advertise-address", &address),
                ("secure-port", &self.api_server().port().to_string()),
                ("cert-dir", &self.path("certificates")),
                ("endpoint-reconciler-type", "none"),
                ("service-cluster-ip-range", "10.96.0.0/16"),
                ("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
                ("service-account-key-file", &key),
                ("service-account-signing-key-file", &key),
                ("authorization-mode", "RBAC"),
                ("token-auth-file", &self.path("tokens.csv")),
                ("enable-admission-plugins", "OwnerReferencesPermissionEnforcement"),
                ("default-not-ready-toleration-seconds", &grace_s),
                ("default-unreachable-toleration-seconds", &grace_s),
                ("audit-policy-file", &self.path("audit-policy.yaml")),
                ("audit-log-path", &self.audit_log().display().to_string()),
                ("profiling", "false"),
            ],
        );
        Ok(server)
    }

    pub(crate) fn kube_controller_manager(&self, keeper: &Keeper, options: &Options) -> Result<Command> {
        let mut manager = keeper.command(Tool::ControllerManager.path()?);
        flags(
            &mut manager,
            &[
                ("kubeconfig", &self.path("controller-manager.kubeconfig")),
                ("secure-port", "0"),
                ("leader-elect", "false"),
                ("use-service-account-credentials", "true"),
                ("service-account-private-key-file", &self.path("certificates/apiserver.key")),
                ("root-ca-file", &self.ca().display().to_string()),
                (
                    "controllers",
                    "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
                ),
                ("node-monitor-period", "1s"),
                ("node-monitor-grace-period", &format!("{}ms", options.node_monitor_grace.as_millis())),
                // A node each 100 ms instead of each 10 s.
                ("node-eviction-rate", "10"),
                ("kube-api-qps", "200"),
                ("kube-api-burst", "400"),
            ],
        );
        Ok(manager)
    }

    pub(crate) fn kube_scheduler(&self, keeper: &Keeper) -> Result<Command> {
        let mut scheduler = keeper.command(Tool::Scheduler.path()?);
        flags(
            &mut scheduler,
            &[
                ("kubeconfig", &self.path("scheduler.kubeconfig")),
                ("secure-port", "0"),
                ("leader-elect", "false"),
                ("kube-api-qps", "200"),
                ("kube-api-burst", "400"),
            ],
        );
        Ok(scheduler)
    }
}

fn flags(command: &mut Command, flags: &[(&str, &str)]) {
    command.args(flags.iter().map(|(name, value)| format!("--{name}={value}")));
}

/// A file that is there once a component has made it.
pub(crate) fn is_made(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}
