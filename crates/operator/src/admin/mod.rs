//! The admin port: whether the operator lives, whether it is ready, what it does, and how much it says of that.
//!
//! | path | answer |
//! |---|---|
//! | `GET /livez` | 200 while its loops turn; knows nothing of the API server, whose absence no restart would cure |
//! | `GET /readyz` | 200 once its stores are filled and its agents' port is bound; a standby is as ready as a leader |
//! | `GET /metrics` | OpenMetrics text, made when it is asked for; see [`families`] |
//! | `GET /log` | the filter of the log, as `LOCKSTEP_LOG` takes one |
//! | `PUT /log` | sets it, until the process ends; both only from the pod itself (see [`routes`]) |
//!
//! [`http`] bounds who may occupy it, [`metrics`] is a pure projection from what others keep anyway, and [`vitals`] holds the
//! few numbers that nobody else keeps. It deliberately has neither TLS nor users: it tells nothing of a run by name, and
//! changes nothing that is asked for from outside of the pod.

pub mod api;
mod encode;
pub mod families;
pub mod http;
pub mod log;
pub mod metrics;
mod process;
pub mod routes;
pub mod vitals;

use self::vitals::Vitals;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use lockstep_api::BenchmarkRun;
use lockstep_coordinator::Observer;
use std::sync::{Arc, OnceLock};

/// What the admin port looks at, once it is there.
#[derive(Clone)]
pub struct Watched {
    /// Every run.
    pub runs: Store<BenchmarkRun>,
    /// Every pod of a run.
    pub pods: Store<Pod>,
    /// The coordinator, whose port is bound.
    pub coordinator: Observer,
}

/// What the admin port answers from.
pub struct Admin {
    /// Numbers that nobody else keeps.
    pub vitals: Arc<Vitals>,
    /// How the log is filtered.
    pub log: log::Filter,
    watched: OnceLock<Watched>,
}

impl Admin {
    /// An admin port that is asked before there is anything to look at.
    #[must_use]
    pub fn new(log: log::Filter) -> Self {
        Self { vitals: Arc::default(), log, watched: OnceLock::new() }
    }

    /// From now on there is something to look at.
    pub fn attach(&self, watched: Watched) {
        // The first one stays: a process has one coordinator.
        let _ = self.watched.set(watched);
    }

    /// Why the process should be restarted, if it should be.
    ///
    /// # Errors
    /// What does not turn any more.
    pub fn is_alive(&self) -> Result<(), String> {
        if let Some(silent) = self.vitals.silent_for() {
            return Err(format!(
                "the loop that follows the watches has not turned for {} s",
                silent.as_secs()
            ));
        }
        match self.watched.get() {
            Some(watched) if !watched.coordinator.is_serving() => {
                Err("the server that agents connect to has ended".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether agents and users can rely on it.
    ///
    /// # Errors
    /// What is missing.
    pub fn is_ready(&self) -> Result<(), String> {
        let Some(watched) = self.watched.get() else {
            return Err("the port that agents connect to is not bound".to_owned());
        };
        let filled = |ready: Option<Result<(), _>>| matches!(ready, Some(Ok(())));
        if !filled(watched.runs.wait_until_ready().now_or_never()) {
            return Err("not every run has been listed".to_owned());
        }
        if !filled(watched.pods.wait_until_ready().now_or_never()) {
            return Err("not every pod has been listed".to_owned());
        }
        self.is_alive()
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// When a name or a label is none; a test encodes them all.
    pub fn metrics(&self) -> Result<String, std::fmt::Error> {
        let watched = self.watched.get();
        let runs = watched.map(|watched| watched.runs.state()).unwrap_or_default();
        let status = |run: &Arc<BenchmarkRun>| {
            let status = run.status.as_ref();
            let word = |read: fn(&lockstep_api::status::BenchmarkRunStatus) -> &String| {
                status.map(|status| read(status).clone()).unwrap_or_default()
            };
            metrics::RunWords { phase: word(|status| &status.phase), verdict: word(|status| &status.verdict) }
        };
        let families = metrics::project(&metrics::Sight {
            runs: runs.iter().map(status).collect(),
            snapshots: watched.map(|watched| watched.coordinator.snapshots()).unwrap_or_default(),
            counted: watched.map(|watched| watched.coordinator.counted()).unwrap_or_default(),
            vitals: self.vitals.seen(),
            process: process::Process::now(),
        });
        encode::encode(families)
    }
}
