//! Pods come all or none: attempts are named, all pods are made, and the run begins when its quorum has nodes.
//!
//! A run that holds nodes and lacks others gives its pods back after a while, so that two half-placed runs do not block each
//! other for ever: at once where an older run of ours is short of room too, after [`PATIENCE_S`] otherwise (an autoscaler
//! needs minutes). Pods that all wait are kept: they hold nothing. `readyTimeout` counts while there is no room and no
//! other run of ours holds nodes; waiting for another run has no limit but `activeDeadline` of that one, and waiting in a
//! queue (scheduling gates) has none.

use super::gates::is_older;
use super::live::{create, delete_all};
use super::observed::{CaMap, Observed};
use super::step::{Action, Conclusion, Planned, Wait};
use crate::pods::build::RunIdentity;
use crate::pods::facts::Seat;
use crate::pods::rejected::Rejection;
use crate::pods::trouble::{Trouble, Weight};
use jiff::{SignedDuration, Timestamp};
use lockstep_api::reasons::Reason;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::thresholds::Outcome;
use std::time::Duration;

/// How long a run that holds some nodes and lacks others keeps them, seconds.
pub const PATIENCE_S: i64 = 120;
/// The same where an older run is short of room too, seconds: long enough for one round of the scheduler.
pub const YIELD_S: i64 = 10;
/// Wait before pods that were given back are made again, seconds; doubles with each time, up to [`BACKOFF_MAX_S`].
pub const BACKOFF_S: i64 = 15;
/// The longest such wait, seconds.
pub const BACKOFF_MAX_S: i64 = 120;

pub(super) fn plan(observed: &Observed<'_>, planned: &mut Planned) {
    let run = observed.run;
    if *observed.ca == CaMap::Foreign {
        let conclusion = taken(observed, "ConfigMap", &run.identity.ca_config_map(), None);
        planned.step(Action::Conclude(Box::new(conclusion)), "waiting cannot help");
        return;
    }
    if given_back(observed, planned) || !prepared(observed, planned) {
        return;
    }
    let wanted: Vec<Seat> = (0..run.replicas).map(|index| (index, 0)).collect();
    for seat in &wanted {
        if let Some(conclusion) = hopeless(observed, *seat) {
            delete_all(observed, planned, "the run cannot begin");
            planned.step(Action::Conclude(Box::new(conclusion)), "waiting cannot help");
            return;
        }
    }
    let placed = observed.pods.values().filter(|pod| pod.node.is_some() && !pod.deleting).count() as u32;
    // Nobody has begun to work: a pod that somebody took away is simply made again.
    planned.memory.made.retain(|seat, _| observed.pods.contains_key(seat));
    create(observed, planned, &wanted);
    if planned.memory.placing_since.is_none() {
        planned.memory.placing_since = Some(observed.now);
    }
    if placed >= run.min_available {
        (planned.memory.short_for, planned.memory.short_at) = (SignedDuration::ZERO, None);
        planned.step(Action::Begin, format!("{placed} of {} agents have nodes", run.replicas));
        return;
    }
    let trouble = shortage(observed, placed);
    let lacks_room = trouble.as_ref().is_some_and(|(reason, _)| *reason != Reason::SchedulingGated);
    planned.short = lacks_room && placed > 0;
    match trouble {
        // In a queue, which admits the run as a whole: that may take as long as it takes.
        Some((reason, problem)) if !lacks_room => {
            planned.memory.short_at = None;
            planned.wait = Some(Wait::of(reason, problem));
        }
        None => {
            planned.memory.short_at = None;
            let message = format!("{placed} of {} agents have nodes", run.replicas);
            planned.wait = Some(Wait::new(Reason::Scheduling, message));
        }
        Some((reason, problem)) => short(observed, planned, placed, reason, problem),
    }
}

/// What must be there before the first pod, one thing at a time.
fn prepared(observed: &Observed<'_>, planned: &mut Planned) -> bool {
    let run = observed.run;
    if !run.finalizer {
        planned.step(Action::AddFinalizer, "agents are about to live, and must not be forgotten");
    } else if *observed.ca != CaMap::Written {
        planned.step(Action::WriteCa, "agents have to know whom to trust");
    } else if run.names.is_empty() {
        let names = super::Names::first(run.replicas);
        planned.step(Action::Name(names), "no pod is made that status does not name");
    } else {
        return true;
    }
    false
}

