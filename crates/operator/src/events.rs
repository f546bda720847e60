//! Events of a run: its story in ten lines of `kubectl describe`, out of the closed list of reasons.
//!
//! Two sources: what the decider tells while the run lasts ([`of_told`]), and what changes between two statuses before and
//! after ([`of_change`]). One Event per transition; about agents at most [`PER_REASON_MAX`] of one reason are written, the
//! last of which says so, and of one run at most [`PER_RUN_MAX`]. Repeats of the same note are not written again. Deliberately without
//! the Event object itself: series, names and times are the recorder's.

use crate::pods::build::RunIdentity;
use crate::status::fitted;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use lockstep_api::conditions::ConditionType;
use lockstep_api::reasons::Reason;
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_core::run::message::Told;
use std::collections::BTreeMap;

/// Events about agents of one reason that are written for one run: a thousand agents must not write a thousand Events.
pub const PER_REASON_MAX: u32 = 5;
/// Events about the run itself of one reason: a run has up to 33 stages.
const PER_RUN_REASON_MAX: u32 = 40;
/// Events that are written for one run.
pub const PER_RUN_MAX: u32 = 100;
/// Longest note, characters; the API takes 1024 bytes.
const NOTE_MAX: usize = 340;

/// One Event about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Why; also says whether it is a warning.
    pub reason: Reason,
    /// What happened, in a sentence.
    pub note: String,
    /// Name of the pod that it is about, for `related`.
    pub pod: Option<String>,
    /// Whether it tells how the run ended, which is said however much was said before.
    pub is_end: bool,
}

impl Note {
    fn new(reason: Reason, note: impl AsRef<str>) -> Self {
        Self { reason, note: fitted(note.as_ref(), NOTE_MAX), pod: None, is_end: false }
    }

    /// `Normal` or `Warning`, as the API has it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.reason.is_warning() { "Warning" } else { "Normal" }
    }
}

/// What the decider told, as an Event; `None` for details.
#[must_use]
pub fn of_told(run: &RunIdentity, told: &Told) -> Option<Note> {
    let Told { at_ns: _, since_ns: _, agent, what, reason: text, notable } = told;
    // That a stage is over shows on a terminal anyway, but not in Events.
    if !notable && what != "StageOver" {
        return None;
    }
    let Some((index, attempt)) = *agent else {
        let (reason, note) = match what.as_ref() {
            "AgentsReady" => (Reason::AgentsReady, format!("{text} joined and are ready")),
            "StageBegins" => (Reason::Started, format!("stage {text}")),
            "StageOver" => (Reason::StageFinished, format!("stage {text} is over")),
            "SkewTooLarge" => (Reason::SkewTooLarge, text.clone()),
            "Paused" => (Reason::Degraded, text.clone()),
            // Whether a person or a failure ends the run, `Finished` says.
            _ => return None,
        };
        return Some(Note::new(reason, note));
    };
    let text = if what == "JoinedLate" { format!("joined stage {text} late") } else { text.clone() };
    let reason = match what.as_ref() {
        "Lost" => Reason::AgentLost,
        "Failed" => Reason::AgentFailed,
        "LeftBehind" => Reason::LeftBehind,
        "Disconnected" => Reason::Disconnected,
        "Stalled" => Reason::Stalled,
        "Replaced" => Reason::AgentReplaced,
        "JoinedLate" if attempt > 0 => Reason::AgentReplaced,
        "MissedStart" => Reason::MissedStart,
        "Fault" => Reason::AgentFailed,
        "JoinedLate" | "Joined" | "Validated" | "Ready" | "Waiting" | "Armed" | "Working" | "Draining"
        | "AtBarrier" => Reason::AgentReconnected,
        _ => return None,
    };
    let pod = run.pod_name(index, attempt);
    let note = Note::new(reason, format!("agent {index} (pod {pod}): {text}"));
    Some(Note { pod: Some(pod), ..note })
}

