//! Processes and a directory that never outlive the test, however it ends.
//!
//! A test can end by returning, by a panic, or by SIGKILL; and a control plane shared by the tests of one binary lives in
//! a static, which Rust never drops. So the end of *this process* must be what ends the others. Of the ways to get that:
//!
//! - `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, not the process: a control plane started by the first
//!   test would die with it. It is cleared when a process changes its user, as pods do, and covers no grandchildren.
//! - A shell that reads from a pipe whose other end only this process holds sees its end of file when the process is
//!   gone, by whatever means. It kills by id of process group, which covers grandchildren, and then removes the
//!   directory. That is what this module does: one such shell per [`Keeper`].
//!
//! Each process enters its group in the directory *itself*, before it becomes the program, so there is no moment at which
//! it runs unknown. Entries are removed before the process is waited for: until then its id cannot be anybody else's.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Set to anything in the environment, directories stay, for whoever wants to know why a test failed.
const KEEP_DIRECTORY: &str = "LOCKSTEP_KEEP";
/// Reads until its owner is gone or lets go, ends every group that is entered, and removes the directory. What was
/// killed may write a moment longer, hence the repetition.
const KEEP: &str = r#"
while read -r _; do :; done
for group in "$1"/groups/*; do
    [ -e "$group" ] && kill -s KILL -- "-${group##*/}" 2>/dev/null
done
[ -n "$2" ] && exit
tries=0
until rm -rf "$1" 2>/dev/null || [ $tries -ge 100 ]; do tries=$((tries + 1)); sleep 0.05; done
"#;

/// Enters its process group, then becomes the program.
const ENTER: &str = r#": >"$0/groups/$$" && exec "$@""#;

/// A temporary directory, and the processes that live in it.
pub(crate) struct Keeper {
    directory: PathBuf,
    shell: Child,
}

impl Keeper {
    /// A new directory with nobody in it.
    pub(crate) fn new() -> Result<Self> {
        let directory =
            TempDir::with_prefix("lockstep-testcluster-").context("failed to make a directory")?;
        std::fs::create_dir(directory.path().join("groups"))?;
        let mut shell = Command::new("/bin/sh");
        let is_kept = std::env::var_os(KEEP_DIRECTORY).is_some();
        shell.args(["-c", KEEP, "keeper"]).arg(directory.path()).arg(if is_kept { "kept" } else { "" });
        if is_kept {
            let line = format!("test control plane: {} is kept\n", directory.path().display());
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        // No pipe of ours but the one it watches, or whoever reads our output would wait for the keeper as well.
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let shell = shell.spawn().context("failed to start /bin/sh")?;
        Ok(Self { directory: directory.keep(), shell })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// A command in a process group of its own that is ended with this keeper at the latest. It reads nothing.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        command_in(&self.directory, program)
    }

    /// Starts a command with both outputs appended to a log in the directory.
    pub(crate) fn start(&self, mut command: Command, name: &str) -> Result<Kept> {
        let log = self.directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("failed to open {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
        Ok(Kept { mark: mark(&self.directory, child.id()), child, log })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Closes the pipe; what is still there is ended, the directory removed, before this returns.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A command that enters its group in a keeper's directory.
pub(crate) fn command_in(directory: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", ENTER]).arg(directory).arg(program);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// The entry of a process that leads a group.
pub(crate) fn mark(directory: &Path, id: u32) -> PathBuf {
    directory.join("groups").join(id.to_string())
}

/// Kills a process group by the id of its leader; one that is gone is no error.
pub(crate) fn kill_group(id: u32, signal: Signal) {
    if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

/// A process of a [`Keeper`], killed with its group when dropped, and waited for.
pub(crate) struct Kept {
    child: Child,
    mark: PathBuf,
    log: PathBuf,
}

impl Kept {
    /// Process id, which is also that of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said last, for whoever asks why.
    pub(crate) fn last_lines(&self, count: usize) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Fails, with what it said last, when it has ended by itself.
    pub(crate) fn ensure_runs(&mut self, name: &str) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{name} ended with {status}; it said last:\n{}", self.last_lines(20)),
            None => Ok(()),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        kill_group(self.child.id(), Signal::KILL);
        let _ = std::fs::remove_file(&self.mark);
        let _ = self.child.wait();
    }
}
