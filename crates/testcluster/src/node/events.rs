//! Events as a kubelet emits them: of the core API, from `kubelet` on this node, one object per thing that happens and a
//! count of how often (k8s.io/client-go/tools/record). Reasons are those of pkg/kubelet/events/event.go.

use super::context::{NodeContext, as_kubelet};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, Patch, PostParams};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Something worth knowing.
pub(super) const NORMAL: &str = "Normal";
/// Something that goes wrong.
pub(super) const WARNING: &str = "Warning";

/// Where tasks put what happened. Nobody waits for the API server here.
pub(super) struct Events(mpsc::UnboundedSender<Report>);

/// What happened to whom.
pub(super) struct Report {
    about: ObjectReference,
    kind: &'static str,
    reason: String,
    message: String,
}

impl Events {
    /// A place for reports, and where they come out.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Report>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Reports something about a pod, or about a field of it.
    pub(super) fn report(&self, pod: &Pod, field: &str, kind: &'static str, reason: &str, message: &str) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: Some(field.to_owned()).filter(|field| !field.is_empty()),
        };
        let report = Report { about, kind, reason: reason.to_owned(), message: message.to_owned() };
        // A node that ends has nobody who listens.
        let _ = self.0.send(report);
    }
}

/// What makes two reports the same one.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    uid: Option<String>,
    field: Option<String>,
    reason: String,
    message: String,
}

impl Key {
    fn of(report: &Report) -> Self {
        let (uid, field) = (report.about.uid.clone(), report.about.field_path.clone());
        Self { uid, field, reason: report.reason.clone(), message: report.message.clone() }
    }
}

/// Writes what is reported, as long as somebody may report.
pub(super) async fn write(node: Arc<NodeContext>, mut reports: mpsc::UnboundedReceiver<Report>) {
    let mut written: HashMap<Key, (String, i32)> = HashMap::new();
    let mut number = 0_u64;
    while let Some(report) = reports.recv().await {
        let namespace = report.about.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(node.client().await, &namespace);
        let key = Key::of(&report);
        let now = Time(Timestamp::now());
        // Events are written once and never retried, as a kubelet's that meet an error of the server.
        if let Some((name, count)) = written.get_mut(&key) {
            *count += 1;
            let patch = serde_json::json!({"count": count, "lastTimestamp": now});
            let _ = events.patch(name, &as_kubelet(), &Patch::Merge(patch)).await;
            continue;
        }
        number += 1;
        let stamp = now.0.as_nanosecond();
        let name = format!("{}.{stamp:x}{number:x}", report.about.name.as_deref().unwrap_or_default());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: report.about,
            type_: Some(report.kind.to_owned()),
            reason: Some(report.reason),
            message: Some(report.message),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(node.options.name.clone()),
            }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(node.options.name.clone()),
            ..Event::default()
        };
        if events.create(&PostParams::default(), &event).await.is_ok() {
            written.insert(key, (name, 1));
        }
    }
}
