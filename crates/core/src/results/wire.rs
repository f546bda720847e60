//! Small compact encodings shared by what travels inside a JSON document: variable-length integers (LEB128, as
//! protobuf has them), base64 (RFC 4648 §4), and lists with a limit. They exist so that a histogram costs two or
//! three bytes per bucket and so that no input, however hostile, makes a decoder panic or allocate without bound.
//! Deliberately not a general serialisation format.

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Why an encoded value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends in the middle of a value.
    #[error("the input ends in the middle of a value")]
    Truncated,
    /// A number, an index or a sum is outside its range.
    #[error("a number is out of its range")]
    OutOfRange,
    /// There are bytes after the end of the value.
    #[error("there are bytes after the end of the value")]
    Trailing,
    /// The text is not base64.
    #[error("the text is not base64")]
    NotBase64,
    /// The input is larger than its limit.
    #[error("the input is larger than its limit")]
    TooLarge,
}

/// Appends `value` as LEB128, 1 to 10 bytes.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes one LEB128 number from the front of `input`.
pub(super) fn take_varint(input: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(DecodeError::OutOfRange);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::OutOfRange)
}

/// Takes one number that must fit in 32 bits.
pub(super) fn take_varint_u32(input: &mut &[u8]) -> Result<u32, DecodeError> {
    u32::try_from(take_varint(input)?).map_err(|_| DecodeError::OutOfRange)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 without padding.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(ALPHABET[(word >> (18 - 6 * digit)) as usize & 63] as char);
        }
    }
    text
}

/// The bytes of base64 without padding.
pub(super) fn from_base64(text: &str) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        if chunk.len() == 1 {
            return Err(DecodeError::NotBase64);
        }
        let mut word = 0u32;
        for &letter in chunk {
            let digit = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return Err(DecodeError::NotBase64),
            };
            word = (word << 6) | u32::from(digit);
        }
        word <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Ok(bytes)
}

/// Deserialises a list of at most `LIMIT` elements, and stops at the first one too many: elements that hold
/// histograms unfold to hundreds of times their encoded size.
pub(super) fn bounded_list<'de, D, T, const LIMIT: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const LIMIT: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for Bounded<T, LIMIT> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "a list of at most {LIMIT} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = sequence.next_element()? {
                if list.len() == LIMIT {
                    return Err(A::Error::custom(format_args!("more than {LIMIT} elements in a list")));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, LIMIT>(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_agrees_with_the_vectors_of_rfc_4648() {
        for (plain, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(to_base64(plain.as_bytes()), text);
            assert_eq!(from_base64(text).as_deref(), Ok(plain.as_bytes()));
        }
        assert_eq!(from_base64("Z"), Err(DecodeError::NotBase64));
        assert_eq!(from_base64("Zg=="), Err(DecodeError::NotBase64));
    }

    proptest! {
        #[test]
        fn bytes_survive_base64(bytes: Vec<u8>) {
            prop_assert_eq!(from_base64(&to_base64(&bytes)), Ok(bytes));
        }

        #[test]
        fn numbers_survive_varint(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut input = out.as_slice();
            prop_assert_eq!(take_varint(&mut input), Ok(value));
            prop_assert!(input.is_empty());
            prop_assert_eq!(take_varint(&mut &out[..out.len() - 1]), Err(DecodeError::Truncated));
        }
    }
}
