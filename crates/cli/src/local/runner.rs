//! A run on one machine from end to end: directory, coordinator, loop, report.

use super::drive::{Drive, Ended};
use super::process::{Processes, Recipe};
use super::signals::Signals;
use super::{agent_binary, cores, identity};
use crate::args::{RunRequest, Style, ValidateRequest};
use crate::display::picture::Picture;
use crate::display::{Display, Scene};
use crate::results::{
    ResultsDirectory, artefacts, directory, manifest, memory, salvage, store::PartStore, wall,
};
use crate::{input, output, preview};
use anyhow::Context as _;
use lockstep_api::Manifest;
use lockstep_coordinator::report::{WallTimes, build};
use lockstep_coordinator::{Coordinator, RunEnd, SharedSecrets, Snapshot};
use lockstep_core::plan::Plan;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::results::Report;
use lockstep_core::thresholds::{Outcome, Verdict};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A run that is about to begin.
#[derive(Debug)]
struct Prepared {
    plan: Arc<Plan>,
    notes: Vec<String>,
    style: Style,
    agent: PathBuf,
    directory: ResultsDirectory,
    started: String,
}

/// Makes the plan and the results directory of a run, and runs it. Returns the exit code.
///
/// # Errors
///
/// What stands in the way before the first agent is started.
pub fn run(request: &RunRequest) -> Result<u8, Box<Problem>> {
    let manifest = input::load(&request.input)?;
    let uid = identity::new_uid().map_err(|error| broken("a run cannot be given an id", &error.into()))?;
    let resolved = input::resolve_local(&request.input, &manifest, &uid)?;
    let agent = agent_binary::find(request.agent_binary.as_deref())?;
    let (started, time) = identity::now();
    let plan = Arc::new(resolved.plan);
    let record = manifest::record(&manifest, &request.input, &uid, &started)
        .map_err(|error| broken("the manifest cannot be recorded", &error.into()))?;
    let directory = make_directory(&request.results, &plan, &time)?;
    artefacts::begin(&directory, &plan, &record, &started)
        .map_err(|error| unwritable(directory.path(), &error.into()))?;
    Prepared { plan, notes: resolved.notes, style: request.style, agent, directory, started }.execute()
}

/// Runs only preflight, with one agent, and says what it found. Returns the exit code.
///
/// # Errors
///
/// What stands in the way before the agent is started.
pub fn probe(request: &ValidateRequest, manifest: &Manifest) -> Result<u8, Box<Problem>> {
    let uid = identity::new_uid().map_err(|error| broken("a run cannot be given an id", &error.into()))?;
    let resolved = input::resolve_local(&request.input, manifest, &uid)?;
    let agent = agent_binary::find(request.agent_binary.as_deref())?;
    let (started, time) = identity::now();
    let mut plan = resolved.plan;
    plan.stages.truncate(1);
    plan.thresholds.clear();
    (plan.replicas, plan.min_available) = (1, 1);
    (plan.failure.min_agents, plan.failure.retry_attempts) = (0, 0);
    let plan = Arc::new(plan);
    let parent = std::env::temp_dir().join("lockstep-validate");
    let directory = make_directory(&parent, &plan, &time)?;
    let path = directory.path().to_owned();
    artefacts::begin(&directory, &plan, "", &started).map_err(|error| unwritable(&path, &error.into()))?;
    let uri = plan.target.uri.clone();
    let code =
        Prepared { plan, notes: Vec::new(), style: Style::Silent, agent, directory, started }.execute()?;
    if code == exit::SUCCEEDED {
        output::say(&format!("✔ {uri} passed preflight; nothing was measured"));
        // What it left is of no use to anybody; a temporary directory that stays harms nobody.
        let _ = std::fs::remove_dir_all(&path);
    }
    Ok(code)
}

