//! The place of a data set in a bucket: everything under one prefix.
//!
//! A prefix exists when a key begins with it, so there is nothing to create and nothing to remove but our own
//! marker and lock. Requests go through the first endpoint (`PerAgent`: the agent's own), except the checks, which
//! look at every one. They are counted apart from data requests, wait at most [`PLACE_TIMEOUT`], and are tried again when
//! they fail in a way that may pass (`tries.rs`).

use super::classify::Fault;
use super::client::{Link, Site};
use super::counters::WireCounts;
use super::credentials::Credentials;
use super::lock::{FoundLock, HeldLock, LOCK_NAME, LockObject, LockRecord};
use super::renewal::Renewal;
use super::store::{Store, path};
use super::transport::{Purpose, Trace};
use super::tries::tried;
use crate::target::place::{Check, Found, Locked, Place};
use lockstep_core::dataset::marker::{MARKER_NAME, Marker};
use lockstep_core::op::ErrorClass;
use lockstep_core::plan::{EndpointSelection, TargetPlan};
use lockstep_core::problem::{Problem, exit};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{GetOptions, ObjectStore, PutMode, PutOptions, PutPayload};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Longest wait of a request around the load, unless the option `timeout` is shorter.
pub const PLACE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a lock outlives its holder.
pub(super) const LOCK_TTL: Duration = Duration::from_secs(60);
/// How long a lock that was taken must stand before it counts: some servers look at the condition and write in two
/// steps, so that of two at one moment both succeed, and the later one has it.
const LOCK_SETTLE: Duration = Duration::from_millis(100);
/// How many names tell what lies in a foreign place.
const NAMES_SHOWN: usize = 10;
/// Beginning of the names of objects that checks put and delete.
const PROBE_NAME: &str = ".lockstep.probe";

/// The place of a data set in a bucket. One value per agent.
#[derive(Debug)]
pub struct S3Place {
    site: Site,
    links: Vec<Link>,
    lock_ttl: Duration,
    /// For which run the lock is held, and what holds it.
    held: Option<(String, Renewal)>,
}

impl S3Place {
    /// The place with the credentials of the environment. Sends nothing yet.
    ///
    /// # Errors
    /// As [`super::S3Client::connect`].
    pub fn connect(plan: &TargetPlan, user_agent: &str, agent_index: u32) -> Result<Self, Problem> {
        Self::on(Site::read(plan, user_agent, agent_index, None)?)
    }

    /// The same with given credentials.
    ///
    /// # Errors
    /// As [`super::S3Client::connect`].
    pub fn connect_with(
        plan: &TargetPlan,
        user_agent: &str,
        agent_index: u32,
        credentials: Credentials,
    ) -> Result<Self, Problem> {
        Self::on(Site::read(plan, user_agent, agent_index, Some(credentials))?)
    }

    /// The place of a site that was read before.
    pub(super) fn on(site: Site) -> Result<Self, Problem> {
        // No connection is kept: minutes lie between requests, and one that died meanwhile would fail the next.
        let links = site.links(0)?;
        Ok(Self { site, links, lock_ttl: LOCK_TTL, held: None })
    }

    /// Another life time of the lock without its holder, from 1 s on.
    #[must_use]
    pub fn with_lock_ttl(mut self, ttl: Duration) -> Self {
        self.lock_ttl = ttl.max(Duration::from_secs(1));
        self
    }

    /// What went over the wire so far for the place, by endpoint URL; renewals of the lock excepted.
    #[must_use]
    pub fn wire_counts(&self) -> Vec<(String, WireCounts)> {
        self.links.iter().map(|link| (link.endpoint.clone(), link.counters.read())).collect()
    }

    fn home(&self) -> &Link {
        let number = match self.site.selection {
            EndpointSelection::PerAgent => self.site.agent_index as usize % self.links.len(),
            EndpointSelection::RoundRobin | EndpointSelection::LeastBusy => 0,
        };
        &self.links[number]
    }

    fn timeout(&self) -> Duration {
        self.site.options.timeout.min(PLACE_TIMEOUT)
    }

    fn store(&self, link: &Link) -> Result<Store, Problem> {
        let trace = Arc::new(Trace::default());
        let purpose = Purpose::Other;
        Store::new(&self.site, &link.endpoint, &link.pool, &link.counters, &trace, purpose, self.timeout())
    }

