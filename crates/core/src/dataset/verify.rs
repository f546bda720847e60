//! Whether bytes that were read are those that were written, and if not, what happened to them.
//!
//! With [`super::content::ContentSpec::verify`] each block carries a header, and a reader can tell lost, stale,
//! torn, swapped and corrupt data apart. Without it the content can still be computed again and compared, but
//! another object's bytes then look corrupt, and an older version is recognised only if it is the one before.
//!
//! This deliberately looks at bytes alone: a missing or a short object is for the caller to notice.

use super::content::{BLOCK_BYTES, BlockHeader, Contents, HEADER_BYTES};

/// The least that disks write as a whole, in bytes.
const SECTOR_BYTES: usize = 512;

/// What is wrong with bytes that were read. Offsets are in bytes from the beginning of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Zeroes where something was written.
    #[error("lost: zeroes instead of content from offset {offset} on")]
    Lost {
        /// Where the zeroes begin.
        offset: u64,
    },
    /// All of an older version.
    #[error("stale: version {found} from offset {offset} on, where version {expected} was written")]
    Stale {
        /// Where the reading began.
        offset: u64,
        /// The least version that should be there.
        expected: u32,
        /// The version that is there.
        found: u32,
    },
    /// Parts of several versions, or of one version and none.
    #[error("torn: a write was done in part only, seen from offset {offset} on")]
    Torn {
        /// Where the part of another version begins.
        offset: u64,
    },
    /// A whole block that belongs elsewhere.
    #[error("swapped: at offset {offset} lies the block of object {} at offset {}", .found.index, .found.offset)]
    Swapped {
        /// Where it lies.
        offset: u64,
        /// Where it belongs.
        found: BlockHeader,
    },
    /// Bytes that nobody wrote.
    #[error("corrupt: other bytes than were written from offset {offset} on")]
    Corrupt {
        /// The first such byte.
        offset: u64,
    },
}

/// The part of a reading that lies in one block.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    /// Offset in the object.
    offset: u64,
}

impl Part<'_> {
    /// The header that it begins with: `None` where it does not begin with its block or is too short,
    /// `Some(None)` where the header is damaged.
    fn header(&self) -> Option<Option<BlockHeader>> {
        let begins = self.offset.is_multiple_of(BLOCK_BYTES as u64);
        let bytes = self.bytes.first_chunk::<HEADER_BYTES>().filter(|_| begins)?;
        Some(BlockHeader::from_bytes(bytes))
    }
}

impl Contents {
    /// Checks what was read from object `index` at `offset`. `version` is the least version that must be there; a
    /// newer one is as good, if all of the reading is of it.
    ///
    /// # Errors
    ///
    /// The first [`Mismatch`], classified.
    pub fn verify(&self, index: u64, version: u32, offset: u64, data: &[u8]) -> Result<(), Mismatch> {
        let found = if self.has_headers() { self.version_of(index, offset, data) } else { None };
        let present = found.unwrap_or(version);
        for part in parts(offset, data) {
            let mut expected = [0; BLOCK_BYTES];
            let expected = &mut expected[..part.bytes.len()];
            self.fill(index, present, part.offset, expected);
            if part.bytes != expected {
                return Err(self.classify(index, present, found.is_some(), part, expected));
            }
        }
        if present < version {
            return Err(Mismatch::Stale { offset, expected: version, found: present });
        }
        Ok(())
    }

    /// The version that the first own header in a reading names.
    fn version_of(&self, index: u64, offset: u64, data: &[u8]) -> Option<u32> {
        parts(offset, data)
            .filter_map(|part| part.header().flatten().map(|header| (part, header)))
            .find(|(part, header)| *header == self.header(index, header.version, block_of(part.offset)))
            .map(|(_, header)| header.version)
    }

    /// What is wrong with a part that differs from `expected`, its content in version `present`.
    fn classify(&self, index: u64, present: u32, sure: bool, part: Part<'_>, expected: &[u8]) -> Mismatch {
        let offset = part.offset;
        if part.bytes.iter().all(|byte| *byte == 0) {
            return Mismatch::Lost { offset };
        }
        if self.has_headers()
            && let Some(Some(found)) = part.header()
        {
            if found != self.header(index, found.version, block_of(offset)) {
                return Mismatch::Swapped { offset, found };
            }
            if found.version != present {
                return Mismatch::Torn { offset };
            }
        }
        let neighbours = [present.checked_sub(1), present.checked_add(1)].map(|version| {
            let mut bytes = [0; BLOCK_BYTES];
            if let Some(version) = version {
                self.fill(index, version, offset, &mut bytes[..part.bytes.len()]);
            }
            bytes
        });
        if !sure && part.bytes == &neighbours[0][..part.bytes.len()] {
            return Mismatch::Stale { offset, expected: present, found: present.saturating_sub(1) };
        }
        // A torn block is made of whole sectors: of this version, of one beside it, or never written.
        let mut at = 0;
        let mut torn = None;
        for sector in part.bytes.chunks(SECTOR_BYTES) {
            let range = at..at + sector.len();
            if sector != &expected[range.clone()] {
                let known = sector.iter().all(|byte| *byte == 0)
                    || neighbours.iter().any(|bytes| sector == &bytes[range.clone()]);
                if !known {
                    let within = sector.iter().zip(&expected[range]).position(|(got, want)| got != want);
                    return Mismatch::Corrupt { offset: offset + (at + within.unwrap_or(0)) as u64 };
                }
                torn = torn.or(Some(at));
            }
            at += sector.len();
        }
        Mismatch::Torn { offset: offset + torn.unwrap_or(0) as u64 }
    }
}

/// Number of the block at an offset.
const fn block_of(offset: u64) -> u64 {
    offset / BLOCK_BYTES as u64
}

