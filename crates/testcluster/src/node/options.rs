//! What a node is like.

use super::crowd::CrowdOptions;
use crate::person::workspace_binary;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a node is like. Begin with [`NodeOptions::named`].
#[derive(Clone, Debug)]
pub struct NodeOptions {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) pods: u32,
    pub(super) images: BTreeMap<String, Image>,
    pub(super) lease_every: Duration,
    pub(super) refresh_every: Duration,
    pub(super) back_off: Duration,
    pub(super) token_refresh: Option<Duration>,
    pub(super) taint: Option<String>,
}

impl NodeOptions {
    /// A node for 1,000 pods, which behaves in time as a kubelet does by default, but that it looks after mounted
    /// ConfigMaps and Secrets each 10 s. It has no images.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            pods: 1000,
            images: BTreeMap::new(),
            lease_every: Duration::from_secs(10),
            refresh_every: Duration::from_secs(10),
            back_off: Duration::from_secs(10),
            token_refresh: None,
            taint: None,
        }
    }

    /// Adds an image. What no node has fails to be pulled, as anywhere.
    #[must_use]
    pub fn image(mut self, name: &str, image: Image) -> Self {
        self.images.insert(name.to_owned(), image);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// How many pods it takes.
    #[must_use]
    pub fn pods(mut self, pods: u32) -> Self {
        self.pods = pods;
        self
    }

    /// How often it renews its Lease: well below the grace of the node life-cycle controller.
    #[must_use]
    pub fn lease_every(mut self, every: Duration) -> Self {
        self.lease_every = every;
        self
    }

    /// How late a change of a ConfigMap, Secret or label may reach a mounted volume. A kubelet's may be 90 s.
    #[must_use]
    pub fn refresh_every(mut self, every: Duration) -> Self {
        self.refresh_every = every;
        self
    }

    /// First back-off after a second crash or a failed pull; it doubles up to 30 times this.
    #[must_use]
    pub fn back_off(mut self, first: Duration) -> Self {
        self.back_off = first;
        self
    }

    /// Takes only pods that tolerate a taint of this key (`NoSchedule`).
    #[must_use]
    pub fn tainted(mut self, key: &str) -> Self {
        self.taint = Some(key.to_owned());
        self
    }

    /// Age at which a projected token is replaced, instead of 80 % of its life, which is 10 min at least.
    #[must_use]
    pub fn token_refresh(mut self, age: Duration) -> Self {
        self.token_refresh = Some(age);
        self
    }
}

/// What an image holds: this machine's own files, with some of ours bound over them.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub(super) files: Vec<(String, PathBuf)>,
    pub(super) entrypoint: Vec<String>,
    pub(super) crowd: Option<CrowdOptions>,
}

impl Image {
    /// An image with nothing but what this machine has: `sh`, `sleep`, `cat`.
    #[must_use]
    pub fn host() -> Self {
        Self::default()
    }

    /// Adds a file: `/lockstep-agent` in the image is this binary of the machine. The first one is the entrypoint of
    /// containers that name no command.
    #[must_use]
    pub fn file(mut self, path: &str, from: impl AsRef<Path>) -> Self {
        if self.files.is_empty() {
            self.entrypoint = vec![path.to_owned()];
        }
        self.files.push((path.to_owned(), from.as_ref().to_owned()));
        self
    }

    /// An image with a binary of this workspace at `/<name>`, which is its entrypoint unless one was added before.
    ///
    /// # Panics
    /// The binary was not built; Cargo builds those of other packages only on request.
    #[must_use]
    pub fn workspace_binary(self, name: &str) -> Self {
        self.file(&format!("/{name}"), workspace_binary(name))
    }

    /// Containers whose command is `command` are run by `lockstep-crowd`, so many in a process.
    ///
    /// # Panics
    /// As [`Image::workspace_binary`].
    #[must_use]
    pub fn crowd(mut self, command: &str, members: usize) -> Self {
        let program = workspace_binary("lockstep-crowd");
        self.crowd = Some(CrowdOptions { command: command.to_owned(), program, members });
        self
    }
}