/// Whether pods were given back, and it is not yet time to make them again.
fn given_back(observed: &Observed<'_>, planned: &mut Planned) -> bool {
    let Some(at) = planned.memory.given_back_at else { return false };
    let backoff_s =
        BACKOFF_S.saturating_mul(1 << planned.memory.given_back.saturating_sub(1).min(10)).min(BACKOFF_MAX_S);
    let due = plus(at, backoff_s + jitter_s(&observed.run.identity.uid));
    let rival = rival(observed);
    let message = match (&rival, observed.pods.len()) {
        (Some(rival), _) => {
            format!("gave its pods back for run {rival}, which is older and short of room too")
        }
        (None, 0) => format!("gave its pods back, since its quorum found no room; tries again at {due}"),
        (None, left) => format!("gives its pods back, since its quorum found no room: {left} are going"),
    };
    let over = observed.pods.is_empty() && rival.is_none() && observed.now >= due;
    if over {
        let memory = &mut planned.memory;
        (memory.given_back_at, memory.placing_since) = (None, None);
        memory.made.clear();
        return false;
    }
    // It is short of room now as well; what that comes to is seen when it tries again.
    count_shortage(observed, planned);
    // Pods that the API server has not been asked to remove yet.
    delete_all(observed, planned, "the run gives its pods back");
    planned.wait = Some(Wait::new(Reason::WaitingForRoom, message));
    planned.look_again(due.max(plus(observed.now, 1)));
    true
}

fn short(observed: &Observed<'_>, planned: &mut Planned, placed: u32, reason: Reason, problem: Problem) {
    let run = observed.run;
    let now = observed.now;
    let since = planned.memory.placing_since.unwrap_or(now);
    if let Some(left_s) = count_shortage(observed, planned) {
        if left_s <= 0 {
            let conclusion = not_ready(observed, placed, &problem);
            // What was about to be made is not made.
            planned.steps.clear();
            delete_all(observed, planned, "the run cannot begin");
            planned.step(Action::Conclude(Box::new(conclusion)), "readyTimeout is over");
            return;
        }
        planned.look_again(plus(now, left_s));
    }
    if placed > 0 {
        let rival = rival(observed);
        let patience_s = if rival.is_some() { YIELD_S } else { PATIENCE_S };
        let until = plus(since, patience_s);
        if now >= until {
            let why = rival.map_or_else(
                || format!("{placed} of {} agents hold nodes, and the others find none", run.replicas),
                |rival| format!("run {rival} is older and short of room too"),
            );
            // What was about to be made is not made.
            planned.steps.clear();
            delete_all(observed, planned, &why);
            planned.short = false;
            planned.memory.given_back_at = Some(now);
            planned.memory.given_back += 1;
            planned.look_again(plus(now, 1));
            planned.wait = Some(Wait::new(Reason::WaitingForRoom, format!("gives its pods back: {why}")));
            return;
        }
        planned.look_again(until);
    }
    planned.wait = Some(Wait::of(reason, problem));
}

/// Counts the time without room; answers how many seconds of `readyTimeout` are left, `None` while another run of ours holds
/// nodes: there will be room when it is over, and nothing counts.
fn count_shortage(observed: &Observed<'_>, planned: &mut Planned) -> Option<i64> {
    let memory = &mut planned.memory;
    // What was seen the last time held until now.
    let counted = memory.short_at.map_or(SignedDuration::ZERO, |before| observed.now.duration_since(before));
    memory.short_for = memory.short_for.saturating_add(counted.max(SignedDuration::ZERO));
    let others_hold = observed.others.iter().any(|other| other.holds);
    memory.short_at = (!others_hold).then_some(observed.now);
    let left_s = seconds(observed.run.ready_timeout).saturating_sub(memory.short_for.as_secs());
    (!others_hold).then_some(left_s)
}

