//! Images of containers, written and read without a daemon: OCI archives of one layer, the same bytes for the same
//! files.
//!
//! What is written is what `docker save`, `ctr images export` and `podman save` agree on: the OCI layout, and beside it
//! the `manifest.json` by which Docker and old tools find the same blobs. So `ctr images import`, `docker load`, `podman
//! load` and `kind load image-archive` all take it. Entries are sorted, parents are there, and nothing of the machine
//! that writes it gets in: no clock, no owner, no order of a directory.
//!
//! Deliberately not here: pulling, pushing, several architectures in one archive, and what an image should hold.
//!
//! Source: OCI image format 1.1 (image-layout.md, manifest.md, config.md).

mod read;
mod unpack;

pub use read::{Archive, Entry, Kind};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The annotation by which containerd names what it imports, in full.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The annotation of the OCI with the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What an image says of itself and of how it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: String,
    /// `uid:gid` of its processes; root when empty.
    pub user: String,
    /// Program of containers that name no command.
    pub entrypoint: Vec<String>,
    /// Arguments of that program, where a container names none.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Working directory; `/` when empty.
    pub working_directory: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Config {
    /// A configuration for this machine's architecture with nothing else in it.
    #[must_use]
    pub fn host() -> Self {
        Self { architecture: architecture(std::env::consts::ARCH).to_owned(), ..Self::default() }
    }
}

/// Go's name of an architecture, from Rust's.
#[must_use]
pub fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What is at a path of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
    Link(String),
    Directory,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    content: Content,
    mode: u32,
    owner: (u64, u64),
}

/// An image to be. What is placed belongs to root, unless said otherwise, and parents are made (mode 755).
#[derive(Clone, Debug)]
pub struct Image {
    config: Config,
    time_s: u64,
    level: u32,
    entries: BTreeMap<String, Placed>,
}

