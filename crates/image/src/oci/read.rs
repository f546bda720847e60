//! Reading an archive back: ours, and those of `docker save` and `docker buildx build --output type=oci`.
//!
//! Every blob that is read is held against its digest. Deliberately not here: layers that take away what one
//! below them has, indexes of several platforms but the first, and layers packed with zstd.

use super::{Config, hex};
use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

/// An image that was read.
#[derive(Clone, Debug)]
pub struct Archive {
    /// What the index calls the image, where it says so.
    pub name: Option<String>,
    /// Digest of its manifest.
    pub digest: String,
    /// What it says of itself.
    pub config: Config,
    /// When it says that it was made, RFC 3339.
    pub created: Option<String>,
    /// What its containers see, by path without a slash at its beginning.
    pub entries: BTreeMap<String, Entry>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is, with its content.
    pub kind: Kind,
    /// Permissions, with setuid, setgid and sticky bit.
    pub mode: u32,
    /// Uid and gid.
    pub owner: (u64, u64),
    /// Time of its last change, seconds since 1970.
    pub time_s: u64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File(Vec<u8>),
    /// A symbolic link, with its target.
    Link(String),
    /// A directory.
    Directory,
    /// Something else, which no image of ours holds: its type in the tar.
    Other(u8),
}

impl Archive {
    /// Reads an archive.
    ///
    /// # Errors
    /// It cannot be read, is no OCI archive, or a blob is not what its digest says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let said = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        std::fs::File::open(path).and_then(Self::read).map_err(said)
    }

    /// As [`Archive::open`], from a stream.
    ///
    /// # Errors
    /// As there.
    pub fn read(from: impl Read) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(from).entries()? {
            let mut entry = entry?;
            let path = path_of(&entry.path_bytes());
            if entry.header().entry_type().is_file() {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                files.insert(path, content);
            }
        }
        let index = files.get("index.json").ok_or_else(|| malformed("it has no index.json"))?;
        let mut described = first(&serde_json::from_slice(index)?)?;
        let name = described["annotations"][super::CONTAINERD_NAME].as_str().map(str::to_owned);
        // An index within the index is one of platforms, or has attestations behind the image.
        while described["mediaType"]
            .as_str()
            .is_some_and(|media| media.contains(".index.") || media.contains(".list."))
        {
            described = first(&serde_json::from_slice(blob(&files, &described)?)?)?;
        }
        let manifest: Value = serde_json::from_slice(blob(&files, &described)?)?;
        let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])?)?;
        let mut entries = BTreeMap::new();
        let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (number, layer) in layers.iter().enumerate() {
            let packed = blob(&files, layer)?;
            let mut content = Vec::new();
            if packed.starts_with(&[0x1f, 0x8b]) {
                GzDecoder::new(packed).read_to_end(&mut content)?;
            } else {
                content.extend_from_slice(packed);
            }
            check(&content, &config["rootfs"]["diff_ids"][number])?;
            lay(&mut entries, &content)?;
        }
        Ok(Self {
            name,
            digest: described["digest"].as_str().unwrap_or_default().to_owned(),
            created: config["created"].as_str().map(str::to_owned),
            config: config_of(&config),
            entries,
        })
    }

    /// Size of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let sizes = self.entries.values().map(|entry| match &entry.kind {
            Kind::File(content) => content.len() as u64,
            Kind::Link(_) | Kind::Directory | Kind::Other(_) => 0,
        });
        sizes.sum()
    }
}

/// A path of a tar, without what different writers put around it; empty for the root.
fn path_of(bytes: &[u8]) -> String {
    let path = String::from_utf8_lossy(bytes);
    let path = path.strip_prefix("./").unwrap_or(&path).trim_matches('/');
    if path == "." { String::new() } else { path.to_owned() }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is no OCI archive: {what}"))
}

fn first(index: &Value) -> io::Result<Value> {
    index["manifests"].get(0).cloned().ok_or_else(|| malformed("an index names no image"))
}

/// The blob of a descriptor.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> io::Result<&'a [u8]> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let path = format!("blobs/{}", digest.replace(':', "/"));
    let content = files.get(&path).ok_or_else(|| malformed(&format!("blob {digest} is missing")))?;
    check(content, &descriptor["digest"])?;
    Ok(content)
}

fn check(content: &[u8], digest: &Value) -> io::Result<()> {
    let is = format!("sha256:{}", hex(&Sha256::digest(content)));
    if digest.as_str() == Some(&is) { Ok(()) } else { Err(malformed(&format!("{digest} is {is}"))) }
}

/// Lays a layer over what is there.
fn lay(entries: &mut BTreeMap<String, Entry>, layer: &[u8]) -> io::Result<()> {
    for entry in tar::Archive::new(layer).entries()? {
        let mut entry = entry?;
        let path = path_of(&entry.path_bytes());
        if path.is_empty() {
            // The root itself, which is nobody's entry.
            continue;
        }
        if path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh.")) {
            return Err(malformed("a layer takes away what one below it has, which no image of ours does"));
        }
        let header = entry.header().clone();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                Kind::Link(String::from_utf8_lossy(&target).into_owned())
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                Kind::File(content)
            }
            tar::EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = path_of(&target);
                let known = entries.get(&target).ok_or_else(|| malformed("a hard link to nothing"))?;
                known.kind.clone()
            }
            other => Kind::Other(other.as_byte()),
        };
        let entry = Entry {
            kind,
            mode: header.mode()? & 0o7777,
            owner: (header.uid()?, header.gid()?),
            time_s: header.mtime()?,
        };
        entries.insert(path, entry);
    }
    Ok(())
}

fn config_of(config: &Value) -> Config {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts =
        |value: &Value| value.as_array().map(|all| all.iter().map(text).collect()).unwrap_or_default();
    let inner = &config["config"];
    let labels = inner["Labels"]
        .as_object()
        .map(|labels| labels.iter().map(|(name, value)| (name.clone(), text(value))).collect());
    Config {
        architecture: text(&config["architecture"]),
        user: text(&inner["User"]),
        entrypoint: texts(&inner["Entrypoint"]),
        command: texts(&inner["Cmd"]),
        environment: texts(&inner["Env"]),
        working_directory: text(&inner["WorkingDir"]),
        labels: labels.unwrap_or_default(),
    }
}
