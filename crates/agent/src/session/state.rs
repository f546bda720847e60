//! What the session decides: which commands the engine gets, what is said to the coordinator, when the agent leaves.
//!
//! ```text
//! Idle ─plan→ Planned ─stage→ Active ─(engine idle)→ Submitting ─(receipts)→ at the barrier ─stage→ Active …
//!                              │  ↑ armed ─commit→ begun                  └ after Abort: Stopped, ready for cleanup
//!                              └ LeftBehind, Superseded: abort, submit, leave
//! ```
//!
//! Pure: time is an argument, effects are returned. It deliberately knows no sockets and no threads.

use crate::engine::interface::{Command, EngineEvent};
use lockstep_core::plan::Plan;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::results::part::{NetworkHealth, Pause, StagePart};
use lockstep_core::results::recorder::Interval;
use lockstep_core::run::message::{Directive, Says};
use std::sync::Arc;

/// What the shell around the session has to do.
#[derive(Debug)]
pub enum Effect {
    /// Start the engine for this plan; its failure is told with [`Session::on_engine_refused`].
    StartEngine(Arc<Plan>),
    /// Tell the engine.
    Tell(Command),
    /// Say to the coordinator, once and in order.
    Say(Says),
    /// Send a finished second.
    Report(Box<Interval>),
    /// Hand in results; [`Session::on_submitted`] when all are acknowledged.
    Submit(Vec<StagePart>),
    /// End the process with success.
    Leave,
}

/// The session's state.
#[derive(Debug, Default)]
pub struct Session {
    plan: Option<Arc<Plan>>,
    armed: Option<Armed>,
    /// The engine has a stage in hand.
    active: bool,
    /// Results are being handed in.
    submitting: bool,
    /// Last stage of the chain in hand.
    last: u32,
    aborting: bool,
    leaving: bool,
    parts: Vec<StagePart>,
    degraded: Vec<String>,
    pauses: Vec<Pause>,
}

/// A start that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Armed {
    stage: u32,
    round: u32,
    at_ns: u64,
    spin: bool,
}

impl Session {
    /// The plan, once it has come.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    /// Whether the engine has a stage in hand.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Takes the plan in.
    #[must_use]
    pub fn on_plan(&mut self, json: &[u8]) -> Vec<Effect> {
        if self.plan.is_some() {
            return Vec::new();
        }
        match serde_json::from_slice::<Plan>(json) {
            Ok(plan) => {
                let plan = Arc::new(plan);
                self.plan = Some(plan.clone());
                vec![Effect::StartEngine(plan)]
            }
            Err(error) => {
                let problem = Problem::new("the agent cannot read its plan", error.to_string())
                    .likely("agent and coordinator are of versions too far apart")
                    .next("use binaries of one release")
                    .exit(exit::REFUSED);
                vec![Effect::Say(Says::Fault { stage: 0, problem, fatal: true })]
            }
        }
    }

    /// The engine runs.
    #[must_use]
    pub fn on_engine_started(&mut self) -> Vec<Effect> {
        vec![Effect::Say(Says::Accepted)]
    }

    /// The engine could not be started.
    #[must_use]
    pub fn on_engine_refused(&mut self, problem: Problem) -> Vec<Effect> {
        vec![Effect::Say(Says::Fault { stage: 0, problem, fatal: true })]
    }

    /// Takes a directive in at `now_ns`, agent's monotonic clock.
    #[must_use]
    pub fn on_directive(&mut self, directive: Directive, now_ns: u64) -> Vec<Effect> {
        match directive {
            Directive::Plan => Vec::new(),
            Directive::Release { stage } => {
                self.take_up(stage);
                vec![Effect::Tell(Command::Begin { stage, at_ns: now_ns, spin: false })]
            }
            Directive::Keep { space } => vec![Effect::Tell(Command::Keep { space })],
            Directive::Mark(mark) => vec![Effect::Tell(Command::Mark(mark))],
            Directive::Stage { stage } => {
                self.take_up(stage);
                vec![Effect::Tell(Command::Stage { stage })]
            }
            Directive::Arm { stage, round, at_ns, spin } => {
                // One that is over already is not acknowledged: the coordinator arms again.
                if at_ns <= now_ns || self.aborting || self.leaving {
                    return Vec::new();
                }
                self.armed = Some(Armed { stage, round, at_ns, spin });
                vec![Effect::Say(Says::Armed { stage, round })]
            }
            Directive::Commit { stage, round } => match self.armed {
                Some(armed) if (armed.stage, armed.round) == (stage, round) && now_ns < armed.at_ns => {
                    self.armed = None;
                    vec![Effect::Tell(Command::Begin { stage, at_ns: armed.at_ns, spin: armed.spin })]
                }
                _ => Vec::new(),
            },
            Directive::Join { stage, at_ns } => {
                self.take_up(stage);
                vec![Effect::Tell(Command::Begin { stage, at_ns, spin: false })]
            }
            Directive::Lease(lease) => vec![Effect::Tell(Command::Lease(lease))],
            Directive::Drain { stage } => vec![Effect::Tell(Command::Drain { stage })],
            Directive::Resplit { agents, position } => {
                vec![Effect::Tell(Command::Resplit { agents, position })]
            }
            Directive::Abort { reason } => {
                self.aborting = true;
                self.stop(reason)
            }
            Directive::LeftBehind { .. } => {
                self.leaving = true;
                self.stop("the barrier went on without this agent".to_owned())
            }
            Directive::Superseded => {
                self.leaving = true;
                self.stop("another attempt has this agent's index".to_owned())
            }
            Directive::Finish => {
                self.leaving = true;
                self.leave()
            }
            Directive::Refused { .. } => Vec::new(),
        }
    }

