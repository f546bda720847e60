//! `<stage>.<operation>.hlog`: response times as an HdrHistogram interval log (V2, compressed), for HistogramLogAnalyzer,
//! hdr-plot and their kin. Values are nanoseconds; the maximum of each line is shown in milliseconds.
//!
//! One interval per second where all of a stage's response times are known per second; else one interval for the whole
//! stage, never a part of the seconds.

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use lockstep_core::op::Op;
use lockstep_core::results::response::Response;
use lockstep_core::results::{Cell, Histogram, Series};
use std::io;
use std::time::Duration;

/// The log of one operation of one stage. `whole`: all that was measured of it; `live`: the same by second, where known.
///
/// # Errors
///
/// None that a histogram of this program can cause; kept for the caller to report rather than to hide.
pub fn render(
    stage: &str,
    op: Op,
    whole: &Cell,
    window_ns: u64,
    live: Option<&Series>,
) -> io::Result<Vec<u8>> {
    let whole = &whole.response().histogram;
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let comments = [
        format!("response times of {} in stage {stage}, nanoseconds", op.name()),
        format!(
            "{} operations, {} of them above the range of an hour and not in here",
            whole.count(),
            whole.above_range()
        ),
    ];
    let mut builder = IntervalLogWriterBuilder::new();
    for comment in &comments {
        builder.add_comment(comment);
    }
    builder.with_max_value_divisor(1e6);
    let mut log = builder.begin_log_with(&mut bytes, &mut serializer)?;
    let mut write = |histogram: &Histogram, start, duration| {
        let written = log.write_histogram(&histogram.to_hdr(), start, duration, None);
        written.map_err(|error| io::Error::other(format!("{error:?}")))
    };
    match by_second(op, live, whole.count()) {
        // Unpacked one by one: together they may not fit into memory.
        Some(seconds) if seconds.len() > 1 => {
            for (second, response) in seconds {
                if let Some(histogram) = response.histogram() {
                    write(&histogram, Duration::from_secs(u64::from(second)), Duration::from_secs(1))?;
                }
            }
        }
        _ => write(whole, Duration::ZERO, Duration::from_nanos(window_ns))?,
    }
    Ok(bytes)
}

/// Response times of an operation by second; `None` where they are not those of all `count` operations.
fn by_second(op: Op, live: Option<&Series>, count: u64) -> Option<Vec<(u32, &Response)>> {
    let (mut seconds, mut counted) = (Vec::new(), 0);
    for (second, row) in live?.iter() {
        if let Some(here) = row.op(op).filter(|here| here.count > 0) {
            let whole = |response: &&Response| !matches!(response, Response::Reduced { .. });
            seconds.push((second, here.response.as_ref().filter(whole)?));
            counted += here.count;
        }
    }
    (counted == count).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram as Hdr;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use lockstep_core::results::{Sample, Totals};

    fn totals(micros: std::ops::Range<u64>) -> Totals {
        let mut totals = Totals::new();
        for end_ns in micros.map(|micros| micros * 1_000) {
            let sample = Sample {
                op: Op::Get,
                size_bytes: 1,
                intended_ns: 0,
                start_ns: 0,
                first_byte_ns: None,
                end_ns,
            };
            totals.record_ok(&sample, false, false);
        }
        totals
    }

    /// Start, duration and number of values of each interval.
    fn intervals(log: &[u8]) -> Vec<(u64, u64, u64)> {
        IntervalLogIterator::new(log)
            .filter_map(|entry| match entry.expect("parses") {
                LogEntry::Interval(interval) => {
                    let encoded = decode(interval.encoded_histogram());
                    let hdr: Hdr<u64> = Deserializer::new().deserialize(&mut &encoded[..]).expect("decodes");
                    Some((interval.start_timestamp().as_secs(), interval.duration().as_secs(), hdr.len()))
                }
                _ => None,
            })
            .collect()
    }

    /// Base 64, as the log holds it.
    fn decode(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut held, mut bytes) = (0u32, 0u32, Vec::new());
        for digit in text.bytes().filter_map(|byte| ALPHABET.iter().position(|digit| *digit == byte)) {
            bits = bits << 6 | digit as u32;
            held += 6;
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        bytes
    }

    #[test]
    fn seconds_are_shown_only_where_all_of_them_are_known() {
        let (first, second) = (totals(1..50), totals(50..100));
        let mut whole = first.clone();
        whole.merge(&second);
        let whole = whole.by_op(Op::Get);
        let mut live = Series::new();
        live.add(0, &first, true);
        let log =
            |live: &Series| render("mixed", Op::Get, &whole, 2_000_000_000, Some(live)).expect("renders");
        assert_eq!(intervals(&log(&live)), [(0, 2, 99)], "a second is missing");
        live.add(1, &second, true);
        assert_eq!(intervals(&log(&live)), [(0, 1, 49), (1, 1, 50)]);
    }
}
