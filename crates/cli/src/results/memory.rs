//! Whether a buffered stage may have measured the page cache: the kernel serves a data set that fits into memory from
//! there, at the speed of memory.
//!
//! The note goes into the environment of the stage, where `results.json`, the table and a comparison find it. It is no
//! degradation: the run did what was asked for.

use lockstep_core::dataset::ByteEstimate;
use lockstep_core::format;
use lockstep_core::op::Op;
use lockstep_core::plan::{PageCache, Plan, Scheme};
use lockstep_core::results::Report;
use lockstep_core::results::stage::EnvironmentRow;

/// Name of the row.
pub const KEY: &str = "pageCacheNote";

/// Adds the note to every stage of the report that reads buffered files of a data set smaller than memory.
pub fn annotate(report: &mut Report, plan: &Plan, data: &ByteEstimate, memory_bytes: u64) {
    let target = &plan.target;
    let buffered = target.scheme == Scheme::File && target.page_cache == PageCache::Keep;
    if !buffered || data.mean_bytes >= u128::from(memory_bytes) {
        return;
    }
    let value = format!(
        "page cache, not storage: the data set of {} is smaller than memory ({})",
        format::bytes(data.mean_bytes),
        format::bytes(memory_bytes)
    );
    for stage in &mut report.stages {
        let reads = stage.operations.iter().any(|row| row.op == Some(Op::Get) && row.count > 0);
        if stage.kind == "execute" && reads && note_of(&stage.environment).is_none() {
            let agents = stage.agents.len() as u32;
            stage.environment.push(EnvironmentRow { key: KEY.to_owned(), value: value.clone(), agents });
        }
    }
}

/// The note of a stage, if it has one.
#[must_use]
pub fn note_of(environment: &[EnvironmentRow]) -> Option<&str> {
    environment.iter().find(|row| row.key == KEY).map(|row| row.value.as_str())
}

/// Memory of this machine, bytes.
#[must_use]
pub fn total_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}
