//! A run's story in lines: what happened to which agent, where and when, and what that costs the results.
//!
//! The words are for whoever is called at night; `--json` and the timeline keep the names of the states. Deliberately no
//! judgement: what makes a run `Degraded` was decided, and worded, in `lockstep_core::run`.

use super::picture::Picture;
use lockstep_coordinator::Snapshot;
use lockstep_coordinator::progress::{began_ns, takes_part};
use lockstep_core::format::clock;
use lockstep_core::plan::Plan;
use lockstep_core::run::message::Told;

/// Something that happened, for displays of every style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// When, since the run began, nanoseconds.
    pub elapsed_ns: u64,
    /// Index and attempt, where it happened to an agent.
    pub agent: Option<(u32, u32)>,
    /// What, in one word.
    pub what: &'a str,
    /// Why.
    pub reason: String,
    /// Whether somebody should look.
    pub notable: bool,
    /// Its line in the story, where it is worth one.
    pub line: Option<String>,
}

impl<'a> Event<'a> {
    /// What the coordinator told, in a run that stood like this shortly after.
    #[must_use]
    pub fn of(told: &'a Told, plan: &Plan, snapshot: &Snapshot) -> Self {
        Self {
            elapsed_ns: told.at_ns.saturating_sub(snapshot.began_ns),
            agent: told.agent,
            what: &told.what,
            reason: told.reason.clone(),
            notable: told.notable,
            line: is_worth_a_line(told).then(|| line(told, plan, snapshot)),
        }
    }
}

/// One line of the story, as the run stood shortly after: `agent 1 lost in mixed at 0:06: its process ended: signal 9 ·
/// 3 of 4 agents go on`.
#[must_use]
pub fn line(told: &Told, plan: &Plan, snapshot: &Snapshot) -> String {
    let place = place(told, plan, snapshot);
    let Some((index, attempt)) = told.agent else {
        return format!("{}{}", words(&told.what), reason(told));
    };
    let who = match attempt {
        0 => format!("agent {index}"),
        _ => format!("agent {index} (attempt {})", attempt + 1),
    };
    let rest = match told.what.as_ref() {
        "Lost" | "Failed" | "LeftBehind" => {
            let others = snapshot.view.agents.iter().filter(|agent| agent.index != index);
            let left = others.filter(|agent| takes_part(&agent.state)).count();
            format!("{} · {left} of {} agents go on", reason(told), plan.replicas)
        }
        // The reason is the stage that it joins, which stands in front.
        "JoinedLate" => String::new(),
        _ => reason(told),
    };
    format!("{who} {}{place}{rest}", words(&told.what))
}

/// Whether an event deserves a line beside the lines of stages, which tell of their beginnings and ends themselves.
#[must_use]
pub fn is_worth_a_line(told: &Told) -> bool {
    told.notable && !matches!(told.what.as_ref(), "AgentsReady" | "StageBegins" | "StageOver")
}

/// Why results are not what they would be on a quiet day: each reason once, as soon as it is known.
#[derive(Debug, Default)]
pub struct Doubts {
    told: usize,
}

impl Doubts {
    /// The reasons that this picture adds, as lines.
    pub fn added(&mut self, picture: &Picture) -> Vec<String> {
        let reasons = &picture.degraded;
        let added = reasons.iter().skip(self.told).map(|reason| format!("degraded: {reason}")).collect();
        self.told = self.told.max(reasons.len());
        added
    }
}

/// An event or a state in words. One that an agent comes back to after trouble is named by what it means.
fn words(what: &str) -> &str {
    match what {
        "Lost" => "lost",
        "Disconnected" => "disconnected",
        "Stalled" => "stands still",
        "Failed" => "failed",
        "LeftBehind" => "left behind",
        "Replaced" => "replaced",
        "JoinedLate" => "joins late",
        "MissedStart" => "missed the start",
        "Fault" => "reports a fault",
        "Aborting" => "stopping",
        "Countdown" => "countdown",
        "Paused" => "paused",
        "SkewTooLarge" => "skew too large",
        "Ready" | "Waiting" | "Armed" | "Working" | "Draining" | "AtBarrier" => "is back",
        other => other,
    }
}

/// ` in mixed at 0:06`, or ` in prepare`.
fn place(told: &Told, plan: &Plan, snapshot: &Snapshot) -> String {
    let stage = snapshot.view.stage.map(|stage| stage as usize);
    let Some((index, stage)) = stage.and_then(|index| Some((index, plan.stages.get(index)?))) else {
        return String::new();
    };
    let at = match stage.kind.execute() {
        Some(_) => {
            format!(" at {}", clock(told.at_ns.saturating_sub(began_ns(snapshot, index))))
        }
        None => String::new(),
    };
    format!(" in {}{at}", stage.name)
}

/// `: its process ended: signal 9`; the first line, where there are more.
fn reason(told: &Told) -> String {
    let mut lines = told.reason.lines();
    match (lines.next(), lines.next()) {
        (None, _) => String::new(),
        (Some(only), None) => format!(": {only}"),
        (Some(first), Some(_)) => format!(": {first} …"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{in_stage, plan, snapshot};
    use super::*;
    use lockstep_core::run::agent::{AgentState, LossReason, Step};

    const S: u64 = 1_000_000_000;

    #[test]
    fn an_operator_reads_who_where_when_why_and_what_is_left() {
        let plan = plan();
        let mut now = snapshot(&plan, 8 * S);
        now.view.stages[2].facts.planned_start_ns = Some(102 * S);
        in_stage(&mut now, 2, Step::Working, 0);
        let ended = LossReason::Ended("signal 9".to_owned());
        now.view.agents[1].state = AgentState::Lost(ended.clone());
        let told = |agent, what: &'static str, reason: &str| {
            let told = Told {
                at_ns: 108 * S,
                since_ns: None,
                agent,
                what: what.into(),
                reason: reason.to_owned(),
                notable: true,
            };
            line(&told, &plan, &now)
        };
        let texts = [
            told(Some((1, 0)), "Lost", &ended.to_string()),
            told(Some((1, 1)), "Replaced", "a new attempt is started"),
            told(Some((1, 1)), "JoinedLate", "mixed"),
            told(Some((3, 0)), "Stalled", "no progress for 10.0 s in measuring"),
            told(Some((3, 0)), "Working", "heard again after 3.7 s"),
            told(None, "Paused", "the coordinator was stopped for 5.0 s\nmore"),
        ];
        let want = [
            "agent 1 lost in mixed at 0:06: its process ended: signal 9 · 3 of 4 agents go on",
            "agent 1 (attempt 2) replaced in mixed at 0:06: a new attempt is started",
            "agent 1 (attempt 2) joins late in mixed at 0:06",
            "agent 3 stands still in mixed at 0:06: no progress for 10.0 s in measuring",
            "agent 3 is back in mixed at 0:06: heard again after 3.7 s",
            "paused: the coordinator was stopped for 5.0 s …",
        ];
        assert_eq!(texts, want);
    }

    #[test]
    fn a_doubt_is_told_once() {
        let mut now = Picture::default();
        let mut doubts = Doubts::default();
        assert!(doubts.added(&now).is_empty());
        now.degraded = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(doubts.added(&now), ["degraded: a", "degraded: b"]);
        assert!(doubts.added(&now).is_empty());
    }
}
