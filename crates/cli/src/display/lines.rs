//! One picture as stages: the sign and the parts of each stage's line.

use super::layout::{Line, Part};
use super::picture::{Picture, StagePicture};
use lockstep_coordinator::progress::Progress;
use lockstep_core::format::{
    bytes, bytes_per_s, clock, count, decimal_milli, latency, long_span, short_count, span,
};
use lockstep_core::run::StageState;

/// The sign in front of a stage.
#[must_use]
pub fn mark(picture: &Picture, index: usize) -> &'static str {
    let Some(stage) = picture.stages.get(index) else { return " " };
    match stage.state {
        StageState::Waiting if picture.stage == Some(index) => "▶",
        StageState::Working if stage.has_flowed_on => "✔",
        StageState::Done => "✔",
        StageState::Failed => "✖",
        StageState::Starting | StageState::Working => "▶",
        StageState::Skipped => "-",
        StageState::Waiting => " ",
    }
}

/// The line of a stage, without its sign and name.
#[must_use]
pub fn line(picture: &Picture, index: usize) -> Line {
    let Some(stage) = picture.stages.get(index) else { return Line::of("") };
    match stage.state {
        // Preflight has no start of its own: it begins with the first hello.
        StageState::Waiting if picture.stage == Some(index) => working(picture, stage),
        StageState::Waiting => Line::of("waiting"),
        StageState::Skipped => Line::of("skipped"),
        StageState::Starting => starting(picture, stage),
        StageState::Working if stage.starts_in_ns.is_some() => starting(picture, stage),
        // What it came to is not known before its results are handed in.
        StageState::Working if stage.has_flowed_on => {
            Line::of("over; its results come with those of the stage behind it")
        }
        StageState::Working => working(picture, stage),
        StageState::Done | StageState::Failed => over(picture, stage),
    }
}

fn starting(picture: &Picture, stage: &StagePicture) -> Line {
    match stage.starts_in_ns {
        Some(left_ns) => Line::of(format!("starts together in {}", span(left_ns))),
        None => Line { waits_for: picture.waits_for.clone(), ..Line::of("getting ready") },
    }
}

/// What the line of a stage under way gives up as it gets narrower, in this order; the last are those that an operator
/// needs: how far, on how many agents, how fast, how slow at worst, with how many errors.
mod step {
    pub(super) const WORDS: u8 = 1;
    pub(super) const MEDIAN: u8 = 2;
    pub(super) const THROUGHPUT: u8 = 3;
    pub(super) const BAR: u8 = 4;
    pub(super) const FORECAST: u8 = 5;
    pub(super) const SHARE: u8 = 6;
    pub(super) const NOUNS: u8 = 7;
    pub(super) const DIGITS: u8 = 8;
}

/// A stage under way: how far, by how many agents, how fast, until when.
fn working(picture: &Picture, stage: &StagePicture) -> Line {
    let mut parts = Vec::new();
    let StagePicture { progress, live, .. } = stage;
    match progress.unit {
        "agents" => parts.push(
            Part::new(format!("{}/{} agents ready", progress.done, progress.total))
                .shorter(step::NOUNS, format!("{}/{} ready", progress.done, progress.total)),
        ),
        unit => {
            parts.push(how_far(progress, unit));
            let share = format!("{}/{}", picture.agents.there(), picture.agents.desired);
            parts.push(Part::new(format!("{share} agents")).shorter(step::NOUNS, share));
        }
    }
    if live.operations > 0 || live.errors > 0 {
        let rate = live.operations_per_s.max(0.0) as u64;
        parts.push(
            Part::new(format!("{} op/s", count(rate)))
                .shorter(step::DIGITS, format!("{}/s", short_count(rate))),
        );
        parts.push(Part::new(bytes_per_s(live.bytes_per_s.max(0.0) as u64)).gone(step::THROUGHPUT));
        if let (Some(p50_ns), Some(p99_ns)) = (live.p50_ns, live.p99_ns) {
            parts.push(Part::new(format!("p50 {}", latency(p50_ns))).gone(step::MEDIAN));
            parts.push(Part::new(format!("p99 {}", latency(p99_ns))));
        }
        parts.push(
            Part::new(errors(live.errors))
                .shorter(step::NOUNS, format!("{} err", count(live.errors)))
                .shorter(step::DIGITS, format!("{} err", short_count(live.errors))),
        );
    }
    if let (Some(remaining_ns), true) = (progress.remaining_ns, progress.unit != "milliseconds") {
        let left = format!("{} left", long_span(remaining_ns.div_ceil(1_000_000_000)));
        parts.push(Part::new(left).gone(step::FORECAST));
    }
    Line {
        bar: Some((progress.per_mille(), step::BAR)),
        parts,
        between: "  ",
        waits_for: picture.waits_for.clone(),
    }
}

