//! Contents as a function of (seed, index, version, offset).
//!
//! Content comes in blocks of 4096 bytes, each with a key of its own, and within a block in words of eight bytes,
//! each computed from the key and its number. So any range of any object is written, or checked, without its
//! beginning, by any agent. How contents are checked is in [`super::verify`].
//!
//! This deliberately does not know how long an object is: a longer object begins with the bytes of a shorter one.

use super::{DataSet, domain};
use crate::rng::{FOLD_STEP, fold, word};
use serde::{Deserialize, Serialize};

/// Bytes of a block: the unit of duplicates, of compression and of verification.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of the header of a block that can be verified.
pub const HEADER_BYTES: usize = 40;
/// The first four bytes of such a header, `LkSt`, as a little-endian number.
pub const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"LkSt");
/// Equal blocks of one object lie so many blocks apart: 64 KiB, which is out of reach of LZ4, Snappy and deflate,
/// so that duplicates do not make an object compressible as well.
const DEDUP_STRIDE: u64 = 16;

/// What is in the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentSpec {
    /// What blocks are filled with.
    pub fill: Fill,
    /// One block in this many is unique; 1 is no duplicates.
    pub dedup: u32,
    /// A block compresses by this factor; 1 is incompressible.
    pub compress: u32,
    /// Whether blocks carry a header that lets any reader check them.
    pub verify: bool,
}

impl Default for ContentSpec {
    fn default() -> Self {
        Self { fill: Fill::Random, dedup: 1, compress: 1, verify: false }
    }
}

/// What blocks are filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fill {
    /// Pseudo-random bytes.
    #[default]
    Random,
    /// Zeroes.
    Zero,
}

/// The contents of one data set, with everything computed that does not depend on the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    seed: u64,
    key: u64,
    /// So many bytes of a block are random, the others zero.
    random_bytes: usize,
    dedup: Dedup,
    headers: bool,
}

/// Where the duplicates of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dedup {
    None,
    /// In the same object: so many rows of [`DEDUP_STRIDE`] blocks are equal.
    Within(u64),
    /// At the same offset of the other objects of a group of so many.
    Across(u64),
}

/// What the header of a block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Seed of the data set.
    pub seed: u64,
    /// Index of the object.
    pub index: u64,
    /// Version of the object.
    pub version: u32,
    /// Offset of the block in the object, in bytes.
    pub offset: u64,
}

impl BlockHeader {
    /// The header as it is stored: magic, version, seed, index, offset, check, all little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&HEADER_MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seed.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.offset.to_le_bytes());
        bytes[32..].copy_from_slice(&self.check().to_le_bytes());
        bytes
    }

    /// Reads a header; `None` where the magic or the check is wrong.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let [m0, m1, m2, m3, v0, v1, v2, v3, rest @ ..] = bytes;
        let (words, _) = rest.as_chunks::<8>();
        let [seed, index, offset, check] = words else { return None };
        let header = Self {
            seed: u64::from_le_bytes(*seed),
            index: u64::from_le_bytes(*index),
            version: u32::from_le_bytes([*v0, *v1, *v2, *v3]),
            offset: u64::from_le_bytes(*offset),
        };
        let intact =
            [*m0, *m1, *m2, *m3] == HEADER_MAGIC.to_le_bytes() && check == &header.check().to_le_bytes();
        intact.then_some(header)
    }

    /// Tells a whole header from a damaged one.
    const fn check(&self) -> u64 {
        let first = word(HEADER_MAGIC as u64, self.version as u64);
        word(word(word(first, self.seed), self.index), self.offset)
    }
}

impl Contents {
    /// The contents of a data set.
    #[must_use]
    pub fn new(data_set: &DataSet) -> Self {
        let spec = &data_set.content;
        let dedup = u64::from(spec.dedup);
        let row_bytes = DEDUP_STRIDE * BLOCK_BYTES as u64;
        Self {
            seed: data_set.seed,
            key: word(data_set.seed, domain::CONTENT),
            random_bytes: match spec.fill {
                Fill::Random => BLOCK_BYTES / (spec.compress.max(1) as usize),
                Fill::Zero => 0,
            },
            dedup: match dedup {
                0 | 1 => Dedup::None,
                _ if data_set.size.min_bytes() >= dedup * row_bytes => Dedup::Within(dedup),
                _ => Dedup::Across(dedup),
            },
            headers: spec.verify,
        }
    }

