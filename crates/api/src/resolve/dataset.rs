//! `spec.dataset` into [`DataSet`]: sizes that can be drawn, and a number of objects that can be counted.

use super::{Findings, exactly_one};
use crate::fault::Fault;
use crate::manifest::path;
use crate::quantity::ByteSize;
use crate::rules::SIZES;
use crate::spec::BenchmarkRunSpec;
use crate::spec::dataset::{DatasetSpec, SizeSpec};
use crate::spec::words::Sharing;
use lockstep_core::dataset::content::ContentSpec;
use lockstep_core::dataset::size::{Bucket, SizeSpec as SizePlan};
use lockstep_core::dataset::{DataSet, Layout, Tree};

/// Objects beyond which nothing is counted any more: 10^15, so that bytes and operations fit in 64 bits.
pub const OBJECTS_MAX: u64 = 1_000_000_000_000_000;

/// The largest object: 5 TiB, what S3 takes and more than any file that one worker should write.
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// Resolves the data set; `None` when there is a fault that leaves nothing to go on with.
pub(super) fn resolve(spec: &BenchmarkRunSpec, replicas: u32, findings: &mut Findings) -> Option<DataSet> {
    let at = "spec.dataset";
    let dataset = &spec.dataset;
    let size = size(&dataset.size, "spec.dataset.size", findings);
    let members = [dataset.objects.is_some(), dataset.tree.is_some()];
    let layout = exactly_one(at, &["objects", "tree"], &members, findings).then(|| layout(dataset)).flatten();
    if dataset.tree.is_some() && dataset.prefix_shards > 0 {
        let fault = Fault::new("spec.dataset.prefixShards", "has no meaning with a tree");
        findings.fault(fault.hint("the tree's directories spread the files"));
    }
    if let Some(layout) = &layout {
        count(dataset, layout, replicas, findings);
    }
    if spec.target.uri.starts_with("mem://") && dataset.sharing == Sharing::Shared && replicas > 1 {
        findings.fault(
            Fault::new(
                "spec.dataset.sharing",
                "each agent has a memory of its own, so nothing can be shared",
            )
            .allowed("PerAgent with mem://"),
        );
    }
    let content = ContentSpec {
        fill: dataset.content.fill.into(),
        dedup: dataset.content.dedup,
        compress: dataset.content.compress,
        verify: dataset.content.verify,
    };
    Some(DataSet { seed: spec.seed, layout: layout?, size: size?, content })
}

fn layout(dataset: &DatasetSpec) -> Option<Layout> {
    match (dataset.objects, &dataset.tree) {
        (Some(objects), None) => Some(Layout::Flat { objects, prefix_shards: dataset.prefix_shards }),
        (None, Some(tree)) => Some(Layout::Tree(Tree {
            width: tree.width,
            depth: tree.depth,
            files_per_directory: tree.files_per_directory,
            files: tree.files.into(),
        })),
        _ => None,
    }
}

fn count(dataset: &DatasetSpec, layout: &Layout, replicas: u32, findings: &mut Findings) {
    let at = match layout {
        Layout::Flat { .. } => "spec.dataset.objects",
        Layout::Tree(_) => "spec.dataset.tree",
    };
    let Some(objects) = layout.objects_checked().filter(|objects| *objects <= OBJECTS_MAX) else {
        let fault =
            Fault::new(at, "has more objects than can be counted").allowed(format!("at most {OBJECTS_MAX}"));
        findings.fault(match layout {
            Layout::Tree(_) => {
                fault.hint("width^depth directories times filesPerDirectory: lower one of them")
            }
            Layout::Flat { .. } => fault,
        });
        return;
    };
    if objects == 0 {
        findings.fault(Fault::new(at, "has no objects").allowed("at least one"));
    } else if dataset.sharing == Sharing::Shared && objects < u64::from(replicas) {
        findings.fault(
            Fault::new(at, format!("{replicas} agents share {objects} objects, so some would own none"))
                .allowed(format!("at least {replicas} objects, or sharing: PerAgent")),
        );
    } else if dataset.sharing == Sharing::PerAgent
        && objects.checked_mul(u64::from(replicas)).is_none_or(|all| all > OBJECTS_MAX)
    {
        let message = format!("{replicas} agents with {objects} objects each are more than can be counted");
        findings.fault(Fault::new(at, message).allowed(format!("at most {OBJECTS_MAX} in all")));
    }
}

/// Resolves a distribution of sizes that stands at `at`.
pub(super) fn size(spec: &SizeSpec, at: &str, findings: &mut Findings) -> Option<SizePlan> {
    let members =
        [spec.fixed.is_some(), spec.uniform.is_some(), spec.lognormal.is_some(), spec.buckets.is_some()];
    if !exactly_one(at, SIZES, &members, findings) {
        return None;
    }
    let mut largest = |at: String, bytes: ByteSize| {
        if bytes.0 > OBJECT_BYTES_MAX {
            findings
                .fault(Fault::new(at, format!("{bytes} is too large for one object")).allowed("at most 5Ti"));
        }
    };
    if let Some(bytes) = spec.fixed {
        largest(path::member(at, "fixed"), bytes);
        return Some(SizePlan::Fixed(bytes.0));
    }
    if let Some(uniform) = &spec.uniform {
        let at = path::member(at, "uniform");
        largest(path::member(&at, "max"), uniform.max);
        if uniform.min > uniform.max {
            let message = format!("min {} is more than max {}", uniform.min, uniform.max);
            findings.fault(Fault::new(at, message).allowed("min ≤ max"));
        }
        return Some(SizePlan::Uniform { min: uniform.min.0, max: uniform.max.0 });
    }
    if let Some(lognormal) = &spec.lognormal {
        let at = path::member(at, "lognormal");
        largest(path::member(&at, "max"), lognormal.max);
        if lognormal.mean.0 == 0 {
            findings.fault(Fault::new(path::member(&at, "mean"), "is zero").allowed("more than zero"));
        } else if lognormal.min > lognormal.mean || lognormal.mean > lognormal.max {
            let message = format!(
                "min {}, mean {} and max {} are not in order",
                lognormal.min, lognormal.mean, lognormal.max
            );
            findings.fault(Fault::new(at, message).allowed("min ≤ mean ≤ max"));
        }
        return Some(SizePlan::Lognormal {
            mean: lognormal.mean.0,
            std_dev: lognormal.std_dev.0,
            min: lognormal.min.0,
            max: lognormal.max.0,
        });
    }
    let at = path::member(at, "buckets");
    let buckets = spec.buckets.as_deref().unwrap_or_default();
    for (index, bucket) in buckets.iter().enumerate() {
        largest(path::member(&path::item(&at, index), "size"), bucket.size);
    }
    if buckets.iter().all(|bucket| bucket.weight == 0) {
        findings.fault(
            Fault::new(at, "all weights are zero").allowed("weights of 0 to 10000, at least one positive"),
        );
    }
    let buckets = buckets.iter().filter(|bucket| bucket.weight > 0);
    Some(SizePlan::Buckets(
        buckets.map(|bucket| Bucket { bytes: bucket.size.0, weight: bucket.weight }).collect(),
    ))
}
