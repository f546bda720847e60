//! What may stand in `target.options`: one table, which validation, targets and documentation read. An option that is not
//! in it is refused, because a misspelt one would change what is measured. Credentials are deliberately no option: they
//! come from the agent's environment only.

use crate::plan::Scheme;
use crate::units::{parse_size, parse_span, write_size};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One documented option of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetOption {
    /// Schemes that know it.
    pub schemes: &'static [Scheme],
    /// Key in `target.options`.
    pub name: &'static str,
    /// What values look like.
    pub kind: OptionKind,
    /// What it does.
    pub meaning: &'static str,
    /// What holds when it is not given.
    pub default: &'static str,
}

/// What the values of an option look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// Any text but an empty one.
    Text,
    /// `true` or `false`.
    Flag,
    /// A positive duration such as `500ms` or `30s`.
    Duration,
    /// A size such as `16MiB`, within these bounds in bytes.
    Size {
        /// Smallest, included.
        least: u64,
        /// Largest, included.
        most: u64,
    },
    /// One of these words.
    Words(&'static [&'static str]),
}

impl OptionKind {
    /// What would be allowed instead of `value`; `None` when it fits.
    #[must_use]
    pub fn misfit(self, value: &str) -> Option<String> {
        let fits = match self {
            Self::Text => !value.is_empty(),
            Self::Flag => value.parse::<bool>().is_ok(),
            Self::Duration => parse_span(value).is_ok_and(|span| !span.is_zero()),
            Self::Size { least, most } => parse_size(value).is_ok_and(|size| (least..=most).contains(&size)),
            Self::Words(words) => words.contains(&value),
        };
        (!fits).then(|| self.to_string())
    }
}

/// What is allowed.
impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("any text but an empty one"),
            Self::Flag => f.write_str("\"true\" or \"false\", in quotes"),
            Self::Duration => f.write_str("a duration above 0 such as 30s, 1h30m or 500ms"),
            Self::Size { least, most } => {
                f.write_str("bytes, from ")?;
                write_size(*least, f)?;
                f.write_str(" to ")?;
                write_size(*most, f)
            }
            Self::Words(words) => f.write_str(&words.join(", ")),
        }
    }
}

const S3: &[Scheme] = &[Scheme::S3];
const SIMULATED: &[Scheme] = &[Scheme::Mem, Scheme::Null];

/// Every option. `docs/manifest.md` shows this table.
pub const OPTIONS: [TargetOption; 8] = [
    TargetOption {
        schemes: S3,
        name: "region",
        kind: OptionKind::Text,
        meaning: "region that requests are signed for",
        default: "us-east-1",
    },
    TargetOption {
        schemes: S3,
        name: "addressing",
        kind: OptionKind::Words(&["path", "virtual"]),
        meaning: "`path` (endpoint/bucket/key) or `virtual` (bucket.endpoint/key)",
        default: "path",
    },
    TargetOption {
        schemes: S3,
        name: "timeout",
        kind: OptionKind::Duration,
        meaning: "longest silence: until the head of the answer (sending included), then between pieces of its body",
        default: "30s",
    },
    TargetOption {
        schemes: S3,
        name: "connectTimeout",
        kind: OptionKind::Duration,
        meaning: "longest time to make a TCP connection, for each address",
        default: "5s",
    },
    TargetOption {
        schemes: S3,
        name: "anonymous",
        kind: OptionKind::Flag,
        meaning: "`true` sends no signature and needs no credentials",
        default: "false",
    },
    TargetOption {
        schemes: S3,
        name: "partSize",
        // The smallest part that S3 accepts, and the largest that a worker shall keep in memory.
        kind: OptionKind::Size { least: 5 << 20, most: 1 << 30 },
        meaning: "objects above it are put as multipart uploads of parts of this size; also the put buffer of a worker",
        default: "16MiB",
    },
    TargetOption {
        schemes: S3,
        name: "signPayload",
        kind: OptionKind::Flag,
        meaning: "`true` signs the content too (SHA-256 of every byte, on the worker's own core)",
        default: "false",
    },
    TargetOption {
        schemes: SIMULATED,
        name: "latency",
        kind: OptionKind::Duration,
        meaning: "each call takes at least this long, to simulate a slow target",
        default: "0s",
    },
];

