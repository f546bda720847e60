//! Objects of a kind, of the whole cluster or of some namespaces, kept in one store.
//!
//! A store knows one watch: a second one that lists anew would clear what the first has brought. So the watches of several
//! namespaces are made into one ([`Merged`]): it has listed when each of them has, and one that lists again later tells
//! what went meanwhile. A namespace that may not be read counts as listed and empty, so that it does not stop the others.
//!
//! An object that does not parse is told and left out (what was known of it before stays), for the same reason. Deliberately
//! knows nothing of what the objects are for.

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Client, Resource, ResourceExt};
use lockstep_api::BenchmarkRun;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

/// Wait before a watch that failed begins again; doubles up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_millis(500);
/// After an outage nobody waits longer than some seconds until what went meanwhile is known.
const AGAIN_MAX: Duration = Duration::from_secs(8);

/// Waits before a watch begins again.
struct Again(Duration);

impl Iterator for Again {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (wait * 2).min(AGAIN_MAX);
        Some(wait)
    }
}

impl Backoff for Again {
    fn reset(&mut self) {
        self.0 = AGAIN_MIN;
    }
}

/// A stream of changes that keeps a store current.
pub type Changes<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

/// What can be followed.
pub trait Followed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl Followed for BenchmarkRun {}
impl Followed for Pod {}

/// Objects of these namespaces, of all if there are none. The store is current as long as the stream is read. `slim` drops
/// what nobody reads of an object, before it is kept.
#[must_use]
pub fn follow<K: Followed>(
    client: &Client,
    namespaces: &[String],
    config: &watcher::Config,
    slim: fn(&mut K),
) -> (Store<K>, Changes<K>) {
    let (store, writer) = reflector::store();
    let watch = |api| readable(api, config.clone(), store.clone(), slim);
    let changes = match namespaces {
        [] => watch(Api::all(client.clone())),
        [one] => watch(Api::namespaced(client.clone(), one)),
        several => {
            let each = several.iter().enumerate().map(|(place, namespace)| {
                watch(Api::namespaced(client.clone(), namespace)).map(move |change| (place, change))
            });
            let mut merged = Merged::of(several, store.clone());
            let changes = stream::select_all(each.map(StreamExt::boxed));
            changes.flat_map(move |(place, change)| stream::iter(merged.take(place, change))).boxed()
        }
    };
    (store, changes.reflect(writer).boxed())
}

/// A watch that begins again when it fails, slimmed, and without what does not parse.
fn readable<K: Followed>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    store: Store<K>,
    slim: fn(&mut K),
) -> Changes<K> {
    let changes = watcher::watcher(api, config).backoff(Again(AGAIN_MIN));
    changes
        .filter_map(move |change| {
            std::future::ready(change.map(|event| read(event, &store, slim)).transpose())
        })
        .boxed()
}

