//! Runs of a cluster, through their objects: `lockstep start`, `get`, `watch`, `report` of a run, and `stop`.
//!
//! The operator decides and writes; here is only read what it wrote, one field of the spec set, and a run created as it was
//! given. So this asks for no more than a person who may look at runs has: get, watch and patch of `benchmarkruns` (list for
//! tables, create for `start`), get of the ConfigMap with the report. What an object holds that this version does not know is passed over, never an error.

pub mod access;
pub mod changes;
pub mod describe;
pub mod follow;
pub mod object;
pub mod results;
pub mod seen;
pub mod trouble;

use lockstep_core::problem::Problem;
use std::future::Future;

/// Runs something that waits for the API server.
///
/// # Errors
/// Its own, and a machine on which nothing can be waited for.
pub fn block_on<T>(future: impl Future<Output = Result<T, Box<Problem>>>) -> Result<T, Box<Problem>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Box::new(Problem::new("the API server cannot be asked", error.to_string())))?;
    runtime.block_on(future)
}
