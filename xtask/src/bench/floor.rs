//! The floors: the least that the same work costs on this machine, as plain loops of the same system calls.
//!
//! They make no mistakes, measure nothing and tell nobody: what Lockstep takes beyond them is the price of knowing.

use super::machine::own_cpu_s;
use super::place::Names;
use super::table::Turn;
use anyhow::{Context, Result, anyhow, ensure};
use lockstep_core::rng::Stream;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Operations between two looks at the clock.
const BATCH: u64 = 64;
/// Bytes of a file that is read.
pub const READ_BYTES: usize = 4096;
/// Bytes of a file that is written.
pub const WRITE_BYTES: usize = 512;

/// Runs `work` on `threads` threads at once; it returns how many operations it did.
fn timed(threads: u32, work: impl Fn(u32) -> Result<u64> + Sync) -> Result<Turn> {
    let (start, cpu_s) = (Instant::now(), own_cpu_s());
    let operations = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let work = &work;
                scope.spawn(move || work(thread))
            })
            .collect();
        let joined =
            workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a floor's thread"))?);
        joined.sum::<Result<u64>>()
    })?;
    Ok(Turn { operations, wall_s: start.elapsed().as_secs_f64(), cpu_s: own_cpu_s() - cpu_s })
}

/// Two clock readings per turn of an empty loop.
pub fn clock(threads: u32, seconds: u64) -> Result<Turn> {
    let end = Instant::now() + Duration::from_secs(seconds);
    timed(threads, |_| {
        let mut count = 0;
        while Instant::now() < end {
            for _ in 0..BATCH {
                black_box(clock_gettime(ClockId::Monotonic));
                black_box(clock_gettime(ClockId::Monotonic));
            }
            count += BATCH;
        }
        Ok(count)
    })
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Open, pread, close of files in random order; reads one byte more than there is, as Lockstep does to know the end.
pub fn read(base: &Path, names: &Names, threads: u32, seconds: u64) -> Result<Turn> {
    let end = Instant::now() + Duration::from_secs(seconds);
    timed(threads, |thread| {
        let base = open_directory(base)?;
        let mut random = Stream::new(1, u64::from(thread));
        let (mut count, mut buffer) = (0, vec![0; READ_BYTES + 1]);
        while Instant::now() < end {
            for _ in 0..BATCH {
                let name = names.get(random.below(names.len() as u64) as usize);
                let file = rustix::fs::openat(&base, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                ensure!(rustix::io::pread(&file, &mut buffer, 0)? == READ_BYTES, "{name} is short");
            }
            count += BATCH;
        }
        Ok(count)
    })
}

/// Mkdir of what is missing above each name, then open, write, close; each thread a run of neighbours.
pub fn create(base: &Path, names: &Names, threads: u32) -> Result<Turn> {
    std::fs::create_dir(base)?;
    let share = names.len().div_ceil(threads as usize);
    timed(threads, |thread| {
        let base = open_directory(base)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let (content, mut last) = ([7; WRITE_BYTES], String::new());
        let first = thread as usize * share;
        let own = first..(first + share).min(names.len());
        let count = own.len() as u64;
        for at in own {
            let name = names.get(at);
            make_directories(&base, name, &mut last)?;
            let file = rustix::fs::openat(&base, name, flags, Mode::from_raw_mode(0o644))?;
            ensure!(rustix::io::write(&file, &content)? == WRITE_BYTES, "{name} is short");
        }
        Ok(count)
    })
}

/// Makes the directories of `name` that are not also above the name before; `last` is that one's directory.
fn make_directories(base: &OwnedFd, name: &str, last: &mut String) -> Result<()> {
    let Some(end) = name.rfind('/') else { return Ok(()) };
    if last.as_str() == &name[..=end] {
        return Ok(());
    }
    let mut at = 0;
    while let Some(slash) = name[at..].find('/').map(|slash| at + slash) {
        if !last.starts_with(&name[..=slash]) {
            match rustix::fs::mkdirat(base, &name[..slash], Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {name}")),
            }
        }
        at = slash + 1;
    }
    last.clear();
    last.push_str(&name[..=end]);
    Ok(())
}
