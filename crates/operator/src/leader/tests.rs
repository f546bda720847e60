//! Contenders in simulated time, each with a clock of its own, over a server that is only ever compare-and-swap.

use super::clock::Moment;
use super::decide::{DURATION, Elector, RENEW_EVERY, RETRY_EVERY, Record, Role, Step, Terms, epoch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// A request in the network.
#[derive(Clone, Debug)]
struct Request {
    /// `None`: a read.
    write: Option<(Record, bool)>,
    sent: Moment,
    answer: Option<Result<Option<Record>, ()>>,
}

struct Contender {
    elector: Elector,
    me: String,
    pending: Option<Request>,
    /// Its clock: an offset, and thousandths of a true millisecond per millisecond.
    offset_ms: u64,
    rate: u64,
}

#[derive(Default)]
struct World {
    now_ms: u64,
    lease: Option<Record>,
    version: u64,
    contenders: Vec<Contender>,
    /// Requests whose sender has given them up, and that may still arrive.
    ghosts: Vec<Request>,
    born: u32,
}

impl World {
    fn of(contenders: usize) -> Self {
        let mut world = Self::default();
        for at in 0..contenders {
            let at = at as u64;
            world.contenders.push(world.contender(at * 3_600_000, 1_000 - 40 * at));
            world.born += 1;
        }
        world
    }

    fn contender(&self, offset_ms: u64, rate: u64) -> Contender {
        let me = format!("pod-{}", self.born);
        let elector = Elector::new(&me, Terms::default());
        Contender { elector, me, pending: None, offset_ms, rate }
    }

    fn clock(&self, who: usize) -> Moment {
        let Contender { offset_ms, rate, .. } = &self.contenders[who];
        Moment::default().plus(Duration::from_millis(offset_ms + self.now_ms * rate / 1_000))
    }

    /// The next thing that this contender does, or that becomes of its request. Answers whether there was one.
    fn step(&mut self, who: usize) -> bool {
        let now = self.clock(who);
        let contender = &mut self.contenders[who];
        let Some(mut request) = contender.pending.take() else { return self.decide(who, now) };
        match request.answer.take() {
            None => {
                request.answer = Some(self.serve(request.write.clone()));
                self.contenders[who].pending = Some(request);
            }
            Some(Ok(record)) => match request.write {
                Some((_, false)) => {
                    contender.elector.wrote(record.expect("what was written"), request.sent, now);
                }
                Some((_, true)) | None => contender.elector.observed(record, now),
            },
            Some(Err(())) => contender.elector.outrun(),
        }
        true
    }

    fn decide(&mut self, who: usize, now: Moment) -> bool {
        let contender = &mut self.contenders[who];
        // Wall clocks jump as they like.
        let renewed = Some(format!("{}", self.now_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let record = |version: String, transitions| {
            let holder = (!version.is_empty()).then(|| contender.me.clone());
            Record { holder, transitions, version, renewed, free: false }
        };
        let write = match contender.elector.decide(now) {
            Step::Wait(until) => {
                assert!(until > now, "to wait until now is a busy loop");
                return false;
            }
            Step::StandDown => {
                contender.elector.stood_down();
                return true;
            }
            Step::Look => None,
            Step::Create { transitions } => Some((record(String::new(), transitions), true)),
            Step::Acquire { version, transitions } | Step::Renew { version, transitions } => {
                Some((record(version, transitions), false))
            }
        };
        contender.pending = Some(Request { write, sent: now, answer: None });
        true
    }

    fn serve(&mut self, write: Option<(Record, bool)>) -> Result<Option<Record>, ()> {
        if let Some((mut record, create)) = write {
            let stands = match &self.lease {
                None => create,
                Some(lease) => !create && lease.version == record.version,
            };
            if !stands {
                return Err(());
            }
            self.version += 1;
            record.version = self.version.to_string();
            self.lease = Some(record);
        }
        Ok(self.lease.clone())
    }

    /// The sender gives its request up; it may arrive yet.
    fn lose(&mut self, who: usize) {
        let now = self.clock(who);
        if let Some(request) = self.contenders[who].pending.take() {
            self.contenders[who].elector.failed(now);
            if request.answer.is_none() {
                self.ghosts.push(request);
            }
        }
    }

    /// Everybody but those who are stopped acts as soon as there is something to do.
    fn run(&mut self, span: Duration, stopped: &[usize]) {
        let end_ms = self.now_ms + span.as_millis() as u64;
        while self.now_ms < end_ms {
            for who in 0..self.contenders.len() {
                while !stopped.contains(&who) && self.step(who) {}
            }
            self.now_ms += 10;
            self.assert_one();
        }
    }

    fn writers(&self) -> Vec<usize> {
        let may = |who: &usize| self.clock(*who) < self.contenders[*who].elector.until();
        (0..self.contenders.len()).filter(may).collect()
    }

    fn assert_one(&self) {
        let writers = self.writers();
        assert!(writers.len() <= 1, "{writers:?} may write at {} ms: {:?}", self.now_ms, self.lease);
    }

    fn role(&self, who: usize) -> Role {
        self.contenders[who].elector.role()
    }
}

const LEADS_FIRST: Role = Role::Leader { transitions: 1 };

/// A Lease as the chart makes it.
fn empty() -> Option<Record> {
    Some(Record { holder: None, transitions: 0, version: "0".to_owned(), renewed: None, free: true })
}

#[test]
fn an_empty_lease_is_taken_at_once_by_one_of_three() {
    let mut world = World { lease: empty(), ..World::of(3) };
    world.run(Duration::from_millis(20), &[]);
    assert_eq!((world.writers(), world.role(0)), (vec![0], LEADS_FIRST));
    world.run(Duration::from_secs(3600), &[]);
    assert_eq!((world.writers(), world.role(0)), (vec![0], LEADS_FIRST));
    for who in [1, 2] {
        assert_eq!(world.role(who), Role::Standby { holder: Some("pod-0".to_owned()) });
    }
}

#[test]
fn where_no_lease_is_nobody_leads_before_its_duration_is_over() {
    let mut world = World::of(2);
    world.run(DURATION - Duration::from_secs(1), &[]);
    assert!(world.writers().is_empty());
    world.run(Duration::from_secs(2), &[]);
    assert_eq!((world.writers(), world.role(0)), (vec![0], LEADS_FIRST));
}

#[test]
fn a_leader_that_is_stopped_is_followed_and_stands_down_when_it_goes_on() {
    let mut world = World { lease: empty(), ..World::of(3) };
    world.run(RENEW_EVERY, &[]);
    world.run(DURATION + RETRY_EVERY, &[0]);
    assert_eq!(world.role(0), LEADS_FIRST, "it does not know yet");
    let writers = world.writers();
    assert!(writers == [1] || writers == [2], "{writers:?}");
    assert_eq!(world.role(writers[0]), Role::Leader { transitions: 2 });
    world.run(Duration::from_millis(50), &[]);
    let holder = Some(format!("pod-{}", writers[0]));
    assert_eq!((world.role(0), world.writers()), (Role::Standby { holder }, writers));
}

#[test]
fn a_leader_that_nobody_followed_goes_on_under_its_number() {
    let mut world = World { lease: empty(), ..World::of(2) };
    world.run(RENEW_EVERY, &[]);
    world.run(Duration::from_secs(60), &[0, 1]);
    assert_eq!(
        (world.writers(), world.role(0)),
        (vec![], LEADS_FIRST),
        "its time is over, and it still leads"
    );
    world.run(Duration::from_millis(20), &[1]);
    assert_eq!((world.writers(), world.role(0)), (vec![0], LEADS_FIRST));
}

#[test]
fn a_lease_that_is_deleted_or_emptied_costs_no_leadership() {
    let mut world = World { lease: empty(), ..World::of(3) };
    world.run(RENEW_EVERY * 3, &[]);
    world.lease = None;
    world.run(DURATION, &[]);
    assert_eq!((world.writers(), world.role(0)), (vec![0], LEADS_FIRST));
    // As a chart makes it anew: not what a leader leaves behind.
    world.lease = empty();
    world.run(DURATION, &[]);
    assert_eq!((world.writers(), world.role(0)), (vec![0], LEADS_FIRST));
}

#[test]
fn a_lease_that_is_deleted_while_its_leader_is_stopped_goes_to_another() {
    let mut world = World { lease: empty(), ..World::of(2) };
    world.run(RENEW_EVERY * 3, &[]);
    world.lease = None;
    world.run(DURATION + RETRY_EVERY * 2, &[0]);
    assert_eq!((world.writers(), world.role(1)), (vec![1], Role::Leader { transitions: 2 }));
}

#[test]
fn who_cannot_know_whether_another_has_led_leads_anew() {
    let mut world = World { lease: empty(), ..World::of(1) };
    world.run(RENEW_EVERY, &[]);
    world.run(DURATION, &[0]);
    world.lease = None;
    world.run(Duration::from_millis(20), &[]);
    assert_eq!(world.role(0), Role::Standby { holder: None });
    world.run(DURATION, &[]);
    assert_eq!((world.writers(), world.role(0)), (vec![0], Role::Leader { transitions: 2 }));
}

#[test]
fn what_a_leader_lets_go_is_taken_within_two_seconds() {
    let mut world = World { lease: empty(), ..World::of(2) };
    world.run(RENEW_EVERY * 5, &[]);
    let lease = world.lease.as_mut().expect("a lease");
    (lease.holder, lease.version, lease.free) = (None, "let go".to_owned(), true);
    world.contenders[0].elector.stood_down();
    world.run(Duration::from_millis(1_100), &[0]);
    assert_eq!((world.writers(), world.role(1)), (vec![1], Role::Leader { transitions: 2 }));
}

#[test]
fn a_write_that_was_taken_and_not_answered_is_recognised() {
    let mut world = World { lease: empty(), ..World::of(1) };
    // The look; then the write, which arrives.
    for _ in 0..5 {
        world.step(0);
    }
    assert!(world.lease.as_ref().is_some_and(|lease| lease.holder.is_some()));
    world.lose(0);
    assert!(world.writers().is_empty());
    world.run(RETRY_EVERY + Duration::from_millis(20), &[]);
    assert_eq!((world.writers(), world.role(0)), (vec![0], LEADS_FIRST));
}

#[test]
fn a_write_of_somebody_who_is_no_contender_is_no_sign_of_life() {
    let mut world = World { lease: empty(), ..World::of(2) };
    world.run(RENEW_EVERY, &[]);
    for second in 0..12 {
        world.run(RETRY_EVERY, &[0]);
        if let Some(lease) = world.lease.as_mut().filter(|lease| lease.holder.as_deref() == Some("pod-0")) {
            lease.version = format!("labelled-{second}");
        }
    }
    assert_eq!(world.writers(), [1]);
}

#[test]
fn epochs_only_rise() {
    assert_eq!(epoch(1, []), 2);
    assert_eq!(epoch(7, [3, 6]), 8);
    assert_eq!(epoch(1, [3, 41]), 42, "a lease that was deleted counts from the start");
}

/// What may happen next.
#[derive(Clone, Debug)]
enum Happens {
    Step(usize),
    Lose(usize),
    Arrive(usize),
    Restart(usize),
    Delete,
}

fn happens() -> impl Strategy<Value = (u64, Happens)> {
    // Mostly steps close to each other; whoever is not named for long is stopped for that long.
    let after_ms = prop_oneof![6 => 0..200_u64, 3 => 200..4_000_u64, 1 => 4_000..12_000_u64];
    let what = prop_oneof![
        40 => (0..3_usize).prop_map(Happens::Step),
        3 => (0..3_usize).prop_map(Happens::Lose),
        3 => (0..8_usize).prop_map(Happens::Arrive),
        1 => (0..3_usize).prop_map(Happens::Restart),
        1 => Just(Happens::Delete),
    ];
    (after_ms, what)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn never_two_may_write_at_once(story in proptest::collection::vec(happens(), 1..400)) {
        let mut world = World { lease: empty(), ..World::of(3) };
        let mut numbers = BTreeMap::<i64, String>::new();
        let mut deleted = false;
        for (after_ms, what) in story {
            world.now_ms += after_ms;
            match what {
                Happens::Step(who) => _ = world.step(who),
                Happens::Lose(who) => world.lose(who),
                Happens::Arrive(at) if at < world.ghosts.len() => {
                    let ghost = world.ghosts.swap_remove(at);
                    let _ = world.serve(ghost.write);
                }
                Happens::Restart(who) => {
                    let Contender { offset_ms, rate, .. } = world.contenders[who];
                    world.ghosts.extend(world.contenders[who].pending.take());
                    world.born += 1;
                    world.contenders[who] = world.contender(offset_ms, rate);
                }
                Happens::Delete => (world.lease, deleted) = (None, true),
                Happens::Arrive(_) => {}
            }
            world.assert_one();
            // Without a Lease to remember it, a number may come again: so epochs look at statuses, too.
            for who in world.writers().into_iter().filter(|_| !deleted) {
                let Role::Leader { transitions } = world.role(who) else { panic!("only a leader writes") };
                let me = &world.contenders[who].me;
                let first = numbers.entry(transitions).or_insert_with(|| me.clone());
                prop_assert_eq!(first, me, "number {} is of two processes", transitions);
            }
        }
        // Left to itself, one leads.
        world.run(DURATION * 3, &[]);
        prop_assert_eq!(world.writers().len(), 1);
    }
}
