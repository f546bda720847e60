//! Counts, bytes, rates and percentages.

/// Binary units with their size, largest first.
const UNITS: [(&str, u128); 6] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// A number with a comma after each thousand: `64,032,768`.
#[must_use]
pub fn count(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in at most four characters and a unit of a thousand, where it has no room for more: `950`, `41k`, `1.2M`.
#[must_use]
pub fn short_count(number: u64) -> String {
    for (unit, size) in [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)] {
        // Where the unit below would round up to 1000 of it, this one begins.
        if number >= size - size / 2_000 {
            let tenths = rounded(u128::from(number) * 10, size.into());
            return if tenths < 100 {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            } else {
                format!("{}{unit}", rounded(number.into(), size.into()))
            };
        }
    }
    number.to_string()
}

/// Thousandths with one decimal and commas: `28_837_123` is `28,837.1`.
#[must_use]
pub fn decimal_milli(milli: u64) -> String {
    let tenths = milli / 100 + u64::from(milli % 100 >= 50);
    format!("{}.{}", count(tenths / 10), tenths % 10)
}

/// Bytes in the largest binary unit that fits, one decimal below 10: `512 B`, `1.2 GiB`, `152 MiB`.
#[must_use]
pub fn bytes(bytes: impl Into<u128>) -> String {
    let bytes = bytes.into();
    for (unit, size) in UNITS {
        // Where the unit below would round up to 1024 of it, this one begins.
        if bytes >= size - size / 2_048 {
            let tenths = rounded(bytes.saturating_mul(10), size);
            return if tenths < 100 {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                format!("{} {unit}", count(rounded(bytes, size)))
            };
        }
    }
    format!("{bytes} B")
}

/// Bytes per second: `152 MiB/s`.
#[must_use]
pub fn bytes_per_s(rate: u64) -> String {
    format!("{}/s", bytes(rate))
}

/// Bytes in MiB with one decimal and without unit, for columns: `1,802.3`.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    let tenths = rounded(u128::from(bytes) * 10, 1 << 20);
    format!("{}.{}", count(tenths / 10), tenths % 10)
}

/// Thousandths of a percent: `500` is `0.5 %`, `1_000` is `1 %`.
#[must_use]
pub fn percent(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Division, rounded half up; `size` is positive.
fn rounded(bytes: u128, size: u128) -> u128 {
    bytes / size + u128::from(bytes % size >= size.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        let texts = [0u64, 999, 1_000, 64_032_768].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "64,032,768"]);
        assert_eq!(
            [decimal_milli(28_837_149), decimal_milli(28_837_150), decimal_milli(0)],
            ["28,837.1", "28,837.2", "0.0"]
        );
    }

    #[test]
    fn short_counts_are_short() {
        let texts = [0, 999, 1_000, 41_210, 999_499, 999_500, 1_234_567, 12_000_000_000].map(short_count);
        assert_eq!(texts, ["0", "999", "1.0k", "41k", "999k", "1.0M", "1.2M", "12G"]);
    }

    #[test]
    fn bytes_have_as_many_digits_as_say_something() {
        for (amount, want) in [
            (0u64, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_288_490_189, "1.2 GiB"),
            (159_383_552, "152 MiB"),
            (1_048_575, "1.0 MiB"),
            (1_023 << 10, "1,023 KiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(amount), want, "{amount}");
        }
        assert_eq!(bytes(u128::MAX / 16).split_once(' ').map(|(_, unit)| unit), Some("EiB"));
        assert_eq!(
            (bytes_per_s(159_383_552), mebibytes(1_889_848_525)),
            ("152 MiB/s".to_owned(), "1,802.3".to_owned())
        );
    }

    #[test]
    fn percentages_have_no_idle_zeros() {
        assert_eq!(
            [percent(500), percent(1_000), percent(1), percent(0)],
            ["0.5 %", "1 %", "0.001 %", "0 %"]
        );
    }
}
