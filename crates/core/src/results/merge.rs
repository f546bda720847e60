//! From the parts of all agents to one stage of the report.
//!
//! Pure, exact, and the same in whatever order the parts came: they are put in order of agent and attempt first.
//! Deliberately no judgement: thresholds look at the [`StageReport`] later ([`crate::thresholds`]).

use super::cell::{Cell, Latency};
use super::part::{EndpointRow, PartState, StagePart, Summary};
use super::series::{OpSecond, Series};
use super::stage::{
    AgentRow, EndpointReport, EnvironmentRow, LatencyReport, OpReport, SeriesRow, StageFacts, StageReport,
    StartReport,
};
use super::totals::Totals;
use crate::op::{ErrorClass, Op, SizeClass};
use crate::problem::Problem;
use std::collections::{BTreeMap, BTreeSet};

/// Most problems that a stage shows.
pub const MAX_STAGE_PROBLEMS: usize = 64;

/// Merges the parts of one stage. `live` may bring the per-second response times that parts do not carry, as the
/// coordinator gathered them from intervals; a percentile is shown only where their count is that of the parts.
/// Parts of other stages are left out; the caller drops repeats of an (agent, attempt).
#[must_use]
pub fn merge_stage(facts: &StageFacts, parts: &[StagePart], live: Option<&Series>) -> StageReport {
    let parts = sorted(facts.stage, parts);
    let totals = merge_totals(facts.stage, parts.iter().copied());
    let worked_ns = parts.iter().map(|part| part.window_ns).max().unwrap_or(0);
    // A stage that was ended early has a shorter window than planned; one agent that was lost does not shorten it.
    let window_ns = facts.window_ns.map_or(worked_ns, |planned_ns| planned_ns.min(worked_ns));
    let complete = || parts.iter().filter(|part| part.state == PartState::Complete);
    let (problems, problems_dropped) = problems_of(&parts);
    StageReport {
        stage: facts.stage,
        name: facts.name.clone(),
        kind: facts.kind.clone(),
        state: facts.state.clone(),
        discard: facts.discard,
        agents_planned: facts.agents_planned,
        // Of an agent that was replaced, two attempts may have done all that was asked of each.
        agents_complete: complete().map(|part| part.agent).collect::<BTreeSet<_>>().len() as u32,
        start: StartReport {
            planned: facts.planned_start.clone(),
            inherited_from: None,
            skew_micros: facts.skew_ns.map(|ns| ns.div_ceil(1000)),
            first_operation_skew_micros: spread_micros(
                complete().filter_map(|part| part.first_operation_coordinator_ns),
            ),
            clock_error_micros: facts.clock_error_ns.map(|ns| ns.div_ceil(1000)),
            rearmed: facts.rearmed,
        },
        window_ns,
        degraded: facts.degraded.clone(),
        client_bound_agents: parts.iter().filter(|part| part.client.client_bound.is_some()).count() as u32,
        total: OpReport::of(None, None, &totals.overall(), window_ns),
        operations: Op::ALL
            .into_iter()
            .map(|op| (op, totals.by_op(op)))
            .filter(|(_, cell)| cell.count() > 0 || cell.error_count() > 0)
            .map(|(op, cell)| OpReport::of(Some(op), None, &cell, window_ns))
            .collect(),
        size_classes: totals
            .iter()
            .map(|(op, class, cell)| OpReport::of(Some(op), Some(class), cell, window_ns))
            .collect(),
        requests: totals.requests(),
        other_requests: parts.iter().fold(0, |sum, part| sum.saturating_add(part.other_requests)),
        retries: totals.retries,
        starved_deletes: totals.starved_deletes,
        dropped_starts: totals.dropped_starts,
        repeated_operations: totals.repeated_operations,
        agents: parts.iter().map(|part| AgentRow::of(part)).collect(),
        endpoints: endpoints_of(&parts),
        series: series_of(&parts, live),
        environment: environment_of(&parts),
        problems,
        problems_dropped,
    }
}

/// Gives every stage that flowed out of a warm-up the start of that warm-up: it is the only one its agents had together.
/// `stages` are in the plan's order.
pub fn inherit_starts(stages: &mut [StageReport]) {
    for index in 1..stages.len() {
        let (before, from_here) = stages.split_at_mut(index);
        let (Some(before), Some(stage)) = (before.last(), from_here.first_mut()) else { continue };
        if before.discard && !stage.agents.is_empty() {
            let from = before.start.inherited_from.as_ref().unwrap_or(&before.name);
            stage.start = StartReport {
                planned: stage.start.planned.take(),
                inherited_from: Some(from.clone()),
                ..before.start.clone()
            };
        }
    }
}

/// Everything that the parts of a stage counted, e.g. for [`super::tsv`] and histogram artefacts.
pub fn merge_totals<'a>(stage: u32, parts: impl IntoIterator<Item = &'a StagePart>) -> Totals {
    let mut totals = Totals::new();
    for part in parts.into_iter().filter(|part| part.stage == stage) {
        totals.merge(&part.totals);
    }
    totals
}

