//! What tells one run from another: its uid, its secret, its time.

use std::fmt::Write as _;
use std::io;

/// Bytes of a secret: 256 bits.
const SECRET_BYTES: usize = 32;

/// A random (version 4) UUID.
///
/// # Errors
///
/// When the kernel gives no random bytes.
pub fn new_uid() -> io::Result<String> {
    let mut bytes = [0; 16];
    random(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = hex(&bytes);
    for position in [20, 16, 12, 8] {
        text.insert(position, '-');
    }
    Ok(text)
}

/// What the agents of one run must present. It goes to them by pipe, and stands neither in an argument nor in the
/// environment nor in a file.
///
/// # Errors
///
/// When the kernel gives no random bytes.
pub fn new_secret() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    random(&mut bytes)?;
    Ok(hex(&bytes))
}

/// Wall time for people and documents (RFC 3339), and the same moment for names of files.
#[must_use]
pub fn now() -> (String, String) {
    let now = jiff::Timestamp::now();
    (now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), now.strftime("%Y%m%dT%H%M%SZ").to_string())
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_uuids_and_differ() {
        let (one, two) = (new_uid().expect("random"), new_uid().expect("random"));
        assert_ne!(one, two);
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!((lengths, one.as_bytes()[14]), (vec![8, 4, 4, 4, 12], b'4'));
    }

    #[test]
    fn secrets_have_256_bits() {
        assert_eq!(new_secret().expect("random").len(), 64);
    }
}
