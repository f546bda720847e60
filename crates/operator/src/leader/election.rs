//! The task that keeps to [`super::decide`] against the API server.
//!
//! It tells two things: the [`Role`], for whoever starts and stops work, and the [`Mandate`], for every single write. They
//! differ on purpose: a leader that cannot renew stays one, keeps its sessions and takes reports, but may write nothing
//! once its time is over; when a renewal is taken later, nobody has led meanwhile, and it goes on.

use super::clock::Moment;
use super::decide::{Elector, Record, Role, Step, Terms};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, PostParams};
use lockstep_api::labels;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long one request may take. Three fit into a leader's time, so that one that hangs costs no leadership.
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// The finest step of a time in a Lease.
const TICK: SignedDuration = SignedDuration::from_micros(1);
/// How often letting the Lease go is tried: a renewal that was on its way may win once.
const RELEASE_TRIES: u32 = 3;
/// How long all of them may take. The kubelet waits longer.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// The identity of this process as a holder: the pod for people, its uid, and when the process began, since a container
/// that is started again is another contender in the same pod.
#[must_use]
pub fn identity(pod: &str, uid: &str, started: Timestamp) -> String {
    format!("{pod}_{uid}_{}", started.as_nanosecond())
}

/// Whether this process may write now. Cheap, and without a lock: to be asked before every write.
#[derive(Clone, Debug, Default)]
pub struct Mandate(Arc<AtomicU64>);

impl Mandate {
    /// Whether the leader's time lasts. Also false, at once, when the process was stopped and goes on after its time.
    #[must_use]
    pub fn holds(&self) -> bool {
        Moment::now().as_nanos() < self.0.load(Ordering::Acquire)
    }

    fn set(&self, until: Moment) {
        self.0.store(until.as_nanos(), Ordering::Release);
    }
}

/// This process' part in who leads.
#[derive(Debug)]
pub struct Leadership {
    role: watch::Receiver<Role>,
    mandate: Mandate,
    release: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Leadership {
    /// Contends for the Lease `name`, with the usual [`Terms`], on the current tokio runtime. `identity`: see [`identity`];
    /// `mandate`: shows from now on whether this process may write.
    #[must_use]
    pub fn start(api: Api<Lease>, name: &str, identity: &str, mandate: Mandate) -> Self {
        Self::start_with(api, name, identity, mandate, Terms::default())
    }

    /// The same with other terms.
    #[must_use]
    pub fn start_with(api: Api<Lease>, name: &str, identity: &str, mandate: Mandate, terms: Terms) -> Self {
        let elector = Elector::new(identity, terms);
        let (role, watcher) = watch::channel(elector.role());
        let (release, released) = oneshot::channel();
        let election = Election {
            api,
            name: name.to_owned(),
            identity: identity.to_owned(),
            terms,
            elector,
            object: None,
            role,
            mandate: mandate.clone(),
            renewed: None,
            failing: false,
        };
        Self { role: watcher, mandate, release, task: tokio::spawn(election.contend(released)) }
    }

    /// What this process is, and what it becomes.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Whether this process may write now; see [`Mandate::holds`].
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.mandate.holds()
    }

    /// The same, to be given away.
    #[must_use]
    pub fn mandate(&self) -> Mandate {
        self.mandate.clone()
    }

    /// Contends no more, and lets the Lease go, so that another may lead at once. From here on nothing may be written; it
    /// returns when the Lease is free, or the API server did not answer in time, in which case it frees itself.
    pub async fn release(self) {
        let Self { role: _, mandate, release, task } = self;
        mandate.set(Moment::default());
        // Also when the task has ended: then there is nothing to let go.
        let _ = release.send(());
        let _ = task.await;
    }
}

struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    terms: Terms,
    elector: Elector,
    /// The Lease as it was last seen: what others put there stays.
    object: Option<Lease>,
    role: watch::Sender<Role>,
    mandate: Mandate,
    /// The last time that we wrote there.
    renewed: Option<Timestamp>,
    /// It was said that the API server does not answer.
    failing: bool,
}

/// How a request ended.
enum Answer<T> {
    Done(T),
    /// Somebody else has written.
    Outrun,
    Failed,
}

