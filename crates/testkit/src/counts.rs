//! What a report counts, held against what the storage server counted: the two are made by different code from different
//! sides of the wire.

use crate::s3::TestS3;
use lockstep_core::op::Op;
use lockstep_core::results::Report;

/// The verb by which [`TestS3`] knows an operation.
#[must_use]
pub const fn verb(op: Op) -> &'static str {
    match op {
        Op::Get => "GET",
        Op::Put => "PUT",
        Op::Head => "HEAD",
        Op::List => "LIST",
        Op::Delete => "DELETE",
    }
}

/// Operations of a kind that a report counts in all of its stages, failed ones included.
#[must_use]
pub fn operations(report: &Report, op: Op) -> u64 {
    let rows = report.stages.iter().flat_map(|stage| &stage.operations).filter(|row| row.op == Some(op));
    rows.map(|row| row.count + row.error_count).sum()
}

/// Panics unless a report counts as many operations of each of these kinds as the server has seen requests, and any at all.
/// Not for objects in several parts, which take several requests.
#[track_caller]
pub fn assert_served(report: &Report, server: &TestS3, ops: &[Op]) {
    for op in ops {
        let (told, served) = (operations(report, *op), server.data(verb(*op)) as u64);
        assert_eq!(told, served, "{}: the report, and the server's requests", op.name());
        assert!(told > 0, "{} was never tried", op.name());
    }
}
