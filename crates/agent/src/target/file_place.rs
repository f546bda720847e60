//! The place of a data set of files: a directory with a lock and a marker in it.
//!
//! The lock is an `flock`, so the kernel gives it back when its holder dies, however it dies; what the dead one wrote
//! into the lock file tells whose it was. Only the last component of the path is ever created, and only a place
//! that a run created is removed again; both facts lie beside the marker, because the run that cleans up may be another
//! one. Deliberately plain `std::fs`: nothing here runs more than a few times per run.

use super::backend::{Assignment, Backend};
use super::file::{FileTarget, OWN_PREFIX};
use super::file_checks::{self, Needs};
use super::place::{Check, Found, Locked, Place};
use lockstep_core::dataset::marker::{MARKER_NAME, Marker};
use lockstep_core::dataset::names::write_agent_prefix;
use lockstep_core::op::ErrorClass;
use lockstep_core::plan::{PageCache, Plan};
use lockstep_core::problem::{Problem, exit};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Name of the lock file.
pub const LOCK_NAME: &str = ".lockstep.lock";
/// In every directory that a run created: the base, or an agent's own.
const CREATED_NAME: &str = ".lockstep-created";
/// In the root of every ext4 file system, such as a claim that was just made: nobody's data.
const LOST_AND_FOUND: &str = "lost+found";
/// Names of foreign things that are told.
const NAMES_TOLD: usize = 5;

/// Makes file targets.
#[derive(Debug)]
pub struct FileBackend {
    base: PathBuf,
    page_cache: PageCache,
    needs: Needs,
}

impl FileBackend {
    /// A backend for the target of a plan.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let base = PathBuf::from(&plan.target.path);
        Self { base, page_cache: plan.target.page_cache, needs: Needs::of(plan) }
    }
}

impl Backend for FileBackend {
    type Lane = ();
    type Target = FileTarget;
    type Place = FilePlace;
    const BLOCKING: bool = true;

    fn lane(&self, _: usize) -> Result<(), Problem> {
        Ok(())
    }

    fn target(&self, (): &(), assignment: Assignment) -> Result<FileTarget, Problem> {
        Ok(FileTarget::new(self.base.clone(), self.page_cache, assignment))
    }

    fn place(&self, space: Option<u32>) -> Result<FilePlace, Problem> {
        let mut path = self.base.clone();
        if let Some(agent) = space {
            let mut prefix = String::new();
            write_agent_prefix(agent, &mut prefix);
            path.push(prefix.trim_end_matches('/'));
        }
        Ok(FilePlace::new(self.base.clone(), path, self.needs))
    }
}

/// What the lock file says.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    uid: String,
    /// Seconds since 1970, for people.
    since: u64,
    pid: u32,
}

/// The place of a data set of files.
#[derive(Debug)]
pub struct FilePlace {
    /// The target's path.
    base: PathBuf,
    /// Where this data set lies: the base, or the agent's own directory in it.
    path: PathBuf,
    needs: Needs,
    lock: Option<File>,
}

impl FilePlace {
    /// A place at `path`, which is `base` or lies directly in it.
    #[must_use]
    pub fn new(base: PathBuf, path: PathBuf, needs: Needs) -> Self {
        Self { base, path, needs, lock: None }
    }