impl Election {
    async fn contend(mut self, mut released: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                biased;
                // A request on its way is given up: what becomes of it shows in the next look.
                asked = &mut released => {
                    self.mandate.set(Moment::default());
                    if asked.is_ok() && tokio::time::timeout(RELEASE_LIMIT, self.let_go()).await.is_err() {
                        tracing::warn!(lease = self.name, "the lease was not let go in time");
                    }
                    self.role.send_replace(Role::Standby { holder: None });
                    return;
                }
                () = self.step() => {}
            }
        }
    }

    async fn step(&mut self) {
        let now = Moment::now();
        match self.elector.decide(now) {
            Step::Wait(until) => return tokio::time::sleep(until.since(now)).await,
            Step::Look => self.look().await,
            Step::Create { transitions } => self.make(transitions).await,
            Step::Acquire { version, transitions } | Step::Renew { version, transitions } => {
                self.hold(version, transitions).await;
            }
            Step::StandDown => self.elector.stood_down(),
        }
        self.tell();
    }

    /// Says what has changed; who stops leading may write no more before anybody hears of it.
    fn tell(&self) {
        self.mandate.set(self.elector.until());
        let now = self.elector.role();
        self.role.send_if_modified(|role| {
            let changed = *role != now;
            if changed {
                tracing::info!(lease = self.name, from = ?role, to = ?now, "leadership");
                *role = now;
            }
            changed
        });
    }

    async fn look(&mut self) {
        let (api, name) = (self.api.clone(), self.name.clone());
        match self.ask(api.get_opt(&name)).await {
            Answer::Done(lease) => {
                self.elector.observed(lease.as_ref().map(record), Moment::now());
                self.object = lease.or(self.object.take().map(forgotten));
            }
            Answer::Outrun | Answer::Failed => self.elector.failed(Moment::now()),
        }
    }

    /// Makes the Lease, held by nobody.
    async fn make(&mut self, transitions: i64) {
        let mut lease = self.object.clone().unwrap_or_default();
        lease.metadata.name = Some(self.name.clone());
        let ours = BTreeMap::from([(labels::APP_NAME.to_owned(), labels::APP.to_owned())]);
        lease.metadata.labels.get_or_insert(ours);
        let renew_time = Some(self.next_renew_time());
        let lease_transitions = i32::try_from(transitions).ok();
        lease.spec = Some(LeaseSpec { renew_time, lease_transitions, ..LeaseSpec::default() });
        let api = self.api.clone();
        match self.ask(api.create(&PostParams::default(), &lease)).await {
            Answer::Done(lease) => {
                self.elector.observed(Some(record(&lease)), Moment::now());
                self.object = Some(lease);
            }
            Answer::Outrun => self.elector.outrun(),
            Answer::Failed => self.elector.failed(Moment::now()),
        }
    }

    /// Writes us as the holder, over the version that was judged.
    async fn hold(&mut self, version: String, transitions: i64) {
        let mut lease = self.object.clone().unwrap_or_default();
        lease.metadata.resource_version = Some(version);
        lease.metadata.managed_fields = None;
        let renew_time = self.next_renew_time();
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            spec.acquire_time = Some(renew_time.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.renew_time = Some(renew_time);
        spec.lease_duration_seconds = i32::try_from(self.terms.duration.as_secs().max(1)).ok();
        spec.lease_transitions = i32::try_from(transitions).ok();
        let (api, name) = (self.api.clone(), self.name.clone());
        let sent = Moment::now();
        match self.ask(api.replace(&name, &PostParams::default(), &lease)).await {
            Answer::Done(lease) => {
                self.elector.wrote(record(&lease), sent, Moment::now());
                self.object = Some(lease);
            }
            Answer::Outrun => self.elector.outrun(),
            Answer::Failed => self.elector.failed(Moment::now()),
        }
    }

    /// Wall time, for people; but another one with each write, also where the clock stands still or goes back, since others
    /// know by it that we live.
    fn next_renew_time(&mut self) -> MicroTime {
        let earliest = self.renewed.map(|before| before.saturating_add(TICK).unwrap_or(before));
        let time = earliest.map_or_else(Timestamp::now, |earliest| earliest.max(Timestamp::now()));
        self.renewed = Some(time);
        MicroTime(time)
    }

    /// Empties the Lease, if it is ours.
    async fn let_go(&mut self) {
        for _ in 0..RELEASE_TRIES {
            let (api, name) = (self.api.clone(), self.name.clone());
            let Answer::Done(Some(mut lease)) = self.ask(api.get_opt(&name)).await else { continue };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() != Some(&self.identity) {
                return;
            }
            spec.holder_identity = Some(String::new());
            if let Answer::Done(_) = self.ask(api.replace(&name, &PostParams::default(), &lease)).await {
                return;
            }
        }
    }

    /// One request, with its limit. An outage is said once, and once that it is over.
    async fn ask<T>(&mut self, request: impl Future<Output = Result<T, kube::Error>>) -> Answer<T> {
        let failure = match tokio::time::timeout(CALL_LIMIT, request).await {
            Ok(Ok(done)) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(lease = self.name, "the lease can be read and written again");
                }
                return Answer::Done(done);
            }
            // Of another version, there already, or gone: all say that somebody was faster.
            Ok(Err(kube::Error::Api(status)))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                return Answer::Outrun;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {CALL_LIMIT:?}"),
        };
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(lease = self.name, error = failure, "the lease cannot be read or written");
        }
        Answer::Failed
    }
}

/// What is kept of a Lease that is gone: who made it is known by its labels.
fn forgotten(lease: Lease) -> Lease {
    let mut kept = Lease::default();
    kept.metadata.labels = lease.metadata.labels;
    kept.metadata.annotations = lease.metadata.annotations;
    kept
}

fn record(lease: &Lease) -> Record {
    let LeaseSpec { holder_identity, lease_transitions, renew_time, .. } =
        lease.spec.clone().unwrap_or_default();
    Record {
        // As a chart makes it, or as its last holder left it; one that we made because it was missing is neither.
        free: renew_time.is_none() || holder_identity.as_deref() == Some(""),
        holder: holder_identity.filter(|holder| !holder.is_empty()),
        transitions: lease_transitions.map_or(0, i64::from),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        renewed: renew_time.map(|time| time.0.to_string()),
    }
}
