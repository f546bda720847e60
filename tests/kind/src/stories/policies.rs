//! NetworkPolicies of the chart.

use super::{on_target, problems};
use crate::store::{NAMESPACE, PORT, Store};
use crate::suite::{Found, Suite};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use lockstep_testcluster::runs::{run, status};
use serde_json::{Value, json};

/// Whom agents may reach: the operator, names, and what is measured; and who reaches the operator. Whether a cluster holds them to it is
/// its network's business, and told.
pub async fn network(suite: &Suite) -> Found {
    let runs = suite.runs("network").await;
    suite.store.give_key(&runs.namespace).await;
    let store = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}});
    let egress = json!([{"to": [store], "ports": [{"port": PORT, "protocol": "TCP"}]}]);
    let home = suite.namespace("home").await;
    let release = {
        let (watched, egress) = (
            format!("watchNamespaces={{{}}}", runs.namespace),
            values("networkPolicy.agents.egress", &egress),
        );
        let mut all = vec![
            watched,
            "networkPolicy.enabled=true".to_owned(),
            "networkPolicy.agents.enabled=true".to_owned(),
        ];
        all.extend(egress);
        suite.release_in(&home, &all.iter().map(String::as_str).collect::<Vec<_>>()).await
    };

    let policies: Api<NetworkPolicy> = Api::namespaced(suite.client.clone(), &runs.namespace);
    let policy = policies.get(&format!("{home}-lockstep-agents")).await.expect("the policy of agents");
    let policy = serde_json::to_value(policy.spec).expect("JSON");
    let (operator, in_home) = (
        json!({"app.kubernetes.io/name": "lockstep", "app.kubernetes.io/instance": "lockstep", "app.kubernetes.io/component": "operator"}),
        json!({"kubernetes.io/metadata.name": home}),
    );
    assert_eq!(policy["policyTypes"], json!(["Egress"]));
    assert_eq!(policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"], "agent");
    assert_eq!(
        policy["egress"],
        json!([
            {"ports": [{"port": 7443, "protocol": "TCP"}],
             "to": [{"podSelector": {"matchLabels": operator}, "namespaceSelector": {"matchLabels": in_home}}]},
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {"ports": [{"port": PORT, "protocol": "TCP"}], "to": [store]},
        ]),
        "nothing but the operator, names, and the target"
    );
    let policies: Api<NetworkPolicy> = Api::namespaced(suite.client.clone(), &home);
    let policy = policies.get("lockstep").await.expect("the policy of operators");
    let policy = serde_json::to_value(policy.spec).expect("JSON");
    assert_eq!(policy["policyTypes"], json!(["Ingress"]));
    assert_eq!(policy["ingress"][0]["ports"], json!([{"port": 7443, "protocol": "TCP"}]));
    assert_eq!(
        policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"],
        "agent"
    );

    let managed = json!({"managedBy": release.managed_by});
    runs.create(on_target("allowed", &Store::target(&runs.namespace), 30, 2, &managed)).await;
    let allowed = runs.finished("allowed").await;
    assert_eq!(status(&allowed).phase, "Succeeded", "what is allowed works: {}", problems(&allowed));

    // Another port of the same pod, which answers whoever asks.
    let mut target = Store::target(&runs.namespace);
    target["endpoints"] = json!([Store::endpoint().replace(&PORT.to_string(), "8888")]);
    let spec = json!({
        "managedBy": release.managed_by, "target": target, "failurePolicy": {"retryAttempts": 0},
        "agents": {"replicas": 1}, "start": {"readyTimeout": "40s"},
    });
    runs.create(run("other", 500, &spec)).await;
    let other = runs.finished("other").await;
    let said = problems(&other);
    assert_ne!(status(&other).phase, "Succeeded", "{said}");
    // A filtered connection is never answered.
    let is_enforced = ["timed out", "time-out", "timeout", "no answer", "not answer"]
        .iter()
        .any(|word| said.contains(word));
    let held = if is_enforced {
        "and this network holds agents to it"
    } else {
        "which this network does not enforce"
    };
    Found::Shown(format!("operator, DNS and target alone in the policy, {held}"))
}

/// A value as `--set` takes it: one argument for each leaf.
fn values(path: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| values(&format!("{path}.{}", name.replace('.', "\\.")), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, value)| values(&format!("{path}[{index}]"), value))
            .collect(),
        Value::String(text) => vec![format!("{path}={text}")],
        other => vec![format!("{path}={other}")],
    }
}