/// Why there is no room: from the pods that wait, or from the API server that did not take them.
fn shortage(observed: &Observed<'_>, placed: u32) -> Option<(Reason, Problem)> {
    let rejected = observed.rejected.values().find_map(|rejected| match &rejected.why {
        Rejection::Wait(reason, problem) => Some((*reason, problem.clone())),
        _ => None,
    });
    let waiting = observed.pods.values().filter(|pod| pod.node.is_none());
    let trouble =
        waiting.clone().filter(|pod| pod.unschedulable).find_map(|pod| observed.troubles.get(&pod.seat));
    let gated = || waiting.clone().find_map(|pod| observed.troubles.get(&pod.seat));
    let (reason, mut problem) = rejected
        .or_else(|| trouble.or_else(gated).map(|trouble| (trouble.reason, trouble.problem.clone())))?;
    let run = observed.run;
    problem.what =
        format!("{placed} of {} agents have nodes, and {} are needed", run.replicas, run.min_available);
    Some((reason, problem))
}

/// An older run that holds nodes and lacks others, like this one.
fn rival(observed: &Observed<'_>) -> Option<String> {
    let older = observed.others.iter().filter(|other| other.short && is_older(other, observed));
    older.min_by_key(|other| other.created).map(|other| format!("{}/{}", other.namespace, other.name))
}

/// Why a seat will never have a pod, or one that runs.
fn hopeless(observed: &Observed<'_>, seat: Seat) -> Option<Conclusion> {
    let fatal = observed.troubles.get(&seat).filter(|trouble| trouble.weight == Weight::Fatal);
    if let Some(Trouble { reason, problem, weight: _ }) = fatal {
        let (reason, problem) = (*reason, problem.clone());
        return Some(Conclusion { outcome: Outcome::Failed, reason, problem });
    }
    let rejected = observed.rejected.get(&seat)?;
    match &rejected.why {
        Rejection::Never(reason, problem) => {
            Some(Conclusion { outcome: Outcome::Failed, reason: *reason, problem: problem.clone() })
        }
        Rejection::NameTaken if super::live::is_foreign(observed, rejected) => {
            let pod = observed.run.identity.pod_name(seat.0, seat.1);
            let holder = rejected.holder.as_ref().and_then(|holder| holder.controller.as_ref());
            Some(taken(observed, "pod", &pod, holder))
        }
        _ => None,
    }
}

/// A name that the run needs is somebody else's.
fn taken(observed: &Observed<'_>, kind: &str, name: &str, holder: Option<&(String, String)>) -> Conclusion {
    let RunIdentity { namespace, name: run, uid: _ } = &observed.run.identity;
    let whose = holder.map_or("no run".to_owned(), |(kind, name)| format!("{kind} {name}"));
    let problem = Problem::new(
        format!("run {run} cannot begin: the name of its {kind} {name} is taken"),
        format!("{kind} {namespace}/{name} belongs to {whose}, and is left as it is"),
    )
    .likely(format!("a {kind} of that name was made by hand, or by another controller"))
    .next(format!("look whose it is: kubectl get {} {name} -n {namespace} -o yaml", kind.to_lowercase()))
    .next("give the run another name")
    .exit(exit::REFUSED);
    Conclusion { outcome: Outcome::Failed, reason: Reason::NameConflict, problem }
}

fn not_ready(observed: &Observed<'_>, placed: u32, trouble: &Problem) -> Conclusion {
    let run = observed.run;
    let what =
        format!("run {} did not start: {placed} of {} agents found a node", run.identity.name, run.replicas);
    let mut problem = Problem::new(
        what,
        format!("{} within readyTimeout ({} s)", trouble.cause, run.ready_timeout.as_secs()),
    );
    problem.likely.clone_from(&trouble.likely);
    problem.next.clone_from(&trouble.next);
    Conclusion {
        outcome: Outcome::Failed,
        reason: Reason::ReadyTimeout,
        problem: problem.exit(exit::UNREACHABLE),
    }
}

/// Up to five seconds that depend on the run only, so that runs which gave up together do not come back together.
fn jitter_s(uid: &str) -> i64 {
    uid.bytes().fold(0_i64, |sum, byte| (sum * 31 + i64::from(byte)) % 5_003) % 6
}

fn plus(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(at)
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}
