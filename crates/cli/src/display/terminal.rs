//! Bars that move: one line per stage, redrawn in place on standard error. Events scroll by above them.
//!
//! The lines' text is [`picture::line`]; the library below only keeps them in place, and cuts them to the width.

use super::{Scene, is_worth_a_line, picture, story};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lockstep_coordinator::Snapshot;
use lockstep_core::run::StageState;
use lockstep_core::run::message::Told;

/// The bars of a run.
#[derive(Debug)]
pub struct Terminal {
    scene: Scene,
    lines: MultiProgress,
    stages: Vec<ProgressBar>,
    name_width: usize,
}

impl Terminal {
    /// One line per stage of the plan.
    pub fn new(scene: Scene) -> Self {
        let lines = MultiProgress::new();
        // A template of constants parses; without one a line still shows its text.
        let style =
            ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let stages = scene
            .plan
            .stages
            .iter()
            .map(|_| lines.add(ProgressBar::new_spinner().with_style(style.clone())))
            .collect();
        let widths = scene.plan.stages.iter().map(|stage| stage.name.chars().count());
        let name_width = widths.max().unwrap_or(0).clamp(9, 20);
        Self { scene, lines, stages, name_width }
    }

    /// Redraws the lines.
    pub fn refresh(&self, snapshot: &Snapshot) {
        for (index, (bar, stage)) in self.stages.iter().zip(&self.scene.plan.stages).enumerate() {
            let state = snapshot.view.stages.get(index).map_or(StageState::Waiting, |view| view.facts.state);
            let current = snapshot.view.stage == Some(index as u32);
            let state = if current && state == StageState::Waiting { StageState::Working } else { state };
            let name = crate::format::table::fitted(&stage.name, self.name_width);
            let text = picture::line(&self.scene.plan, snapshot, index, true);
            bar.set_message(format!(" {} {name}  {text}", coloured(picture::mark(state))));
            bar.tick();
        }
    }

    /// Shows what is worth a line of its own.
    pub fn told(&self, told: &Told, snapshot: &Snapshot) {
        if is_worth_a_line(told) {
            self.announce(&format!("   {}", story(told)));
        }
        self.refresh(snapshot);
    }

    /// A line above the bars.
    pub fn announce(&self, text: &str) {
        // A terminal that cannot be written to is no reason to end a run.
        let _ = self.lines.println(text);
    }

    /// Leaves the last picture where it is.
    pub fn end(self, last: &Snapshot) {
        self.refresh(last);
        for bar in &self.stages {
            bar.abandon();
        }
    }
}

fn coloured(mark: &str) -> String {
    match mark {
        "✔" => format!("\u{1b}[32m{mark}\u{1b}[0m"),
        "✖" => format!("\u{1b}[31m{mark}\u{1b}[0m"),
        "▶" => format!("\u{1b}[36m{mark}\u{1b}[0m"),
        _ => mark.to_owned(),
    }
}
