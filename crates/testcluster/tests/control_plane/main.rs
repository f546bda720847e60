//! The test control plane and the node that runs its pods, tested themselves: what stands on them stands on this.

mod faults;
mod harness;
mod lives;
mod pods;
mod story;

use k8s_openapi::NamespaceResourceScope;
use kube::api::Api;
use kube::runtime::wait::{Condition, await_condition};
use std::fmt::Debug;
use std::time::Duration;

/// Everything that controllers do happens within this, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Waits until an object satisfies a condition, and returns it.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, condition: impl Condition<K>) -> K
where
    K: kube::Resource<Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Send
        + serde::de::DeserializeOwned
        + serde::Serialize
        + 'static,
{
    let met = tokio::time::timeout(LIMIT, await_condition(api.clone(), name, condition)).await;
    match met {
        Ok(Ok(object)) => object.unwrap_or_else(|| panic!("{name} is gone")),
        Ok(Err(error)) => panic!("{name}: {error}"),
        Err(_) => {
            let seen =
                api.get_opt(name).await.map(|seen| serde_json::to_string_pretty(&seen).unwrap_or_default());
            panic!(
                "{name} is not {what} within {LIMIT:?}: {}",
                seen.unwrap_or_else(|error| error.to_string())
            )
        }
    }
}
