//! Lines: one every 10 s, and at once on every change of a stage and every notable event. For logs and pipes.

use super::story::{self, Doubts};
use super::{Scene, picture, waiting};
use crate::output;
use lockstep_coordinator::Snapshot;
use lockstep_core::run::StageState;
use lockstep_core::run::message::Told;

/// Longest time between two lines.
const EVERY_NS: u64 = 10_000_000_000;

/// Lines of a run.
#[derive(Debug)]
pub struct Plain {
    scene: Scene,
    states: Vec<StageState>,
    doubts: Doubts,
    last_ns: u64,
}

impl Plain {
    /// Nothing was said yet.
    pub fn new(scene: Scene) -> Self {
        let states = vec![StageState::Waiting; scene.plan.stages.len()];
        Self { scene, states, doubts: Doubts::default(), last_ns: 0 }
    }

    /// Prints what is due.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        for text in self.due(snapshot) {
            output::note(&text);
        }
        for text in self.doubts.added(snapshot) {
            output::note(&stamped(snapshot.at_ns.saturating_sub(snapshot.began_ns), &text));
        }
    }

    /// Prints what is worth a line of its own.
    pub fn told(&mut self, told: &Told, snapshot: &Snapshot) {
        for text in self.due(snapshot) {
            output::note(&text);
        }
        if story::is_worth_a_line(told) {
            let text = story::line(told, &self.scene.plan, snapshot);
            output::note(&stamped(told.at_ns.saturating_sub(snapshot.began_ns), &text));
        }
        self.refresh(snapshot);
    }

    /// Prints what the last picture adds.
    pub fn end(mut self, last: &Snapshot) {
        self.refresh(last);
    }

    /// The lines that are due: stages that changed, and the one under way every [`EVERY_NS`].
    pub(super) fn due(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let plan = &self.scene.plan;
        let run_ns = snapshot.at_ns.saturating_sub(snapshot.began_ns);
        let line = |index: usize| {
            let name = plan.stages.get(index).map_or("", |stage| stage.name.as_str());
            let text = picture::line(plan, snapshot, index).full();
            stamped(run_ns, &format!("{} {name}  {text}", picture::mark(plan, snapshot, index)))
        };
        let mut lines = Vec::new();
        for (index, view) in snapshot.view.stages.iter().enumerate() {
            let Some(known) = self.states.get_mut(index) else { continue };
            let changed = *known != view.facts.state;
            *known = view.facts.state;
            // A countdown says nothing at its first instant that the next line would not.
            if changed && view.facts.state != StageState::Waiting {
                lines.push(line(index));
            }
        }
        let wait = waiting::reason(snapshot);
        let is_due = snapshot.at_ns.saturating_sub(self.last_ns.max(snapshot.began_ns)) >= EVERY_NS;
        if lines.is_empty() && is_due {
            match (snapshot.view.stage, &wait) {
                (Some(stage), _) => lines.push(line(stage as usize)),
                (None, Some(wait)) => lines.push(stamped(run_ns, wait)),
                (None, None) => {}
            }
        }
        if !lines.is_empty() {
            self.last_ns = snapshot.at_ns;
        }
        lines
    }
}

/// A line with the time since the run began in front.
fn stamped(run_ns: u64, text: &str) -> String {
    format!("{:>8}  {text}", crate::format::clock(run_ns))
}
