//! The audit log: who asked the API server for what, and what was answered.

use crate::ControlPlane;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// How often [`ControlPlane::audited`] looks.
const POLL: Duration = Duration::from_millis(20);

/// A request that was answered (a watch: that ended, or has begun).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the HTTP verb of a path that is
    /// no resource.
    pub verb: String,
    /// API group; empty for the core one.
    pub group: String,
    /// Resource, plural: `pods`. Empty for a path that is none, such as `/readyz`.
    pub resource: String,
    /// Subresource: `status`. Empty for none.
    pub subresource: String,
    /// Namespace; empty for none.
    pub namespace: String,
    /// Name of the object; empty for lists, and for creations whose name the server made.
    pub name: String,
    /// Who was obeyed: the impersonated user where there was one.
    pub user: String,
    /// User agent: tells two programs of one user apart.
    pub user_agent: String,
    /// HTTP status of the answer.
    pub code: u16,
    /// Path and query.
    pub uri: String,
    /// When it came, RFC 3339 with microseconds.
    pub time: String,
}

impl AuditEntry {
    /// Whether it changes something in the cluster: what an idle program does not.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }

    /// `verb group/resource/subresource`: what a rule of RBAC grants.
    #[must_use]
    pub fn right(&self) -> String {
        let slash = |part: &str| if part.is_empty() { String::new() } else { format!("/{part}") };
        format!("{} {}{}{}", self.verb, self.group, slash(&self.resource), slash(&self.subresource))
    }
}

impl ControlPlane {
    /// Every request that was answered so far, in the order of the answers. The entry of a request may appear a moment
    /// after its answer: see [`ControlPlane::audited`].
    ///
    /// # Panics
    /// The log cannot be read, or has entries of another shape.
    #[must_use]
    pub fn audit(&self) -> Vec<AuditEntry> {
        let log = std::fs::read_to_string(self.layout.audit_log()).expect("the audit log can be read");
        // The last line may be half written.
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        complete.lines().map(parse).collect()
    }

    /// The first entry for which `matches` holds, as soon as there is one.
    ///
    /// # Panics
    /// There is none within `limit`.
    pub async fn audited(&self, limit: Duration, matches: impl Fn(&AuditEntry) -> bool) -> AuditEntry {
        let end = Instant::now() + limit;
        loop {
            if let Some(entry) = self.audit().into_iter().find(&matches) {
                return entry;
            }
            assert!(Instant::now() < end, "no such request within {limit:?}");
            tokio::time::sleep(POLL).await;
        }
    }
}

fn parse(line: &str) -> AuditEntry {
    let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    let object = event.object_ref.unwrap_or_default();
    AuditEntry {
        verb: event.verb,
        group: object.api_group,
        resource: object.resource,
        subresource: object.subresource,
        namespace: object.namespace,
        name: object.name,
        user: event.impersonated_user.unwrap_or(event.user).username,
        user_agent: event.user_agent,
        code: event.response_status.map_or(0, |status| status.code),
        uri: event.request_uri,
        time: event.request_received_timestamp,
    }
}

/// `audit.k8s.io/v1` Event, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_the_right_that_was_used_and_who_was_obeyed() {
        let entry = parse(
            r#"{"verb":"patch","requestURI":"/apis/apps/v1/namespaces/a/deployments/b/scale?x","user":{"username":"admin"},
            "impersonatedUser":{"username":"alice"},"userAgent":"kubectl/1","objectRef":{"resource":"deployments",
            "namespace":"a","name":"b","apiGroup":"apps","subresource":"scale"},"responseStatus":{"code":403},
            "requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z"}"#,
        );
        assert_eq!(entry.right(), "patch apps/deployments/scale");
        assert_eq!((entry.user.as_str(), entry.code, entry.is_write()), ("alice", 403, true));
        let entry = parse(
            r#"{"verb":"get","requestURI":"/readyz","user":{"username":"admin"},"requestReceivedTimestamp":"2026"}"#,
        );
        assert_eq!((entry.resource.as_str(), entry.is_write()), ("", false));
    }
}
