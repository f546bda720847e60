//! A directory in memory for one benchmark, removed when it is over, also when the one before was killed.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

const SHM: &str = "/dev/shm";
const PREFIX: &str = "lockstep-bench-";

/// A directory on tmpfs; removed when dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
}

impl Place {
    /// An empty one.
    pub fn new() -> Result<Self> {
        remove_stale();
        let path = Path::new(SHM).join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}

/// Removes what a benchmark that was killed left behind: its process is gone, its directory is not.
fn remove_stale() {
    for entry in std::fs::read_dir(SHM).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Names of all files below `base`, relative to it and in order, without Lockstep's own. One text, so that a loop
/// over them misses the cache once per name and not twice.
pub struct Names {
    text: String,
    ends: Vec<u32>,
}

impl Names {
    /// Looks for them.
    pub fn below(base: &Path) -> Result<Self> {
        let (mut found, mut left) = (Vec::new(), vec![String::new()]);
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(base.join(&directory))? {
                let entry = entry?;
                let name = entry.file_name().into_string().ok().context("a name that is not UTF-8")?;
                let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
                if entry.file_type()?.is_dir() {
                    left.push(path);
                } else if !name.starts_with(".lockstep") {
                    found.push(path);
                }
            }
        }
        found.sort_unstable();
        let (mut text, mut ends) = (String::new(), Vec::with_capacity(found.len()));
        for name in &found {
            text.push_str(name);
            ends.push(u32::try_from(text.len()).context("too many names")?);
        }
        Ok(Self { text, ends })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The one at a position.
    #[inline]
    pub fn get(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.text[start..self.ends[at] as usize]
    }
}
