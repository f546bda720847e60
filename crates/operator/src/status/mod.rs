//! From what is known of a run to its status: one pure projection, and how and when it is written.
//!
//! ```text
//! Picture ─ project ─→ BenchmarkRunStatus ─ fit ─→ within its size ─ managers::split ─→ two parts ─ pace ─→ written now?
//! ```
//!
//! The status is made anew each time from the whole picture; only transition times, sticky conditions and what another
//! leader wrote are taken from the status before. Numbers are integers with their unit in the name. It deliberately
//! decides nothing: which conditions an outcome has is one table, [`lockstep_api::outcome`], and what the outcome is, the decider says.

pub mod agents;
pub mod conditions;
pub mod fit;
pub mod managers;
pub mod pace;
pub mod phase;
pub mod reason;
pub mod stages;
#[cfg(test)]
mod tests;
pub mod words;

use crate::plan::{Conclusion, RunFacts, Wait};
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::trouble::Trouble;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lockstep_api::status::{BenchmarkRunStatus, ResultsStatus};
use lockstep_coordinator::Snapshot;
use lockstep_core::plan::Plan;
use lockstep_core::problem::Problem;
use lockstep_core::results::Report;
use lockstep_core::run::view::RunView;
use std::collections::BTreeMap;

/// Everything that a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Now.
    pub now: Timestamp,
    /// Generation of the run that was looked at.
    pub generation: i64,
    /// Epoch of the leader that writes.
    pub epoch: i64,
    /// What this installation writes into `controller`; `None` before the claim.
    pub controller: Option<&'a str>,
    /// The run.
    pub run: &'a RunFacts,
    /// Its pods.
    pub pods: &'a BTreeMap<Seat, PodFacts>,
    /// What is wrong with them.
    pub troubles: &'a BTreeMap<Seat, Trouble>,
    /// What it waits for.
    pub wait: Option<&'a Wait>,
    /// Whether admission has not been heard about its pods yet.
    pub unjudged: bool,
    /// How far it is.
    pub stand: Stand<'a>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub enum Stand<'a> {
    /// Nobody has looked at its spec.
    Unseen,
    /// Its spec is resolved; it has not begun.
    Waiting,
    /// It is under way.
    Live {
        /// Its plan.
        plan: &'a Plan,
        /// What the coordinator sees.
        snapshot: &'a Snapshot,
    },
    /// It is over, and its results are being written, or are.
    Over {
        /// Its plan.
        plan: &'a Plan,
        /// The last view.
        view: &'a RunView,
        /// What was merged.
        report: &'a Report,
        /// What became of the results.
        results: &'a Published,
    },
    /// It was over before it began.
    Concluded(&'a Conclusion),
    /// It is finished and its status is written: only what an edit changes is followed.
    Finished,
}

/// What became of the results.
#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    /// They are being written.
    Writing,
    /// They are where they belong.
    Done(ResultsStatus),
    /// They could not be written.
    Failed(Problem),
}

/// The wall time of an instant of the coordinator's clock. Only shown; nothing is computed with it.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// An instant.
    pub wall: Timestamp,
    /// The same instant, coordinator's monotonic clock, nanoseconds.
    pub at_ns: u64,
}

impl WallClock {
    /// The wall time of `at_ns`, to the millisecond.
    #[must_use]
    pub fn time(&self, at_ns: u64) -> Time {
        let ahead = i128::from(at_ns) - i128::from(self.at_ns);
        let millis = i64::try_from(ahead / 1_000_000).unwrap_or_default();
        let wall = self.wall.saturating_add(SignedDuration::from_millis(millis)).unwrap_or(self.wall);
        Time(Timestamp::from_millisecond(wall.as_millisecond()).unwrap_or(wall))
    }
}

/// The status of a run. `before`: the one that is stored.
#[must_use]
pub fn project(before: &BenchmarkRunStatus, picture: &Picture<'_>) -> BenchmarkRunStatus {
    let run = picture.run;
    let mut status = BenchmarkRunStatus {
        observed_generation: picture.generation,
        // Never the greater one that may stand there: the API server must be able to refuse a leader that was replaced.
        epoch: picture.epoch,
        controller: picture.controller.map(str::to_owned).or_else(|| before.controller.clone()),
        ..before.clone()
    };
    if matches!(picture.stand, Stand::Finished) {
        return conditions::follow(status, picture);
    }
    let attempt = i64::from(run.run_attempt);
    if status.attempt != attempt && status.attempt != 0 {
        // Another attempt: what the last one came to is in its results.
        let kept = std::mem::take(&mut status.conditions);
        status = BenchmarkRunStatus {
            observed_generation: status.observed_generation,
            epoch: status.epoch,
            controller: status.controller,
            conditions: conditions::of_all_attempts(kept),
            ..BenchmarkRunStatus::default()
        };
    }
    status.attempt = attempt;
    status.agent_attempts = run.names.encode();
    let began = status.start_time.is_none() && !run.names.is_empty();
    if began {
        status.start_time = Some(seconds(picture.now));
    }
    status.agents = Some(agents::counts(picture));
    (status.agent_problems, status.details_dropped) = agents::problems(picture);
    stages::fill(&mut status, picture);
    phase::fill(&mut status, picture);
    conditions::fill(&mut status, picture);
    let finished = lockstep_api::conditions::ConditionType::Finished;
    let is_finished = lockstep_api::conditions::truth(&status.conditions, finished);
    if is_finished == Some(lockstep_api::conditions::Truth::True) && status.completion_time.is_none() {
        status.completion_time = Some(seconds(picture.now));
    }
    status
}

/// A time as `metav1.Time` holds it: whole seconds.
pub(crate) fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// A count as status holds it.
pub(crate) fn int(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Cuts a text to what the schema allows, in characters; texts of users and of targets may be longer.
pub(crate) fn fitted(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}
