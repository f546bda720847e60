//! What a pod looks like, held against what the design promises of it.

use super::*;
use crate::testing;
use k8s_openapi::api::core::v1::Pod;

fn recipe(spec: &Value) -> Result<Recipe, Vec<Fault>> {
    let (run, plan) = testing::run(spec);
    let identity = RunIdentity::of(&run).expect("an identity");
    Recipe::new(identity, run, plan, Installation::example())
}

fn pod(spec: &Value) -> Value {
    recipe(spec).expect("accepted").pod(3, 1).expect("a pod").json
}

fn paths(result: Result<Recipe, Vec<Fault>>) -> Vec<String> {
    result.expect_err("refused").into_iter().map(|fault| fault.path).collect()
}

#[test]
fn a_pod_says_who_it_is_and_whose() {
    let pod = pod(&json!({}));
    let metadata = &pod["metadata"];
    assert_eq!(metadata["name"], "nightly-3-1");
    assert_eq!(metadata["namespace"], "perf");
    assert_eq!(metadata["ownerReferences"][0]["uid"], testing::UID);
    assert_eq!(metadata["ownerReferences"][0]["controller"], true);
    let labels = &metadata["labels"];
    assert_eq!((&labels[labels::AGENT_INDEX], &labels[labels::AGENT_ATTEMPT]), (&json!("3"), &json!("1")));
    assert_eq!((&labels[labels::RUN_UID], &labels["team"]), (&json!(testing::UID), &json!("storage")));
    // It reads as a Pod, and every label value is one that Kubernetes takes.
    serde_json::from_value::<Pod>(pod.clone()).expect("a Pod");
    for value in labels.as_object().unwrap().values() {
        let value = value.as_str().unwrap();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        assert!(value.len() <= 63 && value.chars().all(plain), "{value}");
    }
}

#[test]
fn a_pod_satisfies_pod_security_restricted() {
    let pod = pod(&json!({"target": {"uri": "file:///data/bench", "volume": {"emptyDir": {}}}}));
    let spec = &pod["spec"];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &spec["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(
        (&spec["automountServiceAccountToken"], &spec["restartPolicy"]),
        (&json!(false), &json!("Never"))
    );
    let kinds = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in spec["volumes"].as_array().unwrap() {
        assert!(kinds.iter().any(|kind| volume.get(kind).is_some()), "{volume}");
    }
}

#[test]
fn the_token_is_of_this_run_and_the_ca_of_its_config_map() {
    let pod = pod(&json!({}));
    let sources = &pod["spec"]["volumes"][0]["projected"]["sources"];
    let audience = format!("lockstep.dev/perf/nightly/{}", testing::UID);
    assert_eq!(sources[0]["serviceAccountToken"]["audience"], json!(audience));
    assert_eq!(sources[1]["configMap"]["name"], "nightly-3f9a0b1c-ca");
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| env.iter().find(|env| env["name"] == name).map(|env| env["value"].clone());
    assert_eq!(value("LOCKSTEP_TOKEN_FILE"), Some(json!("/var/run/lockstep/token")));
    assert_eq!(value("LOCKSTEP_INDEX"), Some(json!("3")));
    assert_eq!(value("LOCKSTEP_ORPHAN_GRACE_MS"), Some(json!("120000")));
}

#[test]
fn credentials_are_referenced_and_target_volumes_mounted() {
    let spec = json!({"target": {"uri": "s3://bench/a", "credentials": {"secretName": "s3-creds"}}});
    let from = &pod(&spec)["spec"]["containers"][0]["envFrom"];
    assert_eq!(from, &json!([{"secretRef": {"name": "s3-creds"}}]));
    for (volume, want) in [
        (json!({"persistentVolumeClaim": {"claimName": "data"}}), json!({"claimName": "data"})),
        (json!({"emptyDir": {"sizeLimit": "1Gi"}}), json!({"sizeLimit": "1Gi"})),
        (
            json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}}),
            json!({"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}),
        ),
    ] {
        let pod = pod(&json!({"target": {"uri": "file:///data/bench", "volume": volume}}));
        let kind = volume.as_object().unwrap().keys().next().unwrap();
        assert_eq!(pod["spec"]["volumes"][1][kind], want);
        let mount = &pod["spec"]["containers"][0]["volumeMounts"][1];
        assert_eq!(mount["mountPath"], "/data/bench");
    }
}

#[test]
fn a_target_that_nobody_mounts_is_a_directory_of_the_node() {
    let volumes = |template: Value| {
        let spec =
            json!({"target": {"uri": "file:///data/bench"}, "agents": {"replicas": 2, "template": template}});
        pod(&spec)["spec"]["volumes"].as_array().unwrap().clone()
    };
    let own = json!({"name": "lockstep-target", "emptyDir": {}});
    assert!(volumes(json!({})).contains(&own));
    let mounts = |container: &str, at: &str| {
        let mount = json!({"name": "mine", "mountPath": at});
        let container = json!({"name": container, "image": "x", "volumeMounts": [mount]});
        json!({"spec": {"containers": [container], "volumes": [{"name": "mine", "hostPath": {"path": "/d"}}]}})
    };
    assert!(!volumes(mounts("agent", "/data")).contains(&own));
    assert!(!volumes(mounts("agent", "/data/bench")).contains(&own));
    for elsewhere in [mounts("agent", "/dat"), mounts("beside", "/data")] {
        assert!(volumes(elsewhere).contains(&own));
    }
}

