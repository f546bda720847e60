//! The commands of the documentation, as they stand, by somebody who has kubectl, helm and the plugin.

use crate::installation::{HOME, Image};
use crate::suite::{Found, Suite, Undo};
use lockstep_testkit::docs;
use lockstep_testkit::process::{Ended, Running};
use std::path::Path;
use std::time::Duration;

/// A page that is not done by then hangs.
const LIMIT: Duration = Duration::from_secs(600);
/// From nothing to a finished first run.
const GOAL: Duration = Duration::from_secs(300);

/// Runs the commands of a page, where they have what they need.
async fn run(suite: &Suite, page: &str, has: &[&str]) -> Ended {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut bash = docs::command(&root, page, has);
    suite.person.equip_script(&mut bash);
    let running = tokio::task::spawn_blocking(move || Running::start(&mut bash).wait(LIMIT));
    let ended = running.await.expect("it is joined");
    assert_eq!(ended.code, 0, "{page}:\n{}\n{}", ended.stdout, ended.stderr);
    ended
}

/// From a cluster without Lockstep to the results of a first run, and back. The first story of all.
pub async fn quickstart(suite: &Suite) -> Found {
    if suite.common.image.name() != Image::of_this_checkout().name() {
        return Found::NotShown(format!("the page installs {}", Image::of_this_checkout().name()));
    }
    let runs = suite.person.kubectl(&["get", "brun", "-A", "-o", "name"]).await;
    if !runs.stdout.trim().is_empty() {
        return Found::NotShown("there are runs on this cluster, which the page would remove".to_owned());
    }
    suite
        .person
        .helm(&["uninstall", "lockstep", "-n", HOME, "--ignore-not-found", "--wait"])
        .await
        .expect_code(0);
    suite.kubectl(&["delete", "namespace", "perf", HOME, "--ignore-not-found"]).await;
    suite.kubectl(&["delete", "crd", "benchmarkruns.lockstep.dev", "--ignore-not-found"]).await;
    suite
        .kubectl(&["delete", "clusterrole", "-l", "app.kubernetes.io/name=lockstep", "--ignore-not-found"])
        .await;
    suite.finally(Undo::Kubectl(
        ["delete", "namespace", "perf", "--ignore-not-found"].map(str::to_owned).to_vec(),
    ));
    let ended = run(suite, "docs/quickstart.md", &[]).await;
    assert!(ended.took <= GOAL, "{:?} from nothing to results", ended.took);
    Found::Shown(format!(
        "{:.0} s for all of docs/quickstart.md: install, helm test, two runs, removal",
        ended.took.as_secs_f64()
    ))
}

/// Claims of the cluster's StorageClass.
pub async fn volumes(suite: &Suite) -> Found {
    if super::volumes::default_class(suite).await.is_none() {
        return super::volumes::no_class();
    }
    suite.finally(Undo::Kubectl(
        ["delete", "namespace", "volumes", "--ignore-not-found"].map(str::to_owned).to_vec(),
    ));
    let ended = run(suite, "docs/pvc.md", &["storage"]).await;
    Found::Shown(format!("docs/pvc.md in {:.0} s", ended.took.as_secs_f64()))
}

/// An object store in the cluster.
pub async fn objects(suite: &Suite) -> Found {
    suite.finally(Undo::Kubectl(
        ["delete", "namespace", "objects", "--ignore-not-found"].map(str::to_owned).to_vec(),
    ));
    let ended = run(suite, "docs/s3.md", &["seaweedfs"]).await;
    Found::Shown(format!("docs/s3.md in {:.0} s", ended.took.as_secs_f64()))
}
