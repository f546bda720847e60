//! Measures the engine against floors: plain loops of the same system calls over the same files, on the same cores,
//! in the same run. Ratios of CPU time count: wall times depend on what else the machine does.
//!
//!     cargo run --release -p lockstep-agent --example floor -- <empty directory> [threads] [seconds]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Driver, execute, flat, plan, tree};
use lockstep_agent::{clock, cpu};
use lockstep_core::dataset::DataSet;
use lockstep_core::op::Op;
use lockstep_core::plan::{Existing, Plan, Scheme, StageKind};
use lockstep_core::rng::Stream;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Floor and engine take turns so often; the best of each counts, for the machine may be busy with other things.
const ROUNDS: usize = 4;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let base = PathBuf::from(arguments.next().expect("a directory"));
    let threads: u32 = arguments.next().map_or(2, |text| text.parse().expect("threads"));
    let seconds: u64 = arguments.next().map_or(3, |text| text.parse().expect("seconds"));
    null(threads, seconds);
    read(&base.join("flat"), threads, seconds);
    create(&base.join("tree"), threads);
    memory();
    println!("resident memory: {} MiB", cpu::resident_bytes().unwrap_or(0) >> 20);
}

fn with_threads(mut plan: Plan, threads: u32) -> Plan {
    for stage in &mut plan.stages {
        match &mut stage.kind {
            StageKind::Prepare { concurrency } | StageKind::Cleanup { concurrency, .. } => {
                *concurrency = threads;
            }
            StageKind::Execute(execute) => execute.concurrency = threads,
            StageKind::Preflight => {}
        }
    }
    plan
}

fn null(threads: u32, seconds: u64) {
    let mut plan = plan(Scheme::Null, "", flat(1 << 20), vec![execute(&[(Op::Get, 1)], seconds * 1000)]);
    plan.existing = Existing::Overwrite;
    let mut driver = Driver::new(with_threads(plan, threads));
    driver.preflight();
    let seen = driver.execute(2);
    let part = seen.part();
    let rate = part.totals.operations() as f64 * 1e9 / part.window_ns as f64;
    let clock_ns = {
        let start_ns = clock::now_ns();
        (0..1_000_000).for_each(|_| _ = std::hint::black_box(clock::now_ns()));
        (clock::now_ns() - start_ns) as f64 / 1e6
    };
    println!(
        "null: {:.2} M operations/s over {threads} threads; a clock reading costs {clock_ns:.0} ns",
        rate / 1e6
    );
}

fn names(data: &DataSet) -> Vec<String> {
    let names = data.names();
    let name = |index| {
        let mut name = String::new();
        names.write_name(index, &mut name);
        name
    };
    (0..data.len()).map(name).collect()
}

fn read(place: &Path, threads: u32, seconds: u64) {
    let mut plan = plan(
        Scheme::File,
        place.to_str().expect("UTF-8"),
        flat(10_000),
        vec![execute(&[(Op::Get, 1)], seconds * 1000); ROUNDS],
    );
    plan.dataset.size = lockstep_core::dataset::size::SizeSpec::Fixed(4096);
    let mut driver = Driver::new(with_threads(plan, threads));
    assert!(driver.preflight().faults.is_empty());
    driver.prepare(10_000, 5_000);
    let names = names(&driver.plan.dataset);
    let (mut floor, mut rate) = (0f64, 0f64);
    for round in 0..ROUNDS {
        let (start_ns, cpu_ns) = (clock::now_ns(), clock::process_cpu_ns());
        let plain = read_floor(place, &names, threads, seconds);
        let plain_cores = (clock::process_cpu_ns() - cpu_ns) as f64 / (clock::now_ns() - start_ns) as f64;
        let seen = driver.execute(2 + round as u32);
        let part = seen.part();
        let engine = part.totals.operations() as f64 * 1e9 / part.window_ns as f64;
        let engine_cores = part.client.process_cpu_ns as f64 / part.window_ns as f64;
        println!(
            "  round {round}: floor {:.0} k/s on {plain_cores:.2} cores, engine {:.0} k/s on {engine_cores:.2} cores",
            plain / 1e3,
            engine / 1e3
        );
        floor = floor.max(plain / plain_cores);
        rate = rate.max(engine / engine_cores);
    }
    println!(
        "read 4 KiB, per core in use: floor {:.0} k/s, engine {:.0} k/s, ratio {:.2}",
        floor / 1e3,
        rate / 1e3,
        rate / floor
    );
    driver.cleanup(10_000);
    driver.finish();
}

fn open_directory(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("a directory")
}

