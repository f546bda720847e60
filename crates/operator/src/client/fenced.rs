//! A ConfigMap of a run that only the latest leader can write.
//!
//! Each leader has an epoch of its own, greater than all before. It [takes](FencedMap::take) the object first: it writes
//! its epoch there, over the version that it has read. From then on every write of an earlier leader is refused, be it as
//! late as it may, since it carries a version that no longer stands, and the earlier leader reads there by whom. That is
//! why an object that is not there yet is made when it is taken: it could still be made by somebody late.
//!
//! Deliberately no lock: two leaders may both believe to be the one, and only one of them can write.

use crate::pods::build::RunIdentity;
use crate::pods::config_maps;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use lockstep_core::problem::Problem;
use std::collections::BTreeMap;

/// Key of the epoch of who wrote last.
const EPOCH_KEY: &str = "epoch";
/// How often a write is tried again that somebody else was faster than.
const TRIES: u32 = 5;

/// Why nothing was stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A later leader has written, and nothing of ours lands any more.
    #[error("the leader of epoch {by} has taken over")]
    Fenced {
        /// Its epoch.
        by: i64,
    },
    /// Trying again does not help; for people.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// Others wrote at the same time, over and over.
    #[error("ConfigMap {0} was changed by others each time it was to be written")]
    Race(String),
    /// The API server did not answer, or did not take it.
    #[error("the API server did not take ConfigMap {0}")]
    Api(String, #[source] Box<kube::Error>),
}

/// What is in the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Short texts.
    pub texts: BTreeMap<String, String>,
    /// Binaries, of at most [`config_maps::BINARY_BYTES_MAX`] in all.
    pub binaries: BTreeMap<String, Vec<u8>>,
}

/// The object, taken.
#[derive(Debug)]
pub struct FencedMap {
    maps: Api<ConfigMap>,
    run: RunIdentity,
    name: String,
    epoch: i64,
    /// The version that we have written.
    version: Option<String>,
}

impl FencedMap {
    /// Takes the object for the leader of `epoch`, and reads what is in it; nothing when it is new.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a later leader has it, [`StoreError::Refused`] when it is another run's, and when the
    /// API server does not answer.
    pub async fn take(
        client: Client,
        run: &RunIdentity,
        name: String,
        epoch: i64,
    ) -> Result<(Self, Content), StoreError> {
        let maps = Api::namespaced(client, &run.namespace);
        let mut map = Self { maps, run: run.clone(), name, epoch, version: None };
        for _ in 0..TRIES {
            let content = match map.look().await? {
                Some(Stands { content, epoch, version }) => {
                    map.version = Some(version);
                    if epoch == map.epoch {
                        return Ok((map, content));
                    }
                    content
                }
                None => {
                    map.version = None;
                    Content::default()
                }
            };
            if map.try_put(&content).await? {
                return Ok((map, content));
            }
        }
        Err(StoreError::Race(map.name))
    }

    /// Replaces what is in the object. Made anew when somebody has deleted it.
    ///
    /// # Errors
    /// As [`FencedMap::take`]; after one of the API server it may have been written or not, and is to be written again.
    pub async fn put(&mut self, content: &Content) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            if self.try_put(content).await? {
                return Ok(());
            }
            // An answer of ours that was lost, or a person; a later leader is an error.
            self.version = self.look().await?.map(|stands| stands.version);
        }
        Err(StoreError::Race(self.name.clone()))
    }

    /// Deletes the object, unless a later leader has it or it is another run's.
    ///
    /// # Errors
    /// As [`FencedMap::take`].
    pub async fn delete(
        client: Client,
        run: &RunIdentity,
        name: String,
        epoch: i64,
    ) -> Result<(), StoreError> {
        let maps = Api::namespaced(client, &run.namespace);
        let map = Self { maps, run: run.clone(), name, epoch, version: None };
        for _ in 0..TRIES {
            let stands = match map.look().await {
                Ok(Some(stands)) => stands,
                Ok(None) | Err(StoreError::Refused(_)) => return Ok(()),
                Err(error) => return Err(error),
            };
            let preconditions = Preconditions { uid: None, resource_version: Some(stands.version) };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match map.maps.delete(&map.name, &params).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => return Err(map.failed(error)),
            }
        }
        Err(StoreError::Race(map.name))
    }

    /// Answers whether it was written; `false` when another version stands than ours.
    async fn try_put(&mut self, content: &Content) -> Result<bool, StoreError> {
        let mut texts = content.texts.clone();
        texts.insert(EPOCH_KEY.to_owned(), self.epoch.to_string());
        let mut object = config_maps::kept(&self.run, &self.name, &texts, content.binaries.clone());
        object.metadata.resource_version.clone_from(&self.version);
        let params = PostParams::default();
        let written = match self.version {
            Some(_) => self.maps.replace(&self.name, &params, &object).await,
            None => self.maps.create(&params, &object).await,
        };
        match written {
            Ok(object) => {
                self.version = object.metadata.resource_version;
                Ok(true)
            }
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                Ok(false)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn look(&self) -> Result<Option<Stands>, StoreError> {
        let found = self.maps.get_opt(&self.name).await.map_err(|error| self.failed(error))?;
        let Some(object) = found else { return Ok(None) };
        if !config_maps::is_of(&object.metadata, &self.run) {
            return Err(StoreError::Refused(Box::new(foreign(&self.run, &self.name))));
        }
        let mut texts = object.data.unwrap_or_default();
        // One that a person has changed is nobody's, and is taken as it is.
        let epoch = texts.remove(EPOCH_KEY).and_then(|text| text.parse().ok()).unwrap_or(0);
        if epoch > self.epoch {
            return Err(StoreError::Fenced { by: epoch });
        }
        let binaries = object.binary_data.unwrap_or_default();
        let binaries = binaries.into_iter().map(|(key, bytes)| (key, bytes.0)).collect();
        let version = object.metadata.resource_version.unwrap_or_default();
        Ok(Some(Stands { content: Content { texts, binaries }, epoch, version }))
    }

    fn failed(&self, error: kube::Error) -> StoreError {
        StoreError::Api(self.name.clone(), Box::new(error))
    }
}

struct Stands {
    content: Content,
    epoch: i64,
    version: String,
}

fn foreign(run: &RunIdentity, name: &str) -> Problem {
    let RunIdentity { namespace, name: run, uid: _ } = run;
    Problem::new(
        format!("the state of run {namespace}/{run} could not be kept"),
        format!("a ConfigMap {name} is there already, and it is not this run's"),
    )
    .likely("somebody copied or restored an object of an earlier run")
    .next(format!("kubectl describe configmap {name} -n {namespace}"))
    .next("delete it when nobody needs it, and apply the run again")
    .kept(format!("ConfigMap {name} was left as it is"))
}
