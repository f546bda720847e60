//! One run, followed: a get, then a watch from there on, both again after every error.
//!
//! Deliberately not kube-runtime's watcher: that one lists, which is a right that whoever may look at one run need not have;
//! and it tells its errors to a log, while a person who watches wants to know that the API server is away.

use super::access::Cluster;
use super::trouble::{self, Asked};
use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};
use lockstep_core::problem::Problem;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Silence of a watch after which the object is read anew: its connection may be dead without a word.
const SILENCE: Duration = Duration::from_secs(15);
/// Pauses between two attempts, the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// What is seen.
#[derive(Debug)]
pub enum Sight {
    /// The run as it stands now.
    Run(Box<DynamicObject>),
    /// Nobody answers, and why; what follows is another sight.
    Away(String),
    /// The run is no longer there.
    Gone,
    /// It cannot be followed.
    Refused(Box<Problem>),
}

/// Follows a run until it is gone, refused, or nobody listens.
pub async fn follow(cluster: Cluster, name: String, sights: mpsc::Sender<Sight>) {
    let runs = cluster.runs();
    let mut pause = PAUSES.0;
    loop {
        let error = match once(&runs, &name, &sights).await {
            Ok(After::Again) => {
                pause = PAUSES.0;
                // A server that ends each watch at once must not be asked in a loop.
                tokio::time::sleep(PAUSES.0).await;
                continue;
            }
            Ok(After::Done) => return,
            Err(error) => error,
        };
        let sight = match &error {
            Lost::Error { verb, error } if trouble::is_final(error) => {
                Sight::Refused(cluster.trouble(&Asked::run(verb, &name), error))
            }
            Lost::Error { error, .. } => Sight::Away(trouble::chain(error)),
            Lost::Silence => Sight::Away(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
        };
        let is_end = matches!(sight, Sight::Refused(_));
        if sights.send(sight).await.is_err() || is_end {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// What to do when a watch is over.
enum After {
    Again,
    Done,
}

/// Why there is no answer.
enum Lost {
    Error { verb: &'static str, error: kube::Error },
    Silence,
}

/// Reads the run and watches it until the watch ends.
async fn once(runs: &Api<DynamicObject>, name: &str, sights: &mpsc::Sender<Sight>) -> Result<After, Lost> {
    let get = tokio::time::timeout(ANSWER_LIMIT, runs.get_opt(name)).await;
    let object = get.map_err(|_| Lost::Silence)?.map_err(|error| Lost::Error { verb: "get", error })?;
    let Some(object) = object else {
        let _ = sights.send(Sight::Gone).await;
        return Ok(After::Done);
    };
    let version = object.metadata.resource_version.clone().unwrap_or_default();
    if sights.send(Sight::Run(Box::new(object))).await.is_err() {
        return Ok(After::Done);
    }
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let watch = tokio::time::timeout(ANSWER_LIMIT, runs.watch(&params, &version)).await;
    let events = match watch.map_err(|_| Lost::Silence)? {
        Ok(events) => events,
        // Too old already: read it anew.
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(After::Again),
        Err(error) => return Err(Lost::Error { verb: "watch", error }),
    };
    pin_mut!(events);
    loop {
        let Ok(Some(Ok(event))) = tokio::time::timeout(SILENCE, events.next()).await else {
            return Ok(After::Again);
        };
        let sight = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Sight::Run(Box::new(object)),
            WatchEvent::Deleted(_) => Sight::Gone,
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(_) => return Ok(After::Again),
        };
        let is_gone = matches!(sight, Sight::Gone);
        if sights.send(sight).await.is_err() || is_gone {
            return Ok(After::Done);
        }
    }
}
