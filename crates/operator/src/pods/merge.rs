//! Strategic merge of a partial `PodTemplateSpec` over ours, as `kubectl patch --type=strategic` does it.
//!
//! It works on JSON, not on types: a field that is newer than our types passes through, and a field that is absent is not
//! confused with one that is empty. The rules are those of `k8s.io/apimachinery/pkg/util/strategicpatch`: objects merge
//! member by member, `null` deletes, lists in [`super::strategy`] merge by key with the patch's elements in the patch's
//! order, other lists are replaced; `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…` and `$setElementOrder/…` are
//! understood. `testdata/merge.yaml` is the table of cases.
//!
//! A template that comes through the API server may hold `null`, which the schema of the resource lets through, but no
//! directives, which it does not know. In a file both are there.
//!
//! Where Kubernetes leaves a directive standing in the result, so that its own strict decoding refuses the object
//! (below an element that is new, in a list that is replaced), it is refused here with its path. It deliberately knows
//! nothing of what a template may not set; that is [`super::refuse`].

use super::strategy::{self, Strategy};
use lockstep_api::Fault;
use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER_OF: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// Merges `patch` over `base`; both are `PodTemplateSpec`s as JSON, `patch` a partial one with directives. `root` is how a
/// fault names the patch, e.g. `spec.agents.template`.
///
/// # Errors
///
/// Every place at which the patch is not well-formed or leaves a directive standing.
pub fn merge(base: &Object, patch: &Object, root: &str) -> Result<Object, Vec<Fault>> {
    let mut merge = Merge { faults: Vec::new() };
    let place = Place { shown: root.to_owned(), table: String::new() };
    let merged = merge.objects(&place, base.clone(), patch);
    let mut merged = Value::Object(merged);
    merge.settle(root, &mut merged);
    match merged {
        Value::Object(merged) if merge.faults.is_empty() => Ok(merged),
        _ => Err(merge.faults),
    }
}

/// Where the merge is: as people read it, and as the table of strategies names it.
#[derive(Clone)]
struct Place {
    shown: String,
    table: String,
}

impl Place {
    fn member(&self, name: &str) -> Self {
        let join = |path: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        Self { shown: join(&self.shown), table: join(&self.table) }
    }

    fn item(&self, index: usize) -> Self {
        Self { shown: format!("{}[{index}]", self.shown), table: self.table.clone() }
    }
}

struct Merge {
    faults: Vec<Fault>,
}

