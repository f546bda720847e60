//! One bucket behind one endpoint, for one user (a worker, the place, the lock's keeper): an `object_store` client
//! with every hidden default set, on our transport, and the way from its errors to ours.

use super::causes::innermost;
use super::classify::Fault;
use super::client::Site;
use super::counters::Counters;
use super::options::Addressing;
use super::transport::{Pool, Purpose, Trace, Wire};
use crate::scrub::Scrub;
use lockstep_core::op::ErrorClass;
use lockstep_core::problem::{Problem, exit};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStoreExt, RetryConfig, StaticCredentialProvider};
use std::sync::Arc;
use std::time::Duration;

/// One bucket behind one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Store {
    /// Speaks S3.
    pub(super) s3: AmazonS3,
    /// What the transport saw of the latest request.
    pub(super) trace: Arc<Trace>,
    /// Cleans words that are not ours.
    pub(super) scrub: Scrub,
}

impl Store {
    /// A client of `site`'s bucket at `endpoint`, on the connections of `pool`.
    pub(super) fn new(
        site: &Site,
        endpoint: &str,
        pool: &Pool,
        counters: &Arc<Counters>,
        trace: &Arc<Trace>,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<Self, Problem> {
        let scrub = Scrub::of(&site.credentials.secrets());
        let wire = Wire {
            pool: pool.clone(),
            peer: endpoint.split_once("://").map_or(endpoint, |(_, peer)| peer).into(),
            counters: Arc::clone(counters),
            trace: Arc::clone(trace),
            purpose,
            user_agent: site.user_agent.clone(),
            timeout,
            scrub: scrub.clone(),
        };
        let virtual_hosts = site.options.addressing == Addressing::Virtual;
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(wire)
            .with_endpoint(if virtual_hosts {
                with_bucket(endpoint, &site.bucket)
            } else {
                endpoint.to_owned()
            })
            .with_virtual_hosted_style_request(virtual_hosts)
            .with_bucket_name(&site.bucket)
            .with_region(&site.options.region)
            .with_allow_http(true)
            .with_unsigned_payload(!site.options.sign_payload)
            .with_disable_bulk_delete(true)
            .with_disable_tagging(true)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(RetryConfig {
                max_retries: 0,
                retry_timeout: Duration::ZERO,
                backoff: BackoffConfig::default(),
            });
        builder = match site.credentials.to_aws() {
            Some(keys) => builder.with_credentials(Arc::new(StaticCredentialProvider::new(keys))),
            // Named although unused, so that no other source is ever asked.
            None => {
                builder.with_access_key_id("anonymous").with_secret_access_key("").with_skip_signature(true)
            }
        };
        let s3 = builder.build().map_err(|error| {
            Problem::new(format!("no client for {endpoint} could be made"), error.to_string())
                .exit(exit::REFUSED)
        })?;
        Ok(Self { s3, trace: Arc::clone(trace), scrub })
    }

    /// Removes an object; one that is not there is fine.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), Fault> {
        self.trace.begin();
        match self.s3.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// What `error` means, with what the transport saw of it.
    pub(super) fn fault(&self, error: &object_store::Error) -> Fault {
        if let Some(fault) = self.trace.take_fault() {
            return fault;
        }
        match self.trace.status() {
            0 => Fault::transport(ErrorClass::Other, self.scrub.clean(&innermost(error))),
            status => Fault {
                status: Some(status),
                ..Fault::transport(
                    ErrorClass::Protocol,
                    format!(
                        "HTTP {status} with an answer that is not S3 ({})",
                        self.scrub.clean(&innermost(error))
                    ),
                )
            },
        }
    }
}

/// A key as `object_store` wants it.
pub(super) fn path(key: &str) -> Result<Path, Fault> {
    Path::parse(key)
        .map_err(|error| Fault::transport(ErrorClass::Other, format!("key `{key}` cannot be used: {error}")))
}

/// `https://host` with the bucket before the host.
fn with_bucket(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{bucket}.{rest}"),
        None => format!("{bucket}.{endpoint}"),
    }
}
