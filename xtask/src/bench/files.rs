//! Rows `read-flat`, `read-flat-2` and `read-tree`: small files out of the page cache.

use super::lockstep::{Lockstep, manifest, turn};
use super::machine::cores;
use super::place::{Names, Place};
use super::table::{Pair, Row, ratio_of};
use super::{Options, floor, say};
use anyhow::{Result, ensure};

const FLAT: (&str, usize) = ("objects: 10000", 10_000);
const TREE: (&str, usize) = ("tree: {width: 24, depth: 4, filesPerDirectory: 1}", 331_776);
/// Share of the floor that reading shall reach.
const GOAL: f64 = 0.7;
/// Share of the flat ratio that the tree shall reach.
const TREE_GOAL: f64 = 0.9;

/// Measures the rows that are wanted. The tree is judged by the flat ratio, so it brings that row along.
pub fn measure(options: &Options, lockstep: &Lockstep, rows: &mut Vec<Row>) -> Result<()> {
    let mut flat = None;
    if options.wants("read-flat") || options.wants("read-tree") {
        let pairs = pairs(options, lockstep, "read-flat", FLAT, 1)?;
        flat = Some(ratio_of(&pairs));
        rows.push(row("read-flat", &pairs, GOAL));
    }
    if options.wants("read-flat-2") {
        let pairs = pairs(options, lockstep, "read-flat-2", FLAT, 2)?;
        rows.push(row("read-flat-2", &pairs, GOAL));
    }
    if let Some(flat) = flat.filter(|_| options.wants("read-tree")) {
        let pairs = pairs(options, lockstep, "read-tree", TREE, 1)?;
        rows.push(row("read-tree", &pairs, TREE_GOAL * flat));
    }
    Ok(())
}

fn row(name: &'static str, pairs: &[Pair], goal: f64) -> Row {
    Row { goal: format!("{goal:.2}"), met: ratio_of(pairs) >= goal, ..Row::of_pairs(name, pairs) }
}

fn pairs(
    options: &Options,
    lockstep: &Lockstep,
    name: &str,
    (shape, files): (&str, usize),
    agents: u32,
) -> Result<Vec<Pair>> {
    say(&format!("{name}: {files} files of 4 KiB, {agents} agents"));
    let (threads, seconds) = (cores(), options.seconds());
    let place = Place::new()?;
    let base = place.join("data");
    let uri = format!("file://{}", base.display());
    let dataset = |existing: &str| format!("{{{shape}, size: {{fixed: 4Ki}}, existing: {existing}}}");
    let prepare = ["{name: prepare, prepare: {concurrency: 4}}".to_owned()];
    lockstep.run(&manifest(&uri, &dataset("FillGaps"), &prepare), 1)?;
    let names = Names::below(&base)?;
    ensure!(names.len() == files, "{} files instead of {files}", names.len());
    // As many threads in all as the floor has.
    let workers = threads.div_ceil(agents);
    let read = format!(
        "{{name: read, execute: {{duration: {seconds}s, concurrency: {workers}, operations: [{{op: Get}}]}}}}"
    );
    let manifest = manifest(&uri, &dataset("Reuse"), &[read]);
    let mut pairs = Vec::new();
    for _ in 0..options.pairs() {
        let floor = floor::read(&base, &names, workers * agents, seconds)?;
        pairs.push(Pair { floor, lockstep: turn(&lockstep.run(&manifest, agents)?, "read")? });
    }
    Ok(pairs)
}