#[test]
fn placement_is_said_to_the_scheduler() {
    let of =
        |placement: &str| pod(&json!({"agents": {"replicas": 4, "placement": placement}}))["spec"].clone();
    let spread = of("Spread");
    assert_eq!(spread["topologySpreadConstraints"][0]["whenUnsatisfiable"], "ScheduleAnyway");
    let apart = of("OnePerNode");
    let terms = &apart["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(terms[0]["labelSelector"]["matchLabels"][labels::RUN_UID], testing::UID);
    let any = of("Any");
    assert!(any.get("affinity").is_none() && any.get("topologySpreadConstraints").is_none());
}

#[test]
fn the_dead_mans_switch_is_behind_every_other_limit() {
    let of = |spec: &Value| pod(spec)["spec"]["activeDeadlineSeconds"].as_u64().unwrap();
    assert_eq!(of(&json!({})), DEADMAN_SECONDS);
    let limited = of(&json!({"activeDeadline": "2h", "start": {"readyTimeout": "10m"}}));
    assert!(limited > 2 * 7_200 + 600 && limited < 6 * 3_600, "{limited}");
}

#[test]
fn a_template_is_merged_and_newer_fields_are_kept() {
    let pod = pod(&json!({"agents": {"replicas": 4, "template": {
        "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "q"}},
        "spec": {
            "newerThanUs": {"x": 1},
            "containers": [
                {"name": "agent", "resources": {"limits": {"cpu": "4"}}, "env": [{"name": "EXTRA", "value": "1"}]},
                {"name": "sidecar", "image": "s"},
            ],
        },
    }}}));
    assert_eq!(pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "q");
    assert_eq!(pod["spec"]["newerThanUs"], json!({"x": 1}));
    let agent = &pod["spec"]["containers"][0];
    assert_eq!(agent["resources"]["limits"], json!({"memory": "1Gi", "cpu": "4"}));
    let names: Vec<&str> =
        agent["env"].as_array().unwrap().iter().filter_map(|env| env["name"].as_str()).collect();
    assert!(names.contains(&"EXTRA") && names.contains(&"LOCKSTEP_INDEX"));
    assert_eq!(pod["spec"]["containers"][1]["name"], "sidecar");
}

#[test]
fn a_directive_cannot_take_away_what_is_ours() {
    let with = |template: Value| recipe(&json!({"agents": {"replicas": 2, "template": template}}));
    let at = "spec.agents.template";
    let cases = [
        (
            json!({"spec": {"containers": [{"name": "agent", "$patch": "delete"}]}}),
            format!("{at}.spec.containers"),
        ),
        (json!({"spec": {"volumes": [{"$patch": "replace"}]}}), format!("{at}.spec.volumes")),
        (
            json!({"spec": {"containers": [{"name": "agent", "env": [{"$patch": "replace"}]}]}}),
            format!("{at}.spec.containers"),
        ),
        (
            json!({"spec": {"containers": [{"name": "agent", "$retainKeys": ["name", "env", "args", "command", "terminationMessagePath", "terminationMessagePolicy"]}]}}),
            format!("{at}.spec.containers.volumeMounts"),
        ),
    ];
    for (template, want) in cases {
        let paths = paths(with(template.clone()));
        assert!(paths.contains(&want), "{template}: {paths:?}");
    }
    let labels = paths(with(json!({"metadata": {"labels": {"$patch": "replace"}}})));
    assert!(
        labels.iter().all(|path| path.starts_with("spec.agents.template.metadata.labels[")),
        "{labels:?}"
    );
    assert_eq!(labels.len(), 5 + 3, "ours, and the keys that the operator selects by: {labels:?}");
}

#[test]
fn faults_of_all_kinds_are_said_at_once() {
    let paths = paths(recipe(&json!({"agents": {"replicas": 1001, "template": {
        "spec": {"restartPolicy": "Always", "containers": [{"image": "x"}]},
    }}})));
    let want = [
        "spec.agents.replicas",
        "spec.agents.template.spec.restartPolicy",
        "spec.agents.template.spec.containers[0]",
    ];
    assert_eq!(paths, want);
}

#[test]
fn names_fit_for_the_longest_run() {
    let identity = RunIdentity {
        namespace: "perf".to_owned(),
        name: "n".repeat(labels::NAME_MAX),
        uid: testing::UID.to_owned(),
    };
    assert!(identity.pod_name(4_999, 100).len() <= 63);
    assert!(identity.results_config_map(u32::MAX).len() <= 253);
}
