//! What the chart makes, and what it refuses.

use crate::{CHART, served};
use lockstep_testcluster::PodSecurity;

#[tokio::test]
async fn values_that_the_chart_does_not_know_are_refused() {
    let served = served().await;
    for (value, says) in [
        ("nonsense=1", "nonsense"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("limits.agentsPerRun=0", "agentsPerRun"),
        ("agent.labels.team=7", "team"),
    ] {
        let ended = served.cluster.helm(&["template", "x", CHART, "--set", value]).await;
        assert!(ended.code != 0 && ended.stderr.contains(says), "{value}: {}{}", ended.stdout, ended.stderr);
    }
    served.cluster.helm(&["lint", "--strict", CHART]).await.expect_code(0);
}

#[tokio::test]
async fn the_chart_fits_a_restricted_namespace_and_keeps_the_resource_when_it_goes() {
    let served = served().await;
    let namespace = served.cluster.namespace_with("second", PodSecurity::Restricted).await;
    let more =
        ["--set", "image.tag=test", "--set", "crds.install=false", "--set", "operator.managedBy=second"];
    let install = ["install", "lockstep", CHART, "-n", &namespace, "--wait"];
    served.cluster.helm(&[&install[..], &more[..]].concat()).await.expect_code(0);
    let upgrade =
        ["upgrade", "lockstep", CHART, "-n", &namespace, "--wait", "--set", "limits.agentsPerRun=7"];
    served.cluster.helm(&[&upgrade[..], &more[..]].concat()).await.expect_code(0);
    served.cluster.helm(&["rollback", "lockstep", "-n", &namespace, "--wait"]).await.expect_code(0);
    // The key of the authority is not the chart's to write: no upgrade empties it.
    let secret = ["get", "secret", "lockstep-ca", "-n", &namespace, "-o", "jsonpath={.data}"];
    let key = served.cluster.kubectl(&secret).await;
    assert!(key.stdout.contains("ca.key") && key.stdout.contains("ca.crt"), "{}{}", key.stdout, key.stderr);
    served.cluster.helm(&["uninstall", "lockstep", "-n", &namespace, "--wait"]).await.expect_code(0);
    served.cluster.kubectl(&["get", "crd", "benchmarkruns.lockstep.dev"]).await.expect_code(0);
}
