//! What is kept of results is all that a report shows of them, and it is small.

use super::codec::{self, Entry, Found, Measured, pack};
use super::writer::{Queued, SIZES, Sizes, Tail, plan};
use crate::pods::config_maps::BINARY_BYTES_MAX;
use lockstep_core::op::Op;
use lockstep_core::results::cell::Sample;
use lockstep_core::results::part::{EndpointRow, PartState, StagePart};
use lockstep_core::results::stage::StageFacts;
use lockstep_core::results::{Totals, merge_stage, operations_ledger};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Plans parts as batches of these sizes, and reads back what would be written.
fn kept(parts: &[StagePart], batches: &[usize], sizes: Sizes) -> Vec<StagePart> {
    let (mut objects, mut head, mut tail) = (Vec::new(), None, Tail::default());
    let mut rest = parts;
    let mut counts = batches.iter().copied().cycle();
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(counts.next().unwrap_or(1).clamp(1, rest.len()));
        rest = later;
        let queued = |part| Queued { entry: entry(part), answers: Vec::new() };
        let entries = batch.iter().map(|part| ((part.stage, part.agent, part.attempt), queued(part)));
        let (_, Ok(planned)) = plan(tail, entries.collect(), sizes) else { panic!("it does not fit") };
        objects.extend(planned.more);
        (head, tail) = (planned.packed, planned.tail);
        assert!(head.as_ref().is_none_or(|head| head.len() <= sizes.head));
    }
    let mut found = Found::default();
    for packed in objects.iter().chain(&head) {
        assert!(packed.len() <= sizes.object);
        for line in codec::lines(packed) {
            found.add(&line.expect("unpacks")).expect("reads");
        }
    }
    found.into_parts()
}

fn entry(part: &StagePart) -> Entry {
    Entry::of(Arc::new(part.clone())).expect("encodes")
}

/// The lines of what these have measured.
fn merged(entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut stages = BTreeMap::<u32, Measured>::new();
    for part in entries.iter().filter_map(|entry| entry.measured.as_deref()) {
        stages.entry(part.stage).or_default().add(part);
    }
    stages.iter().flat_map(|(stage, measured)| measured.lines(*stage).expect("encodes")).collect()
}

fn facts(stage: u32) -> StageFacts {
    StageFacts { stage, agents_planned: 3, window_ns: Some(20_000_000_000), ..StageFacts::default() }
}

fn totals(samples: &[(u64, u64, bool)]) -> Totals {
    let mut totals = Totals::new();
    for &(service_ns, size_bytes, put) in samples {
        let op = if put { Op::Put } else { Op::Get };
        let sample =
            Sample { op, size_bytes, intended_ns: 0, start_ns: 0, first_byte_ns: None, end_ns: service_ns };
        totals.record_ok(&sample, false, false);
    }
    totals
}

