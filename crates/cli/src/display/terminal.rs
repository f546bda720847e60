//! Bars that move: one line per stage, and one for what the run waits for, redrawn in place on standard error. Events
//! scroll by above them.
//!
//! What the lines say is [`lines::line`], how they fit the width is [`super::layout`]; the library below only keeps
//! them in place.

use super::lines;
use super::picture::Picture;
use super::story::Doubts;
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lockstep_core::format::table::{cut, fitted, width};

/// Columns in front of a stage's line beside its name: a space, the sign, a space, and two behind the name.
const MARGIN: usize = 5;

/// The bars of a run.
#[derive(Debug)]
pub struct Terminal {
    term: Term,
    lines: MultiProgress,
    stages: Vec<ProgressBar>,
    waits_for: ProgressBar,
    doubts: Doubts,
}

impl Terminal {
    /// A line for what the run waits for; those of its stages come with its first picture.
    pub fn new() -> Self {
        let lines = MultiProgress::new();
        let waits_for = lines.add(bar());
        Self { term: Term::stderr(), lines, stages: Vec::new(), waits_for, doubts: Doubts::default() }
    }

    /// Redraws the lines.
    pub fn refresh(&mut self, picture: &Picture) {
        for text in self.doubts.added(picture) {
            self.announce(&format!("   {text}"));
        }
        while self.stages.len() < picture.stages.len() {
            self.stages.push(self.lines.insert_before(&self.waits_for, bar()));
        }
        let columns = usize::from(self.term.size().1);
        for (index, bar) in self.stages.iter().enumerate() {
            let (mark, text) = stage_line(picture, index, columns);
            bar.set_message(format!(" {} {text}", coloured(mark)));
            bar.tick();
        }
        let reason = picture.waits_for.as_deref().unwrap_or_default();
        self.waits_for.set_message(cut(&format!("   {reason}"), columns));
        self.waits_for.tick();
    }

    /// Shows a line of the story.
    pub fn told(&mut self, line: Option<&str>, picture: &Picture) {
        if let Some(text) = line {
            self.announce(&format!("   {text}"));
        }
        self.refresh(picture);
    }

    /// A line above the bars.
    pub fn announce(&self, text: &str) {
        // A terminal that cannot be written to is no reason to end a run.
        let _ = self.lines.println(text);
    }

    /// Leaves the last picture where it is.
    pub fn end(mut self, last: &Picture) {
        self.refresh(last);
        self.waits_for.finish_and_clear();
        for bar in &self.stages {
            bar.abandon();
        }
    }
}

/// A line that shows its message.
fn bar() -> ProgressBar {
    // A template of constants parses; without one a line still shows its text.
    let style =
        ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

/// The sign of a stage, and its line behind that, so that both and the spaces around the sign take at most `columns`.
fn stage_line(picture: &Picture, index: usize, columns: usize) -> (&'static str, String) {
    let wide = name_width(picture, columns);
    let name = fitted(picture.stages.get(index).map_or("", |stage| stage.name.as_str()), wide);
    let line = lines::line(picture, index).fitted(columns.saturating_sub(MARGIN + wide));
    (lines::mark(picture, index), format!("{name}  {line}"))
}

/// Columns of the names: the longest where that leaves the numbers their place.
fn name_width(picture: &Picture, columns: usize) -> usize {
    let longest = picture.stages.iter().map(|stage| width(&stage.name)).max().unwrap_or(0);
    longest.clamp(9, (columns / 6).clamp(9, 20))
}

fn coloured(mark: &str) -> String {
    match mark {
        "✔" => format!("\u{1b}[32m{mark}\u{1b}[0m"),
        "✖" => format!("\u{1b}[31m{mark}\u{1b}[0m"),
        "▶" => format!("\u{1b}[36m{mark}\u{1b}[0m"),
        _ => mark.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{in_stage, plan, snapshot};
    use super::*;
    use lockstep_coordinator::LiveStage;
    use lockstep_core::run::StageState;
    use lockstep_core::run::agent::Step;

    const S: u64 = 1_000_000_000;

    /// A run in the middle of a stage, in which everything is as long as it gets in practice.
    fn busy(stage: u32) -> Picture {
        let plan = plan();
        let mut now = snapshot(&plan, 22 * S);
        in_stage(&mut now, stage, Step::Working, 1_234_567);
        let view = &mut now.view.stages[stage as usize];
        (view.facts.state, view.facts.planned_start_ns) = (StageState::Working, Some(100 * S));
        (view.done, view.total) = (31_016_384, 64_032_768);
        now.live[stage as usize] = LiveStage {
            operations: 9_000_000,
            bytes: 6_000 << 16,
            operations_per_s: 141_210.0,
            bytes_per_s: 2.5 * f64::from(1 << 30),
            p50_ns: Some(861_000),
            p99_ns: Some(402_000),
            errors: 12,
        };
        Picture::of(&plan, &now)
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_what_an_operator_needs_stands() {
        for stage in [1, 2] {
            let now = busy(stage);
            for columns in 20..=200 {
                for index in 0..now.stages.len() {
                    let (mark, text) = stage_line(&now, index, columns);
                    let line = format!(" {mark} {text}");
                    assert!(width(&line) <= columns, "{columns}: {line}");
                }
            }
            for columns in 60..=200 {
                let (_, text) = stage_line(&now, stage as usize, columns);
                let wanted = match columns {
                    80.. => ["4/4 agents", "141,210 op/s", "p99 402 µs", "12 errors"],
                    _ => ["4/4", "141", "p99 402 µs", "12 err"],
                };
                assert!(text.starts_with(&now.stages[stage as usize].name), "{columns}: {text}");
                assert!(wanted.iter().all(|part| text.contains(part)), "{columns}: {text}");
            }
        }
    }

    #[test]
    fn a_wider_terminal_shows_more_and_never_less() {
        let now = busy(2);
        let shown = |columns| {
            let text = stage_line(&now, 2, columns).1;
            text.split("  ").filter(|part| !part.trim().is_empty() && !part.contains(['█', '░'])).count()
        };
        for columns in 61..=200 {
            assert!(shown(columns) >= shown(columns - 1), "{columns}");
        }
        assert_eq!(
            stage_line(&now, 2, 80).1,
            "mixed      ████░░  0:22/0:30  4/4 agents  141,210 op/s  p99 402 µs  12 errors"
        );
        assert_eq!(
            stage_line(&now, 2, 140).1,
            "mixed      ██████████████░░░░░░  0:22 / 0:30  4/4 agents  141,210 op/s  2.5 GiB/s  p50 861 µs  p99 402 µs  12 errors"
        );
    }
}
