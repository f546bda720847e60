//! How results lie in ConfigMaps: lines of JSON, packed (gzip, of one or more members). Pure.
//!
//! A line is what is shown of one attempt in one stage by itself ([`StagePart::light`]), or what was measured, merged over
//! attempts: totals, endpoints, rows of the series. What single agents measured is never shown but in a few numbers, and
//! would be nearly all of the bytes. A lost attempt keeps its own, since it may come back and hand in what counts instead: a
//! later line of the same (stage, agent, attempt) takes the place of an earlier one.

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lockstep_core::results::Totals;
use lockstep_core::results::part::{EndpointRow, PartState, StagePart};
use lockstep_core::results::series::Series;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;

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
    Counts { stage: u32, totals: Box<Totals>, endpoints: Vec<EndpointRow> },
    Rows { stage: u32, series: Series },
}

/// One result, as it will be written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seat: Seat,
    pub(super) line: Vec<u8>,
    /// What is to be merged; nothing of an attempt that was given up.
    pub(super) measured: Option<Arc<StagePart>>,
}

impl Entry {
    /// Takes a part apart.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(super) fn of(part: Arc<StagePart>) -> serde_json::Result<Self> {
        let seat = (part.stage, part.agent, part.attempt);
        let lost = is_lost(&part);
        let line = Line::Part(Box::new(if lost { StagePart::clone(&part) } else { part.light() }));
        Ok(Self { seat, line: serde_json::to_vec(&line)?, measured: (!lost).then_some(part) })
    }

    /// Of an attempt that was given up.
    pub(super) fn is_lost(&self) -> bool {
        self.measured.is_none()
    }
}

fn is_lost(part: &StagePart) -> bool {
    matches!(part.state, PartState::Lost { .. })
}

/// What was measured in one stage, merged over attempts.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    totals: Totals,
    series: Series,
    endpoints: BTreeMap<String, EndpointRow>,
}

impl Measured {
    /// Adds what one attempt has measured.
    pub(super) fn add(&mut self, part: &StagePart) {
        self.merge(&part.totals, &part.endpoints);
        self.series.merge(&part.series);
    }

    fn merge(&mut self, totals: &Totals, endpoints: &[EndpointRow]) {
        self.totals.merge(totals);
        for row in endpoints {
            let EndpointRow { uri, .. } = row;
            let new = || EndpointRow { uri: uri.clone(), ..EndpointRow::default() };
            self.endpoints.entry(uri.clone()).or_insert_with(new).merge(row);
        }
    }

    /// Its lines.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(super) fn lines(&self, stage: u32) -> serde_json::Result<Vec<Vec<u8>>> {
        let Self { totals, series, endpoints } = self;
        let (totals, endpoints) = (Box::new(totals.clone()), endpoints.values().cloned().collect());
        let mut lines = vec![serde_json::to_vec(&Line::Counts { stage, totals, endpoints })?];
        for series in series.pieces(ROWS_PER_LINE) {
            lines.push(serde_json::to_vec(&Line::Rows { stage, series })?);
        }
        Ok(lines)
    }
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

/// What was packed, in as few binaries of at most `bytes_max` as there need be; none of it is larger.
pub(super) fn joined(packed: &[&[u8]], bytes_max: usize) -> Vec<Vec<u8>> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    for one in packed.iter().filter(|one| !one.is_empty()) {
        match joined.last_mut() {
            Some(last) if last.len() + one.len() <= bytes_max => last.extend_from_slice(one),
            _ => joined.push(one.to_vec()),
        }
    }
    joined
}

/// Writing to memory does not fail.
fn put(packer: &mut GzEncoder<Vec<u8>>, line: &[u8]) {
    let _ = packer.write_all(line);
    let _ = packer.write_all(b"\n");
}

/// The lines of what [`pack`] and [`joined`] made; an error when it is not.
pub(super) fn lines(packed: &[u8]) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    BufReader::new(MultiGzDecoder::new(packed).take(UNPACKED_BYTES_MAX)).split(b'\n')
}

/// What was read back, in the order in which it was written.
#[derive(Debug, Default)]
pub(super) struct Found {
    parts: BTreeMap<Seat, StagePart>,
    stages: BTreeMap<u32, Measured>,
}

impl Found {
    /// Takes a line in.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn add(&mut self, line: &[u8]) -> serde_json::Result<()> {
        match serde_json::from_slice(line)? {
            Line::Part(part) => _ = self.parts.insert((part.stage, part.agent, part.attempt), *part),
            Line::Counts { stage, totals, endpoints } => {
                self.stages.entry(stage).or_default().merge(&totals, &endpoints);
            }
            Line::Rows { stage, series } => self.stages.entry(stage).or_default().series.merge(&series),
        }
        Ok(())
    }

    /// The results, and whether each is one of a lost attempt.
    pub(super) fn seats(&self) -> BTreeMap<Seat, bool> {
        self.parts.iter().map(|(seat, part)| (*seat, is_lost(part))).collect()
    }

    /// The parts. What was merged of a stage is in the first of it that nothing will take the place of.
    pub(super) fn into_parts(mut self) -> Vec<StagePart> {
        for part in self.parts.values_mut().filter(|part| !is_lost(part)) {
            if let Some(Measured { totals, series, endpoints }) = self.stages.remove(&part.stage) {
                (part.totals, part.series) = (totals, series);
                part.endpoints = endpoints.into_values().collect();
            }
        }
        self.parts.into_values().collect()
    }
}
