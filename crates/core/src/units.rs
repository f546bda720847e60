//! Sizes and spans of time as people write them: `8Mi`, `1.5Gi`, `1h30m`, `500ms`. One reading, for manifests and for
//! options of targets.
//!
//! Deliberately not the whole of Kubernetes' quantities: no milli units, no exponents, no sign, since none of them makes
//! sense for the size of an object. Spans know no days (not every day has 24 hours), micro- and nanoseconds, signs and
//! fractions.

use std::fmt;
use std::time::Duration;

/// Said of a size that is none.
pub const SIZE_ALLOWED: &str = "bytes, as an integer or with a unit: 512, 64Ki, 8Mi (or 8MiB), 100k, 1.5Gi";

/// Said of a span that is none.
pub const SPAN_ALLOWED: &str = "a duration of h, m, s and ms in this order: 90s, 1h30m, 500ms";

const SIZE_UNITS: [(&str, u64); 12] = [
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

/// A text that is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration")]
pub struct SpanError(String);

/// Reads a size: bytes, at most `i64::MAX`.
///
/// # Errors
/// A text that is no size, no whole number of bytes, or too much.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let malformed = || SizeError::Malformed(text.chars().take(64).collect());
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_suffix('B').unwrap_or(unit);
    let factor = match unit {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?.1,
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
    Ok(bytes as u64)
}

/// Writes a size with the largest binary unit that divides it, so that writing and reading agree.
///
/// # Errors
/// Those of the formatter.
pub fn write_size(bytes: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (unit, factor) in SIZE_UNITS.iter().filter(|(unit, _)| unit.ends_with('i')) {
        if bytes != 0 && bytes.is_multiple_of(*factor) {
            return write!(f, "{}{unit}", bytes / factor);
        }
    }
    write!(f, "{bytes}")
}

/// Reads a span of whole milliseconds.
///
/// # Errors
/// A text that is no span.
pub fn parse_span(text: &str) -> Result<Duration, SpanError> {
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
    Ok(Duration::from_millis(milliseconds))
}

/// Writes a span of whole milliseconds so that reading gives it again.
///
/// # Errors
/// Those of the formatter.
pub fn write_span(span: Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let total = span.as_millis();
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Written<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result>(F);

    impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Written<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0(f)
        }
    }

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
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in
            ["", "k", "8mi", "8 Mi", "-1", "1e3", "8K", "1.", ".5k", "1.2.3k", "99Ei", "1.0001k", "8MiBB"]
        {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

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
            assert_eq!(parse_span(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "5", "s", "-5s", "1.5h", "30s1h", "1s1s", "5d", "5 s", "1us", "9999999h", "5S"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn writing_and_reading_sizes_agree(bytes in 0..=i64::MAX as u64) {
            let text = Written(|f| write_size(bytes, f)).to_string();
            prop_assert_eq!(parse_size(&text).unwrap(), bytes);
        }

        #[test]
        fn writing_and_reading_spans_agree(milliseconds in 0_u64..3_000_000_000_000) {
            let span = Duration::from_millis(milliseconds);
            let text = Written(|f| write_span(span, f)).to_string();
            prop_assert_eq!(parse_span(&text).unwrap(), span);
        }

        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = (parse_size(&text), parse_span(&text));
        }
    }
}
