//! Where the keys of an S3 target come from: the agent's environment, and nowhere else.
//!
//! In a cluster a Secret is mapped into it with `envFrom`. Deliberately not asked: the cloud's metadata service,
//! profiles in files, a role's web identity. Whoever forgets the Secret gets told so, and not the rights of the node.

use lockstep_core::problem::{Problem, exit};
use object_store::aws::AwsCredential;
use std::fmt;

/// Keys, or that there are none on purpose. Neither [`fmt::Debug`] nor any message of ours shows a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Requests are signed with these.
    Keys {
        /// Access key id; not a secret.
        key_id: String,
        /// Secret access key.
        secret_key: String,
        /// Session token, where the keys are temporary.
        token: Option<String>,
    },
    /// Requests go out unsigned.
    Anonymous,
}

impl Credentials {
    /// Keys without a session token.
    #[must_use]
    pub fn keys(key_id: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self::Keys { key_id: key_id.into(), secret_key: secret_key.into(), token: None }
    }

    /// Reads `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    ///
    /// # Errors
    /// One of the first two is missing or empty; the problem names it.
    pub fn from_env() -> Result<Self, Problem> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// The same from any source of variables.
    ///
    /// # Errors
    /// As [`Credentials::from_env`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let get = |name| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
            (Some(key_id), Some(secret_key)) => {
                Ok(Self::Keys { key_id, secret_key, token: get("AWS_SESSION_TOKEN") })
            }
            (key_id, secret_key) => {
                let missing: Vec<_> = [
                    ("AWS_ACCESS_KEY_ID", key_id.is_none()),
                    ("AWS_SECRET_ACCESS_KEY", secret_key.is_none()),
                ]
                .iter()
                .filter(|(_, missing)| *missing)
                .map(|(name, _)| *name)
                .collect();
                Err(Problem::new(
                    "the agent has no credentials for its S3 target",
                    format!("{} not set in the agent's environment", missing.join(" and ")),
                )
                .likely("the Secret named in target.credentials does not exist or has other keys")
                .likely("the variables are set in another shell or not exported")
                .next("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a cluster: a Secret with these keys)")
                .next("or set the target's option `anonymous: \"true\"` to send requests unsigned")
                .kept("no other source was asked: neither files nor the cloud's metadata service")
                .exit(exit::REFUSED))
            }
        }
    }

    /// The same as `object_store` wants them.
    pub(super) fn to_aws(&self) -> Option<AwsCredential> {
        match self {
            Self::Keys { key_id, secret_key, token } => Some(AwsCredential {
                key_id: key_id.clone(),
                secret_key: secret_key.clone(),
                token: token.clone(),
            }),
            Self::Anonymous => None,
        }
    }

    /// Everything of them that nobody may see.
    pub(super) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Keys { key_id, secret_key, token } => [Some(key_id), Some(secret_key), token.as_ref()]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect(),
            Self::Anonymous => Vec::new(),
        }
    }

    /// For the report: where the keys come from, never what they are.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Keys { token: None, .. } => "keys",
            Self::Keys { token: Some(_), .. } => "keys with session token",
            Self::Anonymous => "anonymous",
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_are_named_and_nothing_else_is_asked() {
        let problem =
            Credentials::from_lookup(|name| (name == "AWS_ACCESS_KEY_ID").then(|| "AK".into())).unwrap_err();
        assert_eq!(problem.cause, "AWS_SECRET_ACCESS_KEY not set in the agent's environment");
        assert_eq!(problem.exit, exit::REFUSED);
        let problem = Credentials::from_lookup(|_| Some(" ".into())).unwrap_err();
        assert!(problem.cause.starts_with("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{problem}");
    }

    #[test]
    fn secrets_do_not_show() {
        let credentials = Credentials::from_lookup(|name| Some(format!("secret-{name}"))).unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials(keys with session token)");
    }
}
