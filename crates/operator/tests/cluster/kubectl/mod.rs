//! `kubectl lockstep`, as a plugin that kubectl finds in its PATH, against runs of the real operator.

mod away;
mod follow;
mod rights;
mod screen;
mod start;
mod story;

use lockstep_testcluster::{ControlPlane, Ended, Tool};
use screen::Screen;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A command that is not over by then hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// Somebody with kubectl, the plugin, and a kubeconfig.
#[derive(Clone, Debug)]
struct Person {
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Person {
    fn new(cluster: &ControlPlane, kubeconfig: PathBuf) -> Self {
        Self { kubeconfig, home: cluster.directory().to_owned() }
    }

    fn admin(cluster: &ControlPlane) -> Self {
        Self::new(cluster, cluster.kubeconfig())
    }

    /// `kubectl lockstep …`, with nothing of the user's own but a PATH that has the plugin.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Tool::Kubectl.path().expect("kubectl"));
        command.arg("lockstep").args(args).stdin(Stdio::null());
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home).env("PATH", plugins());
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        command
    }

    /// Runs it, without a terminal.
    async fn lockstep(&self, args: &[&str]) -> Ended {
        let mut command = self.command(args);
        let what = format!("kubectl lockstep {}", args.join(" "));
        let began = Instant::now();
        let running = tokio::task::spawn_blocking(move || command.output());
        let output = tokio::time::timeout(LIMIT, running).await.unwrap_or_else(|_| panic!("{what} hangs"));
        let output = output.expect("it is joined").unwrap_or_else(|error| panic!("{what}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took: began.elapsed(),
        }
    }

    /// Runs it in a terminal of 140 columns, and returns what stands on its screen, with the exit code.
    async fn on_a_terminal(&self, args: &[&str]) -> Screen {
        let command = self.command(args);
        let running = tokio::task::spawn_blocking(move || screen::run(command, LIMIT));
        running.await.expect("it is joined")
    }
}

/// A PATH whose only directory has the plugin: the program itself, under the name that kubectl looks for.
fn plugins() -> &'static Path {
    static PLUGINS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = PLUGINS.get_or_init(|| {
        // Tests run from target/<profile>/deps, binaries lie one above.
        let test = std::env::current_exe().expect("the path of this test binary");
        let binary = test.parent().and_then(Path::parent).expect("tests run from `deps`").join("lockstep");
        assert!(binary.is_file(), "{} is not built: run `cargo build --workspace --bins`", binary.display());
        let directory = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(binary, directory.path().join("kubectl-lockstep")).expect("a link");
        directory
    });
    directory.path()
}

/// The JSON objects of `watch --json`.
fn objects(ended: &Ended) -> Vec<serde_json::Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    ended.stdout.lines().map(parse).collect()
}

/// The objects of one type.
fn of_type<'a>(objects: &'a [serde_json::Value], type_: &str) -> Vec<&'a serde_json::Value> {
    objects.iter().filter(|object| object["type"] == type_).collect()
}