    /// Creates the place if it is missing: the base's last component, and the agent's directory.
    fn create(&mut self) -> Result<(), Problem> {
        for path in [&self.base, &self.path] {
            let created = fs::create_dir(path).and_then(|()| File::create(path.join(CREATED_NAME)));
            match created {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.refused("cannot be created", path, &error)),
            }
        }
        Ok(())
    }

    /// Removes the agent's directory and the base, each where a run created it and nothing of anybody's is in it.
    fn remove_if_empty(&self) {
        for path in [&self.path, &self.base] {
            let created = path.join(CREATED_NAME);
            if !created.exists() || !names_in(path).is_ok_and(|names| names.is_empty()) {
                continue;
            }
            let _ = fs::remove_file(path.join(LOCK_NAME));
            let _ = fs::remove_file(created);
            let _ = fs::remove_dir(path);
        }
    }

    fn refused(&self, what: &str, path: &Path, error: &io::Error) -> Problem {
        let problem = Problem::new(
            format!("target file://{}: {} {what}", self.base.display(), path.display()),
            error.to_string(),
        )
        .exit(exit::REFUSED);
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(errno @ (Errno::ACCESS | Errno::PERM)) => problem
                .class(super::file::class_of(errno))
                .likely("this user may not write there")
                .next(format!("ls -ld {}", path.display())),
            Some(Errno::ROFS) => problem
                .class(ErrorClass::Permission)
                .likely("the file system is mounted read-only")
                .next(format!("findmnt -T {}", path.display())),
            Some(Errno::NOENT) => problem
                .class(ErrorClass::NotFound)
                .likely("the parent directory is missing, or its file system is not mounted")
                .next(format!("mkdir -p {}", path.parent().unwrap_or(path).display())),
            Some(Errno::NOTDIR) => problem
                .class(super::file::class_of(Errno::NOTDIR))
                .likely("a file lies where a directory should be")
                .next("name a directory in target.uri, or a new last component: it will be created"),
            Some(errno @ (Errno::NOSPC | Errno::DQUOT)) => problem
                .class(super::file::class_of(errno))
                .likely("the file system is full, or the user's quota is")
                .next(format!("df -h {0}; df -i {0}", path.parent().unwrap_or(path).display())),
            Some(errno) => problem
                .class(super::file::class_of(errno))
                .next(format!("look at {}", path.parent().unwrap_or(path).display())),
            None => problem.next(format!("look at {}", path.parent().unwrap_or(path).display())),
        }
    }

    /// Opens the lock file and locks it; `None` where another process holds it.
    fn take(&mut self) -> Result<Option<File>, Problem> {
        let path = self.path.join(LOCK_NAME);
        loop {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(|error| self.refused("cannot be locked", &path, &error))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(self.refused("cannot be locked", &path, &errno.into())),
            }
            // Its last holder may have removed the file between the two calls: then this lock is on nothing.
            let held = file.metadata().map(|held| (held.dev(), held.ino())).ok();
            if held.is_some() && held == fs::metadata(&path).map(|there| (there.dev(), there.ino())).ok() {
                return Ok(Some(file));
            }
        }
    }

    fn holder(&self) -> Option<Holder> {
        serde_json::from_slice(&fs::read(self.path.join(LOCK_NAME)).ok()?).ok()
    }
}

