//! Watches: what the API server has, kept in stores, and which desk to wake when it changes.
//!
//! A replica that does not lead has the same stores, and no desks. A watch that fails is taken up
//! again with a back-off, and says so once.

use super::context::Context;
use super::desks::Desks;
use super::follow::{Changes, follow};
use super::orphans;
use super::rest;
use crate::admin::vitals::BEAT_EVERY;
use crate::leader::{Leadership, Role};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use lockstep_api::{BenchmarkRun, labels};
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// Every run of these namespaces; of all, if there are none.
#[must_use]
pub fn runs(
    client: &Client,
    namespaces: &[String],
) -> (reflector::Store<BenchmarkRun>, Changes<BenchmarkRun>) {
    follow(client, namespaces, &watcher::Config::default(), rest::slim)
}

/// Every pod there that bears the labels of a run.
#[must_use]
pub fn pods(client: &Client, namespaces: &[String]) -> (reflector::Store<Pod>, Changes<Pod>) {
    follow(client, namespaces, &watcher::Config::default().labels(labels::RUN_UID), |pod| {
        pod.managed_fields_mut().clear();
    })
}

/// Keeps the stores current, begins to take part once they are, and has a desk for each run while it leads. Ends when
/// `ended` does: then it leads no more, and another may at once. Ends also when a watch ends, which it never does.
///
/// # Errors
/// What `begin` says.
pub async fn serve(
    context: Arc<Context>,
    mut runs: Changes<BenchmarkRun>,
    mut pods: Changes<Pod>,
    begin: impl FnOnce() -> io::Result<Leadership>,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut ended = std::pin::pin!(ended);
    let (all_runs, all_pods) = (context.runs.clone(), context.pods.clone());
    // Who leads has to know every run, and every pod that must not be made a second time.
    let mut current = std::pin::pin!(async move {
        let _ = all_runs.wait_until_ready().await;
        let _ = all_pods.wait_until_ready().await;
    });
    let (mut begin, mut lead) = (Some(begin), None::<(Leadership, watch::Receiver<Role>)>);
    let mut desks: Option<Desks> = None;
    let mut orphans = std::pin::pin!(orphans::serve(Arc::clone(&context)));
    let mut beats = tokio::time::interval(BEAT_EVERY);
    let vitals = Arc::clone(&context.vitals);
    loop {
        vitals.turned();
        tokio::select! {
            _ = beats.tick() => vitals.set_desks(desks.as_mut().map_or(0, Desks::beat)),
            () = &mut ended => break,
            () = &mut current, if begin.is_some() => {
                if let Some(begin) = begin.take() {
                    let leadership = begin()?;
                    let role = leadership.role();
                    lead = Some((leadership, role));
                }
                desks = in_term(&context, lead.as_mut(), desks).await;
            }
            () = changed(lead.as_mut()) => desks = in_term(&context, lead.as_mut(), desks).await,
            change = runs.next() => match change {
                Some(Ok(Event::Apply(run) | Event::Delete(run))) => {
                    if let Some(desks) = &mut desks {
                        desks.wake(&run);
                    }
                }
                // What is listed is in the store only when the list is complete.
                Some(Ok(Event::Init | Event::InitApply(_))) => {}
                // What went while nobody watched is seen only now.
                Some(Ok(Event::InitDone)) => desks.iter_mut().for_each(Desks::look_anew),
                Some(Err(error)) => tracing::warn!(%error, "the watch of runs is taken up again"),
                None => break,
            },
            change = pods.next() => match change {
                Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => {
                    if let (Some(desks), Some(uid)) = (&desks, pod.labels().get(labels::RUN_UID)) {
                        desks.wake_by_uid(uid);
                    }
                }
                Some(Ok(Event::Delete(pod))) => {
                    if let (Some(desks), Some(uid)) = (&desks, pod.labels().get(labels::RUN_UID)) {
                        context.note_gone(&pod);
                        desks.wake_by_uid(uid);
                    }
                }
                Some(Ok(Event::Init)) => {}
                // What went while nobody watched is seen only now.
                Some(Ok(Event::InitDone)) => desks.iter().for_each(Desks::wake_all),
                Some(Err(error)) => tracing::warn!(%error, "the watch of pods is taken up again"),
                None => break,
            },
            () = cleared(desks.as_mut()) => {}
            () = &mut orphans => break,
        }
    }
    if let Some(desks) = desks {
        desks.close().await;
    }
    if let Some((leadership, _)) = lead {
        leadership.release().await;
    }
    Ok(())
}

/// The desks that there are by the role that this replica has now.
async fn in_term(
    context: &Arc<Context>,
    lead: Option<&mut (Leadership, watch::Receiver<Role>)>,
    desks: Option<Desks>,
) -> Option<Desks> {
    let role = lead.map(|(_, role)| role.borrow_and_update().clone())?;
    if let Some(desks) = desks {
        desks.close().await;
        tracing::warn!("this replica leads no more");
    }
    match role {
        Role::Leader { transitions } => {
            context.vitals.set_leads(true);
            context.begin_term(transitions);
            Some(Desks::open(Arc::clone(context)))
        }
        Role::Standby { .. } => {
            context.vitals.set_leads(false);
            None
        }
    }
}

async fn changed(lead: Option<&mut (Leadership, watch::Receiver<Role>)>) {
    if let Some((_, role)) = lead
        && role.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

async fn cleared(desks: Option<&mut Desks>) {
    match desks {
        Some(desks) => desks.clear_one().await,
        None => std::future::pending().await,
    }
}
