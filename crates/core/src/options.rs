//! What may stand in `target.options`: one table, which validation, targets and documentation read. Credentials are
//! deliberately no option: they come from the agent's environment only.

use crate::plan::Scheme;

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
    /// A size such as `16MiB`.
    Size,
    /// One of these words.
    Words(&'static [&'static str]),
}

const S3: &[Scheme] = &[Scheme::S3];
const SIMULATED: &[Scheme] = &[Scheme::Mem, Scheme::Null];

/// Every option. `docs/targets.md` shows this table.
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
        kind: OptionKind::Size,
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
        default: "none",
    },
];

/// The options of a scheme.
pub fn of(scheme: Scheme) -> impl Iterator<Item = &'static TargetOption> {
    OPTIONS.iter().filter(move |option| option.schemes.contains(&scheme))
}
