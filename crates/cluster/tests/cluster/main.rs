//! The cluster without Docker, from the start to nothing: `cargo test -p lockstep-cluster --test cluster`, as root.
//!
//! Clusters one after the other, in state directories of their own, so that one that is in use is not touched.

mod machine;
mod program;
mod story;

use machine::{Machine, Traces};
use program::Cluster;

#[test]
fn it_runs_pods_and_leaves_nothing() {
    let before = Machine::seen();
    let cluster = Cluster::new("story");
    cluster.run(&["up", "--nodes", "2", "--node-grace", "20"]);
    let traces = Traces::of(cluster.state(), before);
    // What is looked for afterwards is there now: directory, link, cgroups, and many processes.
    assert!(traces.left().len() > 10, "{:?}", traces.left());
    story::pods_reach_each_other(&cluster);
    story::volumes_are_made(&cluster);
    story::faults_of_nodes_are_real(&cluster);
    story::up_again_mends(&cluster);
    // Whatever was killed before: down needs none of it.
    cluster.kill_everything_of("node-1");
    cluster.run(&["down"]);
    traces.assert_gone();
    cluster.run(&["down"]);
}

#[test]
fn nothing_is_left_of_an_up_that_was_killed() {
    // From the moment when something is written down to the one when pods could run.
    for made in [
        "cluster.json",
        "control/init",
        "node-1/booted",
        "control/var/log/kube-apiserver.log",
        "node-2/var/log/kubelet.log",
    ] {
        let before = Machine::seen();
        let cluster = Cluster::new("killed");
        cluster.kill_up_when(made);
        let traces = Traces::of(cluster.state(), before);
        cluster.run(&["down"]);
        traces.assert_gone();
    }
}

#[test]
fn a_half_made_one_is_replaced() {
    let before = Machine::seen();
    let cluster = Cluster::new("half");
    cluster.kill_up_when("node-1/booted");
    cluster.run(&["up", "--nodes", "1"]);
    cluster.kubectl(&["wait", "node/node-1", "--for=condition=Ready", "--timeout=60s"]);
    let traces = Traces::of(cluster.state(), before);
    cluster.run(&["down"]);
    traces.assert_gone();
}

#[test]
fn what_is_wrong_is_said_in_four_parts() {
    let cluster = Cluster::new("wrong");
    for arguments in [&["status"][..], &["load", "/nowhere.tar"], &["up", "--image", "/nowhere.tar"]] {
        let said = cluster.fails(arguments);
        for part in ["✖ ", "cause", "likely", "next"] {
            assert!(said.contains(part), "{arguments:?} says: {said}");
        }
    }
    assert!(!cluster.state().exists(), "what fails before it begins makes nothing");
    drop(cluster);
    // A directory of somebody else.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("mine"), "").unwrap();
    let said = Cluster::at(other.path()).fails(&["down"]);
    assert!(said.contains("no cluster was made in it"), "{said}");
    assert!(other.path().join("mine").exists());
}