    fn lock_object(&self) -> Result<LockObject, Problem> {
        Ok(LockObject { store: self.store(self.home())?, key: self.site.key(LOCK_NAME) })
    }

    /// What a fault means for the run, at the endpoint of `link`.
    fn problem(&self, what: &str, verb: &str, key: &str, link: &Link, fault: &Fault) -> Problem {
        let cause = fault.sentence(verb, key, &link.endpoint);
        let problem = Problem::new(format!("{what}: {}", self.site.uri), cause).class(fault.class);
        let bucket = &self.site.bucket;
        match fault.class {
            ErrorClass::Connect => problem
                .likely("the endpoint's host or port is wrong, or the server is down")
                .likely("a network policy or firewall is in the way")
                .next(format!("curl -v {}", link.endpoint))
                .exit(exit::UNREACHABLE),
            ErrorClass::Timeout | ErrorClass::Reset => problem
                .likely("the server hangs, or something between here and there drops its packets")
                .next(format!("curl -v --max-time 10 {}", link.endpoint))
                .exit(exit::UNREACHABLE),
            ErrorClass::Protocol => {
                let problem = problem
                    .likely("the endpoint is a web page, a console or a proxy, and not the S3 port")
                    .next(format!("curl -v {}/{bucket}?list-type=2", link.endpoint))
                    .exit(exit::UNREACHABLE);
                if !link.endpoint.starts_with("https:") {
                    return problem.likely("https is spoken on this port, and the endpoint says http");
                }
                problem
                    .likely("its certificate is of an authority of your own, or http is spoken on this port")
                    .next("name a file of that authority's certificates (PEM) in SSL_CERT_FILE")
            }
            ErrorClass::NotFound => problem
                .likely(format!("the bucket {bucket} does not exist at this endpoint"))
                .next(format!("create it: aws --endpoint-url {} s3 mb s3://{bucket}", link.endpoint))
                .exit(exit::REFUSED),
            ErrorClass::Permission => problem
                .likely("these keys are not those of this server, or lack rights on this prefix")
                .likely("the region that requests are signed for is not the server's")
                .next(format!("grant s3:ListBucket, GetObject, PutObject and DeleteObject on {bucket}"))
                .exit(exit::REFUSED),
            ErrorClass::Full => problem.likely("the bucket or its owner has a quota").exit(exit::REFUSED),
            ErrorClass::Throttled | ErrorClass::Corrupt | ErrorClass::Other => {
                problem.likely("the server is not well; its own log says more").exit(exit::UNREACHABLE)
            }
        }
    }

    /// At most `limit` keys under the prefix, but none of our own around the data.
    async fn names(&self, store: &Store, limit: usize) -> Result<Vec<String>, Fault> {
        let prefix = Some(self.site.key("")).filter(|prefix| !prefix.is_empty());
        let options = PaginatedListOptions { max_keys: Some(limit), ..PaginatedListOptions::default() };
        let page = tried(async || {
            store.trace.begin();
            let page = store.s3.list_paginated(prefix.as_deref(), options.clone()).await;
            page.map_err(|error| store.fault(&error))
        });
        let page = page.await?.result;
        let prefix = prefix.unwrap_or_default();
        let names = page.objects.iter().map(|object| object.location.as_ref());
        // Some servers list the prefix itself, as an empty object.
        let names = names.filter(|key| key.len() > prefix.len()).map(|key| &key[prefix.len()..]);
        Ok(names.filter(|name| !is_ours(name)).map(str::to_owned).collect())
    }

