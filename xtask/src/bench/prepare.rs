//! Row `prepare`: a deep tree of many directories with one small file in each leaf.

use super::lockstep::{Lockstep, manifest, turn};
use super::machine::cores;
use super::place::{Names, Place};
use super::table::{Pair, Row, ratio_of};
use super::{Options, floor, say};
use anyhow::{Result, ensure};

const FILES: usize = 331_776;
/// Share of the floor that creating shall reach.
const GOAL: f64 = 0.6;

/// Measures it.
pub fn measure(options: &Options, lockstep: &Lockstep) -> Result<Row> {
    say("prepare: 331,776 files of 512 B in 24^4 directories");
    let threads = cores();
    let place = Place::new()?;
    let (base, floor_base) = (place.join("data"), place.join("floor"));
    let manifest = manifest(
        &format!("file://{}", base.display()),
        "{tree: {width: 24, depth: 4, filesPerDirectory: 1}, size: {fixed: 512}, existing: Overwrite}",
        &[format!("{{name: prepare, prepare: {{concurrency: {threads}}}}}")],
    );
    let mut pairs = Vec::new();
    for _ in 0..options.pairs().min(3) {
        let lockstep = turn(&lockstep.run(&manifest, 1)?, "prepare")?;
        ensure!(lockstep.operations == FILES as u64, "{} files instead of {FILES}", lockstep.operations);
        // The floor makes what Lockstep made, so it takes the names from there.
        let names = Names::below(&base)?;
        std::fs::remove_dir_all(&base)?;
        let floor = floor::create(&floor_base, &names, threads)?;
        std::fs::remove_dir_all(&floor_base)?;
        pairs.push(Pair { floor, lockstep });
    }
    Ok(Row { goal: format!("{GOAL:.2}"), met: ratio_of(&pairs) >= GOAL, ..Row::of_pairs("prepare", &pairs) })
}