impl Prepared {
    fn execute(self) -> Result<u8, Box<Problem>> {
        log_to(&self.directory.path().join(directory::LOG));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| broken("the coordinator cannot be started", &error.into()))?;
        let path = self.directory.path().to_owned();
        runtime.block_on(self.coordinate()).map_err(|error| {
            let mut problem = broken("the run cannot go on", &error);
            problem.kept = format!("what agents handed in is in {0}; lockstep report {0}", path.display());
            problem
        })
    }

    async fn coordinate(self) -> anyhow::Result<u8> {
        let Self { plan, notes, style, agent, directory, started } = self;
        let mut signals = Signals::listen().context("signals")?;
        let listener =
            tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.context("a port on 127.0.0.1")?;
        let address = listener.local_addr().context("a port on 127.0.0.1")?;
        let secret = identity::new_secret().context("a secret")?;
        let secrets = SharedSecrets::default();
        secrets.add(&plan.run.uid, &secret);
        let coordinator = Coordinator::serve(listener, Arc::new(secrets), None);
        let cores = cores::allowed();
        let spin = plan.replicas as usize <= cores::busy_at_once(&cores);
        let store = Arc::new(PartStore::new(directory.clone(), Arc::clone(&plan)));
        let mut processes = Processes::new(Recipe {
            program: agent,
            coordinator: address,
            run: plan.run.name.clone(),
            uid: plan.run.uid.clone(),
            secret: secret.clone(),
            agents: plan.replicas,
            cores,
            results: directory.clone(),
        });
        let (handle, requests) =
            coordinator.begin(Arc::clone(&plan), spin, EPOCH, store).context("the plan cannot be sent")?;
        let scene = Scene::of(&plan, directory.path());
        let mut display = Display::begin(style, &scene, &notes);
        let snapshots = handle.snapshots();
        let drive = Drive {
            control: &handle,
            plan: Arc::clone(&plan),
            processes: &mut processes,
            display: &mut display,
            results: directory.clone(),
            started: started.clone(),
            snapshots: snapshots.clone(),
        };
        let ended = drive.run(requests, &mut signals).await;
        let last = Arc::clone(&snapshots.borrow());
        let end = match ended {
            Ended::Over => handle.end().await.context("the coordinator ended before its run")?,
            Ended::Forsaken => None,
            Ended::Broken => {
                handle.end().await.context("the coordinator ended before its run")?;
                anyhow::bail!("the coordinator ended before its run");
            }
        };
        coordinator.shutdown().await;
        let times = WallTimes { started, finished: identity::now().0 };
        let finish = Finish { plan, directory, last, times };
        // Merging and writing take a while on a large run, and nothing else is left to do.
        tokio::task::spawn_blocking(move || finish.finish(end, display))
            .await
            .context("the report was not made")
    }
}

/// Epoch of the one coordinator that a run on one machine has.
const EPOCH: u64 = 1;

/// What is left to do when every process has ended.
struct Finish {
    plan: Arc<Plan>,
    directory: ResultsDirectory,
    last: Arc<Snapshot>,
    times: WallTimes,
}

impl Finish {
    /// Makes the report, keeps it, shows it. Returns the exit code.
    fn finish(self, end: Option<RunEnd>, display: Display) -> u8 {
        let Self { plan, directory, last, times } = self;
        let (report, written) = match end {
            Some(end) => {
                let mut report = build(&end, &times, env!("CARGO_PKG_VERSION"));
                wall::place_starts(&mut report, &end.view);
                memory::annotate(&mut report, &plan, &preview::bytes(&plan), memory::total_bytes());
                let written = artefacts::end(&directory, &end, &report);
                (report, written)
            }
            None => {
                let report = forsaken(&plan, &directory, &last, &times);
                let written = report.to_json().map_err(anyhow::Error::from).and_then(|json| {
                    directory.write(directory::RESULTS, json.as_bytes())?;
                    Ok(directory.write_status(&artefacts::status_line(&report))?)
                });
                (report, written)
            }
        };
        let code = report.exit_code;
        let results = format!("{}/", directory.path().display());
        display.end_with(&Picture::of(&plan, &last), &report, &results);
        match written {
            Ok(()) => code,
            Err(error) => {
                output::complain(&unwritable(directory.path(), &error));
                if code == exit::SUCCEEDED { exit::STAGE_FAILED } else { code }
            }
        }
    }
}

/// The report of a run whose agents were all killed on request: what they had handed in.
fn forsaken(plan: &Arc<Plan>, directory: &ResultsDirectory, last: &Snapshot, times: &WallTimes) -> Report {
    let parts = salvage::read_parts(&directory.path().join(directory::PARTS))
        .map(|(parts, _)| parts)
        .unwrap_or_default();
    let mut report = salvage::interim(plan, Some(last.view.clone()), parts, &times.started);
    report.run.finished.clone_from(&times.finished);
    (report.outcome, report.verdict, report.exit_code) = (Outcome::Aborted, Verdict::None, exit::ABORTED);
    report
        .degraded
        .push("killed on request: what agents had not handed in is not in these results".to_owned());
    report
}

/// Logs of the coordinator go into a file; `LOCKSTEP_LOG` says how much. Without the file there is no log.
fn log_to(path: &Path) {
    let Ok(file) = File::create(path) else { return };
    let filter = tracing_subscriber::EnvFilter::try_from_env("LOCKSTEP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Another subscriber is there already only under test.
    let _ = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(filter)
        .with_writer(Mutex::new(file))
        .try_init();
}

fn make_directory(parent: &Path, plan: &Plan, time: &str) -> Result<ResultsDirectory, Box<Problem>> {
    ResultsDirectory::create(parent, &plan.run.name, time, &plan.run.uid)
        .map_err(|error| unwritable(parent, &error.into()))
}

fn unwritable(path: &Path, error: &anyhow::Error) -> Box<Problem> {
    Box::new(
        Problem::new(format!("results cannot be written to {}", path.display()), format!("{error:#}"))
            .likely("the file system is full or read-only, or the directory belongs to another user")
            .next("lockstep run --results DIR, with a directory that can be written to")
            .exit(exit::REFUSED),
    )
}

fn broken(what: &str, error: &anyhow::Error) -> Box<Problem> {
    Box::new(
        Problem::new(what, format!("{error:#}"))
            .next("coordinator.log in the results directory says more; LOCKSTEP_LOG=debug says most"),
    )
}
