//! Which attempt of each index status names: `0-2:0,3:1,4-7:0`.
//!
//! Written before a pod is made, and read by whoever takes over. Runs of indexes with one attempt are one entry, so that a
//! run in which nothing was lost costs a few bytes at any number of agents.

use crate::pods::facts::Seat;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The attempt of each index that may have a pod; empty before the first pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<u32, u32>);

/// Why a text in status does not name attempts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no attempts")]
pub struct NamesError(String);

/// The most indexes that are read: those of the largest run.
const INDEXES_MAX: u32 = 5_000;

impl Names {
    /// Attempt 0 of each of `replicas` indexes.
    #[must_use]
    pub fn first(replicas: u32) -> Self {
        Self((0..replicas).map(|index| (index, 0)).collect())
    }

    /// Whether no pod may be made at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this attempt may have a pod.
    #[must_use]
    pub fn names(&self, (index, attempt): Seat) -> bool {
        self.0.get(&index) == Some(&attempt)
    }

    /// The same with these attempts in place of earlier ones of their indexes.
    #[must_use]
    pub fn with(&self, seats: impl IntoIterator<Item = Seat>) -> Self {
        let mut names = self.clone();
        for (index, attempt) in seats {
            let named = names.0.entry(index).or_insert(attempt);
            *named = attempt.max(*named);
        }
        names
    }

    /// The attempts, by index.
    pub fn iter(&self) -> impl Iterator<Item = Seat> + '_ {
        self.0.iter().map(|(index, attempt)| (*index, *attempt))
    }

    /// As status holds it.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let mut seats = self.iter().peekable();
        while let Some((first, attempt)) = seats.next() {
            let mut last = first;
            while seats.next_if_eq(&(last + 1, attempt)).is_some() {
                last += 1;
            }
            if !text.is_empty() {
                text.push(',');
            }
            // Writing to a String cannot fail.
            let _ = match first == last {
                true => write!(text, "{first}:{attempt}"),
                false => write!(text, "{first}-{last}:{attempt}"),
            };
        }
        text
    }

    /// Reads what [`Names::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the text is none, names an index twice, or one that no run has.
    pub fn decode(text: &str) -> Result<Self, NamesError> {
        let mut names = BTreeMap::new();
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            let (indexes, attempt) =
                parse(entry).ok_or_else(|| NamesError(entry.chars().take(64).collect()))?;
            for index in indexes {
                if names.insert(index, attempt).is_some() {
                    return Err(NamesError(entry.to_owned()));
                }
            }
        }
        Ok(Self(names))
    }
}

fn parse(entry: &str) -> Option<(std::ops::RangeInclusive<u32>, u32)> {
    let (indexes, attempt) = entry.split_once(':')?;
    let (first, last) = indexes.split_once('-').unwrap_or((indexes, indexes));
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < INDEXES_MAX).then_some((first..=last, attempt.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_of_indexes_are_one_entry() {
        assert_eq!(Names::first(5_000).encode(), "0-4999:0");
        assert_eq!(Names::first(8).with([(3, 1)]).encode(), "0-2:0,3:1,4-7:0");
        assert_eq!(Names::first(2).with([(1, 2), (1, 1)]).encode(), "0:0,1:2");
        assert_eq!(Names::default().encode(), "");
    }

    #[test]
    fn what_is_no_list_of_attempts_is_refused() {
        for text in ["a", "1", "1:", ":0", "3-1:0", "0:0,0:1", "0-4294967295:0", "1-2-3:0", "0:-1"] {
            assert!(Names::decode(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn names_survive_their_text(seats in proptest::collection::btree_map(0..200_u32, 0..4_u32, 0..60)) {
            let names = Names(seats);
            prop_assert_eq!(Names::decode(&names.encode()), Ok(names));
        }
    }
}
