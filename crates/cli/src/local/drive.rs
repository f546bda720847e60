//! The loop of a run on one machine: requests of the coordinator, exits of processes, signals, and time for the display.
//!
//! ```text
//! coordinator ──Spawn, Kill, Told, StageOver, Over──→ drive ──→ processes, display, results
//!      ↑ stop, ended                                    │ ↑ exits, signals, 4 ticks a second
//!      └────────────────────────────────────────────────┘
//! ```

use super::process::{Exit, Processes};
use super::signals::Signals;
use crate::display::picture::Picture;
use crate::display::story::Event;
use crate::display::{Display, REFRESH};
use crate::results::{ResultsDirectory, artefacts};
use lockstep_coordinator::{HostRequest, RunHandle, Snapshot, monotonic_ns};
use lockstep_core::format::count;
use lockstep_core::plan::{Plan, StageKind};
use lockstep_core::run::agent::LossReason;
use lockstep_core::run::message::Stop;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// How long agents may take to end by themselves after the run is over.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the loop tells the coordinator. A trait, so that the loop is tested without a network.
pub trait RunControl {
    /// Asks the run to stop; may only harden.
    fn stop(&self, stop: Stop);
    /// The process of an attempt has ended.
    fn ended(&self, index: u32, attempt: u32, reason: LossReason, clean: bool);
}

impl RunControl for RunHandle {
    fn stop(&self, stop: Stop) {
        Self::stop(self, stop);
    }

    fn ended(&self, index: u32, attempt: u32, reason: LossReason, clean: bool) {
        Self::ended(self, index, attempt, reason, clean);
    }
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The run is over.
    Over,
    /// The user asked a third time: everything was killed.
    Forsaken,
    /// The coordinator's task is gone.
    Broken,
}