fn any_part() -> impl Strategy<Value = StagePart> {
    let samples =
        || proptest::collection::vec((1_000..1_000_000_000_u64, 0..200_000_u64, any::<bool>()), 0..8);
    let seconds = proptest::collection::vec((0..20_u32, samples()), 0..5);
    (0..3_u32, 0..6_u32, 0..2_u32, any::<bool>(), seconds).prop_map(
        |(stage, agent, attempt, lost, seconds)| {
            let mut part = StagePart::new(stage, agent, attempt);
            for (second, samples) in seconds {
                let totals = totals(&samples);
                part.series.add(second, &totals, false);
                part.totals.merge(&totals);
            }
            if lost {
                let reason = "OOMKilled".to_owned();
                part.state = PartState::Lost { reason, unaccounted_from_ns: 1, unaccounted_to_ns: 2 };
            }
            part.window_ns = u64::from(agent) * 1_000_000_000;
            part.environment.insert("kernel".to_owned(), format!("6.{agent}"));
            part
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_merges_to_the_same(
        parts in proptest::collection::vec(any_part(), 0..12),
        batches in proptest::collection::vec(1..5_usize, 1..4),
    ) {
        // What an attempt hands in takes the place of what it was given up with; any other repeat is not written.
        let mut written = Vec::<StagePart>::new();
        let mut counts = BTreeMap::new();
        for part in parts {
            let seat = (part.stage, part.agent, part.attempt);
            let lost = matches!(part.state, PartState::Lost { .. });
            if counts.get(&seat).is_none_or(|there: &StagePart| !lost && matches!(there.state, PartState::Lost { .. })) {
                counts.insert(seat, part.clone());
                written.push(part);
            }
        }
        let want: Vec<StagePart> = counts.into_values().collect();
        for sizes in [SIZES, Sizes { object: 2_048, head: 1_536, sealed: 512 }] {
            let got = kept(&written, &batches, sizes);
            for stage in 0..3 {
                prop_assert_eq!(merge_stage(&facts(stage), &got, None), merge_stage(&facts(stage), &want, None));
            }
            prop_assert_eq!(operations_ledger(&got), operations_ledger(&want));
        }
    }
}

/// What an agent hands in that measured for five minutes: 6,000 operations per second, some of them slow.
fn five_minutes(agent: u32) -> StagePart {
    let mut part = StagePart::new(2, agent, 0);
    let mut state = u64::from(agent) + 1;
    let mut second = Totals::new();
    for at in 0..6_000_u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64;
        // Log-normal as latencies are, by a rough inverse: 0.2 to 50 ms.
        let service_ns = (1_000_000.0 * (uniform / (1.0 - uniform).max(1e-6)).powf(0.6)) as u64;
        let op = if at % 4 == 0 { Op::Put } else { Op::Get };
        let size_bytes = if at % 3 == 0 { 65_536 } else { 4_096 };
        let first_byte_ns = Some(service_ns * 9 / 10);
        let sample = Sample {
            op,
            size_bytes,
            intended_ns: 0,
            start_ns: 0,
            first_byte_ns,
            end_ns: service_ns.max(50_000),
        };
        second.record_ok(&sample, true, false);
    }
    for at in 0..300 {
        part.series.add(at, &second, false);
    }
    // Many more than one second's distinct values, and counts as large as five minutes make them.
    part.totals = second;
    for _ in 0..8 {
        let twice = part.totals.clone();
        part.totals.merge(&twice);
    }
    for server in 0..4 {
        let uri = format!("http://s3-{server}.storage.svc:9000");
        let mut endpoint = EndpointRow { uri, requests: 450_000, ..EndpointRow::default() };
        endpoint.service.merge(part.totals.overall().response());
        part.endpoints.push(endpoint);
    }
    for key in ["kernel", "os", "cpu", "memory", "cgroup"] {
        part.environment.insert(key.to_owned(), format!("what {key} says of this machine, in some 60 bytes"));
    }
    part
}

#[test]
fn a_thousand_results_of_five_minutes_fit_one_config_map() {
    // Sixteen kinds of machines; to make a thousand takes a minute without the optimiser.
    let kinds: Vec<StagePart> = (0..16).map(five_minutes).collect();
    let bytes = |part: &StagePart| part.to_bytes().expect("encodes").len();
    let whole: usize = kinds.iter().map(bytes).sum::<usize>() / kinds.len() * 1_000;
    let of_agent = |agent: u32| {
        let mut part = kinds[agent as usize % kinds.len()].clone();
        part.agent = agent;
        let noise = u64::from(agent).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (part.planned_start_ns, part.released_ns) = (noise >> 8, Some((noise >> 8) + (noise >> 44)));
        (part.client.process_cpu_ns, part.network.rtt_mean_ns) = (noise >> 24, noise >> 46);
        entry(&part)
    };
    let entries: Vec<Entry> = (0..1_000).map(of_agent).collect();
    let rows: usize = entries.iter().map(|entry| entry.line.len()).sum();
    let merged = merged(&entries);
    let measured: usize = merged.iter().map(Vec::len).sum();
    let lines: Vec<&[u8]> =
        entries.iter().map(|entry| &entry.line).chain(&merged).map(Vec::as_slice).collect();
    let packed: Vec<usize> = pack(&lines, BINARY_BYTES_MAX).expect("fits").iter().map(Vec::len).collect();
    println!("handed in {whole} B; rows {rows} B, what was measured {measured} B, packed {packed:?} B");
    assert_eq!(packed.len(), 1, "{packed:?}");
}

#[test]
fn what_fits_in_no_object_is_named() {
    let mut state = 1_u64;
    let mut noise = |bytes: usize| -> Vec<u8> {
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(next).collect()
    };
    let lines = [noise(1_000), noise(9_000), noise(1_000)];
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let (line, bytes) = pack(&lines, 8_192).expect_err("too large");
    assert!(line == 1 && bytes > 8_192, "{line} {bytes}");
    assert_eq!(pack(&lines, 10_500).expect("fits").len(), 2);
    assert_eq!(pack(&[], 10_000).expect("nothing").len(), 0);
}

#[test]
fn a_day_of_seconds_is_spread_over_objects() {
    let mut part = StagePart::new(0, 0, 0);
    for second in 0..86_400 {
        let seed = u64::from(second);
        part.series.add(second, &totals(&[(100_000 + seed * 7_919 % 9_999_991, 4_096, false)]), false);
    }
    let got = kept(std::slice::from_ref(&part), &[1], Sizes { object: 200_000, head: 100_000, ..SIZES });
    assert_eq!((got.len(), &got[0].series), (1, &part.series));
}