/// `amount` in a window, per second and times `scale`, rounded down; 0 without a window.
fn per_second(amount: u64, scale: u64, window_ns: u64) -> u64 {
    let scaled = u128::from(amount) * u128::from(scale) * 1_000_000_000;
    scaled.checked_div(u128::from(window_ns)).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

impl OpReport {
    fn of(op: Option<Op>, class: Option<SizeClass>, cell: &Cell, window_ns: u64) -> Self {
        Self {
            op,
            size_class: class.map(|class| class.name().to_owned()),
            count: cell.count(),
            drained: cell.drained,
            error_count: cell.error_count(),
            errors: errors_by_class(&cell.errors),
            late_starts: cell.late_starts,
            bytes: cell.bytes,
            milli_operations_per_second: per_second(
                cell.count().saturating_sub(cell.drained),
                1000,
                window_ns,
            ),
            bytes_per_second: per_second(cell.bytes.saturating_sub(cell.drained_bytes), 1, window_ns),
            response: LatencyReport::of(cell.response()),
            service: LatencyReport::of(&cell.service),
            first_byte: cell.first_byte().and_then(LatencyReport::of),
        }
    }
}

impl LatencyReport {
    /// The numbers of a latency; `None` without values.
    #[must_use]
    pub fn of(latency: &Latency) -> Option<Self> {
        Some(Self {
            count: latency.count(),
            mean_ns: latency.mean_ns()?,
            min_ns: latency.min_ns,
            p50_ns: latency.quantile_ns(0.5)?,
            p90_ns: latency.quantile_ns(0.9)?,
            p95_ns: latency.quantile_ns(0.95)?,
            p99_ns: latency.quantile_ns(0.99)?,
            p999_ns: latency.quantile_ns(0.999)?,
            max_ns: latency.max_ns,
            above_range: latency.histogram.above_range(),
        })
    }
}

impl AgentRow {
    fn of(part: &StagePart) -> Self {
        let Summary { count, error_count, requests: _, bytes, response_mean_ns, response_p99_ns } =
            part.summary();
        let sent = count.saturating_add(error_count);
        Self {
            agent: part.agent,
            attempt: part.attempt,
            state: part.state.clone(),
            window_ns: part.window_ns,
            count,
            error_count,
            bytes,
            response_mean_ns,
            response_p99_ns,
            released_after_ns: part.released_ns.map(|ns| {
                i64::try_from(i128::from(ns) - i128::from(part.planned_start_ns)).unwrap_or(i64::MAX)
            }),
            lateness: part.lateness.clone(),
            client: part.client.clone(),
            cpu_per_operation_ns: part.client.process_cpu_ns.checked_div(sent),
            network: part.network.clone(),
            pauses: part.pauses.clone(),
            other_requests: part.other_requests,
        }
    }
}

/// The stage's parts by agent and attempt, so that nothing depends on the order in which they came.
fn sorted(stage: u32, parts: &[StagePart]) -> Vec<&StagePart> {
    let mut sorted: Vec<_> = parts.iter().filter(|part| part.stage == stage).collect();
    sorted.sort_by_key(|part| (part.agent, part.attempt));
    sorted
}

fn errors_by_class(errors: &[u64; ErrorClass::ALL.len()]) -> BTreeMap<ErrorClass, u64> {
    ErrorClass::ALL.into_iter().zip(*errors).filter(|(_, count)| *count > 0).collect()
}

/// Latest minus earliest, microseconds, rounded up; `None` below two instants: one alone starts together with nobody.
fn spread_micros(instants_ns: impl Iterator<Item = u64>) -> Option<u64> {
    let instants_ns: Vec<u64> = instants_ns.collect();
    let (low, high) = (instants_ns.iter().min()?, instants_ns.iter().max()?);
    (instants_ns.len() > 1).then(|| (high - low).div_ceil(1000))
}

fn problems_of(parts: &[&StagePart]) -> (Vec<Problem>, u64) {
    let mut problems: Vec<Problem> = Vec::new();
    let mut dropped = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.problems_dropped));
    for problem in parts.iter().flat_map(|part| &part.problems) {
        if problems.len() < MAX_STAGE_PROBLEMS {
            problems.push(problem.clone());
        } else {
            dropped = dropped.saturating_add(1);
        }
    }
    (problems, dropped)
}

fn endpoints_of(parts: &[&StagePart]) -> Vec<EndpointReport> {
    let mut rows: BTreeMap<&str, EndpointRow> = BTreeMap::new();
    for row in parts.iter().flat_map(|part| &part.endpoints) {
        rows.entry(&row.uri).or_default().merge(row);
    }
    rows.into_iter()
        .map(|(uri, row)| EndpointReport {
            uri: uri.to_owned(),
            requests: row.requests,
            errors: errors_by_class(&row.errors),
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            service: LatencyReport::of(&row.service),
        })
        .collect()
}

fn series_of(parts: &[&StagePart], live: Option<&Series>) -> Vec<SeriesRow> {
    let mut series = Series::new();
    for part in parts {
        series.merge(&part.series);
    }
    let mut rows = Vec::new();
    for (second, row) in series.iter() {
        let live_row = live.and_then(|live| live.row(second));
        for (op, cell) in row.iter() {
            let known = live_row.and_then(|row| row.op(op)).filter(|live| live.count == cell.count);
            let percentiles = known.and_then(|live| live.response.as_ref()?.p50_p99_ns());
            let capped = |ns: u64| ns.min(cell.max_ns);
            let &OpSecond { count, bytes, errors, sum_ns, max_ns, .. } = cell;
            rows.push(SeriesRow {
                second,
                op,
                count,
                bytes,
                errors,
                mean_ns: sum_ns.checked_div(count),
                p50_ns: percentiles.map(|(p50_ns, _)| capped(p50_ns)),
                p99_ns: percentiles.map(|(_, p99_ns)| capped(p99_ns)),
                max_ns,
            });
        }
    }
    rows
}

fn environment_of(parts: &[&StagePart]) -> Vec<EnvironmentRow> {
    let mut rows: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for (key, value) in parts.iter().flat_map(|part| &part.environment) {
        *rows.entry((key, value)).or_default() += 1;
    }
    rows.into_iter()
        .map(|((key, value), agents)| EnvironmentRow { key: key.to_owned(), value: value.to_owned(), agents })
        .collect()
}
