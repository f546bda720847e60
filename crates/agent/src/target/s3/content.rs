//! Checks a body while it streams by: pieces come in whatever sizes the network chose, the data set's check wants
//! whole blocks. Keeps less than one block; what a mismatch means is known to `lockstep_core` alone.

use lockstep_core::dataset::content::{BLOCK_BYTES, Contents};

/// Checks the body of one object.
pub(super) struct Checker {
    contents: Contents,
    index: u64,
    /// Offset of the first byte that was not checked yet.
    offset: u64,
    /// Those of them that are here: less than a block.
    carry: Vec<u8>,
}

impl Checker {
    pub(super) fn new(contents: Contents, index: u64) -> Self {
        Self { contents, index, offset: 0, carry: Vec::new() }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        let mut piece = piece;
        if !self.carry.is_empty() {
            let (head, rest) = piece.split_at(piece.len().min(BLOCK_BYTES - self.carry.len()));
            self.carry.extend_from_slice(head);
            piece = rest;
            if self.carry.len() < BLOCK_BYTES {
                return Ok(());
            }
            let carry = std::mem::take(&mut self.carry);
            self.check(&carry)?;
            self.carry = carry;
            self.carry.clear();
        }
        let (blocks, rest) = piece.split_at(piece.len() - piece.len() % BLOCK_BYTES);
        self.check(blocks)?;
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    /// Checks what is left when the body has ended.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let carry = std::mem::take(&mut self.carry);
        self.check(&carry)
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), String> {
        let result = self.contents.verify(self.index, 0, self.offset, bytes);
        self.offset += bytes.len() as u64;
        result.map_err(|mismatch| mismatch.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::dataset::content::ContentSpec;
    use lockstep_core::dataset::size::SizeSpec;
    use lockstep_core::dataset::{DataSet, Layout};

    #[test]
    fn pieces_of_any_size_are_checked_as_one_body() {
        let dataset = DataSet {
            seed: 3,
            layout: Layout::Flat { objects: 9, prefix_shards: 0 },
            size: SizeSpec::Fixed(20_000),
            content: ContentSpec { verify: true, ..ContentSpec::default() },
        };
        let contents = Contents::new(&dataset);
        let mut body = vec![0; 20_000];
        contents.fill(7, 0, 0, &mut body);
        let check = |body: &[u8], size| {
            let mut checker = Checker::new(contents, 7);
            body.chunks(size).try_for_each(|piece| checker.take(piece))?;
            checker.finish()
        };
        let mut damaged = body.clone();
        damaged[19_999] ^= 1;
        for size in [1, 7, 4095, 4096, 4097, 9000, 20_000] {
            assert_eq!(check(&body, size), Ok(()), "pieces of {size}");
            let why = check(&damaged, size).unwrap_err();
            assert!(why.contains("offset 19999"), "pieces of {size}: {why}");
        }
    }
}
