//! What the workers of one core share: the site (bucket, keys, options) and a pool of connections per endpoint.
//!
//! One [`S3Client`] is made on each core's runtime and makes that core's targets; cores share nothing. Every
//! default that bends a result is set here or in `transport.rs`, and told by [`S3Client::settings`].

use super::S3Target;
use super::counters::{Counters, WireCounts};
use super::credentials::Credentials;
use super::options::{Addressing, Options};
use super::store::Store;
use super::transport::{self, Pool, Purpose, Trace};
use super::tries::TRIES;
use crate::engine::hands::Hands;
use http::header::HeaderValue;
use lockstep_core::dataset::DataSet;
use lockstep_core::dataset::content::Contents;
use lockstep_core::plan::{EndpointSelection, TargetPlan};
use lockstep_core::problem::{Problem, exit};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where requests go and as whom; the same on all cores of an agent.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) uri: String,
    pub(super) bucket: String,
    /// Without slashes at either end.
    pub(super) prefix: String,
    /// URLs without a slash at the end.
    pub(super) endpoints: Vec<String>,
    pub(super) selection: EndpointSelection,
    pub(super) agent_index: u32,
    pub(super) options: Options,
    pub(super) credentials: Credentials,
    pub(super) user_agent: HeaderValue,
}

impl Site {
    /// Reads the plan. `credentials`: `None` looks into the environment, unless the target is anonymous.
    pub(super) fn read(
        plan: &TargetPlan,
        user_agent: &str,
        agent_index: u32,
        credentials: Option<Credentials>,
    ) -> Result<Self, Problem> {
        let options = Options::read(plan)?;
        let refused = |cause: String| {
            Problem::new(format!("target {} was refused", plan.uri), cause)
                .next("see docs/targets.md for s3 targets")
                .exit(exit::REFUSED)
        };
        if plan.bucket.is_empty() {
            return Err(refused("the URI names no bucket".into()).next("write s3://BUCKET/PREFIX"));
        }
        let credentials = match credentials {
            _ if options.anonymous => Credentials::Anonymous,
            Some(credentials) => credentials,
            None => Credentials::from_env()?,
        };
        let mut endpoints: Vec<_> =
            plan.endpoints.iter().map(|endpoint| endpoint.trim_end_matches('/').to_owned()).collect();
        if endpoints.is_empty() {
            endpoints.push(format!("https://s3.{}.amazonaws.com", options.region));
        }
        for endpoint in &endpoints {
            let uri = endpoint.parse::<http::Uri>().ok();
            let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
            if !matches!(scheme, Some("http" | "https")) {
                return Err(refused(format!("endpoint `{endpoint}` is not an http or https URL")));
            }
        }
        Ok(Self {
            uri: plan.uri.clone(),
            bucket: plan.bucket.clone(),
            prefix: plan.path.trim_matches('/').to_owned(),
            endpoints,
            selection: plan.endpoint_selection,
            agent_index,
            options,
            credentials,
            user_agent: HeaderValue::from_str(user_agent)
                .map_err(|_| refused(format!("`{user_agent}` cannot be sent as User-Agent")))?,
        })
    }

    /// The key of `name`, into a buffer that is used again.
    pub(super) fn key_into(&self, name: &str, key: &mut String) {
        key.clear();
        if !self.prefix.is_empty() {
            key.push_str(&self.prefix);
            key.push('/');
        }
        key.push_str(name);
    }

    /// The key of `name`.
    pub(super) fn key(&self, name: &str) -> String {
        let mut key = String::new();
        self.key_into(name, &mut key);
        key
    }

