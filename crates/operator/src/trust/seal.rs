//! The seal of a pod: by it we know a pod that we made from one that looks the same.
//!
//! Whoever may create pods in a namespace may give them any labels, any owner and any audience of a token. So what the
//! operator makes bears an annotation that only the operator can write: a keyed hash (HMAC-SHA256) of namespace, name, run,
//! index and attempt. A seal that is copied fits only a pod of the same name, which cannot exist beside ours.

use crate::pods::build::RunIdentity;
use crate::pods::facts::Seat;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt::Write as _;

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// The key of seals.
#[derive(Clone, Debug)]
pub struct Seal(hmac::Key);

impl Seal {
    /// A new key, as text.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn make() -> Result<String, ring::error::Unspecified> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes)?;
        Ok(hex(&bytes))
    }

    /// The key of a text that [`Seal::make`] has made.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, text.trim().as_bytes()))
    }

    /// The seal of the pod of an attempt.
    #[must_use]
    pub fn seal(&self, run: &RunIdentity, seat: Seat) -> String {
        hex(hmac::sign(&self.0, text(run, seat).as_bytes()).as_ref())
    }

    /// Whether it is the seal of the pod of an attempt.
    #[must_use]
    pub fn fits(&self, seal: &str, run: &RunIdentity, seat: Seat) -> bool {
        let Some(bytes) = unhex(seal) else { return false };
        hmac::verify(&self.0, text(run, seat).as_bytes(), &bytes).is_ok()
    }
}

fn text(run: &RunIdentity, (index, attempt): Seat) -> String {
    let RunIdentity { namespace, name, uid } = run;
    // None of these can hold a slash.
    format!("{namespace}/{name}/{uid}/{index}/{attempt}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair =
        |pair: &[u8]| Some(u8::try_from(digit(pair.first()?)? * 16 + digit(pair.get(1)?)?).unwrap_or(0));
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(namespace: &str, name: &str, uid: &str) -> RunIdentity {
        RunIdentity { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() }
    }

    #[test]
    fn a_seal_fits_one_pod_and_one_key() {
        let key = Seal::make().expect("a key");
        let (seal, other) = (Seal::of(&key), Seal::of(&Seal::make().expect("a key")));
        let nightly = run("perf", "nightly", "u");
        let text = seal.seal(&nightly, (3, 1));
        assert!(Seal::of(&format!("{key}\n")).fits(&text, &nightly, (3, 1)), "also after it was stored");
        assert!(!other.fits(&text, &nightly, (3, 1)), "another key");
        for (other, seat) in [
            (nightly.clone(), (3, 0)),
            (nightly.clone(), (1, 1)),
            (run("perf", "nightly", "v"), (3, 1)),
            (run("perf2", "nightly", "u"), (3, 1)),
            (run("perf", "nightly-3", "u"), (3, 1)),
        ] {
            assert!(!seal.fits(&text, &other, seat), "{other:?} {seat:?}");
        }
        for wrong in ["", "zz", &text[..62], &format!("{text}00"), "é"] {
            assert!(!seal.fits(wrong, &nightly, (3, 1)), "{wrong}");
        }
    }
}
