//! Where workers live: each on a plain thread (targets that block), or as tasks that never move on one
//! single-threaded runtime per core (targets that wait on sockets).
//!
//! Threads are made per stage and end with it. Runtimes live as long as the engine, so that connections survive from
//! one stage to the next; nothing is shared between them. Deliberately no work stealing and no pool.

use super::block_on::block_on;
use super::director::Message;
use super::job::{Job, Seat, Space};
use super::worker::work;
use crate::target::backend::{Assignment, Backend};
use lockstep_core::problem::Problem;
use rustix::thread::CpuSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long a task that was told to stop may go on before its future is dropped: short requests end well by then.
const STOP_GRACE: Duration = Duration::from_millis(250);
/// Stack of a worker's thread. Workers recurse nowhere.
const STACK_BYTES: usize = 512 << 10;

/// Starts workers.
pub trait Crew: Send {
    /// Starts a worker for each seat of the job.
    ///
    /// # Errors
    /// A thread or runtime that cannot be made.
    fn muster(&mut self, job: &Arc<Job>) -> Result<(), Problem>;
    /// Runtimes among which workers are spread; 1 for plain threads.
    fn lanes(&self) -> usize;
}

/// The crew for a backend, on these cores.
pub fn crew<B: Backend>(backend: Arc<B>, cores: Vec<usize>) -> Box<dyn Crew> {
    if B::BLOCKING {
        Box::new(Threads { backend, cores })
    } else {
        Box::new(Lanes { backend, cores, lanes: Vec::new() })
    }
}

/// Says that a worker has ended, also when it panics or its future is dropped.
struct Leaving {
    job: Arc<Job>,
    seat: Arc<Seat>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.seat.hands.slot.ended.store(true, Ordering::Release);
        let _ = self.job.director.send(Message::Ended { serial: self.job.serial });
    }
}

/// Lets this thread run on these cores only; all cores when there are none. A kernel that refuses is obeyed.
pub fn stay_on(cores: &[usize]) {
    let mut set = CpuSet::new();
    let known = cores.iter().filter(|core| **core < CpuSet::MAX_CPU);
    known.for_each(|core| set.set(*core));
    if set.count() > 0 {
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

fn maker<'a, B: Backend>(
    backend: &'a B,
    lane: &'a B::Lane,
    job: &'a Job,
    seat: &'a Seat,
) -> impl Fn(&Space) -> Result<B::Target, Problem> + 'a {
    move |space| {
        let (role, data, hands) = (job.role(), Arc::clone(&space.data), seat.hands.clone());
        backend.target(lane, Assignment { role, data, hands })
    }
}

fn no_thread(error: &std::io::Error) -> Problem {
    Problem::new("the agent cannot start its workers", error.to_string())
        .likely("the limit on threads or memory is too low for the stage's concurrency")
        .next("lower `concurrency`, or raise the limits (ulimit -u, the pod's memory)")
}

struct Threads<B> {
    backend: Arc<B>,
    cores: Vec<usize>,
}

impl<B: Backend> Crew for Threads<B> {
    fn muster(&mut self, job: &Arc<Job>) -> Result<(), Problem> {
        for seat in &job.seats {
            let leaving = Leaving { job: Arc::clone(job), seat: Arc::clone(seat) };
            let (backend, cores) = (Arc::clone(&self.backend), self.cores.clone());
            let thread = std::thread::Builder::new()
                .name(format!("worker-{}", seat.hands.worker))
                .stack_size(STACK_BYTES);
            thread
                .spawn(move || {
                    stay_on(&cores);
                    let (job, seat) = (&*leaving.job, &*leaving.seat);
                    match backend.lane(seat.hands.worker as usize) {
                        Ok(lane) => block_on(work(job, seat, 0, maker(&*backend, &lane, job, seat))),
                        Err(problem) => job.failed(problem),
                    }
                })
                .map_err(|error| no_thread(&error))?;
        }
        Ok(())
    }

    fn lanes(&self) -> usize {
        1
    }
}

struct Lanes<B> {
    backend: Arc<B>,
    cores: Vec<usize>,
    lanes: Vec<UnboundedSender<Arc<Job>>>,
}

impl<B: Backend> Lanes<B> {
    fn start(&mut self) -> Result<(), Problem> {
        let cores: Vec<Option<usize>> = match self.cores.as_slice() {
            [] => vec![None],
            cores => cores.iter().copied().map(Some).collect(),
        };
        let count = cores.len();
        for (lane, core) in cores.into_iter().enumerate() {
            let (send, receive) = unbounded_channel();
            let backend = Arc::clone(&self.backend);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| no_thread(&error))?;
            std::thread::Builder::new()
                .name(format!("lane-{lane}"))
                .spawn(move || {
                    stay_on(core.as_slice());
                    let tasks = tokio::task::LocalSet::new();
                    tasks.block_on(&runtime, run_lane(backend, lane, count, receive));
                })
                .map_err(|error| no_thread(&error))?;
            self.lanes.push(send);
        }
        Ok(())
    }
}

impl<B: Backend> Crew for Lanes<B> {
    fn muster(&mut self, job: &Arc<Job>) -> Result<(), Problem> {
        if self.lanes.is_empty() {
            self.start()?;
        }
        for lane in &self.lanes {
            // A lane that is gone shows as workers that never get ready.
            let _ = lane.send(Arc::clone(job));
        }
        Ok(())
    }

    fn lanes(&self) -> usize {
        self.cores.len().max(1)
    }
}

/// One runtime: takes jobs, and runs each `count`th worker of them as a task.
async fn run_lane<B: Backend>(
    backend: Arc<B>,
    lane: usize,
    count: usize,
    mut jobs: UnboundedReceiver<Arc<Job>>,
) {
    let mut shared: Option<Rc<B::Lane>> = None;
    while let Some(job) = jobs.recv().await {
        if shared.is_none() {
            match backend.lane(lane) {
                Ok(made) => shared = Some(Rc::new(made)),
                Err(problem) => job.failed(problem),
            }
        }
        for seat in job.seats.iter().skip(lane).step_by(count) {
            let leaving = Leaving { job: Arc::clone(&job), seat: Arc::clone(seat) };
            let Some(shared) = shared.clone() else { continue };
            let backend = Arc::clone(&backend);
            tokio::task::spawn_local(async move {
                let (job, seat) = (&*leaving.job, &*leaving.seat);
                let stopping = async {
                    job.stop.wait().await;
                    tokio::time::sleep(STOP_GRACE).await;
                };
                tokio::select! {
                    () = work(job, seat, lane, maker(&*backend, &*shared, job, seat)) => {}
                    () = stopping => {}
                }
            });
        }
    }
}