/// `0:22 / 0:30`, or `6,000 of 20,000 objects`.
fn how_far(progress: &Progress, unit: &str) -> Part {
    if unit == "milliseconds" {
        let total_ns = progress.total * 1_000_000;
        let (at, total) = (clock(progress.elapsed_ns.min(total_ns)), clock(total_ns));
        return Part::new(format!("{at} / {total}")).shorter(step::WORDS, format!("{at}/{total}"));
    }
    let (done, total) = (count(progress.done), count(progress.total));
    Part::new(format!("{done} of {total} {unit}"))
        .shorter(step::WORDS, format!("{done}/{total}"))
        .shorter(step::SHARE, format!("{} %", progress.per_mille() / 10))
}

/// A stage that is over: what it came to.
fn over(picture: &Picture, stage: &StagePicture) -> Line {
    let mut parts = Vec::new();
    let StagePicture { progress, live, .. } = stage;
    let took = Part::new(span(progress.elapsed_ns));
    if stage.kind == "preflight" {
        // As it was then, whoever is lost now.
        parts.push(Part::new(format!("{}/{} agents", stage.agents, picture.agents.desired)));
        if let Some(error_ns) = picture.clock_error_ns {
            parts.push(Part::new(format!("clock error ≤ {}", latency(error_ns))));
        }
        parts.push(took);
        return Line { bar: None, parts, between: " · ", waits_for: None };
    }
    let measures = stage.kind == "execute";
    let (worked, noun, unit) = match measures {
        true => (live.operations, "operations", "op/s"),
        false => (stage.changed + stage.unchanged, "objects", "objects/s"),
    };
    parts.push(Part::new(format!("{} {noun}", count(worked))));
    if !measures && stage.unchanged > 0 {
        let gone = if stage.kind == "cleanup" { "gone" } else { "there" };
        let unchanged = count(stage.unchanged);
        let already = Part::new(format!("{unchanged} were {gone} already"));
        parts.push(already.shorter(5, format!("{unchanged} {gone} already")).gone(6));
    }
    if live.bytes > 0 {
        parts.push(Part::new(bytes(live.bytes)).gone(3));
    }
    parts.push(took);
    if let Some(milli_rate) = per_second_milli(worked, progress.elapsed_ns) {
        parts.push(Part::new(format!("{} {unit}", decimal_milli(milli_rate))).gone(2));
    }
    if let (true, Some(milli_rate)) = (live.bytes > 0, per_second_milli(live.bytes, progress.elapsed_ns)) {
        parts.push(Part::new(bytes_per_s(milli_rate / 1_000)).gone(1));
    }
    parts.push(Part::new(errors(live.errors)));
    if stage.returned > 0 {
        let again = format!("{} given back and done again", count(stage.returned));
        parts.push(Part::new(again).shorter(4, format!("{} done again", count(stage.returned))));
    }
    Line { bar: None, parts, between: " · ", waits_for: None }
}

fn per_second_milli(amount: u64, elapsed_ns: u64) -> Option<u64> {
    let milli = (u128::from(amount) * 1_000_000_000_000).checked_div(u128::from(elapsed_ns))?;
    Some(u64::try_from(milli).unwrap_or(u64::MAX))
}

fn errors(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "error" } else { "errors" })
}
