//! Sizes in bytes, as Kubernetes writes them (`8Mi`, `100k`, `1.5Gi`) and as people do (`8MiB`, `100kB`).
//!
//! Deliberately not the whole of Kubernetes' quantities: no milli units, no exponents, no sign, since none of
//! them makes sense for the size of an object.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// What a size may look like when it is a string; the API server checks the same pattern.
pub const SIZE_PATTERN: &str = r"^[0-9]{1,19}(\.[0-9]{1,9})?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|B|kB|MB|GB|TB|PB|EB|KiB|MiB|GiB|TiB|PiB|EiB)?$";

/// Said of a size that is none.
pub const SIZE_ALLOWED: &str = "bytes, as an integer or with a unit: 512, 64Ki, 8Mi (or 8MiB), 100k, 1.5Gi";

const UNITS: [(&str, u64); 12] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

/// A number of bytes, at most `i64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number with a known unit.
    #[error("`{0}` is not a size")]
    Malformed(String),
    /// A fraction that is no whole number of bytes.
    #[error("`{0}` is not a whole number of bytes")]
    Fraction(String),
    /// More than `i64::MAX` bytes.
    #[error("`{0}` is more bytes than can be counted")]
    TooLarge(String),
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let malformed = || SizeError::Malformed(text.chars().take(64).collect());
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.strip_suffix('B').unwrap_or(unit);
        let factor = match unit {
            "" => 1,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?.1,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let has_dot = number.contains('.');
        if whole.is_empty() || whole.len() > 19 || fraction.len() > 9 || (has_dot && fraction.is_empty()) {
            return Err(malformed());
        }
        if fraction.contains('.') {
            return Err(malformed());
        }
        let too_large = || SizeError::TooLarge(text.to_owned());
        let whole: u128 = whole.parse().map_err(|_| malformed())?;
        let mut bytes = whole.checked_mul(u128::from(factor)).ok_or_else(too_large)?;
        if !fraction.is_empty() {
            let scale = 10_u128.pow(fraction.len() as u32);
            let part = fraction.parse::<u128>().map_err(|_| malformed())? * u128::from(factor);
            if part % scale != 0 {
                return Err(SizeError::Fraction(text.to_owned()));
            }
            bytes += part / scale;
        }
        if bytes > i64::MAX as u128 {
            return Err(too_large());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that divides the size, so that printing and parsing agree.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in UNITS.iter().filter(|(unit, _)| unit.ends_with('i')) {
            if self.0 != 0 && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZE_ALLOWED)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                i64::try_from(bytes).map_err(|_| E::custom("too many bytes"))?;
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maxLength": 32,
            "pattern": SIZE_PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_kubernetes_and_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64Ki", 65_536),
            ("8Mi", 8 << 20),
            ("8MiB", 8 << 20),
            ("100k", 100_000),
            ("100kB", 100_000),
            ("1.5Gi", 3 << 29),
            ("7Ei", 7 << 60),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for text in
            ["", "k", "8mi", "8 Mi", "-1", "1e3", "8K", "1.", ".5k", "1.2.3k", "99Ei", "1.0001k", "8MiBB"]
        {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(bytes in 0..=i64::MAX as u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse::<ByteSize>().unwrap(), ByteSize(bytes));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
