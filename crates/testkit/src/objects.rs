//! What lies in a bucket, as somebody else's client sees it: boto3, which lists and reads every object.

use crate::python;
use std::collections::BTreeMap;
use std::process::Command;

/// The pinned version of boto3.
const BOTO3: &str = "1.43.11";

/// Name, size in bytes, and SHA-256 of content of each object, hexadecimal.
pub type Objects = BTreeMap<String, (u64, String)>;

/// A key that may list and read.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Its public half.
    pub access: &'a str,
    /// Its secret half.
    pub secret: &'a str,
}

/// Everything below a prefix that ends with `/`, by its name behind that; what lies beside the data (`.lockstep…`) is not of it.
///
/// # Panics
/// boto3 cannot be had, or the server does not answer it.
#[must_use]
pub fn of_bucket(endpoint: &str, key: Key<'_>, bucket: &str, prefix: &str) -> Objects {
    let mut list = Command::new("python3");
    list.env("PYTHONPATH", python::package("boto3", BOTO3)).env("NO_PROXY", "*");
    list.args(["-c", include_str!("objects.py"), endpoint, key.access, key.secret, bucket, prefix]);
    let found = table(&mut list).into_iter();
    found
        .filter_map(|(name, what)| Some((name.strip_prefix(prefix)?.to_owned(), what)))
        .filter(|(name, _)| !name.starts_with(".lockstep"))
        .collect()
}

/// The objects that a program lists, a line of `name<TAB>size<TAB>sha256` each.
///
/// # Panics
/// It fails, or says something else.
#[must_use]
pub fn table(command: &mut Command) -> Objects {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let row = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_else(|| panic!("a field is missing in `{line}`"));
        let (name, size, hash) = (next(), next(), next());
        (name, (size.parse().expect("a size"), hash))
    };
    text.lines().map(row).collect()
}
