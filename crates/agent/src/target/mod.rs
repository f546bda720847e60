//! Targets: what one worker can do to storage.
//!
//! A worker owns its target value; nothing in it is shared, so nothing in it is locked. The methods are `async`
//! so that one worker loop serves both worlds: object stores wait on a single-threaded runtime per core, file
//! targets block on a plain thread and their futures are ready at the first poll. Deliberately no `dyn`: each
//! target has its own copy of the worker loop.

pub mod backend;
pub mod file;
mod file_checks;
mod file_dirs;
pub mod file_place;
pub mod mem;
pub mod null;
pub mod place;
pub mod s3;

use lockstep_core::op::ErrorClass;

/// One object of the data set, as an operation sees it.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Index in its key space; also chooses the endpoint.
    pub index: u64,
    /// Name relative to the target's base, with the agent's prefix if there is one; `/` separates directories.
    pub name: &'a str,
    /// Size in bytes that it has, or shall have.
    pub size: u64,
}

/// What a successful operation reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Payload bytes read or written; for `list` the number of entries.
    pub bytes: u64,
    /// When the first byte of the answer was there, on the agent's monotonic clock; `None` where that means nothing.
    pub first_byte_ns: Option<u64>,
}

/// Why an operation failed. Cold: formatting is allowed here.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The class that policy looks at.
    pub class: ErrorClass,
    /// The technical cause with its numbers, e.g. `HTTP 403 AccessDenied on PUT of d00/f12 at http://…`.
    pub detail: String,
}

/// What an operation comes to.
pub type Outcome = Result<Done, Failure>;

/// What one worker can do to storage. Dropping a future must stop its I/O (object targets); blocking targets look at
/// the abort flag between chunks of at most 1 MiB.
#[allow(async_fn_in_trait, reason = "used with static dispatch only")]
pub trait Target {
    /// Reads the whole object and checks its length; with `verify` also its content.
    async fn get(&mut self, object: Object<'_>, verify: bool) -> Outcome;
    /// Writes the whole object; its content is the data set's function of (seed, index).
    async fn put(&mut self, object: Object<'_>) -> Outcome;
    /// Looks the object up; [`Done::bytes`] is the size that the storage reports.
    async fn head(&mut self, object: Object<'_>) -> Outcome;
    /// Lists one page (at most 1,000 entries) of the directory or prefix that the object lies in.
    async fn list(&mut self, object: Object<'_>) -> Outcome;
    /// Removes the object; one that is not there is `NotFound`.
    async fn delete(&mut self, object: Object<'_>) -> Outcome;
    /// Waits until the agent's monotonic clock shows `at_ns`. Returns early when the worker is told to stop.
    async fn wait_until(&mut self, at_ns: u64);
    /// Lets others run: nothing on a thread of its own, a yield on a runtime.
    async fn breathe(&mut self);
    /// A block of leased work is through. Files: a cleanup removes the directories that became empty.
    async fn settle(&mut self) {}
    /// What was counted beside operations since the last call; asked for once, at the end.
    fn account(&mut self) -> backend::Account {
        backend::Account::default()
    }
}
