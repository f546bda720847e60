//! One run, from its first sight to its last: observe → validate → plan → apply → publish, again and again.
//!
//! A round looks at what the stores hold now and does what is due; whatever happens only wakes it. A write that fails ends
//! the round, is said, and is tried again: not-ready is data, and an answer that was lost shows in the next round.

mod mounts;
mod pods;
mod say;

use super::apply;
use super::context::Context;
use super::fenced::StoreError;
use super::live::{Live, News};
use super::publish::Publisher;
use super::rest::{self, Rest};
use super::store::{Left, RunStore};
use crate::plan::{
    Action, CaMap, Conclusion, Decider, Memory, Observed, OtherRun, Rejected, RunFacts, Step, Trial, plan,
};
use crate::pods::build::RunIdentity;
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::remembered::Remembered;
use crate::pods::trouble::Trouble;
use crate::status::Published;
use crate::trust::rotation::Trusted;
use crate::validate::{Validated, validate};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;
use lockstep_api::BenchmarkRun;
use lockstep_api::reasons::Reason;
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_coordinator::report::{WallTimes, build};
use lockstep_core::problem::Problem;
use lockstep_core::results::Report;
use lockstep_core::run::message::Told;
use lockstep_core::run::view::RunView;
use lockstep_core::thresholds::Outcome;
use mounts::MountEvents;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often a run under way is looked at though nothing woke us: its progress has to be written.
const LIVELY: Duration = Duration::from_secs(1);
/// The same while agents of a run that was taken over are awaited.
const AWAITING: Duration = Duration::from_millis(250);
/// The same for any other run.
const QUIET: Duration = Duration::from_secs(30);
/// Pause after a round, per agent: a round looks at all pods of the run, and what a thousand agents have to say would else begin
/// one after the other. And the most agents that it grows with.
const REST_PER_AGENT: Duration = Duration::from_micros(200);
const AGENTS_RESTED_FOR: u32 = 1_000;
/// Wait after a round that failed.
const FAILED: Duration = Duration::from_secs(2);
/// How long our own write may take to come back through the watch.
const ECHO: Duration = Duration::from_millis(50);
/// How often we wait for that before we go on with what the store holds.
const ECHOES_MAX: u32 = 40;

/// The desk of one run.
pub struct Desk {
    context: Arc<Context>,
    wake: Arc<Notify>,
    /// Where it is found.
    key: ObjectRef<BenchmarkRun>,
    uid: String,
    memory: Memory,
    rejected: BTreeMap<Seat, Rejected>,
    /// What the API server said to a dry run.
    trial: Trial,
    /// Pods that we made and that the watch has not shown yet.
    made: BTreeMap<Seat, PodFacts>,
    /// Uids of pods that we have asked to go, and when.
    asked: BTreeMap<String, Instant>,
    mounts: MountEvents,
    /// resourceVersion of our last write, until the watch shows it.
    echo: Option<(String, u32)>,
    ca: CaMap,
    remembered: Remembered,
    /// Whom the agents of the run are told to trust, once that is written.
    trusted: Option<Arc<Trusted>>,
    /// Of the run that begins here or was taken over.
    store: Option<Arc<RunStore>>,
    /// Whether this desk has looked what an earlier leader left; once is enough.
    looked: bool,
    live: Option<Live>,
    /// Of a run that was taken over: whether the status has yet to say that all its agents are heard again.
    awaits: bool,
    over: Option<Over>,
    concluded: Option<Conclusion>,
    publisher: Publisher,
    status: Option<BenchmarkRunStatus>,
    tales: Vec<Told>,
}

