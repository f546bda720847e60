//! The directory itself: made exclusively, and files in it replaced as a whole.
//!
//! A file is written beside its place, synced, renamed, and the directory synced, so that a reader sees the old or the new
//! one and never a half, also after a power cut.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Parts of stages, one per attempt of an agent.
pub const PARTS: &str = "parts";
/// Logs and tables of single agents.
pub const AGENTS: &str = "agents";
/// The line that says how the run stands.
pub const STATUS: &str = "STATUS";
/// The report.
pub const RESULTS: &str = "results.json";
/// The plan.
pub const PLAN: &str = "plan.json";
/// The manifest, overrides applied.
pub const MANIFEST: &str = "run.yaml";
/// What the coordinator logged.
pub const LOG: &str = "coordinator.log";

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct ResultsDirectory {
    path: PathBuf,
}

impl ResultsDirectory {
    /// Makes `<parent>/<name>-<time>-<4 digits of uid>`, which must not exist, with its subdirectories. `time` is a
    /// timestamp without characters that a shell or another file system minds.
    ///
    /// # Errors
    ///
    /// When it exists or cannot be made.
    pub fn create(parent: &Path, name: &str, time: &str, uid: &str) -> io::Result<Self> {
        let digits: String = uid.chars().take(4).collect();
        let path = parent.join(format!("{name}-{time}-{digits}"));
        fs::create_dir_all(parent)?;
        fs::create_dir(&path)?;
        for below in [PARTS, AGENTS] {
            fs::create_dir(path.join(below))?;
        }
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log of an attempt goes.
    pub fn agent_log(&self, index: u32, attempt: u32) -> PathBuf {
        self.path.join(AGENTS).join(format!("agent-{index}-{attempt}.log"))
    }

    /// Replaces a file, durably. `name` may lie in a subdirectory.
    ///
    /// # Errors
    ///
    /// When it could not be made durable; the old one is then still there.
    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let target = self.path.join(name);
        let directory = target.parent().unwrap_or(&self.path);
        let mut temporary = target.clone().into_os_string();
        temporary.push(".tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        File::open(directory)?.sync_all()
    }

    /// Replaces the line that says how the run stands.
    ///
    /// # Errors
    ///
    /// As [`ResultsDirectory::write`].
    pub fn write_status(&self, line: &str) -> io::Result<()> {
        self.write(STATUS, format!("{line}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_never_writes_into_the_directory_of_another() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let below = parent.path().join("lockstep-results");
        let create = || ResultsDirectory::create(&below, "nightly", "20261121T231507Z", "3f9a-1");
        let directory = create().expect("creates");
        assert_eq!(directory.path(), below.join("nightly-20261121T231507Z-3f9a"));
        assert_eq!(create().expect_err("exists").kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn files_are_replaced_as_a_whole() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let directory = ResultsDirectory::create(parent.path(), "a", "t", "uid0").expect("creates");
        for text in ["one", "two"] {
            directory.write("parts/x.part", text.as_bytes()).expect("writes");
        }
        let names: Vec<_> = fs::read_dir(directory.path().join(PARTS)).expect("lists").flatten().collect();
        assert_eq!(names.len(), 1, "no temporary file stays: {names:?}");
        assert_eq!(fs::read(directory.path().join("parts/x.part")).expect("reads"), b"two");
    }
}
