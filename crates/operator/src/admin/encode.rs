//! Values as OpenMetrics text, by prometheus-client.

use super::families::{Family, Kind};
use super::metrics::{Rows, Value};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt::Error;

/// The text.
pub(super) fn encode(families: Vec<(Family, Rows)>) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Values(families)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// Values that are encoded once.
#[derive(Debug)]
struct Values(Vec<(Family, Rows)>);

impl Collector for Values {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        for (family, rows) in &self.0 {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in rows {
                let labels: Vec<(&str, &str)> =
                    family.labels.iter().copied().zip(labels.iter().copied()).collect();
                if family.kind == Kind::Info {
                    metric.encode_info(&labels)?;
                } else if labels.is_empty() {
                    one(&mut metric, family.kind, value)?;
                } else {
                    one(&mut metric.encode_family(&labels)?, family.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn one(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), Error> {
    /// No exemplar, and so no labels of one.
    const NONE: Option<&prometheus_client::metrics::exemplar::Exemplar<[(&str, &str); 0], u64>> = None;
    match (kind, value) {
        (Kind::Counter, Value::Whole(count)) => {
            encoder.encode_counter::<[(&str, &str); 0], _, u64>(count, NONE)
        }
        (Kind::Counter, Value::Real(count)) => {
            encoder.encode_counter::<[(&str, &str); 0], _, u64>(count, NONE)
        }
        (_, Value::Whole(count)) => encoder.encode_gauge(count),
        (_, Value::Real(count)) => encoder.encode_gauge(count),
        (_, Value::Buckets(buckets, bounds_ns)) => {
            let bounds = bounds_ns.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
            let counts = buckets.counts.iter().copied().chain(std::iter::repeat(0));
            let rows: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let count = buckets.counts.iter().sum();
            encoder.encode_histogram::<[(&str, &str); 0]>(buckets.sum_ns as f64 / 1e9, count, &rows, None)
        }
    }
}
