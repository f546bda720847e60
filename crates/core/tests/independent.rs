//! The data-set functions against golden vectors, and against a second implementation.
//!
//! `tests/independent/golden.json` pins names, sizes and contents: whoever changes it must raise
//! `FUNCTION_VERSION` and change `docs/data-sets.md`. `tests/independent/dataset.py` was written from that page
//! alone; it must agree on the same objects.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use lockstep_core::dataset::content::BLOCK_BYTES;
use lockstep_core::dataset::{DataSet, FUNCTION_VERSION};
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

#[derive(Deserialize)]
struct Golden {
    function_version: u32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    parameters: serde_json::Value,
    /// Index, name, size, SHA-256 of the content.
    objects: Vec<(u64, String, u64, String)>,
}

impl Case {
    fn data_set(&self) -> DataSet {
        serde_json::from_value(self.parameters.clone()).unwrap()
    }

    fn indexes(&self) -> Vec<u64> {
        self.objects.iter().map(|(index, ..)| *index).collect()
    }

    fn lines(&self) -> String {
        self.objects.iter().map(|(_, name, size, sha256)| format!("{name}\t{size}\t{sha256}\n")).collect()
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/independent")
}

fn golden() -> Golden {
    let path = directory().join("golden.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What the Rust functions say of some objects.
fn describe(data_set: &DataSet, indexes: &[u64]) -> String {
    let (names, contents) = (data_set.names(), data_set.contents());
    let mut lines = String::new();
    for index in indexes {
        names.write_name(*index, &mut lines);
        let size = data_set.size_of(*index);
        let mut content = vec![0; usize::try_from(size).unwrap()];
        // In odd pieces, so that what is compared does not depend on where a piece begins.
        for (number, piece) in content.chunks_mut(BLOCK_BYTES + 1234).enumerate() {
            contents.fill(*index, 0, (number * (BLOCK_BYTES + 1234)) as u64, piece);
        }
        contents.verify(*index, 0, 0, &content).unwrap();
        writeln!(lines, "\t{size}\t{}", sha256(&content)).unwrap();
    }
    lines
}

/// What the second implementation says of them.
fn describe_independently(parameters: &serde_json::Value, indexes: &[u64]) -> String {
    let output = Command::new("python3")
        .arg(directory().join("dataset.py"))
        .arg(parameters.to_string())
        .args(indexes.iter().map(u64::to_string))
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn golden_vectors_hold() {
    let golden = golden();
    assert_eq!(golden.function_version, FUNCTION_VERSION);
    for case in &golden.cases {
        let data_set = case.data_set();
        assert_eq!(describe(&data_set, &case.indexes()), case.lines(), "{}", case.parameters);
        for (index, name, ..) in &case.objects {
            assert_eq!(data_set.index_of(name), Some(*index));
        }
    }
}

#[test]
fn a_second_implementation_agrees() {
    for case in golden().cases {
        // Other objects than the pinned ones, small enough for an interpreter.
        let data_set = case.data_set();
        let indexes: Vec<u64> = (100..400)
            .chain([1 << 40, (1 << 63) + 5])
            .filter(|index| data_set.size_of(*index) < 100_000)
            .collect();
        let indexes = [case.indexes(), indexes[..indexes.len().min(40)].to_vec()].concat();
        let independent = describe_independently(&case.parameters, &indexes);
        assert_eq!(independent, describe(&data_set, &indexes), "{}", case.parameters);
    }
}

/// SHA-256 (FIPS 180-4) in hexadecimal: too small a need for a dependency.
fn sha256(message: &[u8]) -> String {
    let primes = || (2u32..).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0));
    // The first 32 bits of the fractional part, by integer roots of the prime times 2^64 or 2^96.
    let root = |value: u128, power: u32| {
        (0..40).rev().fold(0u128, |root, bit| {
            let next = root | 1 << bit;
            if next.pow(power) <= value { next } else { root }
        }) as u32
    };
    let k: Vec<u32> = primes().take(64).map(|prime| root(u128::from(prime) << 96, 3)).collect();
    let mut hash: Vec<u32> = primes().take(8).map(|prime| root(u128::from(prime) << 64, 2)).collect();
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for chunk in padded.chunks(64) {
        let mut w: Vec<u32> = chunk.chunks(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ (w[i - 15] >> 3);
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ (w[i - 2] >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = hash.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let t1 = v[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(s0).wrapping_add(majority);
        }
        for (sum, word) in hash.iter_mut().zip(v) {
            *sum = sum.wrapping_add(word);
        }
    }
    hash.iter().map(|word| format!("{word:08x}")).collect()
}

#[test]
fn sha256_is_sha256() {
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(sha256(&[0; 64]), "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}
