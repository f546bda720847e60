//! Random stories: whatever happens around a run, in whatever order.

use super::*;
use proptest::prelude::*;

/// Something that happens around a run.
#[derive(Clone, Debug)]
enum Happens {
    Time(i64),
    Room(usize),
    Refuse(bool),
    End(u32),
    Vanish(u32),
    GiveUp(u32),
    Kubelet,
    Suspend(bool),
    Stop,
    Delete,
    Over,
    Restart,
    Rival(bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (1..200_i64).prop_map(Happens::Time),
        (0..8_usize).prop_map(Happens::Room),
        any::<bool>().prop_map(Happens::Refuse),
        (0..4_u32).prop_map(Happens::End),
        (0..4_u32).prop_map(Happens::Vanish),
        (0..4_u32).prop_map(Happens::GiveUp),
        Just(Happens::Kubelet),
        any::<bool>().prop_map(Happens::Suspend),
        Just(Happens::Stop),
        Just(Happens::Delete),
        Just(Happens::Over),
        Just(Happens::Restart),
        any::<bool>().prop_map(Happens::Rival),
    ]
}

impl World {
    fn happen(&mut self, happens: &Happens) {
        match *happens {
            Happens::Time(seconds) => self.wait_s(seconds),
            Happens::Room(room) => self.room = room,
            Happens::Refuse(refuses) => {
                let quota = || {
                    Rejection::Wait(Reason::WaitingForQuota, Problem::new("not created", "exceeded quota"))
                };
                self.refuses = refuses.then(quota);
            }
            Happens::End(index) => {
                for attempt in 0..10 {
                    self.end((index, attempt), Reason::OOMKilled, false);
                }
            }
            Happens::Vanish(index) => self.pods.retain(|pod| pod.seat.0 != index),
            Happens::GiveUp(index) => self.replace(index),
            Happens::Kubelet => self.kubelet(),
            Happens::Suspend(suspend) => {
                self.run.suspend = suspend;
                self.run.suspended |= suspend;
            }
            Happens::Stop => self.run.stop = Some(Stop::Graceful),
            Happens::Delete => self.run.deleting = true,
            Happens::Over => self.over(),
            Happens::Restart => self.memory = Memory::default(),
            Happens::Rival(short) => {
                self.others = vec![OtherRun { active: true, short, holds: short, ..other("older", 60) }];
            }
        }
    }

    /// As the decider would: the attempt goes, and another comes when it is known to be dead.
    fn replace(&mut self, index: u32) {
        let Decider::Live { wishes, told, stopped: None } = &mut self.decider else { return };
        let Some((&seat, _)) = wishes.iter().rfind(|(seat, _)| seat.0 == index) else { return };
        wishes.insert(seat, Wish::Goes);
        if told.contains(&seat) {
            wishes.insert((index, seat.1 + 1), Wish::Lives);
        }
    }

    /// The decider is done, and publishing has written what there is to write.
    fn over(&mut self) {
        if matches!(self.decider, Decider::Live { .. }) && self.run.finished.is_none() {
            if self.run.is_suspended_attempt() {
                self.decider = Decider::Over;
            } else {
                self.decider = Decider::Absent;
                self.run.finished = Some(Finished { at: self.now, complete: false });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever happens, in whatever order: no step repeats what is done, none is taken that must not be (the world refuses
    /// it), and the planner comes to rest. A run that is deleted lets go as soon as its agents are gone.
    #[test]
    fn whatever_happens_no_step_is_wrong_or_repeated(
        story in proptest::collection::vec(happens(), 0..40),
        delete_last in any::<bool>(),
    ) {
        let mut world = World::new(4);
        world.run.min_available = 3;
        for happens in story {
            if world.deleted || (world.run.deleting && !world.run.finalizer) {
                break;
            }
            world.happen(&happens);
            world.schedule();
            world.settle();
        }
        if delete_last && !world.deleted {
            world.run.deleting = true;
            world.settle();
            world.over();
            world.settle();
            world.kubelet();
            world.settle();
            prop_assert!(!world.run.finalizer && world.pods.iter().all(|pod| !pod.may_live()));
        }
    }
}
