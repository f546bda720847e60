//! What the planner looks at. Made by the client half; every part is a copy.

use super::decider::Decider;
use super::names::{Names, NamesError};
use crate::pods::build::RunIdentity;
use crate::pods::config::Installation;
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::rejected::Rejection;
use crate::pods::trouble::Trouble;
use jiff::{SignedDuration, Timestamp};
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_api::labels;
use lockstep_api::reasons::Reason;
use lockstep_api::spec::BenchmarkRun;
use lockstep_api::spec::words::{CleanupPolicy, StopMode};
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_core::problem::Problem;
use lockstep_core::run::message::Stop;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that is known of one run now.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Now.
    pub now: Timestamp,
    /// The run, validated.
    pub run: &'a RunFacts,
    /// Its pods: those of the watch for which [`PodFacts::is_of`] holds, and those that our own POSTs have returned since.
    pub pods: &'a BTreeMap<Seat, PodFacts>,
    /// What is wrong with them.
    pub troubles: &'a BTreeMap<Seat, Trouble>,
    /// Pods that the API server did not take, by attempt, until one is created.
    pub rejected: &'a BTreeMap<Seat, Rejected>,
    /// What the API server would say to its first pod.
    pub trial: &'a Trial,
    /// Pods of it that are gone from the API, as they were last: those whose agent was known to have ended.
    pub gone: &'a BTreeMap<Seat, PodFacts>,
    /// The ConfigMap with the CA bundle.
    pub ca: &'a CaMap,
    /// What the decider wishes.
    pub decider: &'a Decider,
    /// Other runs, as [`OtherRun::of`] has them.
    pub others: &'a [OtherRun],
    /// The installation.
    pub installation: &'a Installation,
    /// What [`super::plan`] returned the last time; empty after a restart.
    pub memory: &'a Memory,
}

/// A run, as far as the planner needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// Which run.
    pub identity: RunIdentity,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it was asked to go.
    pub deleting: bool,
    /// Whether our finalizer stands.
    pub finalizer: bool,
    /// `spec.managedBy`.
    pub managed_by: String,
    /// `status.controller`.
    pub controller: Option<String>,
    /// `spec.suspend`.
    pub suspend: bool,
    /// `spec.stop`.
    pub stop: Option<Stop>,
    /// Why it was asked to stop.
    pub stop_reason: Option<String>,
    /// `spec.exclusive`.
    pub group: Option<String>,
    /// `spec.ttlAfterFinished`.
    pub ttl: Option<Duration>,
    /// `spec.agents.cleanupPolicy`.
    pub cleanup: CleanupPolicy,
    /// Agents.
    pub replicas: u32,
    /// Quorum.
    pub min_available: u32,
    /// `spec.start.readyTimeout`.
    pub ready_timeout: Duration,
    /// `status.attempt`, at least 1.
    pub run_attempt: u32,
    /// `status.agentAttempts`.
    pub names: Names,
    /// Condition `Suspended` is true.
    pub suspended: bool,
    /// Condition `Finished` is true.
    pub finished: Option<Finished>,
}

/// How a finished run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// `status.completionTime`.
    pub at: Timestamp,
    /// Condition `Complete` is true.
    pub complete: bool,
}

impl RunFacts {
    /// The facts of a run that the API server has stored; `None` when it lacks what every stored object has.
    ///
    /// # Errors
    ///
    /// When `status.agentAttempts` cannot be read: somebody else wrote it, and no pod may be made or deleted by it.
    pub fn of(run: &BenchmarkRun) -> Result<Option<Self>, NamesError> {
        let (Some(identity), Some(created)) = (RunIdentity::of(run), &run.metadata.creation_timestamp) else {
            return Ok(None);
        };
        let none = BenchmarkRunStatus::default();
        let status = run.status.as_ref().unwrap_or(&none);
        let is_true = |type_| conditions::truth(&status.conditions, type_) == Some(Truth::True);
        let finished = is_true(ConditionType::Finished).then(|| Finished {
            at: status.completion_time.as_ref().map_or(created.0, |time| time.0),
            complete: is_true(ConditionType::Complete),
        });
        let spec = &run.spec;
        let finalizers = run.metadata.finalizers.as_deref().unwrap_or_default();
        Ok(Some(Self {
            identity,
            created: created.0,
            deleting: run.metadata.deletion_timestamp.is_some(),
            finalizer: finalizers.iter().any(|finalizer| finalizer == labels::FINALIZER),
            managed_by: spec.managed_by.clone(),
            controller: status.controller.clone(),
            suspend: spec.suspend,
            stop: spec.stop.as_ref().map(|stop| match stop.mode {
                StopMode::Graceful => Stop::Graceful,
                StopMode::Immediate => Stop::Immediate,
            }),
            stop_reason: spec.stop.as_ref().and_then(|stop| stop.reason.clone()),
            group: spec.exclusive.clone(),
            ttl: spec.ttl_after_finished.map(|span| span.0),
            cleanup: spec.agents.cleanup_policy,
            replicas: spec.agents.replicas,
            min_available: spec.agents.min_available.unwrap_or(spec.agents.replicas),
            ready_timeout: spec.start.ready_timeout.0,
            run_attempt: u32::try_from(status.attempt).unwrap_or_default().max(1),
            names: Names::decode(&status.agent_attempts)?,
            suspended: is_true(ConditionType::Suspended),
            finished,
        }))
    }
}