/// Some of the names in a directory that are not those of the lock and its kin.
fn names_in(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if ![LOCK_NAME, CREATED_NAME, LOST_AND_FOUND].contains(&&*name) {
            names.push(name);
        }
        if names.len() > 2 * NAMES_TOLD {
            break;
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Writes a file as a whole: beside its place, synced, renamed.
fn replace(temporary: &Path, at: &Path, document: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(document)?;
    file.sync_all()?;
    fs::rename(temporary, at)
}

/// Writes over a document in one call, with spaces up to the old one's length, so that no moment shows a mixture
/// that does not parse.
fn overwrite(at: &Path, mut document: String) -> io::Result<()> {
    let mut file = File::options().write(true).open(at)?;
    let old = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let len = document.len() as u64;
    document.extend(std::iter::repeat_n(' ', old.min(1 << 20).saturating_sub(document.len())));
    file.write_all(document.as_bytes())?;
    file.set_len(len)?;
    file.sync_all()
}

fn is_full(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT))
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn told(holder: &Holder) -> String {
    let ago = seconds_since_1970().saturating_sub(holder.since);
    format!("run {} (process {}), taken {ago} s ago", holder.uid, holder.pid)
}

impl Place for FilePlace {
    async fn check(&mut self) -> Vec<Check> {
        file_checks::check(&self.base, &self.path, self.needs)
    }

    async fn look(&mut self) -> Result<Found, Problem> {
        match fs::metadata(&self.path) {
            Ok(metadata) if !metadata.is_dir() => {
                let error = io::Error::from(Errno::NOTDIR);
                return Err(self.refused("is no directory", &self.path, &error));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = self.base.parent().unwrap_or(&self.base);
                return match fs::metadata(parent) {
                    Ok(metadata) if metadata.is_dir() => Ok(Found::Absent),
                    Ok(_) => Err(self.refused("is no directory", parent, &Errno::NOTDIR.into())),
                    Err(error) => Err(self.refused("is missing: the parent of the target", parent, &error)),
                };
            }
            Err(error) => return Err(self.refused("cannot be looked at", &self.path, &error)),
        }
        match fs::read(self.path.join(MARKER_NAME)) {
            Ok(document) => match Marker::from_json(&document) {
                Ok(marker) => Ok(Found::Marked(Box::new(marker))),
                Err(error) => Err(Problem::new(
                    format!("target file://{} bears a marker that cannot be read", self.path.display()),
                    error.to_string(),
                )
                .likely("a newer version wrote it, or it was damaged")
                .next(format!("look at {}", self.path.join(MARKER_NAME).display()))
                .kept("nothing was touched")
                .exit(exit::REFUSED)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut names = names_in(&self.path)
                    .map_err(|error| self.refused("cannot be listed", &self.path, &error))?;
                // A marker that was being written when its writer was killed is no data of anybody's.
                names.retain(|name| !name.starts_with(OWN_PREFIX));
                names.truncate(NAMES_TOLD);
                Ok(if names.is_empty() { Found::Empty } else { Found::Foreign(names) })
            }
            Err(error) => Err(self.refused("cannot be read", &self.path.join(MARKER_NAME), &error)),
        }
    }

    async fn lock(&mut self, uid: &str) -> Result<Locked, Problem> {
        if self.lock.is_some() {
            return Ok(Locked::Taken);
        }
        self.create()?;
        let before = self.holder();
        let Some(mut file) = self.take()? else {
            let text = before.as_ref().map_or_else(|| "a run that did not say which".into(), told);
            return Ok(Locked::Held(text));
        };
        let mut document = String::new();
        let _ = file.read_to_string(&mut document);
        let stale: Option<Holder> = serde_json::from_str(&document).ok();
        let holder = Holder { uid: uid.to_owned(), since: seconds_since_1970(), pid: std::process::id() };
        let document = serde_json::to_vec(&holder).unwrap_or_default();
        let written = file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&document));
        written.map_err(|error| self.refused("cannot be written", &self.path.join(LOCK_NAME), &error))?;
        self.lock = Some(file);
        Ok(match stale {
            Some(holder) if holder.uid != uid => Locked::TakenOver(told(&holder)),
            _ => Locked::Taken,
        })
    }

    async fn unlock(&mut self) -> Result<(), Problem> {
        let Some(lock) = self.lock.take() else { return Ok(()) };
        if !self.path.join(MARKER_NAME).exists() {
            self.remove_if_empty();
        }
        // Removed while it is still held: nobody can take a lock on a file that is about to go.
        let _ = fs::remove_file(self.path.join(LOCK_NAME));
        drop(lock);
        Ok(())
    }

    async fn mark(&mut self, marker: &Marker) -> Result<(), Problem> {
        self.create()?;
        let at = self.path.join(MARKER_NAME);
        let temporary = self.path.join(format!("{MARKER_NAME}.new"));
        let write = || -> io::Result<()> {
            let document = marker.to_json()?;
            let replaced = replace(&temporary, &at, document.as_bytes()).or_else(|error| {
                let _ = fs::remove_file(&temporary);
                // On a full disk the old one's block can still be written to: else nothing could ever be cleaned up.
                if is_full(&error) { overwrite(&at, document) } else { Err(error) }
            });
            replaced.and_then(|()| File::open(&self.path)?.sync_all())
        };
        write().map_err(|error| self.refused("cannot be written", &at, &error))
    }

    async fn sync(&mut self) -> Result<(), Problem> {
        let sync = || rustix::fs::syncfs(File::open(&self.path)?).map_err(io::Error::from);
        match sync() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.refused("cannot be synced", &self.path, &error))
            }
            _ => Ok(()),
        }
    }

    async fn unmark(&mut self, _marker: &Marker) -> Result<(), Problem> {
        let at = self.path.join(MARKER_NAME);
        match fs::remove_file(&at) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.refused("cannot be removed", &at, &error));
            }
            _ => {}
        }
        self.remove_if_empty();
        Ok(())
    }
}
