//! Lines: one every 10 s, and at once on every change of a stage and every notable event. For logs and pipes.

use super::lines;
use super::picture::Picture;
use super::story::Doubts;
use crate::output;
use lockstep_core::run::StageState;

/// Longest time between two lines.
const EVERY_NS: u64 = 10_000_000_000;

/// Lines of a run.
#[derive(Debug, Default)]
pub struct Plain {
    states: Vec<StageState>,
    doubts: Doubts,
    last_ns: u64,
}

impl Plain {
    /// Prints what is due.
    pub fn refresh(&mut self, picture: &Picture) {
        for text in self.due(picture) {
            output::note(&text);
        }
        for text in self.doubts.added(picture) {
            output::note(&stamped(picture.elapsed_ns, &text));
        }
    }

    /// Prints a line of the story that was written `at_ns` after the run began, behind the stages as they stood then.
    pub fn told(&mut self, at_ns: u64, line: Option<&str>, picture: &Picture) {
        for text in self.due(picture) {
            output::note(&text);
        }
        if let Some(text) = line {
            output::note(&stamped(at_ns, text));
        }
        self.refresh(picture);
    }

    /// Prints what the last picture adds.
    pub fn end(mut self, last: &Picture) {
        self.refresh(last);
    }

    /// The lines that are due: stages that changed, and the one under way every [`EVERY_NS`].
    pub(super) fn due(&mut self, picture: &Picture) -> Vec<String> {
        let line = |index: usize| {
            let name = picture.stages.get(index).map_or("", |stage| stage.name.as_str());
            let text = lines::line(picture, index).full();
            stamped(picture.elapsed_ns, &format!("{} {name}  {text}", lines::mark(picture, index)))
        };
        let mut due = Vec::new();
        self.states.resize(picture.stages.len(), StageState::Waiting);
        for (index, (stage, known)) in picture.stages.iter().zip(&mut self.states).enumerate() {
            // A countdown says nothing at its first instant that the next line would not.
            if *known != stage.state && stage.state != StageState::Waiting {
                due.push(line(index));
            }
            *known = stage.state;
        }
        let is_due = picture.elapsed_ns.abs_diff(self.last_ns) >= EVERY_NS;
        if due.is_empty() && is_due {
            match (picture.stage, &picture.waits_for) {
                (Some(stage), _) => due.push(line(stage)),
                (None, Some(wait)) => due.push(stamped(picture.elapsed_ns, wait)),
                (None, None) => {}
            }
        }
        if !due.is_empty() {
            self.last_ns = picture.elapsed_ns;
        }
        due
    }
}

/// A line with the time since the run began in front.
fn stamped(run_ns: u64, text: &str) -> String {
    format!("{:>8}  {text}", lockstep_core::format::clock(run_ns))
}
