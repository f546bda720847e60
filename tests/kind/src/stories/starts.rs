//! How agents find the operator, and how they start.

use crate::installation::HOME;
use crate::suite::{Found, Suite};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lockstep_testcluster::becomes;
use lockstep_testcluster::runs::{report, run, status};
use serde_json::json;
use std::collections::BTreeSet;

const AGENTS: usize = 8;

/// Eight agents dial a name that the cluster's DNS resolves to every replica of the operator, have a session with each, and
/// begin at one instant.
pub async fn eight_together(suite: &Suite) -> Found {
    let runs = suite.runs("eight").await;
    // More than the default of `maxSkew`, since eight agents may share two cores; what it was stands in the table.
    let spec = json!({"agents": {"replicas": AGENTS}, "start": {"maxSkew": "1s"}});
    let began = std::time::Instant::now();
    runs.create(run("eight", 8_000, &spec)).await;
    runs.measuring("eight").await;
    let measuring = began.elapsed();

    let services: Api<Service> = Api::namespaced(suite.client.clone(), HOME);
    let service = services.get("lockstep").await.expect("the Service");
    assert_eq!(service.spec.and_then(|spec| spec.cluster_ip).as_deref(), Some("None"), "headless");
    let selector =
        ListParams::default().labels("app.kubernetes.io/name=lockstep,app.kubernetes.io/component=operator");
    let pods: Api<Pod> = Api::namespaced(suite.client.clone(), HOME);
    let operators = pods.list(&selector).await.expect("operators").items;
    let addresses: BTreeSet<String> =
        operators.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    assert!(addresses.len() >= 2, "one leads, and another stands by: {addresses:?}");
    let agents: Vec<String> = (0..AGENTS).map(|index| format!("eight-{index}-0")).collect();
    for agent in &agents {
        let pod = runs.pods.get(agent).await.expect("an agent");
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let dials = container.env.iter().flatten().find(|one| one.name == "LOCKSTEP_COORDINATOR");
        let dials = dials.and_then(|one| one.value.clone()).unwrap_or_default();
        assert_eq!(dials, format!("lockstep.{HOME}.svc:7443"), "{agent} dials a name");
    }
    // A session with each: what makes a hand-over take no dialling.
    for operator in &operators {
        let path = format!("/api/v1/namespaces/{HOME}/pods/{}:8080/proxy/metrics", operator.name_any());
        becomes("in session with all agents", runs.limit, async || {
            let request = http::Request::get(&path).body(Vec::new()).expect("a request");
            let text = suite.client.request_text(request).await.unwrap_or_default();
            let sessions = text.lines().find_map(|line| line.strip_prefix("lockstep_sessions "));
            sessions
                .and_then(|number| number.trim().parse::<usize>().ok())
                .is_some_and(|number| number >= AGENTS)
        })
        .await;
    }

    let done = runs.finished("eight").await;
    assert_eq!(status(&done).phase, "Succeeded", "{:?}", done.status);
    assert_eq!(status(&done).agents.as_ref().map(|agents| agents.summary.as_str()), Some("8/8"));
    let stage = status(&done).stages.iter().find(|stage| stage.name == "load").expect("a stage");
    let start = stage.start.as_ref().expect("how it started");
    let measured = report(&suite.client, &done).await;
    let told =
        measured.stages.iter().find(|stage| stage.name == "load").and_then(|stage| stage.start.skew_micros);
    assert_eq!(told, u64::try_from(start.skew_micros).ok(), "status and report say the same");
    assert!(start.skew_micros > 0 && status(&done).skew.is_some(), "{start:?}");
    runs.nothing_left("eight").await;
    Found::Shown(format!(
        "skew {} (clock error ± {} µs) of 8 agents, measuring {:.1} s after apply, sessions with {} replicas",
        status(&done).skew.clone().unwrap_or_default(),
        start.clock_error_micros,
        measuring.as_secs_f64(),
        operators.len()
    ))
}
