//! The options of an S3 target: what may stand in `target.options`, read once, with every default in one place.
//!
//! An option that is not in [`OPTIONS`] is refused, because a misspelt one would otherwise change what is measured.
//! Credentials are deliberately no option: they come from the environment only (`credentials.rs`).

use lockstep_core::plan::TargetPlan;
use lockstep_core::problem::{Problem, exit};
use std::time::Duration;

/// One documented option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionDoc {
    /// Key in `target.options`.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What holds when it is not given.
    pub default: &'static str,
}

/// Every option of an S3 target. `docs/targets.md` shows this table; a test compares the two.
pub const OPTIONS: [OptionDoc; 7] = [
    OptionDoc { name: "region", meaning: "region that requests are signed for", default: "us-east-1" },
    OptionDoc {
        name: "addressing",
        meaning: "`path` (endpoint/bucket/key) or `virtual` (bucket.endpoint/key)",
        default: "path",
    },
    OptionDoc {
        name: "timeout",
        meaning: "longest silence: until the head of the answer (sending included), then between pieces of its body",
        default: "30s",
    },
    OptionDoc {
        name: "connectTimeout",
        meaning: "longest time to make a TCP connection, for each address",
        default: "5s",
    },
    OptionDoc {
        name: "anonymous",
        meaning: "`true` sends no signature and needs no credentials",
        default: "false",
    },
    OptionDoc {
        name: "partSize",
        meaning: "objects above it are put as multipart uploads of parts of this size; also the put buffer of a worker",
        default: "16MiB",
    },
    OptionDoc {
        name: "signPayload",
        meaning: "`true` signs the content too (SHA-256 of every byte, on the worker's own core)",
        default: "false",
    },
];

/// Smallest part that S3 accepts, except for the last one of an upload.
pub const MIN_PART_BYTES: u64 = 5 << 20;
/// Largest part that we keep in memory.
pub const MAX_PART_BYTES: u64 = 1 << 30;
/// Most parts that S3 accepts in one upload.
pub const MAX_PARTS: u64 = 10_000;

/// How buckets are addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `endpoint/bucket/key`.
    Path,
    /// `bucket.endpoint/key`.
    Virtual,
}

/// The options, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Region that requests are signed for.
    pub region: String,
    /// How buckets are addressed.
    pub addressing: Addressing,
    /// Longest silence of a server.
    pub timeout: Duration,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Whether requests go out unsigned.
    pub anonymous: bool,
    /// Size of parts, and above which an object is put in parts; bytes.
    pub part_bytes: u64,
    /// Whether the content is signed.
    pub sign_payload: bool,
}

impl Options {
    /// Reads `target.options`.
    ///
    /// # Errors
    /// An unknown option, or a value that is not of its kind.
    pub fn read(plan: &TargetPlan) -> Result<Self, Problem> {
        if let Some(unknown) =
            plan.options.keys().find(|key| !OPTIONS.iter().any(|option| option.name == *key))
        {
            let known: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
            return Err(refused(plan, format!("there is no option `{unknown}`"))
                .next(format!("use one of: {}", known.join(", "))));
        }
        let raw = |name: &str| {
            let default =
                OPTIONS.iter().find(|option| option.name == name).map_or("", |option| option.default);
            plan.options.get(name).map_or(default, String::as_str)
        };
        let bad = |name: &str, want: &str| {
            refused(plan, format!("option `{name}` is `{}`, which is not {want}", raw(name)))
        };
        let duration = |name| {
            parse_duration(raw(name))
                .ok_or_else(|| bad(name, "a duration above zero like `500ms`, `30s` or `2m`"))
        };
        let flag = |name| raw(name).parse::<bool>().map_err(|_| bad(name, "`true` or `false`"));
        let part_bytes = parse_bytes(raw("partSize"))
            .filter(|bytes| (MIN_PART_BYTES..=MAX_PART_BYTES).contains(bytes))
            .ok_or_else(|| bad("partSize", "a size from `5MiB` to `1GiB`"))?;
        let region = raw("region");
        if region.is_empty() {
            return Err(bad("region", "a region"));
        }
        Ok(Self {
            region: region.to_owned(),
            addressing: match raw("addressing") {
                "path" => Addressing::Path,
                "virtual" => Addressing::Virtual,
                _ => return Err(bad("addressing", "`path` or `virtual`")),
            },
            timeout: duration("timeout")?,
            connect_timeout: duration("connectTimeout")?,
            anonymous: flag("anonymous")?,
            part_bytes,
            sign_payload: flag("signPayload")?,
        })
    }
}

fn refused(plan: &TargetPlan, cause: String) -> Problem {
    Problem::new(format!("the options of target {} were refused", plan.uri), cause)
        .next("see docs/targets.md for the options of s3 targets")
        .exit(exit::REFUSED)
}

/// A whole number with a unit: `ms`, `s`, `m` or `h`; above zero.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let ms = match unit {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// A whole number of bytes with an optional unit: `KiB`, `MiB`, `GiB`, or as Kubernetes writes them, `Ki`, `Mi`, `Gi`.
fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "" => 1,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::plan::{EndpointSelection, PageCache, Scheme};

    fn read(options: &[(&str, &str)]) -> Result<Options, Problem> {
        Options::read(&TargetPlan {
            scheme: Scheme::S3,
            uri: "s3://b/p".into(),
            bucket: "b".into(),
            path: "p".into(),
            endpoints: Vec::new(),
            endpoint_selection: EndpointSelection::RoundRobin,
            options: options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            page_cache: PageCache::Keep,
        })
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let options = read(&[]).unwrap();
        assert_eq!(options.region, "us-east-1");
        assert_eq!(options.timeout, Duration::from_secs(30));
        assert_eq!(options.connect_timeout, Duration::from_secs(5));
        assert_eq!(options.part_bytes, 16 << 20);
        assert!(!options.anonymous && !options.sign_payload);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (key, value, says) in [
            ("regoin", "x", "no option `regoin`"),
            ("timeout", "30", "`timeout` is `30`"),
            ("timeout", "0s", "`timeout` is `0s`"),
            ("partSize", "1MiB", "`partSize` is `1MiB`"),
            ("anonymous", "yes", "`anonymous` is `yes`"),
            ("addressing", "dns", "`addressing` is `dns`"),
        ] {
            let problem = read(&[(key, value)]).unwrap_err();
            assert!(problem.cause.contains(says), "{problem}");
            assert_eq!(problem.exit, exit::REFUSED);
        }
    }

    #[test]
    fn the_documentation_shows_this_table() {
        let document = include_str!("../../../../../docs/targets.md");
        for option in OPTIONS {
            let row = format!("| `{}` | {} | `{}` |", option.name, option.meaning, option.default);
            assert!(document.contains(&row), "docs/targets.md lacks: {row}");
        }
    }
}
