//! The condition types of a run, and one way to set them. Deliberately no policy: which condition is true when is
//! a table of the run's outcome, kept where outcomes are decided.

use crate::reasons::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::fmt;

/// The longest message of a condition, in bytes.
pub const MESSAGE_MAX: usize = 1024;

/// Type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The spec is resolved, and the plan stands.
    Accepted,
    /// The run is held by a person or a queue.
    Suspended,
    /// The quorum joined and is prepared.
    AgentsReady,
    /// The first armed stage has started.
    Started,
    /// Something is missing or doubtful; sticky, so that a result can never hide it.
    Degraded,
    /// Every destination has the results.
    ResultsPublished,
    /// The run ended by itself and satisfies its policy.
    Complete,
    /// The run failed, was aborted, or breached a threshold.
    Failed,
    /// Complete or failed: the one to wait for.
    Finished,
    /// The gate for CI.
    Passed,
    /// For kstatus: work is under way.
    Reconciling,
    /// For kstatus: only together with `Failed`.
    Stalled,
    /// For kstatus: the summary.
    Ready,
}

impl ConditionType {
    /// Every type, in the order in which status lists them.
    pub const ALL: [Self; 13] = [
        Self::Accepted,
        Self::Suspended,
        Self::AgentsReady,
        Self::Started,
        Self::Degraded,
        Self::ResultsPublished,
        Self::Complete,
        Self::Failed,
        Self::Finished,
        Self::Passed,
        Self::Reconciling,
        Self::Stalled,
        Self::Ready,
    ];

    /// The type as it stands in status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Suspended => "Suspended",
            Self::AgentsReady => "AgentsReady",
            Self::Started => "Started",
            Self::Degraded => "Degraded",
            Self::ResultsPublished => "ResultsPublished",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::Finished => "Finished",
            Self::Passed => "Passed",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Ready => "Ready",
        }
    }

    /// What it says when it is `True`, `False` or `Unknown`, for docs/status.md.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Accepted => {
                "`True`: the spec is resolved, the plan stands, and the API server took a dry run of a pod. `False`: the spec, or a pod made from it, was refused"
            }
            Self::Suspended => "`True`: `spec.suspend` holds the run. Not there unless it ever did",
            Self::AgentsReady => {
                "`True`: the quorum joined and is prepared. `False`: not yet, and the reason says what of"
            }
            Self::Started => "`True`: the first stage has started; the message says with which skew",
            Self::Degraded => {
                "`True`: something is missing or doubtful, and the message says what. Sticky: it never goes away again"
            }
            Self::ResultsPublished => {
                "`True`: every destination has the results. `False`: they are being written, or could not be"
            }
            Self::Complete => "`True`: the run ended by itself and satisfies its policy",
            Self::Failed => "`True`: it failed, was aborted, or breached a threshold; the reason says which",
            Self::Finished => "`True`: either of the two. The one to wait for",
            Self::Passed => {
                "`True`: every threshold holds. `False`: one that counts does not. `Unknown`: nobody can say. The gate for CI"
            }
            Self::Reconciling => "for kstatus: `True` while work is under way, else not there",
            Self::Stalled => {
                "for kstatus: `True` together with `Failed`, else not there. Never for an agent that stands still"
            }
            Self::Ready => "for kstatus: the summary, as `Complete`; `Unknown` while work is under way",
        }
    }

    /// Whether it speaks of trouble or of work under way, and is therefore removed when it is not true (kstatus).
    #[must_use]
    pub const fn is_abnormal_true(self) -> bool {
        matches!(self, Self::Reconciling | Self::Stalled)
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can say (yet).
    Unknown,
}

impl Truth {
    /// The word as it stands in status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Sets one condition. The transition time changes only with the status, so that the same call twice writes nothing
/// new. An abnormal-true condition that is not true is removed. Returns whether anything changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: ConditionType,
    truth: Truth,
    reason: Reason,
    message: &str,
    generation: i64,
    now: &Time,
) -> bool {
    let position = conditions.iter().position(|condition| condition.type_ == type_.name());
    if type_.is_abnormal_true() && truth != Truth::True {
        return position.map(|position| conditions.remove(position)).is_some();
    }
    let mut fresh = Condition {
        type_: type_.name().to_owned(),
        status: truth.name().to_owned(),
        reason: reason.name().to_owned(),
        message: shorten(message).to_owned(),
        observed_generation: Some(generation),
        last_transition_time: now.clone(),
    };
    match position {
        None => {
            conditions.push(fresh);
            true
        }
        Some(position) => {
            let old = &mut conditions[position];
            if old.status == fresh.status {
                fresh.last_transition_time = old.last_transition_time.clone();
            }
            let changed = *old != fresh;
            *old = fresh;
            changed
        }
    }
}

/// Status of one condition, where it is set.
#[must_use]
pub fn truth(conditions: &[Condition], type_: ConditionType) -> Option<Truth> {
    let condition = conditions.iter().find(|condition| condition.type_ == type_.name())?;
    match condition.status.as_str() {
        "True" => Some(Truth::True),
        "False" => Some(Truth::False),
        _ => Some(Truth::Unknown),
    }
}

fn shorten(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn the_transition_time_follows_the_status_only() {
        let mut conditions = Vec::new();
        let started = ConditionType::Started;
        assert!(set(&mut conditions, started, Truth::False, Reason::Waiting, "not yet", 1, &at(1)));
        assert!(!set(&mut conditions, started, Truth::False, Reason::Waiting, "not yet", 1, &at(2)));
        assert!(set(&mut conditions, started, Truth::False, Reason::Waiting, "nearly", 1, &at(3)));
        assert_eq!(conditions[0].last_transition_time, at(1));
        assert!(set(&mut conditions, started, Truth::True, Reason::Started, "skew 0.2 ms", 1, &at(4)));
        assert_eq!(conditions[0].last_transition_time, at(4));
        assert_eq!(truth(&conditions, started), Some(Truth::True));
    }

    #[test]
    fn abnormal_conditions_go_when_they_are_over() {
        let mut conditions = Vec::new();
        let reconciling = ConditionType::Reconciling;
        assert!(set(&mut conditions, reconciling, Truth::True, Reason::Running, "stage mixed", 1, &at(1)));
        assert!(set(&mut conditions, reconciling, Truth::False, Reason::Completed, "done", 1, &at(2)));
        assert!(conditions.is_empty());
        assert!(!set(&mut conditions, reconciling, Truth::False, Reason::Completed, "done", 1, &at(2)));
    }

    #[test]
    fn messages_are_cut_at_a_character() {
        let mut conditions = Vec::new();
        let message = "ä".repeat(MESSAGE_MAX);
        set(&mut conditions, ConditionType::Failed, Truth::True, Reason::Aborted, &message, 1, &at(1));
        assert_eq!(conditions[0].message.len(), MESSAGE_MAX);
    }
}