/// What changed between two statuses that the decider does not tell.
#[must_use]
pub fn of_change(before: &BenchmarkRunStatus, after: &BenchmarkRunStatus) -> Vec<Note> {
    let find = |status: &BenchmarkRunStatus, type_: ConditionType| -> Option<Condition> {
        status.conditions.iter().find(|one| one.type_ == type_.name()).cloned()
    };
    // Before a run begins AgentsReady tells what it waits for; that it is ready, the decider tells.
    let told = [
        (ConditionType::Accepted, true),
        (ConditionType::Suspended, true),
        (ConditionType::AgentsReady, false),
        (ConditionType::ResultsPublished, true),
        (ConditionType::Finished, true),
    ];
    let mut notes = Vec::new();
    for (type_, also_true) in told {
        let Some(now) = find(after, type_) else { continue };
        let was = find(before, type_);
        let same = was.is_some_and(|was| was.status == now.status && was.reason == now.reason);
        let quiet = [
            Reason::Waiting.name(),
            Reason::Scheduling.name(),
            Reason::Preflight.name(),
            Reason::Collecting.name(),
        ];
        if same || (now.status == "True" && !also_true) || quiet.contains(&now.reason.as_str()) {
            continue;
        }
        let is_end = matches!(type_, ConditionType::Finished | ConditionType::ResultsPublished);
        let reason = Reason::from_name(&now.reason);
        notes.extend(reason.map(|reason| Note { is_end, ..Note::new(reason, &now.message) }));
    }
    if after.attempt > before.attempt && before.attempt > 0 {
        notes.push(Note::new(Reason::Resumed, format!("attempt {} of the run begins", after.attempt)));
    }
    if after.epoch > before.epoch && before.epoch > 0 {
        notes.push(Note::new(
            Reason::CoordinatorChanged,
            format!("a new coordinator took over, epoch {}", after.epoch),
        ));
    }
    if after.details_dropped > 0 && before.details_dropped == 0 {
        let note =
            format!("{} details did not fit into the status; the report has them", after.details_dropped);
        notes.push(Note::new(Reason::StatusTruncated, note));
    }
    notes
}

/// Keeps the Events of one run few. Lost with the operator: then a few are written again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    written: BTreeMap<Reason, (u32, String)>,
    total: u32,
}