    /// Puts, puts again under a condition, and deletes an object of our own. Whether the condition was heeded.
    async fn probe(&self, store: &Store) -> Result<bool, (&'static str, Fault)> {
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        let key = self.site.key(&format!("{PROBE_NAME}-{}-{nanos}", self.site.agent_index));
        let key = path(&key).map_err(|fault| ("PUT", fault))?;
        let put = async |mode: PutMode| {
            store.trace.begin();
            let body = PutPayload::from_static(b"lockstep");
            match store.s3.put_opts(&key, body, mode.into()).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(store.fault(&error)),
            }
        };
        tried(async || put(PutMode::Overwrite).await).await.map_err(|fault| ("PUT", fault))?;
        let heeded = match tried(async || put(PutMode::Create).await).await {
            Ok(put) => !put,
            Err(fault) if fault.may_pass() => return Err(("PUT", fault)),
            // A server that knows no conditions may well say so.
            Err(_) => false,
        };
        tried(async || store.delete(&key).await).await.map_err(|fault| ("DELETE", fault))?;
        Ok(heeded)
    }

    /// The checks of one endpoint, ending at the first that failed.
    async fn check_link(&self, link: &Link, checks: &mut Vec<Check>) {
        let endpoint = &link.endpoint;
        let failed =
            |name, problem: Problem| Check { name, finding: problem.cause.clone(), problem: Some(problem) };
        let fine = |name, finding| Check { name, finding, problem: None };
        let store = match self.store(link) {
            Ok(store) => store,
            Err(problem) => return checks.push(failed("reachable", problem)),
        };
        let prefix = self.site.key("");
        if let Err(fault) = self.names(&store, 1).await {
            let (name, what) = match fault.class {
                ErrorClass::NotFound => ("bucket", "the target's bucket is not there"),
                ErrorClass::Permission => ("rights", "the target may not be listed"),
                _ => ("reachable", "the target cannot be reached"),
            };
            return checks.push(failed(name, self.problem(what, "LIST", &prefix, link, &fault)));
        }
        checks.push(fine("reachable", format!("{endpoint} speaks S3")));
        checks.push(fine("bucket", format!("{} exists", self.site.bucket)));
        match self.probe(&store).await {
            Err((verb, fault)) => {
                let name = if fault.class == ErrorClass::Permission { "rights" } else { "reachable" };
                let what =
                    if verb == "PUT" { "the target may not be written" } else { "nothing may be deleted" };
                let problem = self.problem(what, verb, &format!("{prefix}{PROBE_NAME}-*"), link, &fault);
                checks.push(failed(name, problem));
            }
            Ok(conditions) => {
                checks.push(fine("rights", "an object was put and deleted".into()));
                let finding = if conditions {
                    "a put that must not replace is refused"
                } else {
                    "If-None-Match is not heeded here: two runs that begin at one moment would not notice each other"
                };
                checks.push(fine("conditional-put", finding.into()));
            }
        }
    }

    async fn take(&self, lock: &LockObject, uid: &str) -> Result<(Locked, Option<HeldLock>), Fault> {
        // Each round that does not decide means that somebody else moved; three of them are no coincidence.
        let mut last = None;
        for _ in 0..3 {
            let record = LockRecord::new(uid, self.site.agent_index, self.lock_ttl);
            let (mode, locked) = match tried(async || lock.find().await).await? {
                None => (PutMode::Create, Locked::Taken),
                Some(found) => match self.judge(&found, uid) {
                    locked @ Locked::Held(_) => return Ok((locked, None)),
                    locked => (PutMode::Update(found.version), locked),
                },
            };
            let put_at = Instant::now();
            let put = tried(async || lock.put(&record, mode.clone()).await).await?;
            if put.is_some() {
                tokio::time::sleep(LOCK_SETTLE).await;
            }
            last = tried(async || lock.find().await).await?;
            if let Some(version) = put
                && last.as_ref().is_some_and(|found| found.is_of(uid))
            {
                return Ok((locked, Some(HeldLock { record, version, put_at })));
            }
        }
        let whose = last.map_or_else(|| "somebody who comes and goes".into(), |found| found.whose());
        Ok((Locked::Held(whose), None))
    }

    fn judge(&self, found: &FoundLock, uid: &str) -> Locked {
        if found.is_of(uid) {
            Locked::Taken
        } else if found.is_stale(self.lock_ttl) {
            Locked::TakenOver(found.whose())
        } else {
            Locked::Held(found.whose())
        }
    }
}

/// Whether a name is of our own things around the data.
fn is_ours(name: &str) -> bool {
    name == LOCK_NAME || name == MARKER_NAME || name.starts_with(PROBE_NAME)
}

impl Place for S3Place {
    fn requests(&self) -> u64 {
        self.links.iter().map(|link| link.counters.read().other_requests).sum()
    }

    async fn check(&mut self) -> Vec<Check> {
        let mut checks = Vec::new();
        for link in &self.links {
            self.check_link(link, &mut checks).await;
        }
        checks
    }

