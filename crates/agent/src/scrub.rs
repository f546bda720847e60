//! Takes what is secret out of words that are not ours.
//!
//! A server may say anything in an answer: the key that it was asked with, the signature, the text that was signed (S3 does
//! that itself, with `SignatureDoesNotMatch`), the session token, and one that means harm may say it encoded. Such words
//! would go on into a status that many may read. So they are cleaned where they come in: what we hold is hidden in every
//! writing of it, so is whatever looks like a key or a signature, and the rest is short.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

/// What stands for something that is not told.
const HIDDEN: &str = "[hidden]";
/// The longest sentence that is told, characters.
const TOLD_MAX: usize = 300;
/// A word of so many characters is a key, a hash, or nothing that helps a person.
const WORD_MIN: usize = 24;
/// A secret below this length is no secret, and would hide half of the words.
const SECRET_MIN: usize = 4;
/// Bytes of a group in base64.
const GROUP: usize = 3;

/// What is to be hidden, in every writing, the longest first.
#[derive(Clone)]
pub(crate) struct Scrub(Arc<[String]>);

impl fmt::Debug for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrub")
    }
}

impl Scrub {
    /// Hides these.
    pub(crate) fn of(secrets: &[&str]) -> Self {
        let mut written: Vec<String> = secrets
            .iter()
            .filter(|secret| secret.len() >= SECRET_MIN)
            .flat_map(|one| writings(one))
            .collect();
        written.sort_by_key(|text| std::cmp::Reverse(text.len()));
        written.dedup();
        Self(written.into())
    }

    /// The text without what we hold.
    pub(crate) fn known(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| replace(&text, secret))
    }

    /// One short line without what we hold, and without what looks like a key.
    pub(crate) fn clean(&self, text: &str) -> String {
        let known = self.known(text);
        let line = known.split(|one: char| one.is_whitespace() || one.is_control());
        let line: Vec<&str> = line.filter(|word| !word.is_empty()).collect();
        let mut told = String::new();
        let mut word = String::new();
        let line = line.join(" ");
        let is_of_word = |one: char| one.is_ascii_alphanumeric() || "+%_=-".contains(one);
        for one in line.chars().chain(Some(' ')) {
            if is_of_word(one) {
                word.push(one);
                continue;
            }
            told.push_str(if word.len() >= WORD_MIN { HIDDEN } else { &word });
            word.clear();
            told.push(one);
        }
        told.truncate(told.trim_end().len());
        match told.char_indices().nth(TOLD_MAX) {
            Some((end, _)) => format!("{}…", &told[..end]),
            None => told,
        }
    }
}

/// Every place of `secret` hidden, in whatever case: hex and percent signs are written in both.
fn replace(text: &str, secret: &str) -> String {
    let (lower, wanted) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut told = String::new();
    let mut from = 0;
    while let Some(at) = lower[from..].find(&wanted) {
        told.push_str(&text[from..from + at]);
        told.push_str(HIDDEN);
        from += at + wanted.len();
    }
    told + &text[from..]
}

/// How a secret may be written: as it is, for URLs, in hex, and in base64 wherever in a longer text it stands.
fn writings(secret: &str) -> Vec<String> {
    let mut all = vec![secret.to_owned()];
    let mut url = String::new();
    let mut hex = String::new();
    for byte in secret.bytes() {
        // Writing to a String cannot fail.
        let _ = match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            true => write!(url, "{}", char::from(byte)),
            false => write!(url, "%{byte:02X}"),
        };
        let _ = write!(hex, "{byte:02x}");
    }
    all.extend([url, hex]);
    for before in 0..GROUP {
        let text = base64(&[&vec![0; before][..], secret.as_bytes()].concat());
        // Characters that depend on what stands before or behind are left out.
        let from = [0, 2, 3][before];
        let whole = (before + secret.len()) / GROUP * 4;
        if whole > from {
            all.push(text[from..whole].to_owned());
            all.push(text[from..whole].replace('+', "-").replace('/', "_"));
        }
    }
    all.retain(|text| text.len() >= SECRET_MIN);
    all
}

/// RFC 4648, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(GROUP) {
        let bits =
            (0..GROUP).fold(0, |bits, at| (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[((bits >> (18 - 6 * digit)) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AKIA/short+1";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn scrub() -> Scrub {
        Scrub::of(&[KEY, SECRET])
    }

    #[test]
    fn what_we_hold_is_hidden_in_every_writing() {
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02X}")).collect();
        let in_base64 = |before: &str| base64(format!("{before}{KEY} and more").as_bytes());
        for text in [
            KEY.to_owned(),
            KEY.to_lowercase(),
            "AKIA%2Fshort%2B1".to_owned(),
            "AKIA%2fshort%2b1".to_owned(),
            hex.clone(),
            hex.to_lowercase(),
        ] {
            assert_eq!(scrub().known(&format!("<{text}>")), format!("<{HIDDEN}>"), "{text}");
        }
        for before in ["", "x", "xy", "xyz"] {
            let text = in_base64(before);
            let told = scrub().known(&text);
            assert!(told.contains(HIDDEN) && told.len() < text.len() - 4, "{before}: {text} {told}");
        }
    }

    #[test]
    fn what_looks_like_a_key_is_hidden_and_what_helps_is_told() {
        let scrub = scrub();
        let signature = "b".repeat(64);
        let signed =
            format!("AWS4-HMAC-SHA256\n20261128T000000Z\n20261128/us-east-1/s3/aws4_request\n{signature}");
        let told = scrub.clean(&format!("The signature {signature} is not that of {signed}."));
        assert!(!told.contains(&signature) && !told.contains('\n'), "{told}");
        for words in [
            "The request signature we calculated does not match the signature you provided. Check your key.",
            "The specified bucket does not exist: nightly-benchmarks at http://s3-0.storage.svc:9000/x",
        ] {
            assert_eq!(scrub.clean(words), words);
        }
        assert_eq!(scrub.clean(&"word ".repeat(1_000)).chars().count(), TOLD_MAX + 1);
    }
}