/// The options of a scheme.
pub fn of(scheme: Scheme) -> impl Iterator<Item = &'static TargetOption> {
    OPTIONS.iter().filter(move |option| option.schemes.contains(&scheme))
}

/// Why options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The scheme has no such option.
    #[error("there is no option `{name}`; there are: {known}")]
    Unknown {
        /// Its key.
        name: String,
        /// Keys that there are.
        known: String,
    },
    /// The value is not of the option's kind.
    #[error("option `{name}` is `{value}`; allowed: {allowed}")]
    Misfit {
        /// Its key.
        name: String,
        /// Its value.
        value: String,
        /// What would fit.
        allowed: String,
    },
}

/// Options of a target that were looked at, with their defaults. Asking for one that the scheme does not have gives what
/// an empty text does.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    scheme: Scheme,
    options: &'a BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    /// Looks at `options` of a target of `scheme`.
    ///
    /// # Errors
    /// An option that the scheme does not have, or a value that is not of its kind.
    pub fn read(scheme: Scheme, options: &'a BTreeMap<String, String>) -> Result<Self, OptionError> {
        for (name, value) in options {
            let Some(option) = of(scheme).find(|option| option.name == name) else {
                let known: Vec<_> = of(scheme).map(|option| option.name).collect();
                return Err(OptionError::Unknown { name: name.clone(), known: known.join(", ") });
            };
            if let Some(allowed) = option.kind.misfit(value) {
                return Err(OptionError::Misfit { name: name.clone(), value: value.clone(), allowed });
            }
        }
        Ok(Self { scheme, options })
    }

    /// The option as it was written.
    #[must_use]
    pub fn text(&self, name: &str) -> &'a str {
        let default = of(self.scheme).find(|option| option.name == name).map_or("", |option| option.default);
        self.options.get(name).map_or(default, String::as_str)
    }

    /// A [`OptionKind::Flag`].
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// A [`OptionKind::Duration`].
    #[must_use]
    pub fn duration(&self, name: &str) -> Duration {
        parse_span(self.text(name)).unwrap_or_default()
    }

    /// A [`OptionKind::Size`], bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> u64 {
        parse_size(self.text(name)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fit_their_kind() {
        for option in OPTIONS {
            // No time at all is a default that nobody can ask for.
            assert!(
                option.default == "0s" || option.kind.misfit(option.default).is_none(),
                "{}",
                option.name
            );
        }
    }

    #[test]
    fn what_is_given_is_read_and_what_is_not_has_its_default() {
        let options = BTreeMap::from([
            ("timeout".to_owned(), "1m30s".to_owned()),
            ("partSize".to_owned(), "5Mi".to_owned()),
            ("anonymous".to_owned(), "true".to_owned()),
        ]);
        let given = Given::read(Scheme::S3, &options).unwrap();
        assert_eq!(given.duration("timeout"), Duration::from_secs(90));
        assert_eq!(given.duration("connectTimeout"), Duration::from_secs(5));
        assert_eq!((given.size("partSize"), given.text("region")), (5 << 20, "us-east-1"));
        assert!(given.flag("anonymous") && !given.flag("signPayload"));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (scheme, key, value, says) in [
            (Scheme::S3, "regoin", "x", "no option `regoin`; there are: region, addressing,"),
            (Scheme::S3, "region", "", "`region` is ``"),
            (Scheme::S3, "timeout", "30", "`timeout` is `30`; allowed: a duration above 0"),
            (Scheme::S3, "timeout", "0s", "`timeout` is `0s`"),
            (Scheme::S3, "partSize", "1MiB", "`partSize` is `1MiB`; allowed: bytes, from 5Mi to 1Gi"),
            (Scheme::S3, "partSize", "2Gi", "`partSize` is `2Gi`"),
            (Scheme::S3, "anonymous", "yes", "`anonymous` is `yes`"),
            (Scheme::S3, "addressing", "dns", "`addressing` is `dns`; allowed: path, virtual"),
            (Scheme::S3, "latency", "1ms", "no option `latency`"),
            (Scheme::Mem, "latency", "500us", "`latency` is `500us`"),
            (Scheme::File, "latency", "1ms", "no option `latency`"),
        ] {
            let options = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let error = Given::read(scheme, &options).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
