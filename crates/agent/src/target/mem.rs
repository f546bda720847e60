//! Objects in the memory of the agent's process, to try a run without any storage.
//!
//! Workers share one map, cut into shards that are locked for the length of one lookup. Only the sizes of objects
//! are kept, not their bytes: contents are functions of the index, and the point is the engine. Every agent
//! process has its own map, so this target makes sense with `PerAgent` data sets (or one agent) only.
//! `target.options.latency` makes each call take at least that long.

use super::backend::{Assignment, Backend, SimulatedLatency, stopped, wait_on_thread};
use super::place::{Check, Found, Locked, Place};
use super::{Done, Failure, Object, Outcome, Target};
use crate::engine::hands::Hands;
use lockstep_core::dataset::marker::Marker;
use lockstep_core::op::ErrorClass;
use lockstep_core::plan::TargetPlan;
use lockstep_core::problem::Problem;
use lockstep_core::rng::word;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Shards of the map; many more than cores.
const SHARDS: u64 = 256;

/// A map from (seed of the key space, index) to size, in shards.
#[derive(Debug)]
struct Map {
    shards: Vec<Mutex<HashMap<(u64, u64), u64>>>,
}

impl Map {
    fn with<R>(&self, key: (u64, u64), act: impl FnOnce(&mut HashMap<(u64, u64), u64>) -> R) -> R {
        let shard = &self.shards[(word(key.0, key.1) % SHARDS) as usize];
        act(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes memory targets, all over one map.
#[derive(Debug)]
pub struct MemBackend {
    latency: SimulatedLatency,
    map: Arc<Map>,
}

impl MemBackend {
    /// A backend with the options of the plan and an empty map.
    ///
    /// # Errors
    /// An option that cannot be read.
    pub fn new(plan: &TargetPlan) -> Result<Self, Problem> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Ok(Self { latency: SimulatedLatency::read(plan)?, map: Arc::new(Map { shards }) })
    }

    /// How many objects are there.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.map.shards.iter().map(|shard| shard.lock().map_or(0, |shard| shard.len())).sum()
    }
}

impl Backend for MemBackend {
    type Lane = ();
    type Target = MemTarget;
    type Place = ProcessPlace;
    const BLOCKING: bool = true;

    fn lane(&self, _: usize) -> Result<(), Problem> {
        Ok(())
    }

    fn target(&self, (): &(), assignment: Assignment) -> Result<MemTarget, Problem> {
        let seed = assignment.data.seed;
        Ok(MemTarget { latency: self.latency, map: Arc::clone(&self.map), seed, hands: assignment.hands })
    }

    fn place(&self, _: Option<u32>) -> Result<ProcessPlace, Problem> {
        Ok(ProcessPlace::new(true))
    }
}

/// A worker's memory target.
#[derive(Debug)]
pub struct MemTarget {
    latency: SimulatedLatency,
    map: Arc<Map>,
    seed: u64,
    hands: Hands,
}

impl MemTarget {
    fn look(&self, object: Object<'_>) -> Outcome {
        match self.map.with((self.seed, object.index), |shard| shard.get(&(self.seed, object.index)).copied())
        {
            Some(bytes) => Ok(Done { bytes, first_byte_ns: None }),
            None => missing(object),
        }
    }

    fn pass(&self, object: Object<'_>) -> Result<(), Failure> {
        self.latency.pass(&self.hands);
        if self.latency.ns > 0 && self.hands.stopped() { stopped(object).map(|_| ()) } else { Ok(()) }
    }
}

fn missing(object: Object<'_>) -> Outcome {
    Err(Failure { class: ErrorClass::NotFound, detail: format!("{} is not in memory", object.name) })
}

impl Target for MemTarget {
    async fn get(&mut self, object: Object<'_>, _verify: bool) -> Outcome {
        self.pass(object)?;
        let done = self.look(object)?;
        if done.bytes == object.size {
            return Ok(done);
        }
        let detail = format!("{} has {} bytes, not {}", object.name, done.bytes, object.size);
        Err(Failure { class: ErrorClass::Corrupt, detail })
    }

    async fn put(&mut self, object: Object<'_>) -> Outcome {
        self.pass(object)?;
        self.map
            .with((self.seed, object.index), |shard| shard.insert((self.seed, object.index), object.size));
        Ok(Done { bytes: object.size, first_byte_ns: None })
    }

    async fn head(&mut self, object: Object<'_>) -> Outcome {
        self.pass(object)?;
        self.look(object)
    }

    async fn list(&mut self, object: Object<'_>) -> Outcome {
        self.pass(object)?;
        Ok(Done::default())
    }

    async fn delete(&mut self, object: Object<'_>) -> Outcome {
        self.pass(object)?;
        match self.map.with((self.seed, object.index), |shard| shard.remove(&(self.seed, object.index))) {
            Some(_) => Ok(Done::default()),
            None => missing(object),
        }
    }

    async fn wait_until(&mut self, at_ns: u64) {
        wait_on_thread(at_ns, &self.hands);
    }

    async fn breathe(&mut self) {}
}

/// The place of data that lives no longer than the process: always free, never foreign.
#[derive(Debug)]
pub struct ProcessPlace {
    keeps: bool,
    marker: Option<Marker>,
}

impl ProcessPlace {
    /// A place; `keeps`: whether a marker that was written is found again.
    #[must_use]
    pub fn new(keeps: bool) -> Self {
        Self { keeps, marker: None }
    }
}

impl Place for ProcessPlace {
    async fn check(&mut self) -> Vec<Check> {
        vec![Check { name: "reachable", finding: "in this process".into(), problem: None }]
    }

    async fn look(&mut self) -> Result<Found, Problem> {
        Ok(self.marker.clone().map_or(Found::Empty, |marker| Found::Marked(Box::new(marker))))
    }

    async fn lock(&mut self, _uid: &str) -> Result<Locked, Problem> {
        Ok(Locked::Taken)
    }

    async fn unlock(&mut self) -> Result<(), Problem> {
        Ok(())
    }

    async fn mark(&mut self, marker: &Marker) -> Result<(), Problem> {
        self.marker = self.keeps.then(|| marker.clone());
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Problem> {
        Ok(())
    }

    async fn unmark(&mut self, _marker: &Marker) -> Result<(), Problem> {
        self.marker = None;
        Ok(())
    }
}
