//! Puts together what an agent hands in for a stage.
//!
//! Everything in it was measured elsewhere; this only gathers. Deliberately no rates and no percentiles: those are
//! made where parts are merged.

use super::director::Director;
use super::job::{FailureSample, Job};
use super::stage::{Active, StageState};
use crate::cpu::{self, Usage};
use lockstep_core::problem::Problem;
use lockstep_core::results::ledger::numbered;
use lockstep_core::results::part::{ClientUse, Lateness, PartState, Pause, StagePart};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Share of its cores' time above which the client set the pace, percent.
const BUSY_PERCENT: u64 = 90;
/// Share of the time for which the cgroup may hold the agent back before it set the pace, percent.
const THROTTLED_PERCENT: u64 = 5;
/// Mean lag behind the schedule above which the client did not keep it, nanoseconds.
const LAG_MEAN_NS: u64 = 1_000_000;
/// How late a start is a late join and not a late start, nanoseconds.
const LATE_JOIN_NS: u64 = 1_000_000_000;

/// The parts of a chain of stages, in order.
pub fn parts(director: &Director, active: &Active) -> Vec<StagePart> {
    let stages = active.stages();
    stages
        .into_iter()
        .zip(&active.states)
        .map(|(stage, state)| part(director, active, stage, state))
        .collect()
}

fn part(director: &Director, active: &Active, stage: u32, state: &StageState) -> StagePart {
    let identity = &director.identity;
    let mut part = StagePart::new(stage, identity.index, identity.attempt);
    part.environment.clone_from(&director.environment);
    part.totals = state.record.totals.clone();
    part.series = state.record.series.clone();
    let position = (stage - active.stage) as usize;
    let last = position + 1 == active.states.len();
    let segment = active.job.as_ref().and_then(|job| job.segments().get(position).cloned());
    let from_ns = segment.as_ref().map_or(0, |segment| segment.from_ns);
    let ended_ns = active.ended_ns.unwrap_or_else(crate::clock::now_ns);
    let origin_ns = active.origin_ns.map(|origin_ns| origin_ns + from_ns);
    part.planned_start_ns = origin_ns.unwrap_or(0);
    let window_ns = segment.as_ref().and_then(|segment| segment.to_ns).map(|to_ns| to_ns - from_ns);
    let worked_ns = origin_ns.map_or(0, |origin_ns| ended_ns.saturating_sub(origin_ns));
    part.window_ns = window_ns.map_or(worked_ns, |window_ns| window_ns.min(worked_ns));
    // A stage of a chain that was over when the chain was stopped is complete.
    let over = !last && window_ns.is_some_and(|window_ns| worked_ns >= window_ns);
    if let Some(reason) = active.stopped.clone().filter(|_| !over) {
        part.state = PartState::Partial { reason };
    }
    if let Some(job) = &active.job {
        released(&mut part, job, position, from_ns);
        if last {
            account(&mut part, active, job);
        }
        part.lateness.merge_paces(job, position);
    }
    if last {
        part.other_requests += director.sent.swap(0, Ordering::Relaxed);
    }
    let used = state.used.unwrap_or_else(|| Usage::read().since(&state.usage));
    part.client = client(director, &part, &used, state.rss_max);
    part
}

/// When workers were let go, and when they began.
fn released(part: &mut StagePart, job: &Job, position: usize, from_ns: u64) {
    let seats = |of: fn(&super::hands::Slot) -> &AtomicU64| -> Vec<u64> {
        let all = job.seats.iter().map(|seat| of(&seat.hands.slot).load(Ordering::Acquire));
        all.filter(|at_ns| *at_ns > 0).collect()
    };
    let released_ns = seats(|slot| &slot.released_ns).into_iter().max();
    if position > 0 {
        // Workers flowed into this stage: nobody had to be let go.
        part.released_ns = released_ns.map(|_| part.planned_start_ns);
        part.first_operation_ns = part.released_ns;
        return;
    }
    part.released_ns = released_ns;
    part.first_operation_ns = seats(|slot| &slot.first_ns).into_iter().min();
    let Some(released_ns) = released_ns else { return };
    let late_ns = released_ns.saturating_sub(part.planned_start_ns);
    part.lateness.worker_start_max_ns = late_ns;
    if late_ns > LATE_JOIN_NS && from_ns == 0 {
        part.add_pause(Pause { from_ns: 0, to_ns: late_ns, what: "late join".into() });
        if part.state == PartState::Complete {
            part.state = PartState::Partial { reason: "joined late".into() };
        }
    }
}