    async fn look(&mut self) -> Result<Found, Problem> {
        let link = self.home();
        let store = self.store(link)?;
        let key = self.site.key(MARKER_NAME);
        let problem =
            |verb, key: &str, fault| self.problem("the place cannot be looked at", verb, key, link, &fault);
        let path = path(&key).map_err(|fault| problem("GET", &key, fault))?;
        let document = tried(async || {
            store.trace.begin();
            match store.s3.get_opts(&path, GetOptions::default()).await {
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(store.fault(&error)),
                Ok(result) => Ok(Some(result.bytes().await.map_err(|error| store.fault(&error))?)),
            }
        });
        if let Some(document) = document.await.map_err(|fault| problem("GET", &key, fault))? {
            let marker = Marker::from_json(&document).map_err(|error| {
                let cause = store.scrub.clean(&error.to_string());
                Problem::new(format!("the marker of {} cannot be read", self.site.uri), cause)
                    .likely("another version of Lockstep wrote it, or something else wrote over it")
                    .next(format!("look at s3://{}/{key}", self.site.bucket))
                    .kept("nothing was touched")
                    .exit(exit::REFUSED)
            })?;
            return Ok(Found::Marked(Box::new(marker)));
        }
        // Room for our own keys beside as many foreign ones as are shown.
        let mut names = self.names(&store, NAMES_SHOWN + 3).await;
        if let Ok(names) = &mut names {
            names.truncate(NAMES_SHOWN);
        }
        let names = names.map_err(|fault| problem("LIST", &self.site.key(""), fault))?;
        Ok(if names.is_empty() { Found::Empty } else { Found::Foreign(names) })
    }

    async fn lock(&mut self, uid: &str) -> Result<Locked, Problem> {
        if let Some((held, renewal)) = &self.held
            && held == uid
            && renewal.lost().is_none()
        {
            return Ok(Locked::Taken);
        }
        let lock = self.lock_object()?;
        let (locked, held) = self.take(&lock, uid).await.map_err(|fault| {
            self.problem("the place cannot be locked", "GET or PUT", &lock.key, self.home(), &fault)
        })?;
        if let Some(held) = held {
            let endpoint = &self.home().endpoint;
            let renewal = Renewal::start(&self.site, endpoint, lock.key, held, self.timeout())?;
            self.held = Some((uid.to_owned(), renewal));
        }
        Ok(locked)
    }

    fn lost(&self) -> Option<Problem> {
        self.held.as_ref().and_then(|(_, renewal)| renewal.lost())
    }

    async fn unlock(&mut self) -> Result<(), Problem> {
        let Some((uid, renewal)) = self.held.take() else { return Ok(()) };
        renewal.stop().await;
        let lock = self.lock_object()?;
        let problem = |fault| {
            self.problem("the lock cannot be given back", "GET or DELETE", &lock.key, self.home(), &fault)
                .kept(format!("the lock stays until it is stale, {} s", self.lock_ttl.as_secs()))
        };
        let returned = tried(async || match lock.find().await? {
            // Looked at before each try: it may be another's when a try whose answer was lost has removed ours.
            Some(found) if found.is_of(&uid) => lock.remove().await,
            // Lost or removed meanwhile: not ours to remove.
            _ => Ok(()),
        });
        returned.await.map_err(problem)
    }

    async fn mark(&mut self, marker: &Marker) -> Result<(), Problem> {
        let link = self.home();
        let store = self.store(link)?;
        let key = self.site.key(MARKER_NAME);
        let problem = |fault| self.problem("the marker cannot be written", "PUT", &key, link, &fault);
        let text = marker.to_json().map_err(|error| {
            Problem::new(format!("the marker of {} cannot be written", self.site.uri), error.to_string())
        })?;
        let path = path(&key).map_err(problem)?;
        let body = PutPayload::from(text);
        let put = tried(async || {
            store.trace.begin();
            let put = store.s3.put_opts(&path, body.clone(), PutOptions::default()).await;
            put.map_err(|error| store.fault(&error))
        });
        put.await.map(|_| ()).map_err(problem)
    }

    async fn sync(&mut self) -> Result<(), Problem> {
        // An S3 put that was answered is durable.
        Ok(())
    }

    async fn unmark(&mut self, _: &Marker) -> Result<(), Problem> {
        let link = self.home();
        let store = self.store(link)?;
        let key = self.site.key(MARKER_NAME);
        let problem = |fault| self.problem("the marker cannot be removed", "DELETE", &key, link, &fault);
        let path = path(&key).map_err(problem)?;
        tried(async || store.delete(&path).await).await.map_err(problem)
    }
}
