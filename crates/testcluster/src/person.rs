//! Somebody with kubectl, helm, the plugin `kubectl lockstep`, and a kubeconfig of whatever cluster.
//!
//! Caches, settings and plugins of the user's own stay out of it; his PATH and home do not, since a kubeconfig may name a
//! program that gets credentials.

use crate::binaries::Tool;
use crate::screen::{self, Screen};
use lockstep_testkit::docs;
use lockstep_testkit::process::Ended;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A tool that is not done by then hangs. `kubectl wait` in a test has a timeout of its own, far below.
const LIMIT: Duration = Duration::from_secs(300);

/// What kubectl looks for in PATH when it is asked for `lockstep`.
const PLUGIN: &str = "kubectl-lockstep";

/// Somebody at a keyboard.
#[derive(Clone, Debug)]
pub struct Person {
    kubeconfig: PathBuf,
    directory: PathBuf,
}

impl Person {
    /// Somebody with this kubeconfig; caches lie in the directory.
    #[must_use]
    pub fn new(kubeconfig: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Self {
        Self { kubeconfig: kubeconfig.into(), directory: directory.into() }
    }

    /// A program with arguments, to be started with nothing to read.
    ///
    /// # Panics
    /// It cannot be had.
    #[must_use]
    pub fn command(&self, tool: Tool, args: &[&str]) -> Command {
        let mut command = Command::new(path_of(tool));
        command.args(args);
        self.equip(&mut command, plugins());
        command
    }

    /// A script that has kubectl, helm and the plugin by their names.
    ///
    /// # Panics
    /// One of them cannot be had.
    pub fn equip_script(&self, command: &mut Command) {
        static TOOLS: OnceLock<tempfile::TempDir> = OnceLock::new();
        let named = || {
            docs::path_with(&[
                ("kubectl", path_of(Tool::Kubectl)),
                ("helm", path_of(Tool::Helm)),
                (PLUGIN, workspace_binary("lockstep")),
            ])
        };
        self.equip(command, TOOLS.get_or_init(named).path());
    }

    /// Gives a command this kubeconfig, these programs before those of PATH, and nothing to read.
    fn equip(&self, command: &mut Command, programs: &Path) {
        command.stdin(Stdio::null());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(path).expect("directories of a PATH"));
        command.env_remove("HELM_NAMESPACE").env("KUBECONFIG", &self.kubeconfig).env("KUBERC", "off");
        for (variable, directory) in [
            ("KUBECACHEDIR", "kubectl-cache"),
            ("HELM_CONFIG_HOME", "helm"),
            ("HELM_DATA_HOME", "helm"),
            ("HELM_CACHE_HOME", "helm-cache"),
        ] {
            command.env(variable, self.directory.join(directory));
        }
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
    }

    /// Runs kubectl.
    ///
    /// # Panics
    /// It cannot be had, or hangs.
    pub async fn kubectl(&self, args: &[&str]) -> Ended {
        self.run(Tool::Kubectl, args, "").await
    }

    /// Runs kubectl with something to read: `kubectl_with("...", &["apply", "-f", "-"])`.
    ///
    /// # Panics
    /// As [`Person::kubectl`].
    pub async fn kubectl_with(&self, input: &str, args: &[&str]) -> Ended {
        self.run(Tool::Kubectl, args, input).await
    }

    /// `kubectl apply` of manifests into a namespace, which must succeed.
    ///
    /// # Panics
    /// It is refused; the panic shows what kubectl said.
    pub async fn apply(&self, namespace: &str, manifests: &str) {
        self.kubectl_with(manifests, &["apply", "--namespace", namespace, "-f", "-"]).await.expect_code(0);
    }

    /// Runs helm.
    ///
    /// # Panics
    /// As [`Person::kubectl`].
    pub async fn helm(&self, args: &[&str]) -> Ended {
        self.run(Tool::Helm, args, "").await
    }

    /// Runs `kubectl lockstep …`, without a terminal.
    ///
    /// # Panics
    /// As [`Person::kubectl`].
    pub async fn lockstep(&self, args: &[&str]) -> Ended {
        self.run(Tool::Kubectl, &[&["lockstep"], args].concat(), "").await
    }

    /// Runs `kubectl lockstep …` in a terminal of 140 columns, and returns what stands on its screen, with the exit code.
    ///
    /// # Panics
    /// As [`Person::kubectl`].
    pub async fn on_a_terminal(&self, args: &[&str]) -> Screen {
        let command = self.command(Tool::Kubectl, &[&["lockstep"], args].concat());
        let running = tokio::task::spawn_blocking(move || screen::run(command, LIMIT));
        running.await.expect("it is joined")
    }

    /// Runs any of the tools, with something to read.
    pub(crate) async fn run(&self, tool: Tool, args: &[&str], input: &str) -> Ended {
        let what = format!("{tool:?} {}", args.join(" "));
        let command = self.command(tool, args);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut running = command.spawn().unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
        let mut stdin = running.stdin.take().expect("stdin is a pipe");
        let write = async {
            // A tool that ends before it has read everything says why by itself.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
            drop(stdin);
        };
        let both = async { tokio::join!(running.wait_with_output(), write).0 };
        let output = tokio::time::timeout(LIMIT, both).await;
        let output = output.unwrap_or_else(|_| panic!("{what} hangs: not done after {LIMIT:?}"));
        let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took: began.elapsed(),
        }
    }
}

/// A binary of this workspace.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn workspace_binary(name: &str) -> PathBuf {
    // Binaries lie beside a binary, and one above `target/<profile>/deps`, where tests run.
    let this = std::env::current_exe().expect("the path of this program");
    let mut directory = this.parent().expect("a program lies in a directory");
    if directory.ends_with("deps") {
        directory = directory.parent().expect("`deps` lies in a directory");
    }
    let binary = directory.join(name);
    assert!(binary.is_file(), "{} is not built: run `cargo build --workspace --bins`", binary.display());
    binary
}

fn path_of(tool: Tool) -> PathBuf {
    tool.path().unwrap_or_else(|error| panic!("{tool:?}: {error:?}"))
}

/// A directory that has the plugin: the program itself, under the name that kubectl looks for.
fn plugins() -> &'static Path {
    static PLUGINS: OnceLock<tempfile::TempDir> = OnceLock::new();
    PLUGINS.get_or_init(|| docs::path_with(&[(PLUGIN, workspace_binary("lockstep"))])).path()
}
