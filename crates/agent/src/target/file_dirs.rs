//! The directories that one worker's files lie in: made when the first file of each comes, removed when a cleanup
//! has passed through.
//!
//! Remembers one directory, the last one, because indexes come in order: a change of directory is the only moment
//! that costs a call. Deliberately holds no set of directories: a tree may have 10^10.

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The base and the directory of the last file.
#[derive(Debug)]
pub struct Directories {
    path: PathBuf,
    base: Option<OwnedFd>,
    /// Relative path of the directory of the last file; empty is the base itself.
    last: String,
}

impl Directories {
    /// Directories below `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, base: None, last: String::new() }
    }

    /// The handle of the base.
    ///
    /// # Errors
    /// `ENOENT` while it does not exist, and whatever else opening it comes to.
    #[inline]
    pub fn base(&mut self) -> Result<BorrowedFd<'_>, Errno> {
        if self.base.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.base = Some(rustix::fs::open(&self.path, flags, Mode::empty())?);
        }
        self.base.as_ref().map(AsFd::as_fd).ok_or(Errno::NOENT)
    }

    /// Forgets which directory was made last.
    pub fn forget(&mut self) {
        self.last.clear();
        self.base = None;
    }

    /// Makes the directory of the file `name`, unless it is that of the last file.
    ///
    /// # Errors
    /// Whatever making it comes to; that it exists is none.
    #[inline]
    pub fn make_for(&mut self, name: &str) -> Result<(), Errno> {
        let directory = directory_of(name);
        if directory == self.last && self.base.is_some() {
            return Ok(());
        }
        self.make(directory)
    }

    fn make(&mut self, directory: &str) -> Result<(), Errno> {
        match self.base().map(|_| ()) {
            Err(Errno::NOENT) => {
                // Only the last component of the base is ever created.
                existing(rustix::fs::mkdir(&self.path, Mode::from_raw_mode(0o755)))?;
            }
            other => other?,
        }
        if !directory.is_empty() {
            self.make_below(directory)?;
        }
        self.last.clear();
        self.last.push_str(directory);
        Ok(())
    }

    /// Makes a directory; where its parent is missing, that one first.
    fn make_below(&mut self, directory: &str) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(0o755);
        match existing(rustix::fs::mkdirat(self.base()?, directory, mode)) {
            Err(Errno::NOENT) if directory.contains('/') => {
                self.make_below(directory_of(directory))?;
                existing(rustix::fs::mkdirat(self.base()?, directory, mode))
            }
            other => other,
        }
    }

    /// In a cleanup, before the file `name` is removed: removes the directory of the last file and those above it,
    /// as far as they are empty, unless `name` lies below them.
    #[inline]
    pub fn leave_for(&mut self, name: &str) {
        let directory = directory_of(name);
        if directory != self.last {
            self.leave(directory);
            self.last.clear();
            self.last.push_str(directory);
        }
    }

    /// In a cleanup, at the end of a block: removes the directory of the last file and those above it, as far as they
    /// are empty.
    pub fn leave_all(&mut self) {
        self.leave("");
        self.last.clear();
    }

    fn leave(&mut self, next: &str) {
        let last = std::mem::take(&mut self.last);
        let mut directory = last.as_str();
        while !directory.is_empty() && !is_within(next, directory) {
            let Ok(base) = self.base() else { break };
            match rustix::fs::unlinkat(base, directory, AtFlags::REMOVEDIR) {
                // Gone already, or never made: the one above may be empty now.
                Ok(()) | Err(Errno::NOENT) => {}
                // Another worker's files, or somebody else's, are still in it. Whoever leaves last removes it.
                Err(_) => break,
            }
            directory = directory_of(directory);
        }
        self.last = last;
    }
}

/// The directory part of a relative name; empty for one without.
#[inline]
fn directory_of(name: &str) -> &str {
    match name.as_bytes().iter().rposition(|&byte| byte == b'/') {
        Some(slash) => &name[..slash],
        None => "",
    }
}

/// Whether `path` is `directory` or lies below it.
fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn existing(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_and_go_with_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("set");
        let mut directories = Directories::new(base.clone());
        directories.make_for("d1/d2/d3/file").unwrap();
        directories.make_for("d1/d2/d4/file").unwrap();
        directories.make_for("d1/x/file").unwrap();
        assert!(
            base.join("d1/d2/d3").is_dir() && base.join("d1/d2/d4").is_dir() && base.join("d1/x").is_dir()
        );
        directories.leave_all();
        assert!(!base.join("d1/x").exists() && base.join("d1/d2").is_dir());
        for name in ["d1/d2/d3/file", "d1/d2/d4/file"] {
            directories.leave_for(name);
        }
        assert!(!base.join("d1/d2/d3").exists() && base.join("d1/d2/d4").is_dir());
        directories.leave_all();
        assert!(!base.join("d1").exists() && base.is_dir());
    }

    #[test]
    fn a_directory_with_something_in_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut directories = Directories::new(dir.path().to_path_buf());
        directories.make_for("a/b/file").unwrap();
        std::fs::write(dir.path().join("a/theirs"), "x").unwrap();
        directories.leave_all();
        assert!(dir.path().join("a/theirs").exists() && !dir.path().join("a/b").exists());
    }

    #[test]
    fn a_missing_parent_of_the_base_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut directories = Directories::new(dir.path().join("no/set"));
        assert_eq!(directories.make_for("file"), Err(Errno::NOENT));
    }
}