fn read<K: Followed>(
    event: Event<DeserializeGuard<K>>,
    store: &Store<K>,
    slim: fn(&mut K),
) -> Option<Event<K>> {
    let whole = |DeserializeGuard(object): DeserializeGuard<K>| match object {
        Ok(mut object) => {
            slim(&mut object);
            Ok(object)
        }
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            let namespace = invalid.metadata.namespace.unwrap_or_default();
            tracing::warn!(
                kind = %K::kind(&()), %namespace, %name, error = invalid.error,
                "an object cannot be read, by this version of the operator, and is left alone"
            );
            Err(ObjectRef::<K>::new(&name).within(&namespace))
        }
    };
    let last = |key: ObjectRef<K>| store.get(&key).map(|old| (*old).clone()).ok_or(());
    Some(match event {
        Event::Apply(object) => Event::Apply(whole(object).ok()?),
        Event::InitApply(object) => Event::InitApply(whole(object).or_else(last).ok()?),
        Event::Delete(object) => Event::Delete(whole(object).or_else(last).ok()?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Several watches as one.
struct Merged<K: Followed> {
    places: Vec<Place>,
    /// What the first lists have brought, until all have.
    first: Option<BTreeMap<(usize, String), K>>,
    store: Store<K>,
}

/// One of them.
#[derive(Clone, Default)]
struct Place {
    namespace: String,
    /// Whether it has listed once.
    listed: bool,
    /// Names of what it has.
    known: BTreeSet<String>,
    /// Names that the list under way has brought.
    fresh: BTreeSet<String>,
}

impl<K: Followed> Merged<K> {
    fn of(namespaces: &[String], store: Store<K>) -> Self {
        let place = |namespace: &String| Place { namespace: namespace.clone(), ..Place::default() };
        Self { places: namespaces.iter().map(place).collect(), first: Some(BTreeMap::new()), store }
    }

    /// What a change at one place is for the whole.
    fn take(&mut self, place: usize, change: watcher::Result<Event<K>>) -> Vec<watcher::Result<Event<K>>> {
        let mut told = Vec::new();
        match change {
            Ok(event) if self.first.is_some() => self.begin(place, event),
            Ok(event) => told.extend(self.go_on(place, event).into_iter().map(Ok)),
            Err(error) => {
                self.places[place].listed |= is_forbidden(&error);
                told.push(Err(error));
            }
        }
        if self.places.iter().all(|place| place.listed)
            && let Some(first) = self.first.take()
        {
            for (place, name) in first.keys() {
                self.places[*place].known.insert(name.clone());
            }
            told.push(Ok(Event::Init));
            told.extend(first.into_values().map(|object| Ok(Event::InitApply(object))));
            told.push(Ok(Event::InitDone));
        }
        told
    }

    /// While not all have listed.
    fn begin(&mut self, place: usize, event: Event<K>) {
        let Some(first) = &mut self.first else { return };
        match event {
            Event::Init => first.retain(|(of, _), _| *of != place),
            Event::Apply(object) | Event::InitApply(object) => {
                first.insert((place, object.name_any()), object);
            }
            Event::Delete(object) => _ = first.remove(&(place, object.name_any())),
            Event::InitDone => self.places[place].listed = true,
        }
    }

    /// Once all have.
    fn go_on(&mut self, at: usize, event: Event<K>) -> Vec<Event<K>> {
        let place = &mut self.places[at];
        match event {
            Event::Init => {
                place.fresh.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                place.fresh.insert(object.name_any());
                vec![Event::Apply(object)]
            }
            Event::Apply(object) => {
                place.known.insert(object.name_any());
                vec![Event::Apply(object)]
            }
            Event::Delete(object) => {
                place.known.remove(&object.name_any());
                vec![Event::Delete(object)]
            }
            Event::InitDone => {
                let fresh = std::mem::take(&mut place.fresh);
                let gone = std::mem::replace(&mut place.known, fresh);
                let key = |name: &String| ObjectRef::new(name).within(&place.namespace);
                let gone = gone.difference(&place.known).filter_map(|name| self.store.get(&key(name)));
                gone.map(|object| Event::Delete((*object).clone())).collect()
            }
        }
    }
}

/// Whether it says that we may not, rather than that it could not.
fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.is_forbidden())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::Status;
    use kube::runtime::reflector::store::Writer;

    impl Followed for ConfigMap {}

    fn map(namespace: &str, name: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        (map.metadata.namespace, map.metadata.name) = (Some(namespace.into()), Some(name.into()));
        map
    }

    /// Two namespaces, `a` and `b`, and the store that their watches fill.
    struct Two(Merged<ConfigMap>, Writer<ConfigMap>);

    impl Two {
        fn new() -> Self {
            let (store, writer) = reflector::store();
            Self(Merged::of(&["a".to_owned(), "b".to_owned()], store), writer)
        }

        /// What the store holds after a change.
        fn after(&mut self, place: usize, event: Event<ConfigMap>) -> Vec<String> {
            for event in self.0.take(place, Ok(event)) {
                self.1.apply_watcher_event(&event.unwrap());
            }
            self.holds()
        }

        fn holds(&self) -> Vec<String> {
            let all = self.1.as_reader().state();
            let mut names: Vec<String> =
                all.iter().map(|map| format!("{}/{}", map.namespace().unwrap(), map.name_any())).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn the_whole_has_listed_when_each_has() {
        let mut two = Two::new();
        two.after(0, Event::Init);
        two.after(0, Event::InitApply(map("a", "x")));
        two.after(0, Event::InitDone);
        two.after(0, Event::Apply(map("a", "y")));
        two.after(0, Event::Delete(map("a", "x")));
        assert_eq!(two.holds(), [""; 0], "nobody may take a part for the whole");
        two.after(1, Event::Init);
        two.after(1, Event::InitApply(map("b", "x")));
        assert_eq!(two.after(1, Event::InitDone), ["a/y", "b/x"]);
        assert_eq!(two.after(1, Event::Delete(map("b", "x"))), ["a/y"]);
    }

    #[test]
    fn a_namespace_that_lists_again_takes_nothing_from_the_other() {
        let mut two = Two::new();
        for (place, namespace) in [(0, "a"), (1, "b")] {
            two.after(place, Event::Init);
            two.after(place, Event::InitApply(map(namespace, "stays")));
            two.after(place, Event::InitApply(map(namespace, "goes")));
            two.after(place, Event::InitDone);
        }
        two.after(0, Event::Init);
        two.after(0, Event::InitApply(map("a", "stays")));
        two.after(0, Event::InitApply(map("a", "comes")));
        assert_eq!(two.after(0, Event::InitDone), ["a/comes", "a/stays", "b/goes", "b/stays"]);
    }

    #[test]
    fn a_namespace_that_may_not_be_read_does_not_stop_the_other() {
        let forbidden = || {
            let status = Status::failure("no", "Forbidden").with_code(403);
            watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
        };
        let mut two = Two::new();
        two.after(0, Event::Init);
        two.after(0, Event::InitApply(map("a", "x")));
        two.after(0, Event::InitDone);
        let told = two.0.take(1, Err(forbidden()));
        assert!(told[0].is_err() && told.len() == 4, "the error, and the list: {told:?}");
        for event in told.into_iter().skip(1) {
            two.1.apply_watcher_event(&event.unwrap());
        }
        assert_eq!(two.holds(), ["a/x"]);
    }
}