    /// Whether blocks carry headers.
    #[must_use]
    pub const fn has_headers(&self) -> bool {
        self.headers
    }

    /// Fills `buffer` with the bytes of object `index` from `offset` on. `version` is 0 for what prepare writes
    /// and grows by one with each overwriting.
    pub fn fill(&self, index: u64, version: u32, offset: u64, buffer: &mut [u8]) {
        let object_key = self.object_key(index, version);
        let mut rest = buffer;
        let mut position = offset;
        while !rest.is_empty() {
            let start = (position % BLOCK_BYTES as u64) as usize;
            let (part, after) = rest.split_at_mut(rest.len().min(BLOCK_BYTES - start));
            let block = position / BLOCK_BYTES as u64;
            self.fill_block(object_key, block, start, part);
            if self.headers && start < HEADER_BYTES {
                let header = self.header(index, version, block).to_bytes();
                let end = HEADER_BYTES.min(start + part.len());
                part[..end - start].copy_from_slice(&header[start..end]);
            }
            position += part.len() as u64;
            rest = after;
        }
    }

    /// The header of a block of an object.
    pub(super) const fn header(&self, index: u64, version: u32, block: u64) -> BlockHeader {
        BlockHeader { seed: self.seed, index, version, offset: block * BLOCK_BYTES as u64 }
    }

    fn object_key(&self, index: u64, version: u32) -> u64 {
        let unique = match self.dedup {
            Dedup::Across(objects) => index / objects,
            Dedup::None | Dedup::Within(_) => index,
        };
        word(word(self.key, unique), u64::from(version))
    }

    /// Fills `part`, which begins `start` bytes into the block.
    #[inline]
    fn fill_block(&self, object_key: u64, block: u64, start: usize, part: &mut [u8]) {
        let unique = match self.dedup {
            Dedup::Within(rows) => block / (rows * DEDUP_STRIDE) * DEDUP_STRIDE + block % DEDUP_STRIDE,
            Dedup::None | Dedup::Across(_) => block,
        };
        let random = self.random_bytes.saturating_sub(start).min(part.len());
        let (random, zero) = part.split_at_mut(random);
        random_bytes(word(object_key, unique), start, random);
        zero.fill(0);
    }
}

