//! `cargo xtask kind up|down`: a cluster of kind with Lockstep and an object store in it, and its end.
//!
//! kind is the pinned one; helm and kubectl are those of PATH, and the ones of the tests where PATH has none. The current context of
//! the user's kubeconfig becomes that of the cluster, as kind does it. Each step may be repeated: a second `up` brings a cluster
//! that is there up to date.

use anyhow::{Context, Result, bail, ensure};
use lockstep_testcluster::Tool;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The cluster's name, as `tests/kind/kind.yaml` has it.
const CLUSTER: &str = "lockstep";
/// Its context.
const CONTEXT: &str = "kind-lockstep";
/// What `make image-docker` makes, and the chart asks for by itself.
const IMAGE: &str = concat!("lockstep:", env!("CARGO_PKG_VERSION"));
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Does what was asked for.
///
/// # Errors
/// A step fails; it has said why on standard error.
pub fn run(arguments: &[&str]) -> Result<()> {
    let kind = Tool::Kind.path()?;
    match arguments {
        ["up"] => up(&kind),
        ["down"] => step(&kind, &["delete", "cluster", "--name", CLUSTER]),
        _ => bail!("usage: cargo xtask kind up | down"),
    }
}

fn up(kind: &Path) -> Result<()> {
    let clusters = Command::new(kind).args(["get", "clusters"]).output().context("kind get clusters")?;
    ensure!(
        clusters.status.success(),
        "kind get clusters: {}; is Docker running? (docker info)",
        String::from_utf8_lossy(&clusters.stderr).trim()
    );
    if !String::from_utf8_lossy(&clusters.stdout).lines().any(|name| name == CLUSTER) {
        step(kind, &["create", "cluster", "--config", "tests/kind/kind.yaml", "--wait", "3m"])?;
    }
    step("make", &["image-docker"])?;
    step(kind, &["load", "docker-image", IMAGE, "--name", CLUSTER])?;
    let (helm, kubectl) = (found("helm", Tool::Helm)?, found("kubectl", Tool::Kubectl)?);
    step(&helm, &INSTALL)?;
    step(&kubectl, &["--context", CONTEXT, "apply", "-f", "tests/kind/seaweedfs.yaml"])?;
    let ready = [
        "--context",
        CONTEXT,
        "rollout",
        "status",
        "deployment/seaweedfs",
        "-n",
        "seaweedfs",
        "--timeout=5m",
    ];
    step(&kubectl, &ready)
}

/// The chart as it is, whose image is the one that was loaded.
const INSTALL: [&str; 12] = [
    "upgrade",
    "--install",
    "lockstep",
    "deploy/helm/lockstep",
    "--kube-context",
    CONTEXT,
    "-n",
    "lockstep-system",
    "--create-namespace",
    "--wait",
    "--timeout",
    "5m",
];

/// A program of PATH, or that of the tests.
fn found(name: &str, tool: Tool) -> Result<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&directories).map(|directory| directory.join(name));
    candidates.into_iter().find(|program| program.is_file()).map_or_else(|| tool.path(), Ok)
}

fn step(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<()> {
    let program = program.as_ref();
    let name = Path::new(program).file_name().unwrap_or(program).display();
    eprintln!("+ {name} {}", arguments.join(" "));
    let status = Command::new(program).args(arguments).current_dir(ROOT).status();
    let status = status.with_context(|| format!("{name} cannot be run"))?;
    ensure!(status.success(), "{name} {}: {status}", arguments.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> String {
        std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap()
    }

    #[test]
    fn what_is_loaded_is_what_the_chart_asks_for_and_the_store_is_that_of_the_other_tests() {
        let chart: serde_json::Value =
            serde_yaml::from_str(&read("deploy/helm/lockstep/Chart.yaml")).unwrap();
        let values: serde_json::Value =
            serde_yaml::from_str(&read("deploy/helm/lockstep/values.yaml")).unwrap();
        let [repository, version] =
            [&values["image"]["repository"], &chart["appVersion"]].map(|value| value.as_str().unwrap());
        assert_eq!(IMAGE, format!("{repository}:{version}"));
        let store = format!("image: chrislusf/seaweedfs:{}\n", lockstep_testkit::seaweed::VERSION);
        assert!(read("tests/kind/seaweedfs.yaml").contains(&store), "not {store}");
    }

    #[test]
    fn kind_is_pinned_and_knows_the_commands_and_the_cluster_has_three_workers() {
        let kind = Tool::Kind.path().unwrap();
        for (command, options) in [
            (&["create", "cluster"][..], &["--config", "--wait"][..]),
            (&["load", "docker-image"], &["--name"]),
            (&["delete", "cluster"], &["--name"]),
        ] {
            let help = Command::new(&kind).args(command).arg("--help").output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            assert!(options.iter().all(|option| help.contains(option)), "{command:?}: {help}");
        }
        let cluster: serde_json::Value = serde_yaml::from_str(&read("tests/kind/kind.yaml")).unwrap();
        let workers = cluster["nodes"].as_array().unwrap().iter().filter(|node| node["role"] == "worker");
        assert_eq!((cluster["name"].as_str(), workers.count()), (Some(CLUSTER), 3));
        assert_eq!(CONTEXT, format!("kind-{CLUSTER}"));
    }
}
