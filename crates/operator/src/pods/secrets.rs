//! Literal secrets in an environment: how they are recognised.
//!
//! By name, where a word of the name is one that secrets are called by, and the value is neither empty, nor a reference
//! (`$(OTHER)`), nor under a name that says where a secret lies (`…_FILE`, `…_PATH`, `…_NAME`). And by value, whatever the
//! name: credentials in a URL, a signed query, a private key, an access key id of AWS, a JSON web token. A secret under an
//! innocent name and without such a shape is not found; docs/security says so. It deliberately never returns the value.

/// Words that secrets are called by, upper case, compared with the parts of a name between underscores.
const WORDS: [&str; 12] = [
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PWD",
    "TOKEN",
    "CREDENTIAL",
    "CREDENTIALS",
    "APIKEY",
    "SIGNATURE",
    "SAS",
];

/// Ends of names that say where a secret lies, or what it is called.
const PLACES: [&str; 8] = ["_FILE", "_PATH", "_DIR", "_NAME", "_URL", "_URI", "_ENDPOINT", "_AUDIENCE"];

/// Parameters of signed queries, lower case.
const SIGNED: [&str; 5] =
    ["x-amz-signature=", "x-amz-credential=", "x-goog-signature=", "sig=", "awsaccesskeyid="];

/// Why the value looks like a secret; `None` when it does not.
#[must_use]
pub fn suspicion(name: &str, value: &str) -> Option<&'static str> {
    let value = value.trim();
    if value.is_empty() || is_reference(value) {
        return None;
    }
    by_value(value).or_else(|| by_name(name).then_some("its name says that it is a secret"))
}

/// Kubernetes expands `$(NAME)`; a value of nothing else holds no secret.
fn is_reference(value: &str) -> bool {
    value.starts_with("$(") && value.ends_with(')') && !value[2..value.len() - 1].contains([')', '('])
}

fn by_name(name: &str) -> bool {
    let upper = name.to_ascii_uppercase().replace(['-', '.'], "_");
    if PLACES.iter().any(|place| upper.ends_with(place)) {
        return false;
    }
    let parts: Vec<&str> = upper.split('_').collect();
    let key_of = |what: &str| parts.windows(2).any(|pair| pair == [what, "KEY"]);
    parts.iter().any(|part| WORDS.contains(part))
        || ["ACCESS", "PRIVATE", "SECRET", "ACCOUNT", "API", "ENCRYPTION"].iter().any(|what| key_of(what))
        || ["SECRET", "PASSWORD", "ACCESSKEY", "PRIVATEKEY"].iter().any(|word| upper.contains(word))
}

fn by_value(value: &str) -> Option<&'static str> {
    if value.contains("PRIVATE KEY-----") || value.contains("\"private_key\"") {
        return Some("it holds a private key");
    }
    if value.split(char::is_whitespace).any(has_user_info) {
        return Some("it has credentials in a URL");
    }
    let lower = value.to_ascii_lowercase();
    let query = lower.split_once('?').map_or("", |(_, query)| query);
    if SIGNED.iter().any(|parameter| query.split('&').any(|part| part.starts_with(parameter))) {
        return Some("it is a signed URL");
    }
    let words = || value.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'));
    if words().any(is_access_key) {
        return Some("it holds an access key id");
    }
    words().any(is_token).then_some("it holds a JSON web token")
}

fn has_user_info(word: &str) -> bool {
    let Some((_, rest)) = word.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

fn is_access_key(word: &str) -> bool {
    word.len() == 20
        && (word.starts_with("AKIA") || word.starts_with("ASIA"))
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

fn is_token(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3 && parts[..2].iter().all(|part| part.starts_with("eyJ") && part.len() > 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_or_by_shape() {
        let key = format!("AKIA{}", "A1".repeat(8));
        for (name, value) in [
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("awsSecretKey", "x"),
            ("DB_PASSWORD", "x"),
            ("PGPASSWORD", "x"),
            ("GITHUB_TOKEN", "x"),
            ("AZURE_STORAGE_SAS_TOKEN", "x"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "x"),
            ("my-api-key", "x"),
            ("URL", "https://user:pass@host/path"),
            ("URL", "https://host/o?X-Amz-Signature=abc"),
            ("URL", "https://host/o?a=b&sig=abc"),
            ("EXTRA", "-----BEGIN RSA PRIVATE KEY-----\nabc"),
            ("EXTRA", key.as_str()),
            ("EXTRA", "Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhYmMifQ.c2ln"),
        ] {
            assert!(suspicion(name, value).is_some(), "{name}={value}");
        }
    }

    #[test]
    fn what_is_no_secret_passes() {
        for (name, value) in [
            ("AWS_REGION", "us-east-1"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
            ("SECRET_NAME", "s3-creds"),
            ("DB_PASSWORD", ""),
            ("DB_PASSWORD", "$(FROM_A_SECRET)"),
            ("KEY_SPACE", "uniform"),
            ("MONKEY", "see"),
            ("TOKENS_PER_SECOND", "5"),
            ("COMPASS", "north"),
            ("URL", "https://host:8080/path?design=1"),
            ("MAIL", "mailto:me@host"),
            ("URL", "ssh://git@host/repo"),
            ("VERSION", "1.2.3"),
        ] {
            assert_eq!(suspicion(name, value), None, "{name}={value}");
        }
    }
}