/// A run that is over.
struct Over {
    plan: Arc<lockstep_core::plan::Plan>,
    view: RunView,
    report: Report,
    results: Published,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("the API server did not take a write")]
    Api(#[from] kube::Error),
    #[error("the coordinator did not take the run")]
    Begin(#[from] serde_json::Error),
    #[error("what is kept of the run cannot be read or written")]
    Store(#[from] StoreError),
    #[error("the run cannot be taken over")]
    Resume(#[from] lockstep_coordinator::ResumeError),
}

impl Desk {
    /// A desk for a run that was seen.
    #[must_use]
    pub fn new(context: Arc<Context>, run: &BenchmarkRun, wake: Arc<Notify>) -> Self {
        Self {
            context,
            wake,
            key: ObjectRef::from_obj(run),
            uid: run.uid().unwrap_or_default(),
            memory: Memory::default(),
            rejected: BTreeMap::new(),
            trial: Trial::default(),
            made: BTreeMap::new(),
            asked: BTreeMap::new(),
            mounts: MountEvents::default(),
            echo: None,
            ca: CaMap::default(),
            remembered: Remembered::default(),
            trusted: None,
            store: None,
            looked: false,
            live: None,
            awaits: false,
            over: None,
            concluded: None,
            publisher: Publisher::default(),
            status: run.status.clone(),
            tales: Vec::new(),
        }
    }

    /// Works until the run is gone, or nothing is left to do for it.
    pub async fn serve(mut self) {
        while let Some(run) = self.run() {
            if self.rests(&run) {
                return;
            }
            let began = Instant::now();
            let done = self.round(&run).await;
            self.context.vitals.round(began.elapsed(), done.is_err());
            let again = match done {
                Ok(again) => again,
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, source, "the round is tried again");
                    FAILED
                }
            };
            // What awaits its own write looks at nothing, and a run that is taken over takes several of them.
            if self.echo.is_none() {
                tokio::time::sleep(REST_PER_AGENT * run.spec.agents.replicas.min(AGENTS_RESTED_FOR)).await;
            }
            self.wait(again).await;
        }
        self.context.forget_gone(&self.uid);
        tracing::info!("the run is gone");
    }

    /// Whether nothing is left to do, and nothing is on its way.
    fn rests(&self, run: &BenchmarkRun) -> bool {
        let idle = self.live.is_none() && self.echo.is_none() && self.tales.is_empty();
        let pods = |run| self.made.is_empty() && self.context.pods_of(&run).is_empty();
        idle && rest::at(run, Timestamp::now()) != Rest::Works && RunIdentity::of(run).is_some_and(pods)
    }

    /// The run, while it is the one that this desk was opened for.
    fn run(&self) -> Option<Arc<BenchmarkRun>> {
        let run = self.context.runs.get(&self.key)?;
        (run.metadata.uid.as_ref() == Some(&self.uid)).then_some(run)
    }

    async fn wait(&mut self, again: Duration) {
        let news = async {
            match &mut self.live {
                Some(live) => live.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.wake.notified() => {}
            () = tokio::time::sleep(again) => {}
            news = news => for news in news {
                match news {
                    News::Told(told) => self.tales.push(told),
                    News::Over => self.collect().await,
                    News::Replaced => (self.live, self.store, self.looked) = (None, None, false),
                }
            },
        }
    }

    /// One round; answers when to look again though nothing wakes us.
    async fn round(&mut self, run: &BenchmarkRun) -> Result<Duration, RoundError> {
        if self.awaits_echo(run) {
            return Ok(ECHO);
        }
        let checked = validate(run, &self.context.installation);
        let (facts, validated) = match checked {
            Ok(None) => return Ok(QUIET),
            Ok(Some(validated)) => (validated.facts.clone(), Some(validated)),
            Err(conclusion) => {
                let Ok(Some(facts)) = RunFacts::of(run) else { return Ok(QUIET) };
                if facts.finished.is_none() {
                    self.concluded.get_or_insert(*conclusion);
                }
                (facts, None)
            }
        };
        if !facts.is_ours(&self.context.installation) {
            return Ok(QUIET);
        }
        let pods = self.pods(&facts.identity);
        let mut troubles = self.troubles(&facts.identity, &pods).await;
        let gone = self.gone(&facts.identity, &mut troubles);
        self.rejected.retain(|seat, _| !pods.contains_key(seat));
        if self.is_left(&facts) {
            self.take_over_or_say_why(run, &facts).await;
            if self.echo.is_some() {
                return Ok(ECHO);
            }
        }
        let decider = self.decider(&facts);
        // Only a run that wants to begin looks at the others, and looking at them looks at all of their pods.
        let wants_to_begin =
            matches!(decider, Decider::Absent | Decider::Over) && facts.finished.is_none() && !facts.suspend;
        let others = if wants_to_begin { self.others(run) } else { Vec::new() };
        let now = Timestamp::now();
        let mut planned = plan(&Observed {
            now,
            run: &facts,
            pods: &pods,
            troubles: &troubles,
            rejected: &self.rejected,
            trial: &self.trial,
            gone: &gone,
            ca: &self.ca,
            decider: &decider,
            others: &others,
            installation: &self.context.installation,
            memory: &self.memory,
        });
        // Nothing more is begun for a run that was over before it began; what it leaves, its end looks after.
        if self.concluded.is_some() && facts.finished.is_none() && facts.controller.is_some() {
            planned.steps.clear();
        }
        self.context.note_short(&self.uid, planned.short);
        self.memory = planned.memory.clone();
        let mut done = Ok(());
        let tries = planned.steps.iter().any(|step| step.action == Action::TryPod);
        let mut steps = std::mem::take(&mut planned.steps).into_iter().peekable();
        while let Some(step) = steps.next() {
            done = match step.action {
                Action::CreatePod(_) => {
                    let more = std::iter::from_fn(|| {
                        steps.next_if(|step| matches!(step.action, Action::CreatePod(_)))
                    });
                    let creations: Vec<Step> = std::iter::once(step).chain(more).collect();
                    self.create_pods(&facts.identity, validated.as_ref(), creations).await
                }
                _ => self.carry_out(run, &facts, validated.as_ref(), step).await,
            };
            if done.is_err() || self.echo.is_some() {
                break;
            }
        }
        if tries && done.is_ok() {
            // What it came to is planned for before anything is said.
            return Ok(Duration::ZERO);
        }
        // What is known is said, also when a step failed; but not over what a step has just written.
        let again_ms = match self.echo {
            None => self.publish(run, &facts, validated.as_ref(), &pods, &troubles, &planned).await?,
            Some(_) => None,
        };
        done?;
        let mut again = if self.echo.is_some() {
            ECHO
        } else if self.awaits && self.live.is_some() {
            AWAITING
        } else if self.live.is_some() || self.over.is_some() || !pods.is_empty() {
            LIVELY
        } else {
            QUIET
        };
        if let Some(at_ms) = again_ms {
            again = again.min(Duration::from_millis(at_ms.saturating_sub(self.context.now_ms())));
        }
        if let Some(at) = planned.again_at {
            again =
                again.min(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO));
        }
        Ok(again.max(Duration::from_millis(10)))
    }

    /// Whether our own last write is not in the store yet: what it holds is older than what we know.
    fn awaits_echo(&mut self, run: &BenchmarkRun) -> bool {
        let Some((version, waited)) = &mut self.echo else { return false };
        *waited += 1;
        if run.resource_version().as_ref() == Some(version) || *waited > ECHOES_MAX {
            self.echo = None;
        }
        self.echo.is_some()
    }

    /// Pods that went after their agent had ended; what was wrong with them is added to `troubles`, and remembered.
    fn gone(
        &mut self,
        run: &RunIdentity,
        troubles: &mut BTreeMap<Seat, Trouble>,
    ) -> BTreeMap<Seat, PodFacts> {
        let mut gone = BTreeMap::new();
        for (seat, (facts, trouble)) in self.context.gone_of(run) {
            troubles.extend(trouble.map(|trouble| (seat, trouble)));
            gone.insert(seat, facts);
        }
        let live = self.live.as_ref();
        self.remembered.note(troubles, |seat| live.is_some_and(|live| live.is_up(seat)));
        gone
    }

    fn decider(&self, facts: &RunFacts) -> Decider {
        match &self.live {
            _ if self.over.is_some() => Decider::Over,
            Some(live) => live.decider(),
            None if self.is_left(facts) => Decider::TakingOver,
            None => Decider::Absent,
        }
    }

    /// Whether an earlier leader may have left something of the run: attempts are named before anything is.
    fn is_left(&self, facts: &RunFacts) -> bool {
        let claimed = facts.controller.is_some() && facts.finished.is_none() && !facts.names.is_empty();
        claimed && !self.looked && self.live.is_none() && self.over.is_none() && self.concluded.is_none()
    }

    /// Takes the run over. What cannot be read now is tried again; what never can be ends the run.
    async fn take_over_or_say_why(&mut self, run: &BenchmarkRun, facts: &RunFacts) {
        let problem = match self.take_over(run, facts).await {
            Ok(()) => return,
            Err(RoundError::Store(StoreError::Refused(problem))) => *problem,
            Err(RoundError::Resume(error)) => {
                let what = format!("run {} cannot be taken over by another operator", facts.identity.name);
                let cause = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
                Problem::new(what, cause)
                    .likely("the operator was updated, or its ConfigMap was changed by hand")
                    .next("apply the run again, under another name or after deleting this one")
                    .kept("results of stages that were over stay in the ConfigMaps of the run")
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, "taking the run over is tried again");
                return;
            }
        };
        let reason = Reason::CoordinatorChanged;
        self.concluded = Some(Conclusion { outcome: Outcome::Failed, reason, problem });
    }

    /// Takes the run from whoever led before, and goes on with it if it had begun.
    async fn take_over(&mut self, run: &BenchmarkRun, facts: &RunFacts) -> Result<(), RoundError> {
        let context = Arc::clone(&self.context);
        let epoch = run.status.as_ref().map_or(0, |status| status.epoch);
        if epoch < context.epoch() {
            // From here on no status of an earlier leader lands.
            self.await_echo(&apply::claim(&context, run).await?);
            return Ok(());
        }
        let Left { record, parts } = self.take_store(&facts.identity).await?;
        let (Some(record), Some(store)) = (record, self.store.clone()) else { return Ok(()) };
        let taken = context.coordinator.resume(&record, parts, context.epoch().unsigned_abs(), store)?;
        if taken.0.plan().run.attempt != facts.run_attempt {
            // Of an attempt that was suspended.
            return Ok(());
        }
        let live = Live::new(facts.names.iter(), taken);
        self.memory.made.extend(live.seats_seen().into_iter().map(|seat| (seat, true)));
        (self.live, self.awaits) = (Some(live), true);
        tracing::info!(epoch = context.epoch(), "taken over");
        Ok(())
    }

    /// Takes what is kept of the run, and looks meanwhile whom its agents trust: one thing less to be done before its status
    /// can tell of it.
    async fn take_store(&mut self, run: &RunIdentity) -> Result<Left, RoundError> {
        let context = Arc::clone(&self.context);
        let taking = async {
            let took = RunStore::take(&context.client, run, context.epoch(), context.may_write()).await;
            took.map_err(RoundError::from)
        };
        let ((store, left), ()) = tokio::try_join!(taking, self.read_trusted(run))?;
        (self.store, self.looked) = (Some(store), true);
        Ok(left)
    }

    fn others(&self, run: &BenchmarkRun) -> Vec<OtherRun> {
        let other = |other: &Arc<BenchmarkRun>| {
            let facts = RunFacts::of(other).ok().flatten()?;
            let another = other.metadata.uid != run.metadata.uid && facts.is_ours(&self.context.installation);
            if !another {
                return None;
            }
            let short = self.context.is_short(&facts.identity.uid);
            OtherRun::of(&facts, &self.context.pods_of(&facts.identity), short)
        };
        self.context.runs.state().iter().filter(|run| rest::is_in_the_way(run)).filter_map(other).collect()
    }

    async fn carry_out(
        &mut self,
        run: &BenchmarkRun,
        facts: &RunFacts,
        validated: Option<&Validated>,
        Step { action, why }: Step,
    ) -> Result<(), RoundError> {
        tracing::info!(?action, %why, "step");
        let context = Arc::clone(&self.context);
        let identity = &facts.identity;
        match action {
            Action::Claim => self.await_echo(&apply::claim(&context, run).await?),
            Action::NextAttempt { attempt } => {
                (self.live, self.over, self.store) = (None, None, None);
                self.trial = Trial::Untried;
                self.remembered = Remembered::default();
                context.forget_gone(&self.uid);
                RunStore::delete(&context.client, identity, context.epoch()).await?;
                self.await_echo(&apply::next_attempt(&context, run, attempt).await?);
            }
            Action::TryPod => self.try_pod(identity, validated).await,
            Action::AddFinalizer => self.await_echo(&apply::finalizer(&context, run, true).await?),
            Action::RemoveFinalizer => {
                self.store = None;
                RunStore::delete(&context.client, identity, context.epoch()).await?;
                self.await_echo(&apply::finalizer(&context, run, false).await?);
            }
            Action::Name(names) => self.await_echo(&apply::name(&context, run, &names).await?),
            Action::WriteCa => {
                self.write_trusted(identity).await?;
                self.wake.notify_one();
            }
            Action::RemoveCa => {
                apply::remove_ca(&context, identity).await?;
                (self.ca, self.trusted) = (CaMap::default(), None);
            }
            // Together: see `create_pods`.
            Action::CreatePod(_) => {}
            Action::DeletePod { name, uid } => self.delete_pod(identity, &name, uid).await?,
            Action::Begin => {
                let Some(validated) = validated else { return Ok(()) };
                if self.store.is_none() {
                    self.take_store(identity).await?;
                }
                let Some(store) = self.store.clone() else { return Ok(()) };
                let (plan, epoch) = (Arc::clone(&validated.plan), context.epoch().unsigned_abs());
                let begun = context.coordinator.begin(plan, false, epoch, store)?;
                self.live = Some(Live::new(facts.names.iter(), begun));
            }
            Action::Stop(stop) => {
                if let Some(live) = &mut self.live {
                    live.stop(stop);
                }
            }
            Action::TellEnded { seat, loss, clean } => {
                if let Some(live) = &mut self.live {
                    live.ended(seat, loss, clean);
                }
            }
            Action::Conclude(conclusion) => self.concluded = Some(*conclusion),
            Action::DeleteRun => {
                let runs: Api<BenchmarkRun> = Api::namespaced(context.client.clone(), &identity.namespace);
                apply::delete(&runs, &identity.name, &identity.uid).await?;
            }
        }
        Ok(())
    }

    fn await_echo(&mut self, now: &BenchmarkRun) {
        self.echo = now.resource_version().map(|version| (version, 0));
    }

    /// The run is over: its report is built, and written.
    async fn collect(&mut self) {
        let Some(live) = self.live.take() else { return };
        let (clock, plan) = (live.clock, Arc::clone(&live.plan));
        let snapshot = Arc::clone(&live.snapshots.borrow());
        match live.end().await {
            Ok(None) => (self.store, self.looked) = (None, false),
            Ok(Some(end)) => {
                let times = WallTimes {
                    started: clock.time(snapshot.began_ns).0.to_string(),
                    finished: Timestamp::now().to_string(),
                };
                let mut report = build(&end, &times, env!("CARGO_PKG_VERSION"));
                let (namespace, name) =
                    (self.key.namespace.clone().unwrap_or_default(), self.key.name.clone());
                let run = RunIdentity { namespace, name, uid: self.uid.clone() };
                report.problems.iter_mut().for_each(|problem| self.remembered.explain(&run, problem));
                self.over = Some(Over { plan, view: end.view, report, results: Published::Writing });
            }
            Err(error) => tracing::error!(%error, "the run's task broke"),
        }
    }
}
