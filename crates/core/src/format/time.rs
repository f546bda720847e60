//! Lengths of time: latencies of operations, and spans of a run.

/// Units of latencies with their length in nanoseconds, largest first.
const UNITS: [(&str, u64); 3] = [("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)];

/// A latency with two to four digits: `850 ns`, `9.5 µs`, `61 µs`, `1.2 ms`, `14 ms`, `75 s`.
#[must_use]
pub fn latency(ns: u64) -> String {
    // Each unit begins where the one below would round up to 1000 of it, so that nothing reads `1000 µs`.
    for (unit, length) in UNITS {
        if ns >= length - length / 2_000 {
            return format!("{} {unit}", scaled(ns, length));
        }
    }
    format!("{ns} ns")
}

/// One decimal below 10 of the unit, none above.
fn scaled(ns: u64, length: u64) -> String {
    let tenths = rounded(ns, length / 10);
    if tenths < 100 { format!("{}.{}", tenths / 10, tenths % 10) } else { rounded(ns, length).to_string() }
}

/// A latency in the unit that `like` is shown in, with three digits behind the point where they say something:
/// an observed value beside its limit, `0.397 ms` under `20 ms`.
#[must_use]
pub fn latency_as(ns: u64, like: u64) -> String {
    let Some((unit, length)) = UNITS.into_iter().find(|(_, length)| like >= *length) else {
        return format!("{ns} ns");
    };
    let thousandths = rounded(ns, length / 1_000);
    let text = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    let digits = if thousandths >= 100_000 { 0 } else { 3 };
    let text = if digits == 0 { rounded(ns, length).to_string() } else { text };
    format!("{} {unit}", trimmed(&text))
}

/// Without zeros behind the point, and without a point that nothing follows.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A span of a run: `0.4 s`, `8.1 s`, `30.0 s`, then `2m05s`, `3h12m`, `2d04h`.
#[must_use]
pub fn span(ns: u64) -> String {
    let tenths = rounded(ns, 100_000_000);
    if tenths < 1_000 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        long_span(rounded(ns, 1_000_000_000))
    }
}

/// A span in whole seconds: `45 s`, `2m05s`, `3h12m`, `2d04h`.
#[must_use]
pub fn long_span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Position within a window, whole seconds: `0:22`, `12:05`, `1:02:03`.
#[must_use]
pub fn clock(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

/// Division, rounded half up; `length` is positive.
fn rounded(ns: u64, length: u64) -> u64 {
    ns / length + u64::from(ns % length >= length.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_as_many_digits_as_say_something() {
        for (ns, want) in [
            (0, "0 ns"),
            (850, "850 ns"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (9_540, "9.5 µs"),
            (9_960, "10 µs"),
            (61_000, "61 µs"),
            (402_400, "402 µs"),
            (999_600, "1.0 ms"),
            (1_240_000, "1.2 ms"),
            (14_000_000, "14 ms"),
            (999_499_000, "999 ms"),
            (999_500_000, "1.0 s"),
            (75_000_000_000, "75 s"),
            (u64::MAX, "18446744074 s"),
        ] {
            assert_eq!(latency(ns), want, "{ns}");
        }
    }

    #[test]
    fn an_observed_latency_is_shown_in_the_unit_of_its_limit() {
        assert_eq!(latency_as(397_000, 20_000_000), "0.397 ms");
        assert_eq!(latency_as(21_000_000, 20_000_000), "21 ms");
        assert_eq!(latency_as(1_234_567_000, 20_000_000), "1235 ms");
        assert_eq!(latency_as(350_500, 350_000), "351 µs");
        assert_eq!(latency_as(12_345, 350_000), "12.345 µs");
        assert_eq!(latency_as(5, 500), "5 ns");
    }

    #[test]
    fn spans_grow_from_seconds_to_days() {
        let s = 1_000_000_000;
        for (ns, want) in [
            (s / 4, "0.3 s"),
            (8_100_000_000, "8.1 s"),
            (30 * s, "30.0 s"),
            (99_940_000_000, "99.9 s"),
            (125 * s, "2m05s"),
            (3 * 3_600 * s + 12 * 60 * s, "3h12m"),
            (100 * 3_600 * s, "4d04h"),
        ] {
            assert_eq!(span(ns), want);
        }
        assert_eq!(long_span(45), "45 s");
    }

    #[test]
    fn clocks_count_down_to_the_second() {
        let s = 1_000_000_000;
        assert_eq!([clock(22 * s), clock(725 * s), clock(3_723 * s)], ["0:22", "12:05", "1:02:03"]);
    }
}
