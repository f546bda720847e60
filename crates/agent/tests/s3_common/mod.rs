//! What the S3 tests share: a plan of a bucket, a worker's target, a data set.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use lockstep_agent::engine::hands::Hands;
use lockstep_agent::target::s3::{Credentials, S3Client, S3Place, S3Target};
use lockstep_agent::target::{Failure, Object};
use lockstep_core::dataset::content::{ContentSpec, Contents};
use lockstep_core::dataset::size::SizeSpec;
use lockstep_core::dataset::{DataSet, Layout};
use lockstep_core::plan::{EndpointSelection, PageCache, Scheme, TargetPlan};
use lockstep_testkit::s3::{ACCESS_KEY, BUCKET, SECRET_KEY, TestS3};
use std::future::Future;

pub const USER_AGENT: &str = "lockstep/0.0.0 run=test agent=0";

/// A target in the bucket under the prefix `run/1`.
pub fn plan(endpoints: &[String]) -> TargetPlan {
    TargetPlan {
        scheme: Scheme::S3,
        uri: format!("s3://{BUCKET}/run/1"),
        bucket: BUCKET.into(),
        path: "run/1".into(),
        endpoints: endpoints.to_vec(),
        endpoint_selection: EndpointSelection::RoundRobin,
        options: Default::default(),
        page_cache: PageCache::Keep,
    }
}

/// The same with options.
pub fn plan_with(endpoint: &str, options: &[(&str, &str)]) -> TargetPlan {
    let mut plan = plan(&[endpoint.to_owned()]);
    plan.options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    plan
}

pub fn dataset() -> DataSet {
    DataSet {
        seed: 7,
        layout: Layout::Flat { objects: 1000, prefix_shards: 0 },
        size: SizeSpec::Fixed(1000),
        content: ContentSpec { verify: true, ..ContentSpec::default() },
    }
}

/// What object `index` holds.
pub fn content(index: u64, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    Contents::new(&dataset()).fill(index, 0, 0, &mut bytes);
    bytes
}

pub fn keys() -> Credentials {
    Credentials::keys(ACCESS_KEY, SECRET_KEY)
}

pub fn client(plan: &TargetPlan) -> S3Client {
    S3Client::connect_with(plan, USER_AGENT, 0, keys()).unwrap()
}

pub fn target(plan: &TargetPlan) -> S3Target {
    client(plan).target(&dataset(), Hands::default()).unwrap()
}

pub fn place(plan: &TargetPlan) -> S3Place {
    S3Place::connect_with(plan, USER_AGENT, 0, keys()).unwrap()
}

pub fn here(server: &TestS3) -> TargetPlan {
    plan(&[server.endpoint()])
}

pub fn object(index: u64, name: &str, size: u64) -> Object<'_> {
    Object { index, name, size }
}

/// Runs on a runtime as a core of the agent has it.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[track_caller]
pub fn failed<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> Failure {
    outcome.expect_err("the operation should have failed")
}
