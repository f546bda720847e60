//! A run under way: what the decider wishes is carried out, and it is told what became of its attempts.

use super::decider::{Decider, Wish};
use super::observed::{CaMap, Observed, Rejected};
use super::step::{Action, Planned, Wait};
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::rejected::Rejection;
use crate::pods::trouble::Weight;
use jiff::SignedDuration;
use lockstep_api::labels;
use lockstep_api::reasons::Reason;
use lockstep_core::run::agent::LossReason;
use std::collections::BTreeMap;

/// Wait before a pod that was not taken is tried again, seconds.
pub const RETRY_S: i64 = 5;

pub(super) fn plan(observed: &Observed<'_>, planned: &mut Planned) {
    let Decider::Live { wishes, told, .. } = observed.decider else { return };
    // Written by a leader before, or not at all, or changed by somebody.
    if *observed.ca == CaMap::Unwritten {
        planned.step(Action::WriteCa, "a replacement has to know whom to trust");
    }
    let mut wanted = Vec::new();
    for (&seat, &wish) in wishes {
        let pod = pod_of(observed, seat);
        let is_told = told.contains(&seat);
        if let Some((loss, clean)) = end_of(observed, planned, seat, wish, pod).filter(|_| !is_told) {
            let why = format!("agent {}, attempt {}: {loss}", seat.0, seat.1);
            planned.step(Action::TellEnded { seat, loss, clean }, why);
        }
        match (wish, pod) {
            (Wish::Lives, None) if !is_told && !planned.memory.made.contains_key(&seat) => wanted.push(seat),
            (Wish::Goes, Some(pod)) if pod.may_live() => {
                delete(planned, pod, "the decider has given this attempt up");
            }
            // An attempt that ended keeps its pod, for whoever wants to read its log, unless sidecars run on in it.
            (_, Some(pod)) if !pod.may_live() && !pod.over && is_superseded(wishes, seat) => {
                delete(planned, pod, "its agent was replaced, and its sidecars would hold the node");
            }
            (Wish::Lives, Some(pod)) if is_fatal(observed, seat) => {
                delete(planned, pod, "waiting cannot help this pod");
            }
            (Wish::Lives | Wish::Goes, _) => {}
        }
    }
    for pod in observed.pods.values().filter(|pod| pod.may_live() && !wishes.contains_key(&pod.seat)) {
        delete(planned, pod, "the decider knows of no such attempt");
    }
    name_and_create(observed, planned, &wanted);
}

/// Whether a later attempt has the index.
fn is_superseded(wishes: &BTreeMap<Seat, Wish>, (index, attempt): Seat) -> bool {
    wishes.range((index, attempt + 1)..=(index, u32::MAX)).next().is_some()
}

/// Names what status does not name yet, and makes what it names.
fn name_and_create(observed: &Observed<'_>, planned: &mut Planned, wanted: &[Seat]) {
    let names = &observed.run.names;
    let unnamed: Vec<Seat> = wanted.iter().copied().filter(|seat| !names.names(*seat)).collect();
    if !unnamed.is_empty() {
        let why = format!("{} attempts are about to get pods", unnamed.len());
        planned.step(Action::Name(names.with(unnamed)), why);
    }
    let named: Vec<Seat> = wanted.iter().copied().filter(|seat| names.names(*seat)).collect();
    create(observed, planned, &named);
}

/// Makes the pods of `seats` that are not there and may be tried now.
pub(super) fn create(observed: &Observed<'_>, planned: &mut Planned, seats: &[Seat]) {
    for &seat in seats {
        if pod_of(observed, seat).is_some() || planned.memory.made.contains_key(&seat) {
            continue;
        }
        if let Some(rejected) = observed.rejected.get(&seat) {
            let due = rejected.at.saturating_add(SignedDuration::from_secs(RETRY_S)).unwrap_or(rejected.at);
            match &rejected.why {
                Rejection::Never(..) | Rejection::NamespaceGoes => continue,
                Rejection::NameTaken if is_foreign(observed, rejected) => continue,
                _ if observed.now < due => {
                    planned.look_again(due);
                    planned.wait.get_or_insert_with(|| wait_for(seat, &rejected.why));
                    continue;
                }
                _ => {}
            }
        }
        planned.step(Action::CreatePod(seat), format!("agent {} has no pod, attempt {}", seat.0, seat.1));
    }
}

