//! Who sees what: operators that are confined to a namespace, and credentials that no operator reads.

use super::{on_target, problems};
use crate::release::Release;
use crate::store::{SECRET, Store};
use crate::suite::{Found, Suite};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use lockstep_testcluster::becomes;
use lockstep_testcluster::runs::{run, status};
use serde_json::{Value, json};

/// What makes a namespace refuse everything that is not hardened.
const RESTRICTED: [(&str, &str); 1] = [("pod-security.kubernetes.io/enforce", "restricted")];

/// Whether somebody may do something; by a SelfSubjectAccessReview in his name.
async fn may(suite: &Suite, who: &str, what: &[&str]) -> bool {
    let ended = suite.person.kubectl(&[&["auth", "can-i"], what, &["--as", who]].concat()).await;
    match ended.stdout.trim() {
        "yes" => true,
        "no" => false,
        other => panic!("can-i {what:?} as {who}: {other} {}", ended.stderr),
    }
}

/// An admin of one namespace alone installs an operator there.
async fn installed_by_its_admin(suite: &Suite, what: &str) -> Release {
    let home = suite.namespace_with(what, &RESTRICTED).await;
    let admin = format!("{what}-of-{home}");
    suite
        .kubectl(&["create", "rolebinding", "admin", "--clusterrole=admin", "--user", &admin, "-n", &home])
        .await;
    becomes("an admin of runs", crate::suite::LIMIT, async || {
        may(suite, &admin, &["patch", "benchmarkruns", "--subresource=status", "-n", &home]).await
    })
    .await;
    suite.finally(crate::suite::Undo::Release(home.clone()));
    let release = Release::new(&suite.person, &suite.common.image, &home);
    // One `managedBy` for both: what tells them apart is where they are.
    let values = ["scope=namespace", "operator.managedBy=e2e.example/each"];
    release
        .helm("install", &[&values[..], &["crds.install=auto", "crds.roles=auto"]].concat())
        .await
        .expect_code(0);
    release
}

/// The same release twice, in two namespaces that admit nothing that is not hardened; each serves its own, and may nothing elsewhere.
pub async fn two_operators(suite: &Suite) -> Found {
    let (one, other) =
        (installed_by_its_admin(suite, "ann").await, installed_by_its_admin(suite, "bob").await);
    for release in [&one, &other] {
        let runs = suite.runs_in(&release.home);
        // It does refuse what is not hardened.
        let loose = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loose"},
            "spec": {"containers": [{"name": "x", "image": "x", "securityContext": {"privileged": true}}]},
        });
        let loose: Pod = serde_json::from_value(loose).expect("a pod");
        let refused = runs.pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &loose).await;
        assert!(
            refused.is_err_and(|error| error.to_string().contains("PodSecurity")),
            "restricted is enforced"
        );
        runs.create(run("short", 1_000, &json!({"managedBy": "e2e.example/each"}))).await;
    }
    for release in [&one, &other] {
        let done = suite.runs_in(&release.home).finished("short").await;
        assert_eq!(status(&done).phase, "Succeeded", "{}", problems(&done));
        assert_eq!(status(&done).controller, Some(release.claim()));
    }
    for (release, elsewhere) in [(&one, &other.home), (&other, &one.home)] {
        let user = release.user();
        assert!(may(suite, &user, &["create", "pods", "-n", &release.home]).await, "it may at home");
        for what in [["create", "pods"], ["list", "benchmarkruns"], ["get", "configmaps"], ["get", "secrets"]]
        {
            assert!(
                !may(suite, &user, &[&what[..], &["-n", elsewhere]].concat()).await,
                "{what:?} in {elsewhere}"
            );
        }
        assert!(!may(suite, &user, &["create", "tokenreviews"]).await, "nothing of the cluster's");
        assert!(!may(suite, &user, &["list", "benchmarkruns", "-A"]).await, "nothing everywhere");
    }
    Found::Shown("restricted namespaces, each operator serves its own and may nothing elsewhere".to_owned())
}

/// A Secret with a key goes to the container `agent` by the kubelet's hand, and nobody else has a right to it.
pub async fn credentials(suite: &Suite) -> Found {
    let namespace = suite.namespace_with("secret", &RESTRICTED).await;
    let runs = suite.runs_in(&namespace);
    suite.store.give_key(&namespace).await;
    runs.create(on_target("run", &Store::target(&namespace), 50, 8, &json!({}))).await;
    runs.in_stage("run", "mixed").await;
    let pod = runs.pods.get("run-0-0").await.expect("an agent");
    let spec = serde_json::to_value(pod.spec.expect("a spec")).expect("JSON");
    let containers = spec["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0]["envFrom"], json!([{"secretRef": {"name": SECRET}}]));
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(
        (
            &spec["securityContext"]["runAsNonRoot"],
            &containers[0]["securityContext"]["readOnlyRootFilesystem"]
        ),
        (&json!(true), &json!(true))
    );
    let tokens: Vec<&Value> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten())
        .filter(|source| !source["serviceAccountToken"].is_null())
        .collect();
    let [token] = &tokens[..] else { panic!("one token, for one audience: {tokens:?}") };
    let uid = runs.runs.get("run").await.expect("the run").metadata.uid.unwrap_or_default();
    assert_eq!(token["serviceAccountToken"]["audience"], format!("lockstep.dev/{namespace}/run/{uid}"));

    let operator = format!("system:serviceaccount:{}:lockstep", crate::installation::HOME);
    assert!(may(suite, &operator, &["create", "pods", "-n", &namespace]).await, "it makes the agents");
    let secret = format!("secrets/{SECRET}");
    for what in [
        &["get", secret.as_str()][..],
        &["list", "secrets"],
        &["watch", "secrets"],
        &["create", "pods", "--subresource=exec"],
        &["get", "pods", "--subresource=log"],
    ] {
        assert!(!may(suite, &operator, &[what, &["-n", &namespace]].concat()).await, "{what:?}");
    }
    // The operator's own pods have nothing of it either.
    let operators: Api<Pod> = Api::namespaced(suite.client.clone(), crate::installation::HOME);
    for operator in operators.list(&ListParams::default()).await.expect("operators") {
        let text = serde_json::to_string(&operator.spec).expect("JSON");
        assert!(
            !text.contains("secretRef") && !text.contains("secretKeyRef") && !text.contains("secretName"),
            "{text}"
        );
    }
    let done = runs.finished("run").await;
    assert_eq!(status(&done).phase, "Succeeded", "the key works: {}", problems(&done));
    runs.nothing_left("run").await;
    Found::Shown("in a restricted namespace; the operator may neither read it, nor logs, nor exec".to_owned())
}