/// Bytes of wyrand's little-endian sequence seeded with `key`, from byte `start` on.
#[inline]
fn random_bytes(key: u64, start: usize, part: &mut [u8]) {
    let mut state = key.wrapping_add(FOLD_STEP.wrapping_mul((start / 8) as u64 + 1));
    let head = (8 - start % 8) % 8;
    let (head, body) = part.split_at_mut(head.min(part.len()));
    if !head.is_empty() {
        let first = start % 8;
        head.copy_from_slice(&fold(state).to_le_bytes()[first..first + head.len()]);
        state = state.wrapping_add(FOLD_STEP);
    }
    let (words, tail) = body.as_chunks_mut::<8>();
    for eight in words {
        *eight = fold(state).to_le_bytes();
        state = state.wrapping_add(FOLD_STEP);
    }
    let length = tail.len();
    tail.copy_from_slice(&fold(state).to_le_bytes()[..length]);
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::size::SizeSpec;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn data_set(bytes: u64, content: ContentSpec) -> DataSet {
        DataSet {
            seed: 11,
            layout: Layout::Flat { objects: 100, prefix_shards: 0 },
            size: SizeSpec::Fixed(bytes),
            content,
        }
    }

    fn object(contents: &Contents, index: u64, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0xaa; bytes];
        contents.fill(index, 0, 0, &mut buffer);
        buffer
    }

    fn unique_blocks<'a>(objects: impl IntoIterator<Item = &'a Vec<u8>>) -> usize {
        objects.into_iter().flat_map(|object| object.chunks(BLOCK_BYTES)).collect::<HashSet<_>>().len()
    }

    #[test]
    fn content_depends_on_seed_index_and_version_only() {
        let one = data_set(100, ContentSpec::default());
        let mut other = one.clone();
        other.seed = 12;
        let bytes = |data_set: &DataSet, index, version| {
            let mut buffer = [0; 100];
            data_set.fill_content(index, version, 0, &mut buffer);
            buffer
        };
        assert_eq!(bytes(&one, 5, 0), bytes(&one, 5, 0));
        let all = [bytes(&one, 5, 0), bytes(&one, 6, 0), bytes(&one, 5, 1), bytes(&other, 5, 0)];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4);
    }

    #[test]
    fn random_content_is_incompressible_and_unique() {
        let contents = data_set(1 << 20, ContentSpec::default()).contents();
        let object = object(&contents, 3, 1 << 20);
        assert_eq!(unique_blocks([&object]), 256);
        let mut counts = [0u32; 256];
        object.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        assert!(counts.iter().all(|count| (3_700..4_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn one_block_in_so_many_is_unique() {
        for (bytes, dedup) in [(1 << 20, 4), (4096, 4), (4096, 10), (256 << 10, 4), (3 << 20, 3), (20_480, 2)]
        {
            let spec = ContentSpec { dedup, ..ContentSpec::default() };
            let contents = data_set(bytes, spec).contents();
            let objects: Vec<_> = (0..20).map(|index| object(&contents, index, bytes as usize)).collect();
            let blocks = 20 * bytes as usize / BLOCK_BYTES;
            assert_eq!(unique_blocks(&objects), blocks / dedup as usize, "{bytes} {dedup}");
        }
        let large = data_set(1 << 20, ContentSpec { dedup: 4, ..ContentSpec::default() }).contents();
        assert_eq!(unique_blocks([&object(&large, 7, 1 << 20)]), 64);
    }

    #[test]
    fn blocks_compress_by_the_factor() {
        for compress in [2, 3, 10, 4096, 5000] {
            let contents = data_set(8192, ContentSpec { compress, ..ContentSpec::default() }).contents();
            for block in object(&contents, 1, 8192).chunks(BLOCK_BYTES) {
                let random = BLOCK_BYTES / compress as usize;
                assert!(block[random..].iter().all(|byte| *byte == 0));
                let zeroes = block[..random].iter().filter(|byte| **byte == 0).count();
                assert!(zeroes <= random / 64 + 1, "{zeroes} of {random}");
            }
        }
        let zero = data_set(8192, ContentSpec { fill: Fill::Zero, ..ContentSpec::default() }).contents();
        assert_eq!(object(&zero, 1, 5000), vec![0; 5000]);
    }

    #[test]
    fn headers_round_trip() {
        let header = BlockHeader { seed: u64::MAX, index: 7, version: 3, offset: 8192 };
        let bytes = header.to_bytes();
        assert_eq!(BlockHeader::from_bytes(&bytes), Some(header));
        for position in 0..HEADER_BYTES {
            let mut damaged = bytes;
            damaged[position] ^= 1;
            assert_eq!(BlockHeader::from_bytes(&damaged), None, "{position}");
        }
        assert_eq!(BlockHeader::from_bytes(&[0; HEADER_BYTES]), None);
    }

    proptest! {
        #[test]
        fn any_part_equals_that_part_of_the_whole(
            offset in 0..20_000usize, length in 0..20_000usize, dedup in 0..5u32, compress in 0..5u32,
            verify in any::<bool>(), large in any::<bool>(),
        ) {
            let spec = ContentSpec { fill: Fill::Random, dedup, compress, verify };
            let contents = data_set(if large { 1 << 30 } else { 4096 }, spec).contents();
            let mut whole = vec![0xaa; 40_000];
            contents.fill(9, 1, 0, &mut whole);
            let mut part = vec![0x55; length];
            contents.fill(9, 1, offset as u64, &mut part);
            prop_assert_eq!(&part[..], &whole[offset..offset + length]);
        }
    }
}
