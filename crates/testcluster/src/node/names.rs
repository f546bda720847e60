//! Names of Services and pods: what a DNS server would say, as `/etc/hosts` files.
//!
//! A cluster answers from EndpointSlices, but the API server takes no loopback address into one (`ValidateEndpointIP` in
//! pkg/apis/core/validation/validation.go), so the controllers that make them are off and this looks at what they look
//! at: Services, and the pods that their selectors match. Ready pods of a Service have its name, each one with a
//! subdomain, or of a headless Service, its own (`<pod>.<service>`). A name leads straight to pods: a Service's port must
//! be its target port, since nothing here translates.

use super::context::NodeContext;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a cluster calls itself.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Changes that are looked at together, at most.
const TOGETHER: usize = 1_024;
/// How long to wait after a watch failed.
const RETRY: Duration = Duration::from_millis(500);

/// Names by namespace of the Service: name without the namespace, address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<String, Vec<(String, String)>>);

impl Names {
    fn of(services: &[Arc<Service>], pods: &[Arc<Pod>]) -> Self {
        let mut names: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for service in services {
            let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
            let Some(spec) = &service.spec else { continue };
            let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else {
                continue;
            };
            let is_headless = spec.cluster_ip.as_deref() == Some("None");
            let takes_unready = spec.publish_not_ready_addresses == Some(true);
            let is_endpoint = |pod: &&Arc<Pod>| {
                pod.namespace().as_deref() == Some(namespace.as_str())
                    && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
                    && (takes_unready || is_ready(pod))
            };
            let entries = names.entry(namespace.clone()).or_default();
            for pod in pods.iter().filter(is_endpoint) {
                let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) else {
                    continue;
                };
                entries.push((name.clone(), address.clone()));
                let spec = pod.spec.as_ref();
                let host = spec.and_then(|spec| spec.hostname.clone()).unwrap_or_else(|| pod.name_any());
                let has_subdomain = spec.and_then(|spec| spec.subdomain.as_deref()) == Some(name.as_str());
                if is_headless || has_subdomain {
                    entries.push((format!("{host}.{name}"), address));
                }
            }
            entries.sort();
        }
        Self(names)
    }

    /// The text of `/etc/hosts` for a pod of this name, address and namespace.
    pub(super) fn hosts(&self, pod: &str, address: &str, namespace: &str) -> String {
        let mut text = format!("127.0.0.1 localhost\n::1 localhost\n{address} {pod}\n");
        for (of, entries) in &self.0 {
            for (name, address) in entries {
                let full = format!("{name}.{of}.svc.{CLUSTER_DOMAIN} {name}.{of}.svc {name}.{of}");
                // The resolver's search list begins with the pod's own namespace.
                let short = if of == namespace { format!(" {name}") } else { String::new() };
                let _ = writeln!(text, "{address} {full}{short}");
            }
        }
        text
    }
}

/// Whether a pod is one that a Service leads to.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|at| at.type_ == "Ready" && at.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Writes a file that is bound into containers: it must stay the same file, and nobody may find it empty. One write that
/// is never shorter than what was there does that; blank lines at the end mean nothing.
pub(super) fn overwrite(path: &Path, text: &str) -> std::io::Result<()> {
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().max(length), b'\n');
    file.write_all_at(&bytes, 0)
}

/// Keeps a node's names current for ever. The client is one that may read Services and pods, as a DNS server's.
pub(super) async fn follow(node: Arc<NodeContext>, client: Client) {
    let (services, service_changes) = store::<Service>(client.clone());
    let (pods, pod_changes) = store::<Pod>(client);
    // Changes that come together are looked at once: there may be a thousand pods.
    let mut changes = stream::select(service_changes, pod_changes).ready_chunks(TOGETHER);
    while let Some(changed) = changes.next().await {
        if changed.contains(&false) {
            tokio::time::sleep(RETRY).await;
        }
        let mut silent = node.silent.subscribe();
        let _ = silent.wait_for(|silent| !silent).await;
        let names = Arc::new(Names::of(&services.state(), &pods.state()));
        node.names.send_if_modified(|old| {
            let is_new = *old != names;
            *old = names;
            is_new
        });
    }
}

/// A mirror of all objects of a kind, and a stream of its changes (`false`: the watch failed and begins anew).
fn store<K>(client: Client) -> (Store<K>, stream::BoxStream<'static, bool>)
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + serde::de::DeserializeOwned
        + 'static,
{
    let (store, writer) = reflector::store();
    let changes = watcher(Api::<K>::all(client), watcher::Config::default()).reflect(writer);
    (store, changes.map(|change| change.is_ok()).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_pods_of_a_service_have_its_name_and_their_own_where_it_is_headless() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "op", "namespace": "a"}, "spec": {"selector": {"app": "op"}, "clusterIP": "None"}
        }))
        .unwrap();
        let pod = |name: &str, ready: &str, address: &str| -> Arc<Pod> {
            let pod = serde_json::json!({
                "metadata": {"name": name, "namespace": "a", "labels": {"app": "op", "x": "y"}},
                "spec": {"containers": []},
                "status": {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]}
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let pods = [pod("op-1", "True", "127.64.0.9"), pod("op-2", "False", "127.64.0.10")];
        let names = Names::of(&[Arc::new(service)], &pods);
        let own = names.hosts("me", "127.64.0.3", "a");
        assert!(own.contains("127.64.0.9 op.a.svc.cluster.local op.a.svc op.a op\n"), "{own}");
        assert!(
            own.contains("127.64.0.9 op-1.op.a.svc.cluster.local op-1.op.a.svc op-1.op.a op-1.op\n"),
            "{own}"
        );
        assert!(!own.contains("127.64.0.10"), "{own}");
        let other = names.hosts("me", "127.64.0.3", "b");
        assert!(other.contains("127.64.0.9 op.a.svc.cluster.local op.a.svc op.a\n"), "{other}");
    }

    #[test]
    fn a_file_that_is_bound_stays_the_same_and_never_gets_shorter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        overwrite(&path, "a long line\n").unwrap();
        overwrite(&path, "b\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((text.trim_end(), text.len()), ("b", 12));
    }
}
