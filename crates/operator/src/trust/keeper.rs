//! Keeps the operator's authority, in one Secret of its own namespace, and what follows from it.
//!
//! The chart makes the Secret empty, and the operator may get and update it by that name only. Each write carries the
//! resourceVersion that was read; whoever loses a race reads what the winner wrote. So all replicas have one authority and
//! one seal, and they survive all of them. Only the leader changes the authority, since only it makes pods; every replica
//! looks now and then at what stands there. What is due is decided in [`super::rotation`].

use super::authority::{Authority, CertificateError};
use super::rotation::{Held, Step, Terms, Trusted, decide, serving_is_due};
use super::seal::Seal;
use super::serving::{self, Serving};
use crate::pods::build::{PodManifest, RunIdentity};
use crate::pods::facts::{PodFacts, Seat};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use kube::runtime::reflector::Store;
use lockstep_api::labels;
use rustls::ServerConfig;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Keys of the Secret.
mod key {
    pub const CURRENT: &str = "ca";
    pub const NEXT: &str = "next";
    pub const PREVIOUS: &str = "previous.crt";
    pub const SEAL: &str = "seal.key";
}

/// How often the Secret is looked at, at most,
const LOOK_MAX: Duration = Duration::from_secs(60);
/// and how often in the validity of a serving certificate, where that is short.
const LOOKS_PER_SERVING: i64 = 20;
/// How often a lost race is run again.
const TRIES: u32 = 5;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The Secret cannot be read or written.
    #[error("the secret {0} of the authority cannot be read or written")]
    Secret(String, #[source] Box<kube::Error>),
    /// What it holds is no key and certificate.
    #[error("the secret {0} holds no key and certificate of an authority; empty it, and new ones are made")]
    Content(String),
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate could not be put to use.
    #[error("no connection can be served")]
    Use(#[from] rustls::Error),
    /// No key can be made.
    #[error("the system has no randomness")]
    Random,
    /// Others wrote the Secret at the same time, over and over.
    #[error("the secret {0} was changed by others each time it was to be written")]
    Race(String),
}

/// The authority as it stands.
#[derive(Debug)]
struct Standing {
    trusted: Arc<Trusted>,
    seal: Seal,
    /// Mark of the authority that signed the certificate in use, and the times of that.
    signed: (String, i64, i64),
}

/// Whom agents are told to trust, and how they see that it is us.
#[derive(Debug)]
pub struct Trust {
    secrets: Api<Secret>,
    secret: String,
    names: Vec<String>,
    terms: Terms,
    serving: Arc<Serving>,
    standing: RwLock<Standing>,
}

impl Trust {
    /// Reads the authority from its Secret, or makes one and writes it there. `names`: those that agents dial.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub async fn open(
        secrets: Api<Secret>,
        secret: &str,
        names: Vec<String>,
        terms: Terms,
    ) -> Result<Self, TrustError> {
        let now_s = Timestamp::now().as_second();
        let (current, held) = held(&secrets, secret, now_s, &terms, None).await?;
        let (certificate, ends_s) = current.serving(&names, now_s, terms.serving_s)?;
        let standing = Standing {
            trusted: Arc::new(Trusted::of(&held)),
            seal: Seal::of(&held.seal.unwrap_or_default()),
            signed: (current.mark(), now_s, ends_s),
        };
        Ok(Self {
            secrets,
            secret: secret.to_owned(),
            names,
            terms,
            serving: Arc::new(Serving::new(certificate)),
            standing: RwLock::new(standing),
        })
    }

    /// How agents are served.
    ///
    /// # Errors
    /// See [`serving::config`].
    pub fn server(&self) -> Result<Arc<ServerConfig>, TrustError> {
        Ok(serving::config(Arc::clone(&self.serving))?)
    }

    /// Whom pods that are made now are told to trust.
    #[must_use]
    pub fn trusted(&self) -> Arc<Trusted> {
        Arc::clone(&self.standing.read().unwrap_or_else(PoisonError::into_inner).trusted)
    }

    /// The pod of an attempt with its seal, and with whom it is told to trust.
    #[must_use]
    pub fn sealed(&self, run: &RunIdentity, seat: Seat, pod: &PodManifest, trusted: &Trusted) -> PodManifest {
        let mut pod = pod.clone();
        let seal = self.standing.read().unwrap_or_else(PoisonError::into_inner).seal.seal(run, seat);
        pod.json["metadata"]["annotations"][labels::SEAL] = json!(seal);
        pod.json["metadata"]["annotations"][labels::TRUSTS] = json!(trusted.marks);
        pod
    }

    /// Whether we made the pod, of whose labels these are the facts.
    #[must_use]
    pub fn made(&self, run: &RunIdentity, facts: &PodFacts, pod: &Pod) -> bool {
        let Some(seal) = pod.annotations().get(labels::SEAL) else { return false };
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.seal.fits(seal, run, facts.seat)
    }

    /// Looks after the authority for ever. `pods`: those with our labels; `leads`: whether this replica may change it.
    pub async fn keep(&self, pods: &Store<Pod>, leads: impl Fn() -> bool) {
        let look = Duration::from_secs(u64::try_from(self.terms.serving_s / LOOKS_PER_SERVING).unwrap_or(1));
        let look = look.clamp(Duration::from_secs(1), LOOK_MAX);
        loop {
            tokio::time::sleep(look).await;
            let living = leads().then(|| self.living(pods));
            if let Err(error) = self.look(Timestamp::now().as_second(), living.as_ref()).await {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, "the authority is looked at again");
            }
        }
    }

    /// Whom living pods of ours trust, each list once. What somebody else made does not hold us up.
    fn living(&self, pods: &Store<Pod>) -> BTreeSet<String> {
        let list = |pod: &Arc<Pod>| {
            let facts = PodFacts::of(pod).filter(|facts| !facts.over)?;
            let (namespace, name, uid) = (pod.namespace()?, facts.run.clone(), facts.run_uid.clone());
            let run = RunIdentity { namespace, name, uid };
            self.made(&run, &facts, pod)
                .then(|| pod.annotations().get(labels::TRUSTS).cloned().unwrap_or_default())
        };
        pods.state().iter().filter_map(list).collect()
    }

    async fn look(&self, now_s: i64, living: Option<&BTreeSet<String>>) -> Result<(), TrustError> {
        let (current, held) = held(&self.secrets, &self.secret, now_s, &self.terms, living).await?;
        let signed = {
            let mut standing = self.standing.write().unwrap_or_else(PoisonError::into_inner);
            standing.trusted = Arc::new(Trusted::of(&held));
            standing.seal = Seal::of(held.seal.as_deref().unwrap_or_default());
            standing.signed.clone()
        };
        let (by, begins_s, ends_s) = signed;
        if by == current.mark() && !serving_is_due(now_s, begins_s, ends_s) {
            return Ok(());
        }
        let (certificate, ends_s) = current.serving(&self.names, now_s, self.terms.serving_s)?;
        self.serving.exchange(certificate);
        tracing::info!(authority = current.mark(), ends_s, "agents see a new certificate");
        let mut standing = self.standing.write().unwrap_or_else(PoisonError::into_inner);
        standing.signed = (current.mark(), now_s, ends_s);
        Ok(())
    }
}

