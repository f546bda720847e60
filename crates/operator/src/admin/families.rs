//! The table of all metrics: what there is, what it means, and by what it is told apart.
//!
//! Every label has a closed set of values. Neither names of runs nor namespaces are among them: there are as many of those
//! as people make, and a status, an Event or the log says of each what there is to say. docs/metrics.md is this table.

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends; its samples are named `<name>_total`.
    Counter,
    /// As it stands.
    Gauge,
    /// Counts within bounds: `<name>_bucket`, `<name>_sum` and `<name>_count`.
    Histogram,
    /// Always 1; its labels say something.
    Info,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, without the suffix of its kind.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// By what it is told apart.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, labels, help }
}

/// Everything that there is, in the order in which it is shown.
pub const FAMILIES: [Family; 25] = [
    family("lockstep_build", Kind::Info, &["version"], "The operator that answers"),
    family("lockstep_leader", Kind::Gauge, &[], "1 while this replica leads, 0 while it stands by"),
    family("lockstep_runs", Kind::Gauge, &["phase"], "Runs by phase"),
    family(
        "lockstep_runs_finished",
        Kind::Gauge,
        &["outcome", "verdict"],
        "Finished runs that still exist, by outcome and verdict",
    ),
    family("lockstep_agents", Kind::Gauge, &["state"], "Agents of the runs under way here, by state"),
    family(
        "lockstep_start_skew_seconds",
        Kind::Histogram,
        &[],
        "From the first agent that was released to the last one, per stage that was started together",
    ),
    family("lockstep_sessions", Kind::Gauge, &[], "Sessions of agents that are open"),
    family("lockstep_reconnects", Kind::Counter, &[], "Sessions of attempts that had one here before"),
    family(
        "lockstep_calls_refused",
        Kind::Counter,
        &[],
        "Calls of agents that were refused: not proven, or of no run here",
    ),
    family("lockstep_reported_intervals", Kind::Counter, &[], "Seconds of agents that were taken in"),
    family(
        "lockstep_operations",
        Kind::Counter,
        &["stage", "op"],
        "Operations on targets that succeeded, by kind of stage",
    ),
    family("lockstep_operation_bytes", Kind::Counter, &["stage", "op"], "Bytes that those moved"),
    family(
        "lockstep_operation_errors",
        Kind::Counter,
        &["stage", "op", "class"],
        "Operations on targets that failed, by class of error",
    ),
    family(
        "lockstep_operation_response_seconds",
        Kind::Histogram,
        &["stage", "op"],
        "Response times of operations that succeeded, from their intended start",
    ),
    family("lockstep_desks", Kind::Gauge, &[], "Runs that this replica looks after"),
    family(
        "lockstep_round_duration_seconds",
        Kind::Histogram,
        &[],
        "One look after one run, writes included",
    ),
    family(
        "lockstep_rounds_failed",
        Kind::Counter,
        &[],
        "Looks that ended with an error, and were taken again",
    ),
    family(
        "lockstep_status_write_delay_seconds",
        Kind::Histogram,
        &[],
        "From a change of a status to its write: what pace and budget hold back",
    ),
    family(
        "lockstep_api_requests",
        Kind::Counter,
        &["method", "resource", "code"],
        "Requests to the API server; code is the hundreds of its answer, or error",
    ),
    family(
        "lockstep_api_sent_bytes",
        Kind::Counter,
        &["method", "resource"],
        "Bytes of the bodies of those requests",
    ),
    family(
        "lockstep_api_request_duration_seconds",
        Kind::Histogram,
        &["method"],
        "From a request to the API server to the head of its answer",
    ),
    family("process_cpu_seconds", Kind::Counter, &[], "CPU time of the process, user and system"),
    family("process_resident_memory_bytes", Kind::Gauge, &[], "Resident memory of the process"),
    family("process_open_fds", Kind::Gauge, &[], "Open file descriptors of the process"),
    family("process_start_time_seconds", Kind::Gauge, &[], "When the process began, seconds since 1970"),
];

/// The table of docs/metrics.md, in Markdown.
#[must_use]
pub fn table() -> String {
    let rows = FAMILIES.iter().map(|Family { name, kind, labels, help }| {
        let (suffix, kind) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::Histogram => ("", "histogram"),
            Kind::Info => ("_info", "info"),
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}{suffix}` | {kind} | {} | {help} |\n", labels.join(", "))
    });
    std::iter::once("| metric | kind | labels | what it says |\n|---|---|---|---|\n".to_owned())
        .chain(rows)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for family in &FAMILIES {
            let name = family.name;
            assert!(name.starts_with("lockstep_") || name.starts_with("process_"), "{name}");
            assert!(!name.ends_with("_total") && !name.ends_with("_info"), "{name}: the kind adds it");
            assert!(family.kind != Kind::Histogram || name.ends_with("_seconds"), "{name}: base units");
            assert!(FAMILIES.iter().filter(|other| other.name == name).count() == 1, "{name} twice");
        }
    }

    #[test]
    fn the_documentation_has_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&table()), "docs/metrics.md lacks this table:\n{}", table());
    }
}