impl Merge {
    fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(path, message));
    }

    fn objects(&mut self, at: &Place, mut base: Object, patch: &Object) -> Object {
        match patch.get(PATCH).map(Value::as_str) {
            None => {}
            Some(Some("replace")) => {
                let mut patch = patch.clone();
                patch.remove(PATCH);
                return patch;
            }
            Some(Some("delete")) => return Object::new(),
            Some(_) => {
                self.bad_directive(at, &patch[PATCH]);
                return base;
            }
        }
        let mut patch = patch.clone();
        self.retain_keys(at, &mut base, &mut patch);
        self.ordered_lists(at, &mut base, &mut patch);
        for (key, value) in &patch {
            if let Some(field) = key.strip_prefix(DELETE_FROM) {
                self.delete_from(&at.member(key), field, &mut base, value);
            }
        }
        for (key, value) in patch.into_iter().filter(|(key, _)| !key.starts_with(DELETE_FROM)) {
            let merged = match (base.remove(&key), value) {
                (_, Value::Null) => None,
                (Some(Value::Object(mine)), Value::Object(theirs)) => {
                    Some(Value::Object(self.objects(&at.member(&key), mine, &theirs)))
                }
                (Some(Value::Array(mine)), Value::Array(theirs)) => {
                    Some(Value::Array(self.lists(&at.member(&key), mine, theirs)))
                }
                (_, theirs) => cleaned(theirs),
            };
            if let Some(merged) = merged {
                base.insert(key, merged);
            }
        }
        base
    }

    fn bad_directive(&mut self, at: &Place, directive: &Value) {
        let fault = Fault::new(at.member(PATCH).shown, format!("{directive} is no directive"));
        self.faults.push(fault.allowed("replace, delete; merge is what happens without it"));
    }

    /// Drops members of ours that `$retainKeys` does not name.
    fn retain_keys(&mut self, at: &Place, base: &mut Object, patch: &mut Object) {
        let Some(retained) = patch.remove(RETAIN_KEYS) else { return };
        let place = at.member(RETAIN_KEYS);
        let Value::Array(retained) = retained else {
            self.fault(&place.shown, "is no list of member names");
            return;
        };
        let names = |key: &str| retained.iter().any(|name| name == key);
        for (key, value) in &*patch {
            let is_directive = key.starts_with(DELETE_FROM) || key.starts_with(ORDER_OF);
            if !value.is_null() && !is_directive && !names(key) {
                self.fault(&place.shown, format!("does not name {key}, which the patch sets"));
            }
        }
        base.retain(|key, _| names(key));
    }

    /// `$deleteFromPrimitiveList/field` takes scalars out of a list, whatever its strategy.
    fn delete_from(&mut self, at: &Place, field: &str, base: &mut Object, gone: &Value) {
        match (base.get_mut(field), gone) {
            (Some(Value::Array(mine)), Value::Array(gone)) => {
                if mine.iter().chain(gone).any(|item| item.is_object() || item.is_array()) {
                    self.fault(&at.shown, "deletes from a list of objects; use $patch: delete in an element");
                    return;
                }
                mine.retain(|item| !gone.contains(item));
            }
            (_, Value::Array(_)) => {}
            (_, _) => self.fault(&at.shown, "is no list"),
        }
    }

    fn lists(&mut self, at: &Place, base: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
        match strategy::of(&at.table) {
            None => patch,
            Some(Strategy::Union) => self.union(at, base, &patch),
            Some(Strategy::ByKey(key)) => self.by_key(at, key, base, patch),
        }
    }

    fn union(&mut self, at: &Place, base: Vec<Value>, patch: &[Value]) -> Vec<Value> {
        if patch.iter().any(|item| item.is_object() || item.is_array()) {
            self.fault(&at.shown, "is a list of scalars");
            return base;
        }
        let mut merged: Vec<Value> = Vec::new();
        for item in base.iter().chain(patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        ordered(merged, patch, &base, Clone::clone)
    }

    fn by_key(&mut self, at: &Place, key: &str, base: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
        let Some((base, patch)) = self.special_elements(at, key, base, patch) else { return Vec::new() };
        let mut merged = base.clone();
        for (index, element) in patch.iter().enumerate() {
            let same = |mine: &Value| mine.get(key) == element.get(key);
            match (merged.iter().position(same), element) {
                (Some(found), Value::Object(theirs)) => {
                    let Value::Object(mine) = merged[found].take() else { continue };
                    merged[found] = Value::Object(self.objects(&at.item(index), mine, theirs));
                }
                (_, element) => merged.push(element.clone()),
            }
        }
        ordered(merged, &patch, &base, |element| element.get(key).cloned().unwrap_or_default())
    }

    /// Carries out elements that are directives; answers what is left of both lists, `None` when there is a fault.
    fn special_elements(
        &mut self,
        at: &Place,
        key: &str,
        mut base: Vec<Value>,
        patch: Vec<Value>,
    ) -> Option<(Vec<Value>, Vec<Value>)> {
        let before = self.faults.len();
        let mut plain = Vec::new();
        let mut replaces = false;
        for (index, element) in patch.into_iter().enumerate() {
            let place = at.item(index);
            let directive = element.get(PATCH).cloned();
            let keyed = element.get(key).is_some_and(|value| !value.is_null());
            match directive.as_ref().map(Value::as_str) {
                _ if !element.is_object() => self.fault(&place.shown, "is no object"),
                Some(Some("replace")) => replaces = true,
                Some(Some("delete")) if keyed => base.retain(|mine| mine.get(key) != element.get(key)),
                None if keyed => plain.push(element),
                None | Some(Some("delete")) => {
                    let fault =
                        Fault::new(&place.shown, format!("has no {key}, by which elements are merged"));
                    self.faults.push(fault.allowed(format!("an element with {key}")));
                }
                Some(_) => self.bad_directive(&place, &element[PATCH]),
            }
        }
        match (self.faults.len() == before, replaces) {
            (false, _) => None,
            (true, true) => Some((plain, Vec::new())),
            (true, false) => Some((base, plain)),
        }
    }

    /// Lists with `$setElementOrder/…`: merged here, so that the order can be enforced.
    fn ordered_lists(&mut self, at: &Place, base: &mut Object, patch: &mut Object) {
        let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER_OF)).cloned().collect();
        for directive in directives {
            let order = patch.remove(&directive).unwrap_or_default();
            let field = &directive[ORDER_OF.len()..];
            let place = at.member(field);
            let shown = at.member(&directive).shown;
            let Some(strategy) = strategy::of(&place.table) else {
                self.fault(&shown, "orders a list that is replaced as a whole");
                continue;
            };
            let (mine, theirs) = (base.remove(field), patch.remove(field));
            let lists = match (mine, theirs, order) {
                (Some(Value::Array(mine)), Some(Value::Array(theirs)), Value::Array(order)) => {
                    Some((mine, Some(theirs), order))
                }
                (Some(Value::Array(mine)), None, Value::Array(order)) => Some((mine, None, order)),
                (None, Some(Value::Array(theirs)), Value::Array(order)) => {
                    Some((Vec::new(), Some(theirs), order))
                }
                (None, None, Value::Array(_)) => continue,
                _ => None,
            };
            let Some((mine, theirs, order)) = lists else {
                self.fault(&shown, "is no list, or is not about one");
                continue;
            };
            let identity = |element: &Value| match strategy {
                Strategy::Union => element.clone(),
                Strategy::ByKey(key) => element.get(key).cloned().unwrap_or_default(),
            };
            if !in_order(theirs.as_deref().unwrap_or_default(), &order, identity) {
                self.fault(&shown, format!("does not name every element of {field} in the patch's order"));
                continue;
            }
            let merged = match theirs {
                None => mine.clone(),
                Some(theirs) => self.lists(&place, mine.clone(), theirs),
            };
            base.insert(field.to_owned(), Value::Array(ordered(merged, &order, &mine, identity)));
        }
    }

    /// Removes what typed decoding would not see (`null`), and refuses directives that nothing took up.
    fn settle(&mut self, at: &str, value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|_, member| !member.is_null());
                for (key, member) in members.iter_mut() {
                    let path = format!("{at}.{key}");
                    let is_directive = key == PATCH
                        || key == RETAIN_KEYS
                        || key.starts_with(DELETE_FROM)
                        || key.starts_with(ORDER_OF);
                    if is_directive {
                        self.fault(
                            &path,
                            "has nothing to act on: what it stands in is new or replaced as a whole",
                        );
                    } else {
                        self.settle(&path, member);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.settle(&format!("{at}[{index}]"), item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// A value that ours has no counterpart for: without `null` members, and without objects that are directives.
fn cleaned(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(PATCH) => None,
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, member)| !member.is_null());
            Some(Value::Object(kept.filter_map(|(key, member)| Some((key, cleaned(member)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(cleaned).collect())),
        scalar => Some(scalar),
    }
}

/// Whether `order` names every element of `patch`, in the patch's order. Elements that are directives have none.
fn in_order(patch: &[Value], order: &[Value], identity: impl Fn(&Value) -> Value) -> bool {
    let mut order = order.iter();
    patch
        .iter()
        .filter(|element| element.get(PATCH).is_none())
        .all(|element| order.any(|named| identity(named) == identity(element)))
}

/// Brings a merged list into its order: elements that `wanted` names in its order, the others in the order of `base`, each
/// of the others before the first wanted element that `base` had behind it.
fn ordered(
    merged: Vec<Value>,
    wanted: &[Value],
    base: &[Value],
    identity: impl Fn(&Value) -> Value,
) -> Vec<Value> {
    let rank = |list: &[Value], element: &Value| {
        let id = identity(element);
        list.iter().position(|other| identity(other) == id)
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|element| rank(wanted, element).is_some());
    named.sort_by_key(|element| rank(wanted, element));
    others.sort_by_key(|element| rank(base, element).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for element in named {
        if let Some(place) = rank(base, &element) {
            while let Some(other) = others.next_if(|other| rank(base, other).is_some_and(|rank| rank < place))
            {
                result.push(other);
            }
        }
        result.push(element);
    }
    result.extend(others);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// One case of `testdata/merge.yaml`.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Case {
        name: String,
        base: Object,
        patch: Object,
        expected: Option<Object>,
        refused: Option<String>,
        #[serde(default)]
        kubectl_accepts: bool,
    }

    #[test]
    fn every_case_of_the_table_comes_out_as_kubectl_has_it() {
        let cases: Vec<Case> =
            serde_yaml::from_str(include_str!("../../testdata/merge.yaml")).expect("the table reads");
        assert!(cases.len() >= 40, "{} cases", cases.len());
        for Case { name, base, patch, expected, refused, kubectl_accepts } in cases {
            assert!(!kubectl_accepts || refused.is_some(), "{name}");
            match (merge(&base, &patch, "template"), expected, refused) {
                (Ok(merged), Some(expected), None) => {
                    // Compared as text: the order of lists counts, that of members does not.
                    assert_eq!(Value::Object(merged), Value::Object(expected), "{name}");
                }
                (Err(faults), None, Some(path)) => {
                    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
                    assert_eq!(paths, [path.as_str()], "{name}: {faults:?}");
                }
                (result, ..) => panic!("{name}: {result:?}"),
            }
        }
    }

    #[test]
    fn all_faults_are_said_at_once() {
        let patch = serde_json::json!({
            "metadata": {"$retainKeys": "labels"},
            "spec": {"containers": [{"image": "x"}], "volumes": [{"name": "a", "$patch": "keep"}]},
        });
        let base = serde_json::json!({
            "metadata": {"labels": {}},
            "spec": {"containers": [{"name": "agent"}], "volumes": [{"name": "a"}]},
        });
        let faults = merge(base.as_object().unwrap(), patch.as_object().unwrap(), "t").expect_err("refused");
        let mut paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["t.metadata.$retainKeys", "t.spec.containers[0]", "t.spec.volumes[0].$patch"]);
    }

    proptest::proptest! {
        #[test]
        fn an_empty_patch_changes_nothing_and_a_patch_twice_is_a_patch_once(
            names in proptest::collection::vec("[a-e]", 0..5),
            patched in proptest::collection::vec(("[a-e]", "[x-z]"), 0..5),
        ) {
            let env = |pairs: Vec<(String, String)>| -> Vec<Value> {
                let mut seen = std::collections::BTreeSet::new();
                let unique = pairs.into_iter().filter(|(name, _)| seen.insert(name.clone()));
                unique.map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect()
            };
            let pod = |env: Vec<Value>| {
                let pod = serde_json::json!({"spec": {"containers": [{"name": "agent", "env": env}]}});
                pod.as_object().cloned().unwrap_or_default()
            };
            let base = pod(env(names.into_iter().map(|name| (name, "old".to_owned())).collect()));
            let patch = pod(env(patched));
            proptest::prop_assert_eq!(merge(&base, &Object::new(), "t"), Ok(base.clone()));
            let once = merge(&base, &patch, "t").expect("merges");
            proptest::prop_assert_eq!(merge(&once, &patch, "t"), Ok(once.clone()));
        }
    }
}