/// What the Secret holds, after what is due was done, and who signs. `living`: whom living pods trust, where the authority
/// may be changed; one that is missing is made anyway.
async fn held(
    secrets: &Api<Secret>,
    name: &str,
    now_s: i64,
    terms: &Terms,
    living: Option<&BTreeSet<String>>,
) -> Result<(Authority, Held), TrustError> {
    let failed = |error| TrustError::Secret(name.to_owned(), Box::new(error));
    for _ in 0..TRIES {
        let mut secret = secrets.get(name).await.map_err(failed)?;
        let data = secret.data.take().unwrap_or_default();
        let mut held = read(&data).ok_or_else(|| TrustError::Content(name.to_owned()))?;
        let step = match (living, &held.current) {
            (Some(living), _) => decide(now_s, &held, living),
            (None, None) => Step::MakeCurrent,
            (None, Some(_)) => Step::Hold,
        };
        if step == Step::Hold && held.seal.is_some() {
            let Some(current) = held.current.clone() else {
                return Err(TrustError::Content(name.to_owned()));
            };
            return Ok((current, held));
        }
        take(step, &mut held, now_s, terms)?;
        secret.data = Some(write(&held));
        match secrets.replace(name, &PostParams::default(), &secret).await {
            Ok(_) => tracing::info!(?step, authority = ?held.current, "the authority has changed"),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(TrustError::Race(name.to_owned()))
}

/// Does what is due.
fn take(step: Step, held: &mut Held, now_s: i64, terms: &Terms) -> Result<(), TrustError> {
    match step {
        Step::Hold => {}
        Step::MakeCurrent => {
            let current = Authority::new(now_s, terms.authority_s)?;
            let previous = held.current.replace(current).map(|before| before.certificate);
            (held.next, held.previous) = (None, previous);
        }
        Step::MakeNext => {
            held.next = Some(Authority::new(now_s, terms.authority_s)?);
            held.previous = None;
        }
        Step::Promote => {
            let before = std::mem::replace(&mut held.current, held.next.take());
            held.previous = before.map(|before| before.certificate);
        }
    }
    if held.seal.is_none() {
        held.seal = Some(Seal::make().map_err(|_| TrustError::Random)?);
    }
    Ok(())
}

/// `None` when it is not what [`write`] wrote.
fn read(data: &BTreeMap<String, ByteString>) -> Option<Held> {
    let text = |key: &str| data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    let authority = |name: &str| {
        let Some(key) = text(&format!("{name}.key")) else { return Some(None) };
        let (certificate, times) = (text(&format!("{name}.crt"))?, text(&format!("{name}.times"))?);
        let (begins, ends) = times.trim().split_once(' ')?;
        let (begins_s, ends_s) = (begins.parse().ok()?, ends.parse().ok()?);
        let authority = Authority { key, certificate, begins_s, ends_s };
        authority.check().ok().map(|()| Some(authority))
    };
    Some(Held {
        current: authority(key::CURRENT)?,
        next: authority(key::NEXT)?,
        previous: text(key::PREVIOUS),
        seal: text(key::SEAL),
    })
}

fn write(held: &Held) -> BTreeMap<String, ByteString> {
    let Held { current, next, previous, seal } = held;
    let mut data = BTreeMap::new();
    let mut put = |key: String, text: String| data.insert(key, ByteString(text.into_bytes()));
    for (name, authority) in [(key::CURRENT, current), (key::NEXT, next)] {
        if let Some(Authority { key, certificate, begins_s, ends_s }) = authority {
            put(format!("{name}.key"), key.clone());
            put(format!("{name}.crt"), certificate.clone());
            put(format!("{name}.times"), format!("{begins_s} {ends_s}"));
        }
    }
    for (key, text) in [(key::PREVIOUS, previous), (key::SEAL, seal)] {
        if let Some(text) = text {
            put(key.to_owned(), text.clone());
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { authority_s: 1_000, serving_s: 100 };

    #[test]
    fn what_is_held_survives_the_secret() {
        let mut all = Held::default();
        take(Step::MakeCurrent, &mut all, 10, &TERMS).expect("an authority");
        take(Step::MakeNext, &mut all, 20, &TERMS).expect("a next one");
        let again = read(&write(&all)).expect("what was written");
        assert_eq!(format!("{again:?}"), format!("{all:?}"));
        assert!(again.current.is_some() && again.next.is_some() && again.seal.is_some());
        assert!(read(&BTreeMap::new()).is_some_and(|held| held.current.is_none()));
        let mut broken = write(&all);
        broken.insert("ca.key".to_owned(), ByteString(b"nonsense".to_vec()));
        assert!(read(&broken).is_none());
        let mut timeless = write(&all);
        timeless.remove("ca.times");
        assert!(read(&timeless).is_none());
    }

    #[test]
    fn an_authority_is_followed_by_the_next_and_remembered_for_a_while() {
        let mut held = Held::default();
        take(Step::MakeCurrent, &mut held, 10, &TERMS).expect("an authority");
        let (first, seal) = (held.current.clone().expect("one").mark(), held.seal.clone());
        take(Step::MakeNext, &mut held, 520, &TERMS).expect("a next one");
        let second = held.next.clone().expect("one").mark();
        assert_eq!(Trusted::of(&held).marks, format!("{first}.{second}"));
        take(Step::Promote, &mut held, 530, &TERMS).expect("it is");
        assert_eq!(Trusted::of(&held).marks, format!("{second}.{first}"));
        assert_eq!(held.current.as_ref().map(|one| (one.begins_s, one.ends_s)), Some((520, 1_520)));
        take(Step::MakeNext, &mut held, 1_030, &TERMS).expect("a next one");
        let third = held.next.clone().expect("one").mark();
        assert_eq!(Trusted::of(&held).marks, format!("{second}.{third}"));
        assert_eq!(held.seal, seal, "a seal is for good");
    }
}
