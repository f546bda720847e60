//! When the operator's authority changes: decided from what its Secret holds, who trusts what, and the time.
//!
//! ```text
//! Empty --> Current --(half of its validity)--> Current + next --(all living pods trust next)--> Current
//!                                                    '-------(a twentieth is left)-------------------^
//! ```
//!
//! Every pod is made with what the Secret holds then: current and next, and for a while the one before, by which another
//! replica may still sign. So a pod that lives through the change trusts what comes, and no session notices. Pods that do
//! not trust it hold the change up, until a certificate could not be had otherwise. Pure.

use super::authority::Authority;
use std::collections::BTreeSet;

/// Part of its validity after which an authority gets a successor,
const NEXT_AFTER: Share = Share(1, 2);
/// and after which the successor takes over, whoever does not know it.
const LAST_CALL_AFTER: Share = Share(19, 20);
/// Part of its validity after which a serving certificate is made anew.
const SERVING_AFTER: Share = Share(2, 3);
/// In a list of whom a pod trusts.
const SEPARATOR: char = '.';

struct Share(i64, i64);

impl Share {
    /// When this part of a validity is over, seconds since 1970.
    fn of(&self, begins_s: i64, ends_s: i64) -> i64 {
        begins_s + ends_s.saturating_sub(begins_s).saturating_mul(self.0) / self.1
    }
}

/// How long things hold, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// An authority.
    pub authority_s: i64,
    /// A serving certificate; never longer than its authority.
    pub serving_s: i64,
}

/// What the Secret holds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Who signs.
    pub current: Option<Authority>,
    /// Who signs next.
    pub next: Option<Authority>,
    /// Certificate of who signed before, PEM; kept until there is a next one.
    pub previous: Option<String>,
    /// Key of the pods' seals.
    pub seal: Option<String>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Hold,
    /// There is nobody who can sign: make one.
    MakeCurrent,
    /// Make the next one, and trust it.
    MakeNext,
    /// The next one signs from now on.
    Promote,
}

/// What is due at `now_s`, where living pods trust whom each of `living` lists ([`Trusted::encode`]).
#[must_use]
pub fn decide(now_s: i64, held: &Held, living: &BTreeSet<String>) -> Step {
    let Some(current) = &held.current else { return Step::MakeCurrent };
    let Authority { begins_s, ends_s, .. } = *current;
    match &held.next {
        Some(next) if now_s >= next.ends_s => Step::MakeCurrent,
        Some(next) => {
            let mark = next.mark();
            let all_trust_it = living.iter().all(|list| list.split(SEPARATOR).any(|one| one == mark));
            let promoted = all_trust_it || now_s >= LAST_CALL_AFTER.of(begins_s, ends_s);
            if promoted { Step::Promote } else { Step::Hold }
        }
        None if now_s >= ends_s => Step::MakeCurrent,
        None if now_s >= NEXT_AFTER.of(begins_s, ends_s) => Step::MakeNext,
        None => Step::Hold,
    }
}

/// Whether a serving certificate is to be made anew, by its times and whether its signer still is the one.
#[must_use]
pub fn serving_is_due(now_s: i64, begins_s: i64, ends_s: i64) -> bool {
    now_s >= SERVING_AFTER.of(begins_s, ends_s)
}

/// Whom a pod is told to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Certificates, PEM.
    pub bundle: String,
    /// The same as marks, for the pod's annotation.
    pub marks: String,
}

impl Trusted {
    /// Whom pods are told to trust while the Secret holds this.
    #[must_use]
    pub fn of(held: &Held) -> Self {
        let authorities = [held.current.as_ref(), held.next.as_ref()];
        let certificates = authorities.into_iter().flatten().map(|one| one.certificate.as_str());
        let mut trusted = Self::default();
        for certificate in certificates.chain(held.previous.as_deref()) {
            if !trusted.marks.is_empty() {
                trusted.marks.push(SEPARATOR);
            }
            trusted.marks.push_str(&super::authority::mark(certificate));
            trusted.bundle.push_str(certificate.trim_end());
            trusted.bundle.push('\n');
        }
        trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str, begins_s: i64, ends_s: i64) -> Authority {
        Authority { key: String::new(), certificate: name.to_owned(), begins_s, ends_s }
    }

    fn held(next: bool) -> Held {
        Held {
            current: Some(authority("one", 1_000, 2_000)),
            next: next.then(|| authority("two", 1_500, 2_500)),
            ..Held::default()
        }
    }

    #[test]
    fn an_authority_gets_a_successor_at_half_of_its_validity() {
        let nobody = BTreeSet::new();
        assert_eq!(decide(1_000, &Held::default(), &nobody), Step::MakeCurrent);
        for (now_s, step) in [
            (0, Step::Hold),
            (1_499, Step::Hold),
            (1_500, Step::MakeNext),
            (1_999, Step::MakeNext),
            (2_000, Step::MakeCurrent),
        ] {
            assert_eq!(decide(now_s, &held(false), &nobody), step, "{now_s}");
        }
    }

    #[test]
    fn the_next_one_signs_when_every_living_pod_trusts_it_or_time_is_up() {
        let list = |held: &Held| Trusted::of(held).marks;
        let (old, new) = (list(&held(false)), list(&held(true)));
        let living = |lists: &[&str]| lists.iter().map(|list| (*list).to_owned()).collect::<BTreeSet<_>>();
        for (lists, at_1_600) in [
            (living(&[]), Step::Promote),
            (living(&[&new]), Step::Promote),
            (living(&[&old, &new]), Step::Hold),
            (living(&[""]), Step::Hold),
        ] {
            assert_eq!(decide(1_600, &held(true), &lists), at_1_600, "{lists:?}");
            assert_eq!(decide(1_950, &held(true), &lists), Step::Promote, "{lists:?}");
            assert_eq!(decide(2_500, &held(true), &lists), Step::MakeCurrent, "nobody looked for long");
        }
    }

    #[test]
    fn who_signed_before_is_trusted_until_there_is_a_next_one() {
        let promoted = Held {
            current: Some(authority("two", 1_500, 2_500)),
            previous: Some("one".to_owned()),
            ..Held::default()
        };
        assert_eq!(Trusted::of(&promoted).bundle, "two\none\n");
        assert_eq!(Trusted::of(&held(true)).bundle, "one\ntwo\n");
    }
}
