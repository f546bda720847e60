//! How results lie in ConfigMaps: lines of JSON, packed (gzip). Pure.
//!
//! A line is one agent's part of one stage without its series, or some rows of the stage's series, merged over agents: what
//! single agents did in single seconds is never shown, and would be most of the bytes. A part of a lost attempt keeps its
//! series, since the attempt may come back and hand in what counts instead: a later line of the same (stage, agent,
//! attempt) takes the place of an earlier one.

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use lockstep_core::results::part::{PartState, StagePart};
use lockstep_core::results::series::Series;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};

/// Stage, agent, attempt.
pub(super) type Seat = (u32, u32, u32);

/// Rows of a series in one line: an hour, some 100 KiB.
const ROWS_PER_LINE: usize = 3_600;
/// What one object may unpack to, bytes: a hundred times its size.
const UNPACKED_BYTES_MAX: u64 = 100 << 20;
/// Results are packed once and read hardly ever; what matters is how long agents wait for it.
const LEVEL: Compression = Compression::fast();

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Part(Box<StagePart>),
    Rows { stage: u32, series: Series },
}

/// One result, as it will be written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seat: Seat,
    /// Of an attempt that was given up.
    pub(super) lost: bool,
    pub(super) line: Vec<u8>,
    /// To be merged into the stage's.
    pub(super) series: Series,
}

/// Takes a part apart.
pub(super) fn entry(part: &StagePart) -> serde_json::Result<Entry> {
    let lost = matches!(part.state, PartState::Lost { .. });
    let mut part = part.clone();
    let mut series = Series::new();
    if !lost {
        std::mem::swap(&mut series, &mut part.series);
        series.drop_response();
    }
    let seat = (part.stage, part.agent, part.attempt);
    Ok(Entry { seat, lost, line: serde_json::to_vec(&Line::Part(Box::new(part)))?, series })
}

/// The lines of merged series.
pub(super) fn rows(series: &BTreeMap<u32, Series>) -> serde_json::Result<Vec<Vec<u8>>> {
    let pieces = series.iter().flat_map(|(stage, series)| {
        series.pieces(ROWS_PER_LINE).into_iter().map(|series| Line::Rows { stage: *stage, series })
    });
    pieces.map(|line| serde_json::to_vec(&line)).collect()
}

/// Lines in as few binaries of at most `bytes_max` as there need be.
///
/// # Errors
/// The number and the packed size of a line that fits in none.
pub(super) fn pack(lines: &[&[u8]], bytes_max: usize) -> Result<Vec<Vec<u8>>, (usize, usize)> {
    let mut packed = Vec::new();
    let mut from = 0;
    while from < lines.len() {
        let (until, binary) = fill(&lines[from..], bytes_max).map_err(|size| (from, size))?;
        packed.push(binary);
        from += until;
    }
    Ok(packed)
}

/// As many lines as fit, at least one.
fn fill(lines: &[&[u8]], bytes_max: usize) -> Result<(usize, Vec<u8>), usize> {
    // What a packer still holds back is known only at its end; so it ends early, and goes back when that was too late.
    let mut goal = bytes_max - bytes_max / 16;
    loop {
        let mut packer = GzEncoder::new(Vec::new(), LEVEL);
        let mut taken = 0;
        for line in lines {
            put(&mut packer, line);
            taken += 1;
            if packer.get_ref().len() >= goal {
                break;
            }
        }
        let binary = packer.finish().unwrap_or_default();
        if binary.len() <= bytes_max {
            return Ok((taken, binary));
        }
        if taken == 1 {
            return Err(binary.len());
        }
        goal /= 2;
    }
}

/// Writing to memory does not fail.
fn put(packer: &mut GzEncoder<Vec<u8>>, line: &[u8]) {
    let _ = packer.write_all(line);
    let _ = packer.write_all(b"\n");
}

/// The lines of what [`pack`] made; an error when it is not.
pub(super) fn lines(packed: &[u8]) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    BufReader::new(GzDecoder::new(packed).take(UNPACKED_BYTES_MAX)).split(b'\n')
}

/// What was read back, in the order in which it was written.
#[derive(Debug, Default)]
pub(super) struct Found {
    parts: BTreeMap<Seat, StagePart>,
    series: BTreeMap<u32, Series>,
}

impl Found {
    /// Takes a line in.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn add(&mut self, line: &[u8]) -> serde_json::Result<()> {
        match serde_json::from_slice(line)? {
            Line::Part(part) => _ = self.parts.insert((part.stage, part.agent, part.attempt), *part),
            Line::Rows { stage, series } => self.series.entry(stage).or_default().merge(&series),
        }
        Ok(())
    }

    /// Whether each result is one of a lost attempt.
    pub(super) fn seats(&self) -> BTreeMap<Seat, bool> {
        let lost = |part: &StagePart| matches!(part.state, PartState::Lost { .. });
        self.parts.iter().map(|(seat, part)| (*seat, lost(part))).collect()
    }

    /// The parts. The merged series of a stage is in the first of it that nothing will take the place of.
    pub(super) fn into_parts(mut self) -> Vec<StagePart> {
        for part in self.parts.values_mut() {
            if !matches!(part.state, PartState::Lost { .. })
                && let Some(series) = self.series.remove(&part.stage)
            {
                part.series.merge(&series);
            }
        }
        self.parts.into_values().collect()
    }
}
