//! Files, through blocking calls on the worker's own thread.
//!
//! A get is open, read, close; a put is open, write, close; a head is a stat. Names are resolved below an open
//! handle of the base directory, which shortens the kernel's walk. Reads go through one buffer of at most 1 MiB per
//! worker, and ask for one byte more than is expected: so one call tells a file that is too short, too long, or
//! right. Deliberately no O_DIRECT and no io_uring here, and no fsync per file: the page cache is part of what
//! is measured, unless `pageCache: Drop` asks the kernel to forget each file after use (a file that was
//! written is flushed first, for only clean pages can be dropped).

use super::backend::{Assignment, Role, stopped, wait_on_thread};
use super::file_dirs::Directories;
use super::{Done, Failure, Object, Outcome, Target};
use crate::engine::hands::Hands;
use lockstep_core::dataset::content::Contents;
use lockstep_core::op::ErrorClass;
use lockstep_core::plan::PageCache;
use rustix::fs::{Advice, AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Most bytes of one read or write: what a stop has to wait for.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Most entries of one list operation.
pub const PAGE_ENTRIES: u64 = 1_000;
/// Names that begin so are Lockstep's own, and no objects.
pub const OWN_PREFIX: &str = ".lockstep";
/// Bytes of the buffer for directory entries.
const LIST_BYTES: usize = 32 << 10;

/// A worker's file target.
#[derive(Debug)]
pub struct FileTarget {
    directories: Directories,
    contents: Contents,
    page_cache: PageCache,
    role: Role,
    hands: Hands,
    buffer: Vec<u8>,
    entries: Vec<MaybeUninit<u8>>,
}

impl FileTarget {
    /// A target below `base`, which need not exist yet.
    #[must_use]
    pub fn new(base: PathBuf, page_cache: PageCache, assignment: Assignment) -> Self {
        Self {
            directories: Directories::new(base),
            contents: assignment.data.contents(),
            page_cache,
            role: assignment.role,
            hands: assignment.hands,
            buffer: Vec::new(),
            entries: Vec::new(),
        }
    }

    fn open_to_read(&mut self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(self.directories.base()?, name, flags, Mode::empty())
    }

    /// Makes the buffer at least `bytes` long, and never longer than a chunk and one byte.
    fn room(&mut self, bytes: u64) {
        let wanted = bytes.min(CHUNK_BYTES as u64) as usize + 1;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
    }

    fn read(&mut self, object: Object<'_>, verify: bool) -> Result<u64, Trouble> {
        let file = self.open_to_read(object.name)?;
        self.room(object.size);
        let mut read_bytes = 0u64;
        loop {
            let rest = (object.size - read_bytes).min(CHUNK_BYTES as u64) as usize;
            let got = match rustix::io::pread(&file, &mut self.buffer[..=rest], read_bytes) {
                Err(Errno::INTR) => continue,
                got => got?,
            };
            if got > rest && read_bytes + rest as u64 == object.size {
                return Err(Trouble::Size("more", object.size));
            }
            // The extra byte of a full chunk is read again with the next one.
            let got = got.min(rest);
            if verify {
                self.verify(object, read_bytes, got)?;
            }
            read_bytes += got as u64;
            self.hands.moved();
            if read_bytes == object.size {
                break;
            }
            if got == 0 {
                return Err(Trouble::Size("fewer", read_bytes));
            }
            if self.hands.stopped() {
                return Err(Trouble::Stopped);
            }
        }
        if self.page_cache == PageCache::Drop {
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        Ok(read_bytes)
    }

    fn verify(&mut self, object: Object<'_>, offset: u64, bytes: usize) -> Result<(), Trouble> {
        let read = &self.buffer[..bytes];
        self.contents
            .verify(object.index, 0, offset, read)
            .map_err(|mismatch| Trouble::Content(mismatch.to_string()))
    }

    fn write(&mut self, object: Object<'_>) -> Result<(), Trouble> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o644);
        self.directories.make_for(object.name)?;
        let file = match rustix::fs::openat(self.directories.base()?, object.name, flags, mode) {
            // Somebody removed the directory since it was made: make it anew, once.
            Err(Errno::NOENT) => {
                self.directories.forget();
                self.directories.make_for(object.name)?;
                rustix::fs::openat(self.directories.base()?, object.name, flags, mode)?
            }
            file => file?,
        };
        self.room(object.size);
        let mut written = 0u64;
        while written < object.size {
            let chunk = (object.size - written).min(CHUNK_BYTES as u64) as usize;
            self.contents.fill(object.index, 0, written, &mut self.buffer[..chunk]);
            let mut from = 0;
            while from < chunk {
                match rustix::io::write(&file, &self.buffer[from..chunk]) {
                    Ok(0) => return Err(Errno::IO.into()),
                    Ok(some) => from += some,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            written += chunk as u64;
            self.hands.moved();
            if written < object.size && self.hands.stopped() {
                return Err(Trouble::Stopped);
            }
        }
        if self.page_cache == PageCache::Drop {
            rustix::fs::fdatasync(&file)?;
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        Ok(())
    }

    fn entries(&mut self, object: Object<'_>) -> Result<u64, Trouble> {
        let directory = object.name.rsplit_once('/').map_or(".", |(directory, _)| directory);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(self.directories.base()?, directory, flags, Mode::empty())?;
        self.entries.resize(LIST_BYTES, MaybeUninit::uninit());
        let mut entries = RawDir::new(&handle, &mut self.entries);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && !name.starts_with(OWN_PREFIX.as_bytes()) {
                count += 1;
            }
            if count == PAGE_ENTRIES {
                break;
            }
        }
        Ok(count)
    }

    fn outcome(result: Result<u64, Trouble>, verb: &str, object: Object<'_>) -> Outcome {
        match result {
            Ok(bytes) => Ok(Done { bytes, first_byte_ns: None }),
            Err(trouble) => trouble.outcome(verb, object),
        }
    }
}

/// What can go wrong with one file.
#[derive(Debug)]
enum Trouble {
    System(Errno),
    Size(&'static str, u64),
    Content(String),
    Stopped,
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl Trouble {
    #[cold]
    fn outcome(self, verb: &str, object: Object<'_>) -> Outcome {
        let name = object.name;
        let (class, detail) = match self {
            Self::System(errno) => (class_of(errno), format!("{verb} {name}: {errno}")),
            Self::Size(which, bytes) => (
                ErrorClass::Corrupt,
                format!("{name} has {which} than its {} bytes (seen: {bytes})", object.size),
            ),
            Self::Content(mismatch) => (ErrorClass::Corrupt, format!("{name}: {mismatch}")),
            Self::Stopped => return stopped(object),
        };
        Err(Failure { class, detail })
    }
}

/// The class of a system error.
#[must_use]
pub fn class_of(errno: Errno) -> ErrorClass {
    match errno {
        Errno::NOENT | Errno::NOTDIR => ErrorClass::NotFound,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorClass::Permission,
        Errno::NOSPC | Errno::DQUOT => ErrorClass::Full,
        Errno::TIMEDOUT => ErrorClass::Timeout,
        Errno::STALE | Errno::CONNRESET => ErrorClass::Reset,
        _ => ErrorClass::Other,
    }
}

impl Target for FileTarget {
    async fn get(&mut self, object: Object<'_>, verify: bool) -> Outcome {
        let result = self.read(object, verify);
        Self::outcome(result, "read", object)
    }

    async fn put(&mut self, object: Object<'_>) -> Outcome {
        let result = self.write(object).map(|()| object.size);
        Self::outcome(result, "write", object)
    }

    async fn head(&mut self, object: Object<'_>) -> Outcome {
        let stat = self
            .directories
            .base()
            .and_then(|base| rustix::fs::statat(base, object.name, AtFlags::SYMLINK_NOFOLLOW))
            .map(|stat| stat.st_size as u64);
        Self::outcome(stat.map_err(Trouble::System), "stat", object)
    }

    async fn list(&mut self, object: Object<'_>) -> Outcome {
        let result = self.entries(object);
        Self::outcome(result, "list the directory of", object)
    }

    async fn delete(&mut self, object: Object<'_>) -> Outcome {
        if self.role == Role::Cleanup {
            self.directories.leave_for(object.name);
        }
        let result = self
            .directories
            .base()
            .and_then(|base| rustix::fs::unlinkat(base, object.name, AtFlags::empty()))
            .map(|()| 0);
        Self::outcome(result.map_err(Trouble::System), "remove", object)
    }

    async fn settle(&mut self) {
        if self.role == Role::Cleanup {
            self.directories.leave_all();
        }
    }

    async fn wait_until(&mut self, at_ns: u64) {
        wait_on_thread(at_ns, &self.hands);
    }

    async fn breathe(&mut self) {}
}