/// Everything that the loop works with.
#[derive(Debug)]
pub struct Drive<'a, C> {
    /// The run.
    pub control: &'a C,
    /// What is run.
    pub plan: Arc<Plan>,
    /// Its agents.
    pub processes: &'a mut Processes,
    /// What is shown.
    pub display: &'a mut Display,
    /// Where results go.
    pub results: ResultsDirectory,
    /// Wall time of the start.
    pub started: String,
    /// The run as it stands.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl<C: RunControl> Drive<'_, C> {
    /// Runs until the run is over, and no process is left.
    pub async fn run(
        mut self,
        mut requests: mpsc::UnboundedReceiver<HostRequest>,
        signals: &mut Signals,
    ) -> Ended {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = 0u32;
        let mut writing: Option<JoinHandle<()>> = None;
        let ended = loop {
            tokio::select! {
                request = requests.recv() => match request {
                    None => break Ended::Broken,
                    Some(HostRequest::Over) => break Ended::Over,
                    Some(HostRequest::StageOver { stage: _ }) => writing = Some(self.keep(writing.take())),
                    Some(request) => self.serve(request),
                },
                exit = self.processes.next_exit() => self.exited(exit),
                _ = ticks.tick() => {
                    let picture = Picture::of(&self.plan, &self.now());
                    self.display.refresh(&picture);
                }
                () = signals.next() => {
                    asked += 1;
                    if asked > 2 {
                        self.display.announce("killing every agent; what was handed in is kept");
                        break Ended::Forsaken;
                    }
                    self.stop(asked);
                }
            }
        };
        // An agent that was told to finish ends by itself; nothing may outlive the run, though.
        if ended == Ended::Over && tokio::time::timeout(FAREWELL, self.processes.all_ended()).await.is_ok() {
            tracing::debug!("every agent ended by itself");
        }
        self.processes.kill_all().await;
        if let Some(writing) = writing {
            // What it had to say, it said.
            let _ = writing.await;
        }
        ended
    }

    /// The last snapshot, at this instant: clocks go on where the coordinator is busy for a moment.
    fn now(&self) -> Snapshot {
        let mut snapshot = Snapshot::clone(&self.snapshots.borrow());
        if !snapshot.view.over {
            snapshot.at_ns = snapshot.at_ns.max(monotonic_ns());
        }
        snapshot
    }

    fn serve(&mut self, request: HostRequest) {
        match request {
            HostRequest::Spawn { index, attempt } => {
                if let Err(error) = self.processes.spawn((index, attempt)) {
                    tracing::error!(index, attempt, %error, "an agent could not be started");
                    let reason = LossReason::Ended(format!("could not be started: {error}"));
                    self.control.ended(index, attempt, reason, false);
                }
            }
            HostRequest::Kill { index, attempt } => self.processes.kill((index, attempt)),
            HostRequest::Told(told) => {
                let snapshot = self.now();
                let event = Event::of(&told, &self.plan, &snapshot);
                self.display.told(&event, &Picture::of(&self.plan, &snapshot));
            }
            // Both are taken in the loop.
            HostRequest::StageOver { .. } | HostRequest::Over | HostRequest::Replaced => {}
        }
    }

    fn exited(&mut self, exit: Exit) {
        let (index, attempt) = exit.seat;
        if !exit.clean && !exit.killed {
            let log = self.results.agent_log(index, attempt);
            self.display.announce(&format!("agent {index}: {}; its log is {}", exit.reason, log.display()));
        }
        self.control.ended(index, attempt, exit.reason, exit.clean);
    }

    fn stop(&mut self, asked: u32) {
        let snapshot = self.now();
        if asked == 1 {
            let then = match cleans_up(&self.plan, &snapshot) {
                true => "then cleanup runs; again to skip it",
                false => "nothing is cleaned up; again to be less patient",
            };
            self.display.announce(&format!("stopping: I/O ends within a second, results are kept, {then}"));
            self.control.stop(Stop::Graceful);
        } else {
            self.display.announce(&left(&self.plan, &snapshot));
            self.control.stop(Stop::Immediate);
        }
    }

    /// Writes the report so far, after the one before it.
    fn keep(&self, before: Option<JoinHandle<()>>) -> JoinHandle<()> {
        let (plan, results, started) = (Arc::clone(&self.plan), self.results.clone(), self.started.clone());
        let view = self.now().view;
        tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let write = move || artefacts::stage_over(&results, &plan, view, &started);
            match tokio::task::spawn_blocking(write).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("results.json could not be written: {error:#}"),
                Err(error) => tracing::error!(%error, "results.json was not written"),
            }
        })
    }
}

/// Whether a cleanup follows a stop.
fn cleans_up(plan: &Plan, snapshot: &Snapshot) -> bool {
    use lockstep_core::plan::RunOn;
    use lockstep_core::run::StageState;
    plan.stages.iter().zip(&snapshot.view.stages).any(|(stage, view)| {
        matches!(stage.kind, StageKind::Cleanup { .. })
            && stage.run_on == RunOn::Always
            && matches!(view.facts.state, StageState::Waiting | StageState::Starting | StageState::Working)
    })
}

/// What stays when cleanup is skipped: what a cleanup under way has not removed yet, or what prepare has written.
fn left(plan: &Plan, snapshot: &Snapshot) -> String {
    let stages = || plan.stages.iter().zip(&snapshot.view.stages);
    let rest = stages()
        .filter(|(stage, view)| matches!(stage.kind, StageKind::Cleanup { .. }) && view.total > 0)
        .map(|(_, view)| view.total.saturating_sub(view.done))
        .next_back();
    let written = || {
        stages()
            .filter(|(stage, _)| matches!(stage.kind, StageKind::Prepare { .. }))
            .map(|(_, view)| view.done)
            .sum()
    };
    let what = match rest.unwrap_or_else(written) {
        0 => "what stages have put, if anything, stays".to_owned(),
        stays if rest.is_some() => format!("about {} objects stay", count(stays)),
        stays => format!("{} objects of prepare, and what stages have put, stay", count(stays)),
    };
    format!(
        "skipping cleanup: {what} under {}; another run with `existing: FillGaps` goes on from there, one that ends \
         with a cleanup stage removes it",
        plan.target.uri
    )
}
