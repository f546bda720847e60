//! Lines to the coordinator: a session with every replica of it, at each address that its name has now.
//!
//! A replica that does not coordinate the run holds its session until it does, so a change of leader costs no redial. Which
//! of them is obeyed, the control loop decides by epoch. Names are looked up anew on each loss and every ten seconds.
//!
//! An agent that has its coordinator dials other replicas at its leisure: one that has just started would else be met by all
//! agents at once, while the one that leads since then has them to take over.

use super::dial::{Greeting, Wire, session};
use super::{Access, Identity, redial_delay};
use crate::clock::now_ns;
use lockstep_core::rng::Stream;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

/// How often the name is looked up while nothing is lost.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// Within what time a replica is dialled that nobody waits for, with full jitter.
const LEISURE: Duration = Duration::from_secs(30);
/// Replicas that are dialled; a name with more addresses is not one of a coordinator.
const LINES_MAX: usize = 8;

/// What lines share with the control loop.
#[derive(Clone, Default)]
pub(crate) struct Hail {
    /// What goes into every hello and every pong.
    pub(crate) greeting: Rc<Cell<Greeting>>,
    known: Rc<RefCell<Vec<SocketAddr>>>,
    /// Sessions that are open now with whoever coordinates the run.
    welcomed: Rc<watch::Sender<usize>>,
    lost: Rc<Notify>,
}

/// Keeps a line to each address, for ever.
pub(crate) async fn keep(identity: Identity, hail: Hail, events: mpsc::UnboundedSender<Wire>) {
    let mut random = Stream::new(u64::from(std::process::id()), now_ns());
    let mut lines: BTreeMap<SocketAddr, JoinHandle<()>> = BTreeMap::new();
    let mut failures = 0;
    loop {
        match look_up(&identity).await {
            Ok(addresses) => {
                failures = 0;
                lines.retain(|_, line| !line.is_finished());
                hail.known.replace(addresses.clone());
                for address in addresses {
                    lines.entry(address).or_insert_with(|| {
                        tokio::task::spawn_local(line(
                            identity.clone(),
                            address,
                            hail.clone(),
                            events.clone(),
                        ))
                    });
                }
            }
            Err(reason) => {
                failures += 1;
                if events.send(Wire::Down(None, reason)).is_err() {
                    return;
                }
            }
        }
        let wait = if failures > 0 { redial_delay(failures, random.next_u64()) } else { LOOK_UP_EVERY };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = hail.lost.notified(), if failures == 0 => {}
        }
        if events.is_closed() {
            return;
        }
    }
}

/// Addresses of the coordinator's name now.
async fn look_up(identity: &Identity) -> Result<Vec<SocketAddr>, String> {
    let name = &identity.coordinator;
    let found = tokio::net::lookup_host(name).await;
    let mut addresses: Vec<SocketAddr> =
        found.map_err(|error| format!("{name} cannot be resolved: {error}"))?.take(LINES_MAX).collect();
    addresses.sort_unstable();
    addresses.dedup();
    // One machine: both families of its loopback lead to the same process.
    if matches!(identity.access, Access::Secret(_)) {
        addresses.truncate(1);
    }
    Ok(addresses)
}

/// One session after the other with one address, for as long as the name leads there.
async fn line(identity: Identity, address: SocketAddr, hail: Hail, events: mpsc::UnboundedSender<Wire>) {
    let mut random = Stream::new(u64::from(address.port()), now_ns());
    let mut failures = 0;
    at_leisure(&hail, random.next_u64()).await;
    loop {
        let reason = match session(&identity, address, &hail.greeting, &hail.welcomed, &events).await {
            Ok(()) => {
                failures = 0;
                "the stream ended".to_owned()
            }
            Err(reason) => reason,
        };
        hail.lost.notify_one();
        if events.send(Wire::Down(Some(address), reason)).is_err() || !hail.known.borrow().contains(&address)
        {
            return;
        }
        tokio::time::sleep(redial_delay(failures, random.next_u64())).await;
        at_leisure(&hail, random.next_u64()).await;
        failures += 1;
    }
}

/// Waits while another replica coordinates the run, up to a random time.
async fn at_leisure(hail: &Hail, random: u64) {
    let mut welcomed = hail.welcomed.subscribe();
    let wait = Duration::from_millis(random % (LEISURE.as_millis() as u64 + 1));
    // The sender is ours too, so that it cannot be gone.
    let _ = tokio::time::timeout(wait, welcomed.wait_for(|sessions| *sessions == 0)).await;
}
