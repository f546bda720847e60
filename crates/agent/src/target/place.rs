//! The place of a data set: what an agent does around the load, once per run, not per operation: look whether the
//! place is ours, take the lock, write and remove the marker, sync, and take the place away again.

use lockstep_core::dataset::marker::Marker;
use lockstep_core::problem::Problem;

/// What lies at the place before the run touches it.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing is there; for files, the last path component is missing and its parent exists.
    Absent,
    /// It exists and holds nothing.
    Empty,
    /// It holds a data set of ours, with this marker.
    Marked(Box<Marker>),
    /// It holds something and bears no marker; a few names of what is there.
    Foreign(Vec<String>),
}

/// How taking the lock went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locked {
    /// It was free.
    Taken,
    /// A run that is gone had left it; the text says which and since when.
    TakenOver(String),
    /// Another run holds it; the text says which and since when.
    Held(String),
}

/// One named check of preflight.
#[derive(Clone, Debug)]
pub struct Check {
    /// Name, e.g. `reachable`, `rights`, `free-space`.
    pub name: &'static str,
    /// What was found, for people.
    pub finding: String,
    /// What is wrong, if anything is.
    pub problem: Option<Problem>,
}

/// The place of a data set. One value per agent.
#[allow(async_fn_in_trait, reason = "used with static dispatch only")]
pub trait Place {
    /// Named checks of the target: reachable, rights, space. Creates nothing that it does not remove again.
    async fn check(&mut self) -> Vec<Check>;
    /// Looks what lies there.
    async fn look(&mut self) -> Result<Found, Problem>;
    /// Takes the lock for the run `uid`, and holds it until [`Place::unlock`] or the end of the process.
    async fn lock(&mut self, uid: &str) -> Result<Locked, Problem>;
    /// Why the lock that was taken is not ours any more, where that can happen. To be asked now and then; stays until the
    /// lock is taken again.
    fn lost(&self) -> Option<Problem> {
        None
    }
    /// Gives the lock back and removes what it left.
    async fn unlock(&mut self) -> Result<(), Problem>;
    /// Creates the place if it is absent, and writes the marker, durably.
    async fn mark(&mut self, marker: &Marker) -> Result<(), Problem>;
    /// Flushes what prepare wrote to stable storage, where the target knows such a thing.
    async fn sync(&mut self) -> Result<(), Problem>;
    /// Removes the marker, and the place itself if the marker says that a run created it and it is empty now.
    async fn unmark(&mut self, marker: &Marker) -> Result<(), Problem>;
    /// Requests sent for all of this so far, where the target is one that takes requests.
    fn requests(&self) -> u64 {
        0
    }
}