fn wait_for(seat: Seat, why: &Rejection) -> Wait {
    match why {
        Rejection::Wait(reason, problem) => Wait::of(*reason, problem.clone()),
        Rejection::NameTaken => {
            let message =
                format!("a pod of an earlier run still has the name of agent {}, and is going", seat.0);
            Wait::new(Reason::Waiting, message)
        }
        _ => Wait::new(Reason::Waiting, "the API server has troubles of its own"),
    }
}

/// Whether a name is taken by something that is not going: neither ours, nor of an earlier run of this name.
pub(super) fn is_foreign(observed: &Observed<'_>, rejected: &Rejected) -> bool {
    let identity = &observed.run.identity;
    rejected.holder.as_ref().is_some_and(|holder| {
        let ours = holder.controller_uid.as_ref() == Some(&identity.uid);
        // Its run is gone, and the garbage collector is on its way.
        let earlier = holder
            .controller
            .as_ref()
            .is_some_and(|(kind, name)| kind == labels::KIND && *name == identity.name);
        !holder.deleting && !ours && !earlier
    })
}

/// What the decider has to be told of an attempt, if it has ended.
fn end_of(
    observed: &Observed<'_>,
    planned: &Planned,
    seat: Seat,
    wish: Wish,
    pod: Option<&PodFacts>,
) -> Option<(LossReason, bool)> {
    let Some(pod) = pod else {
        // It ended, and went before anybody looked.
        if let Some(ended) =
            observed.gone.get(&seat).and_then(|pod| pod.ended.as_ref()).filter(|end| end.dead)
        {
            return Some((ended.loss.clone(), ended.clean));
        }
        let rejected = observed.rejected.get(&seat);
        let refusal = rejected.map(|rejected| &rejected.why);
        return match (planned.memory.made.get(&seat), refusal, wish) {
            // Gone from the cluster, and it never had a node to act on.
            (Some(false), ..) => Some((LossReason::Ended(Reason::PodDeleted.name().to_owned()), false)),
            // Gone with its node, perhaps: nothing is proven, and its silence speaks for it.
            (Some(true), ..) => None,
            (None, Some(Rejection::Never(reason, problem)), _) => {
                Some((cannot_start(*reason, &problem.cause), false))
            }
            (None, Some(Rejection::NamespaceGoes), _) => {
                Some((cannot_start(Reason::PodDeleted, "its namespace is being deleted"), false))
            }
            (None, Some(Rejection::NameTaken), _) if rejected.is_some_and(|it| is_foreign(observed, it)) => {
                let name = observed.run.identity.pod_name(seat.0, seat.1);
                Some((
                    cannot_start(Reason::NameConflict, &format!("pod {name} belongs to somebody else")),
                    false,
                ))
            }
            (None, _, Wish::Goes) => Some((LossReason::Ended("it never had a pod".to_owned()), false)),
            (None, _, Wish::Lives) => None,
        };
    };
    if let Some(ended) = pod.ended.as_ref().filter(|ended| ended.dead) {
        return Some((ended.loss.clone(), ended.clean));
    }
    let trouble = observed.troubles.get(&seat).filter(|trouble| trouble.weight == Weight::Fatal)?;
    Some((cannot_start(trouble.reason, &trouble.problem.cause), false))
}

/// A loss that another attempt would suffer too, its reason first.
fn cannot_start(reason: Reason, cause: &str) -> LossReason {
    let said = cause.starts_with(reason.name());
    LossReason::CannotStart(if said { cause.to_owned() } else { format!("{reason}: {cause}") })
}

fn is_fatal(observed: &Observed<'_>, seat: Seat) -> bool {
    observed.troubles.get(&seat).is_some_and(|trouble| trouble.weight == Weight::Fatal)
}

fn pod_of<'a>(observed: &Observed<'a>, seat: Seat) -> Option<&'a PodFacts> {
    observed.pods.get(&seat)
}

/// Asks a pod to go, once.
pub(super) fn delete(planned: &mut Planned, pod: &PodFacts, why: &str) {
    if !pod.deleting {
        let action = Action::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() };
        planned.step(action, format!("{}: {why}", pod.name));
    }
}

/// Asks every pod to go.
pub(super) fn delete_all(observed: &Observed<'_>, planned: &mut Planned, why: &str) {
    for pod in observed.pods.values() {
        delete(planned, pod, why);
    }
}
