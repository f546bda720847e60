//! The document that lies beside a data set and says whose it is.
//!
//! A run refuses to write into a place that is not empty and bears no marker of its own data set, and never
//! deletes from one. So nobody's data is overwritten by a mistyped URI, and data written with another seed, other
//! parameters or another version of the functions is not mistaken for one's own.
//!
//! This deliberately neither reads nor writes anything: it is the document, not its storage.

use super::{DataSet, FUNCTION_VERSION};
use crate::plan::Sharing;
use crate::ranges::RangeSet;
use serde::{Deserialize, Serialize};

/// Version of the document's encoding.
pub const MARKER_FORMAT: u32 = 1;
/// Name of the document beside the data. No object of any layout has such a name.
pub const MARKER_NAME: &str = ".lockstep-data-set.json";

/// Says which data set lies beside it, and how much of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Marker {
    /// [`MARKER_FORMAT`].
    pub format: u32,
    /// [`FUNCTION_VERSION`] of the writer.
    pub function_version: u32,
    /// Seed of the data set, which is also in [`Marker::parameters`]; here for people.
    pub seed: u64,
    /// What everything about the data set follows from.
    pub parameters: DataSet,
    /// Whether agents share it or have one each.
    pub sharing: Sharing,
    /// Unique id of the run that wrote it last.
    pub run_uid: String,
    /// Indexes that are known to be written, of all agents together.
    pub ranges_done: RangeSet,
    /// Below which index puts of execute stages may lie, beyond the data set: cleanup looks there too. 0 where there
    /// are none. Written before any of them is put, and exactly when a run ends as it should.
    #[serde(default)]
    pub puts_below: u64,
}

/// Why a document is no marker.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// It is not JSON, or not of a marker's shape.
    #[error("the document {MARKER_NAME} is damaged")]
    Damaged(#[source] serde_json::Error),
    /// A newer Lockstep wrote it.
    #[error("the document {MARKER_NAME} has format {0}; this version knows only {MARKER_FORMAT}")]
    Format(u64),
}

/// In what two data sets differ first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The version of the functions.
    FunctionVersion,
    /// The seed.
    Seed,
    /// The names.
    Layout,
    /// The sizes.
    Size,
    /// The contents.
    Content,
    /// Who owns which part.
    Sharing,
}

impl Difference {
    /// The field of a manifest, or of the marker, that it is about.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FunctionVersion => "functionVersion",
            Self::Seed => "seed",
            Self::Layout => "layout",
            Self::Size => "size",
            Self::Content => "content",
            Self::Sharing => "sharing",
        }
    }
}

impl Marker {
    /// The marker of a data set of which nothing is written yet.
    #[must_use]
    pub fn new(data_set: &DataSet, sharing: Sharing, run_uid: &str) -> Self {
        Self {
            format: MARKER_FORMAT,
            function_version: FUNCTION_VERSION,
            seed: data_set.seed,
            parameters: data_set.clone(),
            sharing,
            run_uid: run_uid.to_owned(),
            ranges_done: RangeSet::default(),
            puts_below: 0,
        }
    }

    /// In what the marked data set differs from this one; `None` where names, sizes and contents are all the same.
    /// The run and the ranges done do not count.
    #[must_use]
    pub fn difference(&self, data_set: &DataSet, sharing: Sharing) -> Option<Difference> {
        let DataSet { seed, layout, size, content } = data_set;
        let own = &self.parameters;
        [
            (self.function_version != FUNCTION_VERSION, Difference::FunctionVersion),
            (own.seed != *seed, Difference::Seed),
            (own.layout != *layout, Difference::Layout),
            (own.size != *size, Difference::Size),
            (own.content != *content, Difference::Content),
            (self.sharing != sharing, Difference::Sharing),
        ]
        .into_iter()
        .find_map(|(differs, difference)| differs.then_some(difference))
    }

    /// Whether the marked data set is this one.
    #[must_use]
    pub fn is_same_data_set(&self, data_set: &DataSet, sharing: Sharing) -> bool {
        self.difference(data_set, sharing).is_none()
    }

    /// The document, with a line feed at its end.
    ///
    /// # Errors
    ///
    /// None that is known; `serde_json` leaves the possibility open.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// [`MarkerError`] where it is damaged or newer than this version.
    pub fn from_json(document: &[u8]) -> Result<Self, MarkerError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        // The format first: the rest of a newer document may have another shape.
        let head: Head = serde_json::from_slice(document).map_err(MarkerError::Damaged)?;
        if head.format != u64::from(MARKER_FORMAT) {
            return Err(MarkerError::Format(head.format));
        }
        serde_json::from_slice(document).map_err(MarkerError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::content::ContentSpec;
    use super::super::size::SizeSpec;
    use super::*;

    fn data_set() -> DataSet {
        DataSet {
            seed: u64::MAX,
            layout: Layout::Flat { objects: 100, prefix_shards: 0 },
            size: SizeSpec::Fixed(4096),
            content: ContentSpec::default(),
        }
    }

    #[test]
    fn documents_round_trip() {
        let mut marker = Marker::new(&data_set(), Sharing::PerAgent, "uid-1");
        marker.ranges_done.insert(0, 40);
        let document = marker.to_json().unwrap();
        assert!(
            document.contains("\"functionVersion\": 1") && document.contains("\"runUid\": \"uid-1\""),
            "{document}"
        );
        assert_eq!(Marker::from_json(document.as_bytes()).unwrap(), marker);
    }

    #[test]
    fn strange_documents_are_refused() {
        let newer = Marker::from_json(br#"{"format": 2, "anything": []}"#).unwrap_err();
        assert!(matches!(newer, MarkerError::Format(2)), "{newer}");
        for damaged in ["", "{", "[]", r#"{"format": 1}"#] {
            assert!(
                matches!(Marker::from_json(damaged.as_bytes()), Err(MarkerError::Damaged(_))),
                "{damaged}"
            );
        }
    }

    #[test]
    fn differences_are_named() {
        let mut marker = Marker::new(&data_set(), Sharing::Shared, "uid-1");
        assert!(marker.is_same_data_set(&data_set(), Sharing::Shared));
        let check = |change: fn(&mut DataSet), expected| {
            let mut other = data_set();
            change(&mut other);
            assert_eq!(marker.difference(&other, Sharing::Shared), Some(expected));
        };
        check(|other| other.seed = 1, Difference::Seed);
        check(|other| other.layout = Layout::Flat { objects: 101, prefix_shards: 0 }, Difference::Layout);
        check(|other| other.size = SizeSpec::Fixed(1), Difference::Size);
        check(|other| other.content.verify = true, Difference::Content);
        assert_eq!(marker.difference(&data_set(), Sharing::PerAgent), Some(Difference::Sharing));
        marker.function_version = 2;
        assert_eq!(marker.difference(&data_set(), Sharing::Shared).unwrap().name(), "functionVersion");
    }
}
