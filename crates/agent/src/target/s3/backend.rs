//! What makes S3 targets for the engine: the plan's target, read once, so that a mistake in it is found before any
//! thread exists.

use super::client::{S3Client, Site};
use super::place::LOCK_TTL;
use super::{Credentials, S3Place, S3Target};
use crate::target::backend::{Assignment, Backend};
use lockstep_core::dataset::names::write_agent_prefix;
use lockstep_core::plan::Plan;
use lockstep_core::problem::Problem;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Makes S3 targets.
#[derive(Debug)]
pub struct S3Backend {
    site: Arc<Site>,
    lock_ttl: Duration,
}

impl S3Backend {
    /// A backend for agent `index` of the plan, with the credentials of the environment.
    ///
    /// # Errors
    /// As [`S3Client::connect`].
    pub fn new(plan: &Plan, index: u32, user_agent: &str) -> Result<Self, Problem> {
        Self::build(plan, index, user_agent, None)
    }

    /// The same with given credentials.
    ///
    /// # Errors
    /// As [`S3Client::connect`].
    pub fn new_with(
        plan: &Plan,
        index: u32,
        user_agent: &str,
        credentials: Credentials,
    ) -> Result<Self, Problem> {
        Self::build(plan, index, user_agent, Some(credentials))
    }

    fn build(
        plan: &Plan,
        index: u32,
        user_agent: &str,
        credentials: Option<Credentials>,
    ) -> Result<Self, Problem> {
        let site = Site::read(&plan.target, user_agent, index, credentials)?;
        Ok(Self { site: Arc::new(site), lock_ttl: LOCK_TTL })
    }

    /// Another life time of the place's lock without its holder, from 1 s on.
    #[must_use]
    pub fn with_lock_ttl(mut self, ttl: Duration) -> Self {
        self.lock_ttl = ttl;
        self
    }

    /// Every setting that bends results, for the report's environment. Holds no secret.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.site.settings()
    }
}

impl Backend for S3Backend {
    type Lane = S3Client;
    type Target = S3Target;
    type Place = S3Place;
    const BLOCKING: bool = false;

    fn lane(&self, _: usize) -> Result<S3Client, Problem> {
        S3Client::on(Arc::clone(&self.site))
    }

    fn target(&self, lane: &S3Client, assignment: Assignment) -> Result<S3Target, Problem> {
        lane.target(&assignment.data, assignment.hands)
    }

    fn place(&self, space: Option<u32>) -> Result<S3Place, Problem> {
        let mut site = Site::clone(&self.site);
        if let Some(agent) = space {
            let mut prefix = String::new();
            write_agent_prefix(agent, &mut prefix);
            site.prefix = site.key(prefix.trim_end_matches('/'));
        }
        Ok(S3Place::on(site)?.with_lock_ttl(self.lock_ttl))
    }
}
