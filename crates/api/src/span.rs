//! Spans of time as manifests write them: `90s`, `1h30m`, `500ms`.
//!
//! Deliberately without days (not every day has 24 hours), micro- and nanoseconds, signs and fractions.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a span may look like; the API server checks the same pattern.
pub const SPAN_PATTERN: &str = r"^([0-9]{1,6}h)?([0-9]{1,8}m)?([0-9]{1,9}s)?([0-9]{1,9}ms)?$";

/// Title that marks a schema whose span must be more than zero. [`crate::crd`] makes a second pattern of it: the API server's
/// regular expressions cannot look ahead, and the derive loses the type of an optional field that has two patterns.
pub(crate) const POSITIVE: &str = "positive";

/// Said of a span that is none.
pub const SPAN_ALLOWED: &str = "a duration of h, m, s and ms in this order: 90s, 1h30m, 500ms";

/// A span of time in whole milliseconds; its schema demands more than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A text that is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration")]
pub struct SpanError(String);

impl Span {
    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    #[must_use]
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError(text.chars().take(64).collect());
        let mut rest = text;
        let mut milliseconds = 0_u64;
        let mut previous = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            // Rank keeps the units in order, and the digits of each below the pattern's limit.
            let (rank, factor, most_digits) = match unit {
                "h" => (1, 3_600_000, 6),
                "m" => (2, 60_000, 8),
                "s" => (3, 1_000, 9),
                "ms" => (4, 1, 9),
                _ => return Err(error()),
            };
            if rank <= previous || number.is_empty() || number.len() > most_digits {
                return Err(error());
            }
            previous = rank;
            milliseconds += number.parse::<u64>().map_err(|_| error())? * factor;
            rest = tail;
        }
        if previous == 0 {
            return Err(error());
        }
        Ok(Self::milliseconds(milliseconds))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_millis();
        let parts = [
            (total / 3_600_000, "h"),
            (total / 60_000 % 60, "m"),
            (total / 1_000 % 60, "s"),
            (total % 1_000, "ms"),
        ];
        if total == 0 {
            return f.write_str("0s");
        }
        for (count, unit) in parts {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "maxLength": 32,
            "pattern": SPAN_PATTERN,
            "title": POSITIVE,
        })
    }
}

/// Schema of a span that may be zero, for the few fields where "not at all" makes sense.
pub fn zero_allowed(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 2, "maxLength": 32, "pattern": SPAN_PATTERN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_read_in_order_of_their_units() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("0s", 0),
            ("168h", 604_800_000),
            ("1m5ms", 60_005),
        ] {
            assert_eq!(text.parse::<Span>().unwrap(), Span::milliseconds(milliseconds), "{text}");
        }
        for text in ["", "5", "s", "-5s", "1.5h", "30s1h", "1s1s", "5d", "5 s", "1us", "9999999h", "5S"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(milliseconds in 0_u64..3_000_000_000_000) {
            let span = Span::milliseconds(milliseconds);
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Span>();
        }
    }
}
