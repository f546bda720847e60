//! The engine: does what a plan says to a target, and measures it.
//!
//! Theory of operation. The session (control) talks to one *director* thread through channels and never waits for it.
//! The director stages a *job* (one stage, or a chain of execute stages that flow into each other), for which
//! the *crew* starts workers; they wait at the *gate* for the common start, each does its work into a *seat* of its
//! own (recorder, counters), and the director looks into the seats: every 50 ms for progress, every second for the
//! interval. Work with an end comes as leases through *queues*. A *keeper* thread looks after the place of the data
//! set: lock, marker, sync. So nothing that blocks in the kernel ever blocks the director, and nothing that the
//! director does blocks the session.
//!
//! Deliberately decides nothing that concerns other agents: barriers, leases and losses are `core::run`'s.

mod block_on;
mod crew;
mod director;
mod execute;
mod gate;
pub mod hands;
pub mod interface;
mod job;
mod keeper;
mod kept;
mod leased;
mod parts;
mod queue;
mod stage;
mod trouble;
mod worker;

use crate::target::backend::Backend;
use crate::target::file_place::FileBackend;
use crate::target::mem::MemBackend;
use crate::target::null::NullBackend;
use crate::target::s3::S3Backend;
use director::{Director, Message};
use hands::Fence;
use interface::{Command, EngineEvent, Progress};
use lockstep_core::plan::{PLAN_FORMAT, Plan, Scheme, Sharing};
use lockstep_core::problem::{Problem, exit};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use tokio::sync::mpsc::UnboundedSender;

/// Starts engines.
#[derive(Debug)]
pub struct Engine;

/// What an engine needs to know besides its plan.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Index of the agent, from 0.
    pub index: u32,
    /// Attempt under that index, from 1.
    pub attempt: u32,
    /// Whether it keeps the lock and the marker of a shared data set.
    pub keeper: bool,
    /// Cores that it may use; local agents of one machine split its cores. Empty is all of them.
    pub cores: Vec<usize>,
    /// How it presents itself to object stores.
    pub user_agent: String,
}

/// A running engine. Dropping it stops all I/O and ends its threads.
#[derive(Debug)]
pub struct EngineHandle {
    commands: Sender<Message>,
    /// What the agent is doing right now.
    pub progress: Arc<Progress>,
    /// Until when it may issue I/O.
    pub fence: Arc<Fence>,
}

impl EngineHandle {
    /// Gives a command; never blocks. After [`EngineEvent::Finished`] commands are dropped.
    pub fn send(&self, command: Command) {
        // An engine that has finished has nothing to do with commands.
        let _ = self.commands.send(Message::Command(command));
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        let _ = self.commands.send(Message::HandleDropped);
    }
}

impl Engine {
    /// Starts an engine on threads of its own; touches nothing of the target yet.
    ///
    /// # Errors
    /// A plan of another format, a target whose options or credentials cannot be read, a thread that cannot be made.
    pub fn start(
        plan: Arc<Plan>,
        identity: Identity,
        events: UnboundedSender<EngineEvent>,
    ) -> Result<EngineHandle, Problem> {
        if plan.format != PLAN_FORMAT {
            return Err(Problem::new(
                "the agent cannot read its plan",
                format!("the plan has format {}, this agent knows {PLAN_FORMAT}", plan.format),
            )
            .likely("the agent's image and the operator's are of different versions")
            .exit(exit::REFUSED));
        }
        match plan.target.scheme {
            Scheme::File => {
                let backend = FileBackend::new(&plan);
                start_with(backend, plan, identity, events)
            }
            Scheme::Mem => start_with(MemBackend::new(&plan.target)?, plan, identity, events),
            Scheme::Null => start_with(NullBackend::new(&plan.target)?, plan, identity, events),
            Scheme::S3 => {
                let backend = S3Backend::new(&plan, identity.index, &identity.user_agent)?;
                let settings = backend.settings();
                launch(backend, settings, plan, identity, events)
            }
        }
    }
}

/// Starts an engine over any backend.
///
/// # Errors
/// A thread that cannot be made.
pub fn start_with<B: Backend>(
    backend: B,
    plan: Arc<Plan>,
    identity: Identity,
    events: UnboundedSender<EngineEvent>,
) -> Result<EngineHandle, Problem> {
    launch(backend, BTreeMap::new(), plan, identity, events)
}

fn launch<B: Backend>(
    backend: B,
    settings: BTreeMap<String, String>,
    plan: Arc<Plan>,
    identity: Identity,
    events: UnboundedSender<EngineEvent>,
) -> Result<EngineHandle, Problem> {
    let backend = Arc::new(backend);
    let (commands, messages) = channel();
    let (requests, inbox) = channel();
    let sent = Arc::default();
    let failed = |error: std::io::Error| Problem::new("the agent cannot start its engine", error.to_string());
    let home = (plan.sharing == Sharing::PerAgent).then_some(identity.index);
    let (to_director, counted) = (commands.clone(), Arc::clone(&sent));
    keeper::start(Arc::clone(&backend), Arc::clone(&plan), home, inbox, to_director, counted)
        .map_err(failed)?;
    let crew = crew::crew(backend, identity.cores.clone());
    let (progress, fence) = (Arc::new(Progress::default()), Arc::new(Fence::default()));
    let director = Director::new(director::Parts {
        plan,
        identity,
        settings,
        crew,
        requests,
        messages: commands.clone(),
        events,
        progress: Arc::clone(&progress),
        sent,
        fence: Arc::clone(&fence),
    });
    std::thread::Builder::new()
        .name("director".into())
        .spawn(move || director.run(&messages))
        .map_err(failed)?;
    Ok(EngineHandle { commands, progress, fence })
}