/// What belongs to the job as a whole; in the part of the last stage of a chain.
fn account(part: &mut StagePart, active: &Active, job: &Job) {
    let accounts = job.accounts.lock().unwrap_or_else(PoisonError::into_inner);
    part.endpoints.clone_from(&accounts.endpoints);
    part.other_requests += accounts.other_requests;
    drop(accounts);
    for problem in &active.problems {
        part.add_problem(problem.clone());
    }
    let failures = job.failures.lock().unwrap_or_else(PoisonError::into_inner);
    for FailureSample { op, name, failure, count } in failures.iter() {
        let what = format!("{count} times {} failed, first on {name}", op.name());
        part.add_problem(Problem::new(what, failure.detail.clone()).class(failure.class));
    }
    let ledger = job.indexes.ledger();
    part.ranges_done = numbered(&ledger.done, job.plan.dataset.len());
    part.created = ledger.changed;
    part.existed = ledger.unchanged;
}

trait MergePaces {
    fn merge_paces(&mut self, job: &Job, position: usize);
}

impl MergePaces for Lateness {
    fn merge_paces(&mut self, job: &Job, position: usize) {
        let Some(lanes) = job.paces.get().and_then(|paces| paces.get(position)) else { return };
        let (mut sum_ns, mut starts) = (0u128, 0u64);
        for pace in lanes {
            let pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            self.pacing_lag_max_ns = self.pacing_lag_max_ns.max(pace.lag_max_ns);
            sum_ns += pace.lag_sum_ns;
            starts += pace.starts;
        }
        self.pacing_lag_mean_ns = sum_ns.checked_div(u128::from(starts)).unwrap_or(0) as u64;
    }
}

fn client(director: &Director, part: &StagePart, used: &Usage, rss_max: u64) -> ClientUse {
    let cores = match director.identity.cores.len() {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        cores => cores,
    };
    let milli_cores = (cores as u64 * 1000).min(cpu::limit_millicores().unwrap_or(u64::MAX));
    let available_ns = u128::from(part.window_ns) * u128::from(milli_cores) / 1000;
    let percent = |of: u64| (u128::from(of) * 100).checked_div(available_ns).unwrap_or(0) as u64;
    let busy = percent(used.cpu_ns);
    let held_back = percent(used.throttled_ns);
    let lag_ns = part.lateness.pacing_lag_mean_ns;
    let client_bound = if held_back >= THROTTLED_PERCENT {
        Some(format!("the cgroup's CPU limit held the agent back for {held_back} % of its time"))
    } else if busy >= BUSY_PERCENT {
        let cores = milli_cores as f64 / 1000.0;
        Some(format!("the agent used {busy} % of the {cores} cores that it may use"))
    } else if lag_ns >= LAG_MEAN_NS && part.lateness.pacing_lag_max_ns < u64::MAX && busy >= BUSY_PERCENT / 2
    {
        Some(format!("operations started {} µs after their intended start on average", lag_ns / 1000))
    } else {
        None
    };
    ClientUse {
        milli_cores,
        machine_user_ns: used.machine_user_ns,
        machine_system_ns: used.machine_system_ns,
        machine_iowait_ns: used.machine_iowait_ns,
        process_cpu_ns: used.cpu_ns,
        max_rss_bytes: rss_max.max(used.resident_bytes),
        throttled_ns: used.throttled_ns,
        client_bound,
    }
}
