//! Waiting for what controllers do: with a limit, and saying what was seen instead.

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Everything that controllers do happens within this, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How often is looked where there is nothing to watch.
const POLL: Duration = Duration::from_millis(20);
/// How often somebody else is asked.
const ASK: Duration = Duration::from_millis(50);

/// Waits until an object satisfies a condition, and returns it. `what` completes "it is not ...".
///
/// # Panics
/// It does not within [`LIMIT`], or is gone; the panic shows it.
pub async fn until<K>(api: &Api<K>, name: &str, what: &str, condition: impl Condition<K>) -> K
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + Serialize + 'static,
{
    until_within(api, name, what, LIMIT, condition).await
}

/// The same within another limit.
///
/// # Panics
/// As [`until`].
pub async fn until_within<K>(
    api: &Api<K>,
    name: &str,
    what: &str,
    limit: Duration,
    condition: impl Condition<K>,
) -> K
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + Serialize + 'static,
{
    match tokio::time::timeout(limit, await_condition(api.clone(), name, condition)).await {
        Ok(Ok(object)) => object.unwrap_or_else(|| panic!("{name} is gone")),
        Ok(Err(error)) => panic!("{name}: {error}"),
        Err(_) => {
            let seen =
                api.get_opt(name).await.map(|seen| serde_json::to_string_pretty(&seen).unwrap_or_default());
            panic!(
                "{name} is not {what} within {limit:?}: {}",
                seen.unwrap_or_else(|error| error.to_string())
            )
        }
    }
}

/// Waits until an object is gone from the API.
///
/// # Panics
/// It is not within [`LIMIT`].
pub async fn until_gone<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    until_gone_within(api, name, LIMIT).await;
}

/// The same within another limit.
///
/// # Panics
/// As [`until_gone`].
pub async fn until_gone_within<K>(api: &Api<K>, name: &str, limit: Duration)
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let gone = await_condition(api.clone(), name, |object: Option<&K>| object.is_none());
    let gone = tokio::time::timeout(limit, gone).await;
    gone.unwrap_or_else(|_| panic!("{name} is still there after {limit:?}"))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Waits for an Event of this reason in a namespace whose message contains a text, and returns it.
///
/// # Panics
/// There is none within [`LIMIT`]; the panic shows those that there are.
pub async fn until_event(client: &Client, namespace: &str, reason: &str, text: &str) -> Event {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let end = Instant::now() + LIMIT;
    loop {
        let seen =
            events.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("Events: {error}")).items;
        let is_it = |event: &&Event| {
            event.reason.as_deref() == Some(reason)
                && event.message.as_deref().is_some_and(|message| message.contains(text))
        };
        if let Some(event) = seen.iter().find(is_it) {
            return event.clone();
        }
        let seen: Vec<_> = seen.into_iter().map(|event| (event.reason, event.message)).collect();
        assert!(Instant::now() < end, "no Event {reason} with `{text}`: {seen:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until something of this process or machine holds. `what` completes "it is never ...".
///
/// # Panics
/// It does not within [`LIMIT`].
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "never {what} within {LIMIT:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// The same of what is asked for, such as another tool's answer.
///
/// # Panics
/// As [`eventually`].
pub async fn becomes(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < end, "never {what} within {limit:?}");
        tokio::time::sleep(ASK).await;
    }
}