    fn take_up(&mut self, stage: u32) {
        self.active = true;
        self.aborting = false;
        self.armed = None;
        self.last = stage;
        let Some(plan) = &self.plan else { return };
        while plan.stages.get(self.last as usize).is_some_and(|stage| stage.kind.is_discard())
            && (self.last as usize + 1) < plan.stages.len()
        {
            self.last += 1;
        }
    }

    fn stop(&mut self, reason: String) -> Vec<Effect> {
        self.armed = None;
        if self.active {
            vec![Effect::Tell(Command::Abort { reason })]
        } else if self.submitting {
            Vec::new()
        } else {
            self.stopped()
        }
    }

    fn stopped(&mut self) -> Vec<Effect> {
        if self.leaving {
            let mut effects = vec![Effect::Say(Says::Stopped)];
            effects.extend(self.leave());
            return effects;
        }
        vec![Effect::Say(Says::Stopped)]
    }

    fn leave(&mut self) -> Vec<Effect> {
        // Without a plan there is no engine that could finish.
        if self.plan.is_none() { vec![Effect::Leave] } else { vec![Effect::Tell(Command::Finish)] }
    }

    /// Takes in what the engine says.
    #[must_use]
    pub fn on_engine(&mut self, event: EngineEvent, network: &NetworkHealth) -> Vec<Effect> {
        match event {
            EngineEvent::Staged { stage } => vec![Effect::Say(Says::Staged { stage })],
            EngineEvent::Released { stage, released_ns } => {
                vec![Effect::Say(Says::Started { stage, released_ns })]
            }
            EngineEvent::LeaseDone(done) => vec![Effect::Say(Says::LeaseDone(done))],
            EngineEvent::Interval { interval, .. } => vec![Effect::Report(Box::new(interval))],
            EngineEvent::Fault { stage, problem, fatal } => {
                vec![Effect::Say(Says::Fault { stage, problem, fatal })]
            }
            EngineEvent::StageEnded { mut part, .. } => {
                part.network = network.clone();
                for pause in &self.pauses {
                    let since_start =
                        |at_ns: u64| at_ns.saturating_sub(part.planned_start_ns).min(part.window_ns);
                    let (from_ns, to_ns) = (since_start(pause.from_ns), since_start(pause.to_ns));
                    // Stages of a chain share the pauses of the process; each shows what lay in its own window.
                    if from_ns < to_ns {
                        part.add_pause(Pause { from_ns, to_ns, what: pause.what.clone() });
                    }
                }
                self.parts.push(*part);
                Vec::new()
            }
            EngineEvent::Place { space, fresh, puts_below } => {
                vec![Effect::Say(Says::Place { space, fresh, puts_below })]
            }
            EngineEvent::Marked(mark) => vec![Effect::Say(Says::Marked(mark))],
            // Also said when an abort found nothing to stop.
            EngineEvent::Idle if !self.active => Vec::new(),
            EngineEvent::Idle => {
                self.active = false;
                self.submitting = true;
                self.pauses.clear();
                let parts = std::mem::take(&mut self.parts);
                let mut effects = Vec::new();
                if !self.aborting && !self.leaving {
                    effects.push(Effect::Say(Says::Draining { stage: self.last }));
                }
                if parts.is_empty() {
                    effects.extend(self.on_submitted());
                } else {
                    effects.push(Effect::Submit(parts));
                }
                effects
            }
            EngineEvent::Finished => vec![Effect::Leave],
        }
    }

    /// Every result that was handed in is acknowledged.
    #[must_use]
    pub fn on_submitted(&mut self) -> Vec<Effect> {
        self.submitting = false;
        if self.leaving || self.aborting {
            return self.stopped();
        }
        let degraded = std::mem::take(&mut self.degraded);
        vec![Effect::Say(Says::Arrived { stage: self.last, degraded })]
    }

    /// This process did not run from `from_ns` to `to_ns`, agent's monotonic clock.
    pub fn on_pause(&mut self, from_ns: u64, to_ns: u64) {
        const PAUSES_MAX: usize = 64;
        if self.pauses.len() < PAUSES_MAX {
            let what = "the process was stopped".to_owned();
            self.degraded.push(format!("was stopped for {:.1} s", (to_ns - from_ns) as f64 / 1e9));
            self.pauses.push(Pause { from_ns, to_ns, what });
        }
    }

    /// When [`Self::on_tick`] has something to do, if it will.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        self.armed.as_ref().map(|armed| armed.at_ns)
    }

    /// Time passed.
    #[must_use]
    pub fn on_tick(&mut self, now_ns: u64) -> Vec<Effect> {
        match self.armed {
            Some(armed) if now_ns >= armed.at_ns => {
                self.armed = None;
                vec![Effect::Say(Says::MissedStart { stage: armed.stage })]
            }
            _ => Vec::new(),
        }
    }
}