impl RunFacts {
    /// Whether the run is this installation's, or nobody's yet.
    #[must_use]
    pub fn is_ours(&self, installation: &Installation) -> bool {
        self.managed_by == installation.managed_by
            && self.controller.as_ref().is_none_or(|claimed| *claimed == installation.claim())
    }

    /// Whether the attempt under way ends by being suspended: it has no outcome, and resuming begins another one. True from
    /// the moment in which status says so, which is before the decider is told to stop.
    #[must_use]
    pub fn is_suspended_attempt(&self) -> bool {
        self.suspend || self.suspended
    }
}

/// What is known of the ConfigMap with the CA bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CaMap {
    /// It has to be written, or brought up to date.
    #[default]
    Unwritten,
    /// It is there, and current.
    Written,
    /// An object of its name is there that the run does not own.
    Foreign,
}

/// A pod that the API server did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: Rejection,
    /// With [`Rejection::NameTaken`]: who has the name; `None` when it was gone again.
    pub holder: Option<Holder>,
}

/// What the API server said to a dry run of a pod: everything that admission has to say, before anything is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    /// It was not asked.
    #[default]
    Untried,
    /// It would take the pod, now or when what it waits for is there.
    Passed,
    /// It never would, and why.
    Refused(Reason, Problem),
    /// It had troubles of its own then.
    Again(Timestamp),
}

impl Trial {
    /// Of what a dry run came to.
    #[must_use]
    pub fn of(answer: Result<(), Rejected>) -> Self {
        match answer {
            Ok(()) => Self::Passed,
            Err(Rejected { at, why, holder: _ }) => match why {
                Rejection::Never(reason, problem) => Self::Refused(reason, problem),
                Rejection::Again => Self::Again(at),
                // Room, an account, a name: what may come is waited for with the pods, and so is the end of a namespace.
                Rejection::Wait(..) | Rejection::NameTaken | Rejection::NamespaceGoes => Self::Passed,
            },
        }
    }
}

/// Who has the name of a pod of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Uid of its controller.
    pub controller_uid: Option<String>,
    /// Kind and name of its controller.
    pub controller: Option<(String, String)>,
    /// Whether it was asked to go.
    pub deleting: bool,
}

/// Another run of this installation that has agents, or would like to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRun {
    /// Namespace and name.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// `spec.exclusive`.
    pub group: Option<String>,
    /// Whether agents of it may live.
    pub active: bool,
    /// Whether it would begin if it could: not suspended, stopped, deleted or refused.
    pub eager: bool,
    /// [`super::Planned::short`] of its last plan.
    pub short: bool,
    /// Whether pods of it have nodes: there will be room when it is over.
    pub holds: bool,
}

impl OtherRun {
    /// What other runs need to know of a run of ours with `pods`; `None` when it is in nobody's way and will not be.
    /// `short`: of its last plan.
    #[must_use]
    pub fn of(run: &RunFacts, pods: &BTreeMap<Seat, PodFacts>, short: bool) -> Option<Self> {
        let RunIdentity { namespace, name, uid: _ } = run.identity.clone();
        // The finalizer stands while agents may live, after the run is finished or suspended too.
        let active = run.finalizer && !run.names.is_empty();
        let eager = !run.suspend && run.stop.is_none() && !run.deleting && run.finished.is_none();
        (active || eager).then(|| Self {
            namespace,
            name,
            created: run.created,
            group: run.group.clone(),
            active,
            eager,
            short,
            holds: pods.values().any(|pod| pod.node.is_some() && !pod.over),
        })
    }
}

/// What the planner keeps in mind. Losing it costs time only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Attempts whose pods were seen, and whether they ever had a node.
    pub made: BTreeMap<Seat, bool>,
    /// Since when the pods of this try exist.
    pub placing_since: Option<Timestamp>,
    /// For how long there was no room while no other run of ours held any.
    pub short_for: SignedDuration,
    /// Until when that is counted; `None` while it is not.
    pub short_at: Option<Timestamp>,
    /// When pods were given back, until they are made again.
    pub given_back_at: Option<Timestamp>,
    /// How often pods were given back.
    pub given_back: u32,
}

impl Memory {
    pub(super) fn note_pods(&mut self, pods: &BTreeMap<Seat, PodFacts>) {
        for pod in pods.values() {
            let placed = self.made.entry(pod.seat).or_default();
            *placed |= pod.node.is_some();
        }
    }

    /// Everything about pods is over; a later try begins as if it were the first.
    pub(super) fn forget_pods(&mut self) {
        *self = Self { given_back: self.given_back, ..Self::default() };
    }
}
