//! The common installation: the chart in `lockstep-system`, with the documented command, for all stories that need no other.

use crate::suite::Suite;
use lockstep_testcluster::Ended;

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
        let Some(image) = named else { return Self::of_this_checkout() };
        // A colon before a slash is a port.
        match image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((repository, tag)) => Self { repository: repository.to_owned(), tag: tag.to_owned() },
            None => Self { repository: image, tag: "latest".to_owned() },
        }
    }

    /// What `make image` makes, and the chart asks for by itself.
    pub fn of_this_checkout() -> Self {
        Self { repository: "lockstep".to_owned(), tag: env!("CARGO_PKG_VERSION").to_owned() }
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
