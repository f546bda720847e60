//! Command lines and files of the control plane's components: how a cluster as in production is set up, in a directory.
//!
//! | who | how it proves itself |
//! |---|---|
//! | admin, controller-manager, scheduler, and who else is named | a token of the API server's token file |
//! | ServiceAccounts | tokens that the API server signs (RS256, as most clusters do) |
//!
//! Two clusters are made of it: [`ControlPlane`](crate::ControlPlane), whose nodes are stand-ins, and the one with nodes
//! (crates/cluster). What only one of them wants it adds to these flags. What is not as in production, each for a reason:
//! etcd does not sync to disk; and the key that signs tokens is the one of the serving certificate, which the API server
//! makes before it reads the other.

use anyhow::{Context, Result};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is logged of every request: who, what, with which answer; no bodies.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
";

/// Somebody whom the API server knows by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name of his kubeconfig: `<file>.kubeconfig`.
    pub file: String,
    /// Name by which the API server knows him.
    pub name: String,
    /// Group that he is in; empty for none.
    pub group: String,
    /// His token.
    pub token: String,
}

impl User {
    /// The users of every control plane, each with a token made of his file's name.
    pub fn of_control_plane(token: impl Fn(&str) -> String) -> Vec<Self> {
        let user = |(file, name, group): (&str, &str, &str)| Self {
            file: file.to_owned(),
            name: name.to_owned(),
            group: group.to_owned(),
            token: token(file),
        };
        [
            ("admin", "admin", "system:masters"),
            ("controller-manager", "system:kube-controller-manager", ""),
            ("scheduler", "system:kube-scheduler", ""),
        ]
        .map(user)
        .into()
    }
}

/// Where things are in the directory of a control plane, and who listens where.
pub struct Components {
    directory: PathBuf,
    address: Ipv4Addr,
}

impl Components {
    /// Those of a directory, which [`Components::write`] has furnished.
    #[must_use]
    pub fn new(directory: &Path, address: Ipv4Addr) -> Self {
        Self { directory: directory.to_owned(), address }
    }

    /// Writes the files that the components read.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, users: &[User]) -> Result<()> {
        let line = |User { token, name, group, .. }: &User| {
            let group = if group.is_empty() { String::new() } else { format!(",{group}") };
            format!("{token},{name},{name}{group}\n")
        };
        self.file("tokens.csv", &users.iter().map(line).collect::<String>())?;
        self.file("audit-policy.yaml", AUDIT_POLICY)?;
        for user in users {
            self.kubeconfig(&user.file, &format!("token: {}", user.token), "default")?;
        }
        Ok(())
    }

    /// Writes a kubeconfig for somebody, who proves himself by these fields of `user`, and returns its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self, name: &str, credentials: &str, namespace: &str) -> Result<PathBuf> {
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
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        // Tokens are nobody else's.
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(content.as_bytes()))
            .with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Address of the API server.
    #[must_use]
    pub fn api_server(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, 6443)
    }

    /// URL of the API server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.api_server())
    }

    /// Address of etcd.
    #[must_use]
    pub fn etcd_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, 2379)
    }

    /// The certificate of the API server, with its CA; the API server makes it when it starts first.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.join("certificates/apiserver.crt")
    }

    /// The audit log.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    /// Arguments of etcd.
    #[must_use]
    pub fn etcd(&self) -> Vec<String> {
        let (client, peer) = (self.etcd_address(), SocketAddrV4::new(self.address, 2380));
        flags(&[
            ("data-dir", &self.path("etcd")),
            ("unsafe-no-fsync", "true"),
            ("log-level", "warn"),
            ("listen-client-urls", &format!("http://{client}")),
            ("advertise-client-urls", &format!("http://{client}")),
            ("listen-peer-urls", &format!("http://{peer}")),
            ("initial-advertise-peer-urls", &format!("http://{peer}")),
            ("initial-cluster", &format!("default=http://{peer}")),
        ])
    }

    /// Arguments of the API server; pods tolerate a node that is not ready or unreachable for `grace_s` seconds, unless
    /// they say so themselves.
    #[must_use]
    pub fn kube_apiserver(&self, grace_s: u64) -> Vec<String> {
        let (address, key) = (self.address.to_string(), self.path("certificates/apiserver.key"));
        let grace_s = grace_s.to_string();
        flags(&[
            ("etcd-servers", &format!("http://{}", self.etcd_address())),
            ("bind-address", &address),
            ("advertise-address", &address),
            ("secure-port", &self.api_server().port().to_string()),
            ("cert-dir", &self.path("certificates")),
            ("service-cluster-ip-range", "10.96.0.0/16"),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
            ("service-account-key-file", &key),
            ("service-account-signing-key-file", &key),
            ("token-auth-file", &self.path("tokens.csv")),
            ("enable-admission-plugins", "OwnerReferencesPermissionEnforcement"),
            ("default-not-ready-toleration-seconds", &grace_s),
            ("default-unreachable-toleration-seconds", &grace_s),
            ("audit-policy-file", &self.path("audit-policy.yaml")),
            ("audit-log-path", &self.audit_log().display().to_string()),
            ("profiling", "false"),
        ])
    }

    /// Arguments of the controller-manager, to whom a node is unreachable after such a silence.
    #[must_use]
    pub fn kube_controller_manager(&self, node_monitor_grace: Duration) -> Vec<String> {
        flags(&[
            ("kubeconfig", &self.path("controller-manager.kubeconfig")),
            ("secure-port", "0"),
            ("leader-elect", "false"),
            ("use-service-account-credentials", "true"),
            ("service-account-private-key-file", &self.path("certificates/apiserver.key")),
            ("root-ca-file", &self.ca().display().to_string()),
            ("node-monitor-grace-period", &format!("{}ms", node_monitor_grace.as_millis())),
            ("kube-api-qps", "200"),
            ("kube-api-burst", "400"),
        ])
    }

    /// Arguments of the scheduler.
    #[must_use]
    pub fn kube_scheduler(&self) -> Vec<String> {
        flags(&[
            ("kubeconfig", &self.path("scheduler.kubeconfig")),
            ("secure-port", "0"),
            ("leader-elect", "false"),
            ("kube-api-qps", "200"),
            ("kube-api-burst", "400"),
        ])
    }
}

/// Arguments `--name=value`.
#[must_use]
pub fn flags(flags: &[(&str, &str)]) -> Vec<String> {
    flags.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// A file that is there once a component has made it.
pub(crate) fn is_made(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}
