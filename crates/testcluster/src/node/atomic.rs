//! A volume's files, replaced as a kubelet does (pkg/volume/util/atomic_writer.go): each version in a directory of its
//! own, `..data` a link to it that is replaced in one step, and what the container reads a link through `..data`. So a
//! reader sees all of one version or all of another.

use anyhow::{Context, Result};
use rustix::fs::{Gid, Uid, chown};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// Files of a volume by relative path.
pub(super) type Payload = BTreeMap<String, Content>;

/// Who owns them; the node's own user where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// A directory with versions.
pub(super) struct AtomicDirectory {
    path: PathBuf,
    owner: Owner,
    written: Option<(Payload, PathBuf)>,
    versions: u64,
}

impl AtomicDirectory {
    /// A volume with nothing in it.
    pub(super) fn new(path: PathBuf, owner: Owner) -> Self {
        Self { path, owner, written: None, versions: 0 }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes these its files, unless they are.
    pub(super) fn write(&mut self, payload: Payload) -> Result<()> {
        if self.written.as_ref().is_some_and(|(old, _)| *old == payload) {
            return Ok(());
        }
        self.versions += 1;
        let name = format!("..version_{}", self.versions);
        let version = self.path.join(&name);
        for (relative, content) in &payload {
            let file = version.join(relative);
            std::fs::create_dir_all(file.parent().context("a file lies in a directory")?)?;
            std::fs::write(&file, &content.bytes)?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(content.mode))?;
            chown(&file, self.owner.uid.map(Uid::from_raw), self.owner.gid.map(Gid::from_raw))?;
        }
        std::fs::create_dir_all(&version)?;
        let fresh = self.path.join("..data_tmp");
        symlink(&name, &fresh)?;
        std::fs::rename(&fresh, self.path.join("..data"))?;
        let top = |payload: &Payload| -> Vec<String> {
            let mut names: Vec<String> =
                payload.keys().filter_map(|path| path.split('/').next()).map(ToOwned::to_owned).collect();
            names.dedup();
            names
        };
        let (old, old_version) = self.written.take().unzip();
        let (old, new) = (old.as_ref().map(top).unwrap_or_default(), top(&payload));
        for name in new.iter().filter(|name| !old.contains(name)) {
            symlink(Path::new("..data").join(name), self.path.join(name))?;
        }
        for name in old.iter().filter(|name| !new.contains(name)) {
            std::fs::remove_file(self.path.join(name))?;
        }
        if let Some(old_version) = old_version {
            std::fs::remove_dir_all(old_version)?;
        }
        self.written = Some((payload, version));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |(path, text): &(&str, &str)| {
            ((*path).to_owned(), Content { bytes: text.as_bytes().to_vec(), mode: 0o644 })
        };
        files.iter().map(file).collect()
    }

    #[test]
    fn versions_replace_each_other_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mut volume = AtomicDirectory::new(directory.path().to_owned(), Owner::default());
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).ok();
        volume.write(payload(&[("a", "1"), ("deep/b", "2")])).unwrap();
        assert_eq!((read("a"), read("deep/b")), (Some("1".to_owned()), Some("2".to_owned())));
        let first = std::fs::read_link(directory.path().join("..data")).unwrap();
        volume.write(payload(&[("a", "1"), ("deep/b", "2")])).unwrap();
        assert_eq!(std::fs::read_link(directory.path().join("..data")).unwrap(), first, "nothing changed");
        volume.write(payload(&[("a", "3"), ("c", "4")])).unwrap();
        assert_eq!(
            (read("a"), read("deep/b"), read("c")),
            (Some("3".to_owned()), None, Some("4".to_owned()))
        );
        assert!(!directory.path().join(first).exists());
    }
}