/// Cuts a reading at the blocks' boundaries.
fn parts(offset: u64, data: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = data;
    let mut position = offset;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let to_boundary = BLOCK_BYTES - (position % BLOCK_BYTES as u64) as usize;
        let (bytes, after) = rest.split_at(rest.len().min(to_boundary));
        let part = Part { bytes, offset: position };
        rest = after;
        position += bytes.len() as u64;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::super::content::{ContentSpec, Fill};
    use super::super::size::SizeSpec;
    use super::super::{DataSet, Layout};
    use super::*;
    use proptest::prelude::*;

    fn contents(verify: bool) -> Contents {
        DataSet {
            seed: 5,
            layout: Layout::Flat { objects: 10, prefix_shards: 0 },
            size: SizeSpec::Fixed(20_000),
            content: ContentSpec { verify, ..ContentSpec::default() },
        }
        .contents()
    }

    fn object(contents: &Contents, index: u64, version: u32) -> Vec<u8> {
        let mut bytes = vec![0; 20_000];
        contents.fill(index, version, 0, &mut bytes);
        bytes
    }

    #[test]
    fn tells_apart_what_may_happen() {
        let contents = contents(true);
        let (old, now) = (object(&contents, 3, 1), object(&contents, 3, 2));
        let check = |bytes: &[u8], expected| assert_eq!(contents.verify(3, 2, 0, bytes), expected);
        check(&now, Ok(()));
        check(&object(&contents, 3, 7), Ok(()));
        check(&old, Err(Mismatch::Stale { offset: 0, expected: 2, found: 1 }));
        check(&object(&contents, 3, 0), Err(Mismatch::Stale { offset: 0, expected: 2, found: 0 }));
        check(&[0; 20_000], Err(Mismatch::Lost { offset: 0 }));
        let with = |range: std::ops::Range<usize>, other: &[u8]| {
            let mut bytes = now.clone();
            bytes[range.clone()].copy_from_slice(&other[range]);
            bytes
        };
        check(&with(8192..12_288, &[0; 20_000]), Err(Mismatch::Lost { offset: 8192 }));
        check(&with(8192..20_000, &old), Err(Mismatch::Torn { offset: 8192 }));
        check(&with(0..4096, &old), Err(Mismatch::Torn { offset: 4096 }));
        check(&with(9216..12_288, &old), Err(Mismatch::Torn { offset: 9216 }));
        check(&with(9216..12_288, &[0; 20_000]), Err(Mismatch::Torn { offset: 9216 }));
        check(&with(0..512, &[0; 20_000]), Err(Mismatch::Torn { offset: 0 }));
        let elsewhere = object(&contents, 4, 2);
        let found = contents.header(4, 2, 1);
        check(&with(4096..8192, &elsewhere), Err(Mismatch::Swapped { offset: 4096, found }));
        let mut moved = now.clone();
        moved.copy_within(4096..8192, 8192);
        check(&moved, Err(Mismatch::Swapped { offset: 8192, found: contents.header(3, 2, 1) }));
        for damaged in [0, 39, 40, 5000, 19_999] {
            let mut bytes = now.clone();
            bytes[damaged] ^= 0x10;
            check(&bytes, Err(Mismatch::Corrupt { offset: damaged as u64 }));
        }
    }

    #[test]
    fn content_without_headers_is_compared() {
        let contents = contents(false);
        let now = object(&contents, 3, 2);
        let check = |bytes: &[u8], expected| assert_eq!(contents.verify(3, 2, 0, bytes), expected);
        check(&now, Ok(()));
        check(&object(&contents, 3, 1), Err(Mismatch::Stale { offset: 0, expected: 2, found: 1 }));
        check(&object(&contents, 4, 2), Err(Mismatch::Corrupt { offset: 0 }));
        check(&[0; 20_000], Err(Mismatch::Lost { offset: 0 }));
    }

    #[test]
    fn zeroes_are_no_loss_where_zeroes_were_written() {
        let zero = |verify| {
            DataSet {
                seed: 5,
                layout: Layout::Flat { objects: 10, prefix_shards: 0 },
                size: SizeSpec::Fixed(9000),
                content: ContentSpec { fill: Fill::Zero, verify, ..ContentSpec::default() },
            }
            .contents()
        };
        assert_eq!(zero(false).verify(1, 0, 0, &[0; 9000]), Ok(()));
        assert_eq!(zero(true).verify(1, 0, 0, &[0; 9000]), Err(Mismatch::Lost { offset: 0 }));
        assert_eq!(zero(true).verify(1, 0, 100, &[0; 3000]), Ok(()));
    }

    proptest! {
        #[test]
        fn any_range_of_any_version_verifies(
            offset in 0..20_000usize, length in 0..20_000usize, version in 0..3u32, headers in any::<bool>(),
        ) {
            let contents = contents(headers);
            let bytes = object(&contents, 6, version);
            let end = (offset + length).min(bytes.len());
            prop_assert_eq!(contents.verify(6, version, offset as u64, &bytes[offset..end]), Ok(()));
        }

        #[test]
        fn any_flipped_bit_is_corrupt(
            offset in 0..10_000usize, length in 1..10_000usize, at in any::<prop::sample::Index>(), bit in 0..8u8,
            headers in any::<bool>(),
        ) {
            let contents = contents(headers);
            let mut bytes = object(&contents, 6, 1)[offset..offset + length].to_vec();
            let at = at.index(length);
            bytes[at] ^= 1 << bit;
            // A reading of one or two bytes may become zeroes, or those of another version, by chance.
            if length > 8 {
                let result = contents.verify(6, 1, offset as u64, &bytes);
                prop_assert_eq!(result, Err(Mismatch::Corrupt { offset: (offset + at) as u64 }));
            }
        }
    }
}
