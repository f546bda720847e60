//! The two ledgers: what the data set holds, and which operations are accounted for.
//!
//! They exist so that no total contains a silent gap: what a killed attempt did after its last report is shown as
//! a span of which nothing is known, and what was done twice is counted as such. Deliberately made from parts
//! alone, so that they can be checked against what agents and servers really did.

use super::part::{PartState, StagePart, Summary};
use crate::ranges::RangeSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the data set holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetLedger {
    /// Objects that there are to be.
    pub planned: u64,
    /// Objects of all ranges that are done.
    pub done: u64,
    /// These ranges, half-open, disjoint and in order; numbers as [`numbered`] gives them.
    pub done_ranges: Vec<(u64, u64)>,
    /// Objects that were created.
    pub created: u64,
    /// Objects that were there already.
    pub existed: u64,
    /// Objects done more than once, because an attempt was lost.
    pub repeated: u64,
}

impl DatasetLedger {
    /// The union of what prepare's parts say is done.
    #[must_use]
    pub fn of<'a>(planned: u64, parts: impl IntoIterator<Item = &'a StagePart>) -> Self {
        let mut ledger = Self { planned, ..Self::default() };
        let mut done = RangeSet::default();
        for part in parts {
            for (from, to) in &part.ranges_done {
                done.insert(*from, *to);
            }
            ledger.created = ledger.created.saturating_add(part.created);
            ledger.existed = ledger.existed.saturating_add(part.existed);
            ledger.repeated = ledger.repeated.saturating_add(part.totals.repeated_operations);
        }
        ledger.done = done.len();
        ledger.done_ranges = done.ranges().to_vec();
        ledger
    }
}

/// Ranges of several key spaces in one row of numbers: object *i* of agent *a*'s own space is number *a* × `len` + *i*,
/// where `len` is the size of one space.
#[must_use]
pub fn numbered(done: &BTreeMap<Option<u32>, RangeSet>, len: u64) -> Vec<(u64, u64)> {
    let mut numbers = RangeSet::default();
    for (space, set) in done {
        let first = u64::from(space.unwrap_or(0)).saturating_mul(len);
        for &(start, end) in set.ranges() {
            numbers.insert(first.saturating_add(start), first.saturating_add(end));
        }
    }
    numbers.ranges().to_vec()
}

/// Which operations of one attempt are accounted for, over all stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationsLedgerRow {
    /// Index of the agent.
    pub agent: u32,
    /// Attempt under it.
    pub attempt: u32,
    /// Operations that it reported, failed ones included; exact unless there is something unaccounted.
    pub operations_reported: u64,
    /// Of these, how many failed.
    pub errors_reported: u64,
    /// Requests behind them, retries included.
    pub requests_reported: u64,
    /// Requests that serve no operation.
    pub other_requests: u64,
    /// Spans in which it may have done more than it reported.
    pub unaccounted: Vec<Unaccounted>,
}

/// A span of which nothing is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unaccounted {
    /// Position of the stage in the plan.
    pub stage: u32,
    /// From here, nanoseconds since the stage's start,
    pub from_ns: u64,
    /// to here.
    pub to_ns: u64,
    /// Why.
    pub reason: String,
}

/// One row per attempt, in order of agent and attempt.
#[must_use]
pub fn operations_ledger<'a>(parts: impl IntoIterator<Item = &'a StagePart>) -> Vec<OperationsLedgerRow> {
    let mut rows: BTreeMap<(u32, u32), OperationsLedgerRow> = BTreeMap::new();
    for part in parts {
        let row = rows.entry((part.agent, part.attempt)).or_default();
        let (count, errors, requests) = match &part.summary {
            Some(Summary { count, error_count, requests, .. }) => (*count, *error_count, *requests),
            None => (part.totals.operations(), part.totals.errors(), part.totals.requests()),
        };
        (row.agent, row.attempt) = (part.agent, part.attempt);
        row.operations_reported = row.operations_reported.saturating_add(count).saturating_add(errors);
        row.errors_reported = row.errors_reported.saturating_add(errors);
        row.requests_reported = row.requests_reported.saturating_add(requests);
        row.other_requests = row.other_requests.saturating_add(part.other_requests);
        if let PartState::Lost { reason, unaccounted_from_ns, unaccounted_to_ns } = &part.state {
            row.unaccounted.push(Unaccounted {
                stage: part.stage,
                from_ns: *unaccounted_from_ns,
                to_ns: *unaccounted_to_ns,
                reason: reason.clone(),
            });
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    for row in &mut rows {
        row.unaccounted.sort_by_key(|span| (span.stage, span.from_ns, span.to_ns));
    }
    rows
}