    /// Connections to each endpoint, on the runtime that uses them first; up to `idle` of them are kept for later.
    pub(super) fn links(&self, idle: usize) -> Result<Vec<Link>, Problem> {
        self.endpoints
            .iter()
            .map(|endpoint| {
                let counters = Arc::new(Counters::default());
                let tls = endpoint.starts_with("https:");
                let pool = transport::pool(tls, idle, self.options.connect_timeout, Arc::clone(&counters))
                    .map_err(|error| {
                        Problem::new(
                            format!("no HTTPS client for {endpoint} could be made"),
                            error.to_string(),
                        )
                        .likely("the image holds no root certificates")
                        .next("set SSL_CERT_FILE to a file of root certificates (PEM)")
                        .exit(exit::REFUSED)
                    })?;
                Ok(Link { endpoint: endpoint.clone(), pool, counters })
            })
            .collect()
    }

    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let options = &self.options;
        let addressing = match options.addressing {
            Addressing::Path => "path",
            Addressing::Virtual => "virtual",
        };
        let ms = |duration: Duration| format!("{} ms", duration.as_millis());
        [
            ("s3.endpoints", self.endpoints.join(" ")),
            ("s3.endpointSelection", format!("{:?}", self.selection)),
            ("s3.region", options.region.clone()),
            ("s3.addressing", addressing.into()),
            ("s3.credentials", self.credentials.kind().into()),
            ("s3.payload", if options.sign_payload { "signed" } else { "unsigned" }.into()),
            ("s3.checksums", "none".into()),
            ("s3.delete", "one DELETE per object".into()),
            ("s3.list", "ListObjectsV2, first page, at most 1000 entries, delimiter /".into()),
            ("s3.partSize", format!("{} B", options.part_bytes)),
            ("s3.partsUnderWay", "1".into()),
            ("http.version", "1.1".into()),
            ("http.retries", "0".into()),
            ("http.controlTries", TRIES.to_string()),
            ("http.redirects", "not followed".into()),
            ("http.proxy", "none (environment ignored)".into()),
            ("http.compression", "none".into()),
            ("http.timeout", ms(options.timeout)),
            ("http.connectTimeout", ms(options.connect_timeout)),
            ("http.idleTimeout", ms(transport::IDLE_TIMEOUT)),
            ("http.idleConnections", format!("{} per core and endpoint", transport::IDLE_CONNECTIONS)),
            ("http.readBuffer", format!("{} B", transport::READ_BUFFER_BYTES)),
            ("http.userAgent", self.user_agent.to_str().unwrap_or_default().into()),
            ("tcp.nodelay", "true".into()),
            ("tcp.keepalive", "15 s".into()),
            ("tls.provider", "rustls with ring".into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// The connections to one endpoint, and their counters.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) endpoint: String,
    pub(super) pool: Pool,
    pub(super) counters: Arc<Counters>,
}

/// What the workers of one core share. Cloning shares it further.
#[derive(Clone, Debug)]
pub struct S3Client {
    pub(super) site: Arc<Site>,
    pub(super) links: Arc<[Link]>,
}

impl S3Client {
    /// A client with the credentials of the environment. Sends nothing yet.
    ///
    /// `user_agent` is sent with every request; `agent_index` chooses the endpoint under `PerAgent`.
    ///
    /// # Errors
    /// Unknown options, no credentials, a malformed endpoint, no root certificates for https: all to be refused
    /// before any load.
    pub fn connect(plan: &TargetPlan, user_agent: &str, agent_index: u32) -> Result<Self, Problem> {
        Site::read(plan, user_agent, agent_index, None).and_then(|site| Self::on(Arc::new(site)))
    }

    /// The same with given credentials.
    ///
    /// # Errors
    /// As [`S3Client::connect`].
    pub fn connect_with(
        plan: &TargetPlan,
        user_agent: &str,
        agent_index: u32,
        credentials: Credentials,
    ) -> Result<Self, Problem> {
        Site::read(plan, user_agent, agent_index, Some(credentials)).and_then(|site| Self::on(Arc::new(site)))
    }

    /// A client of a site that was read before.
    pub(super) fn on(site: Arc<Site>) -> Result<Self, Problem> {
        let links = site.links(transport::IDLE_CONNECTIONS)?.into();
        Ok(Self { site, links })
    }

    /// The target of one worker, whose contents are those of `dataset`. It must live on one runtime, the same as all
    /// other targets of this client.
    ///
    /// # Errors
    /// The client library refuses a setting.
    pub fn target(&self, dataset: &DataSet, hands: Hands) -> Result<S3Target, Problem> {
        let trace = Arc::new(Trace::default());
        let stores = self
            .links
            .iter()
            .map(|link| {
                let purpose = Purpose::Data(hands.clone());
                let timeout = self.site.options.timeout;
                Store::new(&self.site, &link.endpoint, &link.pool, &link.counters, &trace, purpose, timeout)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(S3Target::new(self.clone(), Contents::new(dataset), stores, trace, hands))
    }

    /// Every setting that bends results, for the report's environment. Holds no secret.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.site.settings()
    }

    /// What went over the wire so far, by endpoint URL, in the plan's order.
    #[must_use]
    pub fn wire_counts(&self) -> Vec<(String, WireCounts)> {
        self.links.iter().map(|link| (link.endpoint.clone(), link.counters.read())).collect()
    }
}
