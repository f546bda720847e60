//! A run under way in the coordinator of this process: what its decider wishes, and what it was told.

use crate::plan::Decider;
use crate::pods::facts::Seat;
use crate::status::WallClock;
use jiff::Timestamp;
use lockstep_coordinator::{HostRequest, Requests, RunEnd, RunHandle, Snapshot};
use lockstep_core::plan::Plan;
use lockstep_core::run::agent::LossReason;
use lockstep_core::run::message::{Stop, Told};
use std::sync::Arc;
use tokio::sync::watch;

/// A run under way.
pub struct Live {
    /// Its plan.
    pub plan: Arc<Plan>,
    /// How far it is.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Wall time of the coordinator's clock.
    pub clock: WallClock,
    handle: RunHandle,
    requests: Requests,
    decider: Decider,
}

/// What the decider had to say, beyond what it wishes.
#[derive(Debug)]
pub enum News {
    /// A line of the run's story.
    Told(Told),
    /// The run is over.
    Over,
    /// Another coordinator has the run.
    Replaced,
}

impl Live {
    /// A run that has just begun here, or was taken over, with a pod for each of `seats`. That these shall live is the first
    /// that the decider says, but it says so in its own time.
    #[must_use]
    pub fn new(seats: impl Iterator<Item = Seat>, (handle, requests): (RunHandle, Requests)) -> Self {
        let mut decider = Decider::begun();
        seats.for_each(|(index, attempt)| decider.note(&HostRequest::Spawn { index, attempt }));
        Self {
            plan: Arc::clone(handle.plan()),
            snapshots: handle.snapshots(),
            clock: WallClock { wall: Timestamp::now(), at_ns: handle.clock().now_ns() },
            handle,
            requests,
            decider,
        }
    }

    /// Waits until the decider has something to say, and takes all of it in.
    pub async fn next(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        let first = self.requests.recv().await;
        self.take(first.unwrap_or(HostRequest::Over), &mut news);
        while let Ok(request) = self.requests.try_recv() {
            self.take(request, &mut news);
        }
        news
    }

    fn take(&mut self, request: HostRequest, news: &mut Vec<News>) {
        self.decider.note(&request);
        match request {
            HostRequest::Spawn { .. } | HostRequest::Kill { .. } | HostRequest::StageOver { .. } => {}
            HostRequest::Told(told) => news.push(News::Told(told)),
            HostRequest::Over => news.push(News::Over),
            HostRequest::Replaced => news.push(News::Replaced),
        }
    }

    /// As the planner sees it.
    #[must_use]
    pub fn decider(&self) -> Decider {
        self.decider.clone()
    }

    /// Agents of which a hello was heard.
    #[must_use]
    pub fn has_said_hello(&self, (index, attempt): Seat) -> bool {
        use lockstep_core::run::agent::Position;
        let snapshot = self.snapshots.borrow();
        let agent = snapshot.view.agents.get(index as usize);
        agent.is_some_and(|agent| {
            agent.attempt > attempt
                || (agent.attempt == attempt && agent.state.position() != Some(Position::Expected))
        })
    }

    /// Whether an attempt, or a later one of its index, has come up: whatever kept it from that is over.
    #[must_use]
    pub fn is_up(&self, (index, attempt): Seat) -> bool {
        use lockstep_core::run::agent::Position;
        let snapshot = self.snapshots.borrow();
        let agent = snapshot.view.agents.get(index as usize);
        agent.is_some_and(|agent| {
            let at = agent.state.position();
            let up = at.is_some_and(|at| !matches!(at, Position::Expected | Position::Aborting));
            agent.attempt > attempt || (agent.attempt == attempt && up)
        })
    }

    /// Asks the decider to stop.
    pub fn stop(&mut self, stop: Stop) {
        self.decider.note_stopped(stop);
        self.handle.stop(stop);
    }

    /// Tells the decider that an attempt has ended.
    pub fn ended(&mut self, seat: Seat, loss: LossReason, clean: bool) {
        self.decider.note_told(seat);
        self.handle.ended(seat.0, seat.1, loss, clean);
    }

    /// Attempts that had said hello before this coordinator: a pod of theirs is not made a second time.
    pub fn seats_seen(&self) -> Vec<Seat> {
        let snapshot = self.snapshots.borrow();
        let seen =
            snapshot.view.agents.iter().filter(|agent| self.has_said_hello((agent.index, agent.attempt)));
        seen.map(|agent| (agent.index, agent.attempt)).collect()
    }

    /// Everything that a report needs; `None` when another coordinator has the run.
    ///
    /// # Errors
    /// When the run's task broke.
    pub async fn end(self) -> Result<Option<RunEnd>, tokio::task::JoinError> {
        self.handle.end().await
    }
}
