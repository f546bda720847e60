//! The common installation: the chart in `lockstep-system`, with the documented command, for all stories that need no other.

use crate::suite::{Found, Suite};
use lockstep_testcluster::Ended;
use std::time::{Duration, Instant};

/// The chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/lockstep");
/// The namespace of the documentation.
pub const HOME: &str = "lockstep-system";

/// The image, as nodes know it.
#[derive(Clone, Debug)]
pub struct Image {
    /// All but the tag.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

impl Image {
    /// What the environment says, or what the builds of this repository are called.
    pub fn named() -> Self {
        let named = std::env::var("LOCKSTEP_E2E_IMAGE").ok().filter(|image| !image.is_empty());
        let image = named.unwrap_or_else(|| format!("lockstep:{}", env!("CARGO_PKG_VERSION")));
        // A colon before a slash is a port.
        match image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((repository, tag)) => Self { repository: repository.to_owned(), tag: tag.to_owned() },
            None => Self { repository: image, tag: "latest".to_owned() },
        }
    }

    /// `repository:tag`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// Values of the chart.
    pub fn values(&self) -> [String; 2] {
        [format!("image.repository={}", self.repository), format!("image.tag={}", self.tag)]
    }
}

/// `helm install` of the common installation, or `upgrade` where it is there.
pub async fn install(suite: &Suite) -> Ended {
    let [repository, tag] = suite.common.image.values();
    let install = ["upgrade", "--install", "lockstep", CHART, "-n", HOME, "--create-namespace", "--wait"];
    let values = ["--timeout", "5m", "--set", &repository, "--set", &tag];
    suite.person.helm(&[&install[..], &values].concat()).await
}

/// From a cluster without Lockstep to a finished first run, with the documented commands; the first story.
pub async fn first_run(suite: &Suite) -> Found {
    const GOAL: Duration = Duration::from_secs(300);
    let began = Instant::now();
    install(suite).await.expect_code(0);
    let installed = began.elapsed();
    let namespace = suite.namespace("first").await;
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/twelve-lines.yaml");
    suite.kubectl(&["apply", "-n", &namespace, "-f", run]).await;
    let wait = ["wait", "--for=condition=Finished", "brun/twelve-lines", "-n", &namespace, "--timeout=5m"];
    suite.kubectl(&wait).await;
    let took = began.elapsed();
    suite
        .kubectl(&["wait", "--for=condition=Passed", "brun/twelve-lines", "-n", &namespace, "--timeout=1s"])
        .await;
    let report = suite.person.lockstep(&["report", "twelve-lines", "-n", &namespace]).await;
    assert!(report.expect_code(0).stdout.contains("Succeeded"), "{}", report.stdout);
    assert!(took <= GOAL, "{took:?} from nothing to the end of a first run");
    let table = suite.kubectl(&["get", "brun", "-n", &namespace]).await;
    assert!(table.contains("twelve-lines") && table.contains("Succeeded"), "{table}");
    Found::Shown(format!(
        "{:.0} s from nothing to the end of a first run, {:.0} s of them helm install --wait",
        took.as_secs_f64(),
        installed.as_secs_f64()
    ))
}
