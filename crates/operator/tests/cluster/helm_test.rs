//! `helm test`: the real one runs a benchmark of one agent, passes when that did, and says what kept it when it did not.

use crate::chart::Release;
use crate::scopes::admin_of;
use crate::{Served, served, truth};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_testcluster::{Caller, Ended, Fault, PodSecurity, until_gone};

/// What the chart calls everything that belongs to its test.
const NAME: &str = "lockstep-test";

async fn test(served: &Served, by: &Caller, home: &str) -> Ended {
    served.cluster.helm_as(by, &["test", "lockstep", "-n", home]).await
}

/// The runs that tests of a release made in a namespace.
async fn runs(served: &Served, namespace: &str) -> Vec<BenchmarkRun> {
    let runs: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, namespace);
    let runs = runs.list(&ListParams::default()).await.expect("runs").items;
    runs.into_iter().filter(|run| run.name_any().starts_with(NAME)).collect()
}

/// What was made for the test is gone.
async fn tidied_up(served: &Served, home: &str, place: &str) {
    let client = || served.cluster.client();
    until_gone(&Api::<ServiceAccount>::namespaced(client().await, home), NAME).await;
    until_gone(&Api::<ConfigMap>::namespaced(client().await, home), NAME).await;
    let role = format!("{home}-{NAME}");
    until_gone(&Api::<Role>::namespaced(client().await, place), &role).await;
    until_gone(&Api::<RoleBinding>::namespaced(client().await, place), &role).await;
}

#[tokio::test]
async fn an_admin_of_a_restricted_namespace_tests_his_release_and_is_told_what_is_wrong() {
    let served = served().await;
    let home = served.cluster.namespace_with("tested", PodSecurity::Restricted).await;
    let admin = admin_of(served, "tess", &home).await;
    let scope = "scope=namespace";
    let release = Release::install(served, &admin, &home, "lab.example/tested", &[scope]).await;
    let passed = test(served, &admin, &home).await;
    assert!(passed.expect_code(0).stdout.contains("Succeeded"), "{}{}", passed.stdout, passed.stderr);
    let pods: Api<Pod> = Api::namespaced(served.cluster.client().await, &home);
    until_gone(&pods, NAME).await;
    tidied_up(served, &home, &home).await;
    let found = runs(served, &home).await;
    assert!(found.len() == 1 && truth(&found[0], ConditionType::Passed) == Some(Truth::True), "{found:?}");

    // The image of the agent cannot be pulled.
    let agents = format!("{home}/{NAME}-*");
    served.node.order(&agents, Fault::ImagePull("the registry does not answer".to_owned()));
    release.helm(served, &admin, "upgrade", &[scope, "tests.readySeconds=8"]).await.expect_code(0);
    let failed = test(served, &admin, &home).await;
    assert!(failed.code != 0 && failed.stderr.contains(NAME), "{}{}", failed.stdout, failed.stderr);
    tidied_up(served, &home, &home).await;
    let pod = pods.get(NAME).await.expect("it stays after a failure");
    let states = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    let ended = states.first().and_then(|state| state.state.as_ref()?.terminated.as_ref());
    let ended = ended.expect("its container has ended");
    let said = ended.message.as_deref().unwrap_or_default();
    for part in ["cause ", "likely ", "next ", "the registry does not answer"] {
        assert!(ended.exit_code != 0 && said.contains(part), "{part}: {said}");
    }
    served.node.heal(&agents);
    // Again: the pod of the failure makes place.
    test(served, &admin, &home).await.expect_code(0);
    until_gone(&pods, NAME).await;
}

#[tokio::test]
async fn the_test_of_a_release_that_serves_other_namespaces_runs_in_the_first_of_them() {
    let served = served().await;
    let home = served.cluster.namespace("tester").await;
    let place = served.cluster.namespace("perf").await;
    let watched = format!("watchNamespaces=[\"{place}\"]");
    let _release = Release::install(served, &Caller::Admin, &home, "lab.example/apart", &[&watched]).await;
    test(served, &Caller::Admin, &home).await.expect_code(0);
    tidied_up(served, &home, &place).await;
    let found = runs(served, &place).await;
    assert!(found.len() == 1 && truth(&found[0], ConditionType::Passed) == Some(Truth::True), "{found:?}");
    assert!(runs(served, &home).await.is_empty());
    // A finished run goes without anybody's help.
    let all: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &place);
    all.delete(&found[0].name_any(), &DeleteParams::default()).await.expect("it is deleted");
    until_gone(&all, &found[0].name_any()).await;
}