impl Image {
    /// An image with no files, of the first second of 1970.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, time_s: 0, level: 6, entries: BTreeMap::new() }
    }

    /// Sets the time that it and all its files bear, seconds since 1970: `SOURCE_DATE_EPOCH`.
    #[must_use]
    pub fn time(mut self, seconds: u64) -> Self {
        self.time_s = seconds;
        self
    }

    /// Sets how hard the layer is compressed: 1 is quick, 9 is small.
    #[must_use]
    pub fn level(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// Adds a file with this content.
    #[must_use]
    pub fn bytes(self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.place(path, Content::Bytes(content.into()), mode)
    }

    /// Adds a copy of a file of this machine, which is read when the image is written.
    #[must_use]
    pub fn file(self, path: &str, from: impl AsRef<Path>, mode: u32) -> Self {
        self.place(path, Content::File(from.as_ref().to_owned()), mode)
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.place(path, Content::Link(target.to_owned()), 0o777)
    }

    /// Adds a directory, which only one that is empty or not 755 needs.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.place(path, Content::Directory, mode)
    }

    /// Gives what was placed at a path to somebody else.
    ///
    /// # Panics
    /// Nothing was placed there.
    #[must_use]
    pub fn owned(mut self, path: &str, uid: u64, gid: u64) -> Self {
        let entry = self.entries.get_mut(&relative(path)).unwrap_or_else(|| panic!("nothing is at {path}"));
        entry.owner = (uid, gid);
        self
    }

    /// What it says of itself.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn place(mut self, path: &str, content: Content, mode: u32) -> Self {
        let path = relative(path);
        for (at, _) in path.match_indices('/') {
            let parent = Placed { content: Content::Directory, mode: 0o755, owner: (0, 0) };
            self.entries.entry(path[..at].to_owned()).or_insert(parent);
        }
        self.entries.insert(path, Placed { content, mode, owner: (0, 0) });
        self
    }

    /// Writes the archive. `name` is what the image is called where it is imported, as a manifest of a pod would name
    /// it: `lockstep:0.1.0`, `registry.example/a/b:1`.
    ///
    /// # Errors
    /// A file that was placed cannot be read, or the archive not be written.
    pub fn write(&self, name: &str, to: impl Write) -> io::Result<Written> {
        let (layer, diff_id) = self.layer()?;
        let config = Blob::json(CONFIG, &self.config_json(&diff_id)?);
        let layer = Blob::new(LAYER, layer);
        let manifest = Blob::json(
            MANIFEST,
            &json!({
                "config": config.descriptor(), "layers": [layer.descriptor()],
                "mediaType": MANIFEST, "schemaVersion": 2,
            }),
        );
        let name = full_name(name);
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let mut described = manifest.descriptor();
        described["annotations"] = json!({ CONTAINERD_NAME: name, REF_NAME: tag });
        described["platform"] = json!({ "architecture": self.config.architecture, "os": "linux" });
        let index = json!({ "manifests": [described], "mediaType": INDEX, "schemaVersion": 2 });
        let docker = json!([{ "Config": config.path(), "Layers": [layer.path()], "RepoTags": [name] }]);
        let written = Written {
            name,
            digest: manifest.digest(),
            layer_bytes: layer.bytes.len() as u64,
            config_digest: config.digest(),
        };

        let mut files = BTreeMap::from([
            ("index.json".to_owned(), index.to_string().into_bytes()),
            ("manifest.json".to_owned(), docker.to_string().into_bytes()),
            ("oci-layout".to_owned(), json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes()),
        ]);
        for blob in [config, layer, manifest] {
            files.insert(blob.path(), blob.bytes);
        }
        let mut tar = tar::Builder::new(to);
        for directory in ["blobs/", "blobs/sha256/"] {
            let mut header = self.header(0o755, (0, 0));
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            tar.append_data(&mut header, directory, io::empty())?;
        }
        for (path, bytes) in files {
            let mut header = self.header(0o644, (0, 0));
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        tar.into_inner()?.flush()?;
        Ok(written)
    }

    /// The layer, packed, and the digest of what it was packed from.
    fn layer(&self) -> io::Result<(Vec<u8>, String)> {
        // Neither a time nor a system in the header of gzip.
        let packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(self.level));
        let mut tar = tar::Builder::new(Hashed { hash: Sha256::new(), to: packed });
        for (path, entry) in &self.entries {
            let mut header = self.header(entry.mode, entry.owner);
            header.set_size(0);
            match &entry.content {
                Content::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Content::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, target)?;
                }
                Content::Bytes(bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, path, bytes.as_slice())?;
                }
                Content::File(from) => {
                    let said = |error: io::Error| {
                        io::Error::new(error.kind(), format!("{}: {error}", from.display()))
                    };
                    let file = File::open(from).map_err(said)?;
                    let size = file.metadata().map_err(said)?.len();
                    header.set_size(size);
                    // A file that grows meanwhile would shift all that follows.
                    tar.append_data(&mut header, path, file.take(size)).map_err(said)?;
                }
            }
        }
        let hashed = tar.into_inner()?;
        Ok((hashed.to.finish()?, format!("sha256:{}", hex(&hashed.hash.finalize()))))
    }

    fn header(&self, mode: u32, (uid, gid): (u64, u64)) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(self.time_s);
        header
    }

    fn config_json(&self, diff_id: &str) -> io::Result<Value> {
        let Config { architecture, user, entrypoint, command, environment, working_directory, labels } =
            &self.config;
        let seconds = i64::try_from(self.time_s).map_err(io::Error::other)?;
        let created = jiff::Timestamp::from_second(seconds).map_err(io::Error::other)?.to_string();
        let working_directory = if working_directory.is_empty() { "/" } else { working_directory };
        let mut config = json!({ "Env": environment, "Labels": labels, "WorkingDir": working_directory });
        if !user.is_empty() {
            config["User"] = json!(user);
        }
        if !entrypoint.is_empty() {
            config["Entrypoint"] = json!(entrypoint);
        }
        if !command.is_empty() {
            config["Cmd"] = json!(command);
        }
        Ok(json!({
            "architecture": architecture, "config": config, "created": created,
            "os": "linux", "rootfs": { "diff_ids": [diff_id], "type": "layers" },
        }))
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The name in full, as containerd and the CRI know it.
    pub name: String,
    /// Digest of the manifest: what `image.digest` of the chart would be, once it is pushed.
    pub digest: String,
    /// Size of the packed layer.
    pub layer_bytes: u64,
    /// Digest of the configuration: what Docker calls the image's id.
    pub config_digest: String,
}

/// A name in full: `lockstep` is `docker.io/library/lockstep:latest` to every runtime.
#[must_use]
pub fn full_name(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let is_host = first == "localhost" || first.contains(['.', ':']);
    let name = match (is_host, first) {
        (true, _) => name.to_owned(),
        (false, "") => format!("docker.io/library/{rest}"),
        (false, _) => format!("docker.io/{name}"),
    };
    let last = name.rfind('/').map_or(0, |at| at + 1);
    if name[last..].contains([':', '@']) { name } else { format!("{name}:latest") }
}

/// The path in a layer: no slash at its beginning or end, nothing that leads elsewhere.
fn relative(path: &str) -> String {
    let path = path.trim_matches('/');
    let is_plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    assert!(is_plain, "`{path}` is no path of an image");
    path.to_owned()
}

struct Blob {
    media: &'static str,
    hex: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media: &'static str, bytes: Vec<u8>) -> Self {
        Self { media, hex: hex(&Sha256::digest(&bytes)), bytes }
    }

    fn json(media: &'static str, value: &Value) -> Self {
        Self::new(media, value.to_string().into_bytes())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self) -> Value {
        json!({ "digest": self.digest(), "mediaType": self.media, "size": self.bytes.len() })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Passes on what is written, and hashes it.
struct Hashed<W> {
    hash: Sha256,
    to: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
