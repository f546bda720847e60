//! The commands of the documentation, run as they stand, on a control plane of their own: they install for a whole cluster.
//!
//! What needs kind, storage or a registry is run by the suite for real clusters (`tests/kind`), from the same pages.

use crate::{image, space};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use lockstep_testcluster::{ControlPlane, NodeOptions};
use lockstep_testkit::docs;
use lockstep_testkit::process::Running;
use std::path::Path;
use std::time::Duration;

/// Pages whose commands run one after the other on one cluster. Each leaves it as it found it, or says what it needs.
const PAGES: [&str; 3] = ["docs/quickstart.md", "docs/installing.md", "README.md"];
/// A page that is not done by then hangs.
const LIMIT: Duration = Duration::from_secs(900);

#[tokio::test]
async fn commands_of_the_documentation_do_what_it_says() {
    let cluster = ControlPlane::start().await;
    let version = concat!("lockstep:", env!("CARGO_PKG_VERSION"));
    let _node = cluster.node(NodeOptions::named("node-0").image(version, image())).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository");
    for page in PAGES {
        let mut bash = docs::command(&root, page, &[]);
        cluster.admin().equip_script(&mut bash);
        let running = tokio::task::spawn_blocking(move || Running::start(&mut bash).wait(LIMIT));
        let ended = running.await.expect("it is joined");
        assert_eq!(ended.code, 0, "{page}:\n{}\n{}", ended.stdout, ended.stderr);
        eprintln!("{page}: {:?}", ended.took);
    }
    // What `make kind-up` applies beside them is taken by an API server, in a namespace that is restricted.
    let store = root.join("tests/kind/seaweedfs.yaml").display().to_string();
    cluster.kubectl(&["apply", "-f", &store]).await.expect_code(0);
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, "seaweedfs");
    space::becomes("made", async || {
        pods.list(&ListParams::default()).await.is_ok_and(|pods| !pods.items.is_empty())
    })
    .await;
}