fn read_floor(place: &Path, names: &[String], threads: u32, seconds: u64) -> f64 {
    let end_ns = clock::now_ns() + seconds * 1_000_000_000;
    let count: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let base = open_directory(place);
                    let mut random = Stream::new(1, u64::from(thread));
                    let (mut count, mut buffer) = (0u64, vec![0u8; 4097]);
                    while clock::now_ns() < end_ns {
                        for _ in 0..64 {
                            let name = &names[random.below(names.len() as u64) as usize];
                            let file =
                                rustix::fs::openat(&base, name, OFlags::RDONLY, Mode::empty()).expect("open");
                            assert_eq!(rustix::io::pread(&file, &mut buffer, 0), Ok(4096));
                            count += 1;
                        }
                    }
                    count
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).sum()
    });
    count as f64 / seconds as f64
}

/// Creates a tree of 331,776 leaves with one file of 512 bytes each.
fn create(place: &Path, threads: u32) {
    let mut plan = plan(Scheme::File, place.to_str().expect("UTF-8"), tree(24, 4, 1), vec![]);
    plan.existing = Existing::Overwrite;
    let objects = plan.dataset.len();
    let plan = with_threads(plan, threads);
    let names = names(&plan.dataset);
    let (mut floor_s, mut puts_s, mut grew, mut cleanup_s) = (f64::MAX, f64::MAX, 0, f64::MAX);
    let (mut floor_cpu_s, mut puts_cpu_s) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let floor_place = place.with_extension("floor");
        let cpu_ns = clock::process_cpu_ns();
        floor_s = floor_s.min(create_floor(&floor_place, &names, threads));
        floor_cpu_s = floor_cpu_s.min((clock::process_cpu_ns() - cpu_ns) as f64 / 1e9);
        std::fs::remove_dir_all(&floor_place).expect("removed");
        let mut driver = Driver::new(plan.clone());
        assert!(driver.preflight().faults.is_empty());
        let rss = cpu::resident_bytes().unwrap_or(0);
        let seen = driver.prepare(objects, 24 * 24 * 24);
        assert_eq!(seen.changed(), objects);
        puts_s = puts_s.min(seen.part().window_ns as f64 / 1e9);
        puts_cpu_s = puts_cpu_s.min(seen.part().client.process_cpu_ns as f64 / 1e9);
        grew = grew.max(cpu::resident_bytes().unwrap_or(0).saturating_sub(rss));
        let start_ns = clock::now_ns();
        driver.cleanup(objects);
        driver.finish();
        cleanup_s = cleanup_s.min((clock::now_ns() - start_ns) as f64 / 1e9);
        assert!(!place.exists());
    }
    println!(
        "create {objects} x 512 B in 24^4: floor {floor_s:.2} s, engine {puts_s:.2} s; CPU: floor {floor_cpu_s:.2} s, \
         engine {puts_cpu_s:.2} s, ratio {:.2}; memory grew by {} KiB; cleanup {cleanup_s:.2} s",
        floor_cpu_s / puts_cpu_s,
        grew >> 10,
    );
}

fn create_floor(place: &Path, names: &[String], threads: u32) -> f64 {
    std::fs::create_dir(place).expect("made");
    let share = names.len().div_ceil(threads as usize);
    let start_ns = clock::now_ns();
    std::thread::scope(|scope| {
        for names in names.chunks(share) {
            scope.spawn(move || {
                let base = open_directory(place);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
                let content = [7u8; 512];
                let mut last = String::new();
                for name in names {
                    let (directory, _) = name.rsplit_once('/').expect("a directory");
                    let mut at = 0;
                    // mkdir of every component that the last name did not have.
                    while let Some(slash) = directory[at..].find('/').map(|slash| at + slash) {
                        if !last.starts_with(&directory[..=slash]) {
                            let _ =
                                rustix::fs::mkdirat(&base, &directory[..slash], Mode::from_raw_mode(0o755));
                        }
                        at = slash + 1;
                    }
                    let _ = rustix::fs::mkdirat(&base, directory, Mode::from_raw_mode(0o755));
                    last.clear();
                    last.push_str(directory);
                    last.push('/');
                    let file =
                        rustix::fs::openat(&base, name, flags, Mode::from_raw_mode(0o644)).expect("open");
                    assert_eq!(rustix::io::write(&file, &content), Ok(512));
                }
            });
        }
    });
    (clock::now_ns() - start_ns) as f64 / 1e9
}

/// 64 threads with four operations each, latencies spread wide.
fn memory() {
    let ops = [(Op::Get, 1), (Op::Head, 1), (Op::List, 1), (Op::Put, 1)];
    let mut plan = plan(Scheme::Null, "", flat(1 << 20), vec![execute(&ops, 3_000)]);
    plan.existing = Existing::Overwrite;
    let mut driver = Driver::new(with_threads(plan, 64));
    driver.preflight();
    driver.lease(2, lockstep_core::lease::LeaseKind::Put, 1 << 20, 1 << 40);
    let seen = driver.execute(2);
    let rss = seen.part().client.max_rss_bytes;
    println!("64 threads x 4 operations: {} MiB resident at most", rss >> 20);
}
