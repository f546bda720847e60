//! What all desks share.

use super::parts::MayWrite;
use crate::admin::vitals::Vitals;
use crate::leader::{self, Mandate};
use crate::pods::build::RunIdentity;
use crate::pods::config::Installation;
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::trouble::{self, Trouble};
use crate::status::pace::Budget;
use crate::trust::keeper::Trust;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use lockstep_api::{BenchmarkRun, labels};
use lockstep_coordinator::Coordinator;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What all desks share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The installation.
    pub installation: Installation,
    /// Every run that may be ours.
    pub runs: Store<BenchmarkRun>,
    /// Every pod with the labels of a run.
    pub pods: Store<Pod>,
    /// Drives runs.
    pub coordinator: Coordinator,
    /// Whom agents are told to trust.
    pub trust: Arc<Trust>,
    /// Epoch of the term in which this replica leads, or led last.
    epoch: AtomicI64,
    /// Whether it may write now.
    mandate: Mandate,
    /// Writes Events; one for all, since it keeps their series.
    pub recorder: Recorder,
    /// What the admin port shows of us.
    pub vitals: Arc<Vitals>,
    budget: Mutex<Budget>,
    /// Uids of runs that hold pods and lack room for their quorum.
    short: Mutex<BTreeSet<String>>,
    /// Pods that went after their agent had ended, by uid of their run: nobody may have looked in between.
    gone: Mutex<BTreeMap<String, Gone>>,
    began: Instant,
}

/// Pods of one run that are gone, as they were last, with what was wrong with them.
pub type Gone = BTreeMap<Seat, (PodFacts, Option<Trouble>)>;

impl Context {
    /// Everything, with a full budget of writes.
    #[allow(clippy::too_many_arguments, reason = "called once, each named at the caller")]
    #[must_use]
    pub fn new(
        client: Client,
        installation: Installation,
        runs: Store<BenchmarkRun>,
        pods: Store<Pod>,
        coordinator: Coordinator,
        trust: Arc<Trust>,
        mandate: Mandate,
        recorder: Recorder,
        vitals: Arc<Vitals>,
    ) -> Self {
        let budget = Mutex::new(Budget::new(0));
        let began = Instant::now();
        let (short, gone) = (Mutex::default(), Mutex::default());
        let epoch = AtomicI64::new(0);
        Self {
            client,
            installation,
            runs,
            pods,
            coordinator,
            trust,
            epoch,
            mandate,
            recorder,
            vitals,
            budget,
            short,
            gone,
            began,
        }
    }

    /// Epoch of the term in which this replica leads; carried by every directive and every write of a status.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A term begins, for which the Lease changed hands so many times: its epoch is greater than any that a run has seen.
    pub fn begin_term(&self, transitions: i64) {
        let runs = self.runs.state();
        let ours = runs.iter().filter(|run| run.spec.managed_by == self.installation.managed_by);
        let seen = ours.filter_map(|run| Some(run.status.as_ref()?.epoch));
        let epoch = leader::epoch(transitions, seen.chain([self.epoch()]));
        self.epoch.store(epoch, Ordering::Release);
        tracing::info!(epoch, "this replica leads");
    }

    /// Whether this replica may write now, to be asked before each write.
    #[must_use]
    pub fn may_write(&self) -> MayWrite {
        let mandate = self.mandate.clone();
        Arc::new(move || mandate.holds())
    }

    /// Pods of a run that the watch has shown.
    #[must_use]
    pub fn pods_of(&self, run: &RunIdentity) -> BTreeMap<Seat, PodFacts> {
        let ours = |pod: &Arc<Pod>| {
            // Before more is read: there are pods of other runs, too.
            let bears = pod.labels().get(labels::RUN_UID) == Some(&run.uid);
            let here = bears && pod.metadata.namespace.as_deref() == Some(&run.namespace);
            here.then(|| PodFacts::of(pod))?.filter(|facts| facts.is_of(run))
        };
        self.pods.state().iter().filter_map(ours).map(|facts| (facts.seat, facts)).collect()
    }

    /// Notes how a pod was when it went, if its agent was known to have ended.
    pub fn note_gone(&self, pod: &Pod) {
        let Some(facts) = PodFacts::of(pod).filter(|facts| !facts.may_live()) else { return };
        let trouble = trouble::of(pod, &[], true, Timestamp::now());
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.entry(facts.run_uid.clone()).or_default().insert(facts.seat, (facts, trouble));
    }

    /// Pods of a run that went after their agent had ended.
    #[must_use]
    pub fn gone_of(&self, run: &RunIdentity) -> Gone {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_run = gone.get(&run.uid).cloned().unwrap_or_default();
        of_run.retain(|_, (facts, _)| facts.is_of(run));
        of_run
    }

    /// A run is gone, or begins anew.
    pub fn forget_gone(&self, uid: &str) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Notes whether a run holds pods and lacks room.
    pub fn note_short(&self, uid: &str, is: bool) {
        let mut short = self.short.lock().unwrap_or_else(PoisonError::into_inner);
        if is {
            short.insert(uid.to_owned());
        } else {
            short.remove(uid);
        }
    }

    /// Whether a run holds pods and lacks room.
    #[must_use]
    pub fn is_short(&self, uid: &str) -> bool {
        self.short.lock().unwrap_or_else(PoisonError::into_inner).contains(uid)
    }

    /// Milliseconds since the operator began: the clock of budgets.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The budget of writes, as it stands.
    #[must_use]
    pub fn budget(&self) -> Budget {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A document was written, after which its object has so many bytes.
    pub fn wrote(&self, object_bytes: usize) {
        let now_ms = self.now_ms();
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).wrote(object_bytes, now_ms);
    }
}
