//! Entries of an image as files below a directory, with modes, owners and times.
//!
//! Deliberately for images of this workspace alone: what is written through a link of the same image is not refused, so
//! nothing of strangers should be unpacked with this.

use super::{Archive, Entry, Kind};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

impl Archive {
    /// Writes all entries below a directory, which is made. Owners are set where this process may: as root.
    ///
    /// # Errors
    /// One cannot be written; the error names it.
    pub fn unpack(&self, directory: &Path) -> io::Result<()> {
        let is_root = rustix::process::geteuid().is_root();
        let said = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        fs::create_dir_all(directory).map_err(|error| said(directory, error))?;
        for (path, entry) in &self.entries {
            let at = directory.join(path);
            put(&at, entry, is_root).map_err(|error| said(&at, error))?;
        }
        // Deepest first: what is put into a directory changes its time, and may need its mode.
        for (path, entry) in self.entries.iter().rev().filter(|(_, entry)| entry.kind == Kind::Directory) {
            let at = directory.join(path);
            finish(&at, entry, is_root).map_err(|error| said(&at, error))?;
        }
        Ok(())
    }
}

fn put(at: &Path, entry: &Entry, is_root: bool) -> io::Result<()> {
    match &entry.kind {
        Kind::Directory => fs::create_dir(at),
        Kind::Link(target) => {
            symlink(target, at)?;
            if is_root { lchown(at, Some(id(entry.owner.0)?), Some(id(entry.owner.1)?)) } else { Ok(()) }
        }
        Kind::File(content) => {
            fs::write(at, content)?;
            finish(at, entry, is_root)
        }
        Kind::Other(kind) => Err(io::Error::other(format!("an entry of type {kind} is not unpacked"))),
    }
}

fn finish(at: &Path, entry: &Entry, is_root: bool) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.time_s);
    File::open(at)?.set_modified(time)?;
    if is_root {
        chown(at, Some(id(entry.owner.0)?), Some(id(entry.owner.1)?))?;
    }
    // Last: a change of owner takes setuid away.
    fs::set_permissions(at, Permissions::from_mode(entry.mode))
}

fn id(id: u64) -> io::Result<u32> {
    u32::try_from(id).map_err(io::Error::other)
}