impl Limit {
    /// The Event that is to be written for `note`; `None` when enough of its kind were.
    pub fn admit(&mut self, mut note: Note) -> Option<Note> {
        let (count, last) = self.written.entry(note.reason).or_default();
        let max = if note.pod.is_some() { PER_REASON_MAX } else { PER_RUN_REASON_MAX };
        if *last == note.note || *count >= max || (self.total >= PER_RUN_MAX && !note.is_end) {
            return None;
        }
        *count += 1;
        self.total += 1;
        last.clone_from(&note.note);
        if note.pod.is_some() && *count == max {
            note.note.push_str(" (more of these are counted in status only)");
        }
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_api::conditions::{Truth, set};

    fn run() -> RunIdentity {
        RunIdentity { namespace: "perf".to_owned(), name: "tree-64m".to_owned(), uid: "u".to_owned() }
    }

    fn told(agent: Option<(u32, u32)>, what: &'static str, notable: bool) -> Option<Note> {
        of_told(
            &run(),
            &Told {
                at_ns: 0,
                since_ns: None,
                agent,
                what: what.into(),
                reason: "the reason".to_owned(),
                notable,
            },
        )
    }

    #[test]
    fn the_story_is_told_in_the_closed_reasons() {
        for (agent, what, want) in [
            (None, "AgentsReady", Some(Reason::AgentsReady)),
            (None, "StageBegins", Some(Reason::Started)),
            (None, "Over", None),
            (None, "StageOver", Some(Reason::StageFinished)),
            (Some((6, 1)), "JoinedLate", Some(Reason::AgentReplaced)),
            (Some((6, 0)), "JoinedLate", Some(Reason::AgentReconnected)),
            (Some((6, 0)), "Lost", Some(Reason::AgentLost)),
            (Some((6, 1)), "Replaced", Some(Reason::AgentReplaced)),
            (Some((6, 0)), "Working", Some(Reason::AgentReconnected)),
            (Some((6, 0)), "Completed", None),
        ] {
            assert_eq!(told(agent, what, true).map(|note| note.reason), want, "{what}");
            if what != "StageOver" {
                assert_eq!(told(agent, what, false), None, "a detail");
            }
        }
        let lost = told(Some((6, 0)), "Lost", true).expect("an Event");
        assert_eq!((lost.kind(), lost.pod.as_deref()), ("Warning", Some("tree-64m-6-0")));
        assert_eq!(lost.note, "agent 6 (pod tree-64m-6-0): the reason");
    }

    #[test]
    fn every_word_that_the_decider_tells_of_a_state_has_a_reason() {
        use lockstep_core::run::agent::{AgentState, LossReason, Position};
        let was = Position::Ready;
        for state in [
            AgentState::Lost(LossReason::NoHello),
            AgentState::Failed,
            AgentState::LeftBehind,
            AgentState::Disconnected { since_ns: 0, was },
            AgentState::Stalled { since_ns: 0, what: String::new(), was },
            AgentState::Active(was),
        ] {
            assert!(told(Some((0, 0)), state.name(), true).is_some(), "{}", state.name());
        }
    }

    fn status(type_: ConditionType, truth: Truth, reason: Reason) -> BenchmarkRunStatus {
        let mut status = BenchmarkRunStatus::default();
        let now = crate::status::seconds(jiff::Timestamp::UNIX_EPOCH);
        set(&mut status.conditions, type_, truth, reason, "the message", 1, &now);
        status
    }

    #[test]
    fn changes_are_told_once() {
        let nothing = BenchmarkRunStatus::default();
        let check = |before: &BenchmarkRunStatus, after: &BenchmarkRunStatus, want: &[Reason]| {
            let got: Vec<Reason> = of_change(before, after).iter().map(|note| note.reason).collect();
            assert_eq!(got, want);
        };
        let accepted = status(ConditionType::Accepted, Truth::True, Reason::Accepted);
        check(&nothing, &accepted, &[Reason::Accepted]);
        check(&accepted, &accepted, &[]);
        let waits = status(ConditionType::AgentsReady, Truth::False, Reason::Unschedulable);
        check(&nothing, &waits, &[Reason::Unschedulable]);
        check(&nothing, &status(ConditionType::AgentsReady, Truth::False, Reason::Scheduling), &[]);
        check(&waits, &status(ConditionType::AgentsReady, Truth::True, Reason::AgentsReady), &[]);
        check(
            &nothing,
            &status(ConditionType::Finished, Truth::True, Reason::OOMKilled),
            &[Reason::OOMKilled],
        );
        check(
            &BenchmarkRunStatus { attempt: 1, epoch: 3, ..nothing.clone() },
            &BenchmarkRunStatus { attempt: 2, epoch: 4, details_dropped: 7, ..nothing.clone() },
            &[Reason::Resumed, Reason::CoordinatorChanged, Reason::StatusTruncated],
        );
    }

    #[test]
    fn a_thousand_losses_are_five_events_and_the_end_is_always_told() {
        let mut limit = Limit::default();
        let note = |reason, index: u32| {
            let pod = Some(format!("pod-{index}"));
            Note { pod, ..Note::new(reason, format!("agent {index}")) }
        };
        let written =
            (0..1_000).filter_map(|index| limit.admit(note(Reason::AgentLost, index))).collect::<Vec<_>>();
        assert_eq!(written.len(), PER_REASON_MAX as usize);
        assert!(written[4].note.contains("status only"));
        assert_eq!(limit.admit(note(Reason::Started, 0)).map(|note| note.reason), Some(Reason::Started));
        assert_eq!(limit.admit(note(Reason::Started, 0)), None, "the same again");
        for reason in Reason::ALL {
            for index in 1..10 {
                limit.admit(note(*reason, index));
            }
        }
        assert_eq!(limit.total, PER_RUN_MAX);
        let mut stages = Limit::default();
        let begun =
            (0..33).filter_map(|index| stages.admit(Note::new(Reason::Started, format!("stage {index}"))));
        assert_eq!(begun.count(), 33, "a run may have that many");
        let mut full = Limit { total: PER_RUN_MAX, ..Limit::default() };
        assert_eq!(full.admit(note(Reason::Started, 0)), None);
        let end = of_change(
            &BenchmarkRunStatus::default(),
            &status(ConditionType::Finished, Truth::True, Reason::ReadyTimeout),
        );
        assert!(full.admit(end[0].clone()).is_some(), "the end is always told");
    }
}
