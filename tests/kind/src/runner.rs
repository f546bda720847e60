//! Tells the stories: one first, most side by side, those that touch nodes or measure one after another, and at
//! the end those that failed once more, by themselves; then looks that nothing is left. Then the table.

use crate::installation::{self, HOME};
use crate::stories::{FIRST, STORIES};
use crate::suite::{Common, Found, OURS, Suite};
use crate::{Request, store};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many stories are told at once unless somebody says otherwise: they mostly wait.
const JOBS: usize = 8;
/// How long what is left of stories may take to go: pods have half a minute to end.
const GONE_LIMIT: Duration = Duration::from_secs(120);

/// When a story is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Side by side with others.
    Together,
    /// By itself: it touches nodes, or measures.
    Alone,
    /// By itself, and only when there is time: minutes are its point.
    Slow,
}

/// A story.
pub struct Story {
    /// Its name.
    pub name: &'static str,
    /// When it is told.
    pub when: When,
    /// What it shows, in a sentence.
    pub shows: &'static str,
    /// Tells it; panics when it is not so.
    pub tell: Tell,
}

/// The body of a story.
pub type Tell = for<'a> fn(&'a Suite) -> Pin<Box<dyn Future<Output = Found> + 'a>>;

/// A line of the table.
struct Line {
    name: &'static str,
    found: Result<Found, String>,
    took: Duration,
    /// What was wrong when it was told the first time.
    first: Option<String>,
}

/// Prints what there is.
pub fn list() {
    for story in std::iter::once(&FIRST).chain(STORIES) {
        println!("{:<28} {:<9} {}", story.name, format!("{:?}", story.when).to_lowercase(), story.shows);
    }
}

/// Fails where no story has such a name.
///
/// # Errors
/// The one that is unknown.
pub fn check(names: &[String]) -> Result<()> {
    for name in names {
        let mut known = std::iter::once(&FIRST).chain(STORIES);
        let is_known = known.any(|story| story.name.contains(name));
        ensure!(is_known, "no story is called `{name}`: lockstep-e2e --list says what there is");
    }
    Ok(())
}

/// Tells what is wanted; whether all of it went well.
///
/// # Errors
/// The cluster cannot be used at all.
pub fn run(request: &Request, kubeconfig: PathBuf) -> Result<bool> {
    let directory = tempfile::tempdir().context("a directory")?;
    let common = Common::of(kubeconfig, directory.path());
    let began = Instant::now();
    let wanted =
        |name: &str| request.names.is_empty() || request.names.iter().any(|part| name.contains(part));
    let mut lines = Vec::new();
    if wanted(FIRST.name) {
        lines.push(line(&common, FIRST.name, FIRST.tell));
    }
    let installed = line(&common, "installation", |suite| Box::pin(installed(suite)));
    let is_installed = installed.found.is_ok();
    lines.push(installed);
    // Without an installation nothing else is worth a look.
    if is_installed {
        lines.push(line(&common, "storage-in-the-cluster", |suite| Box::pin(store::deploy(suite))));
        let of = |when: When| STORIES.iter().filter(move |story| story.when == when && wanted(story.name));
        lines.extend(together(&common, of(When::Together).collect(), request.jobs.unwrap_or(JOBS)));
        lines.extend(of(When::Alone).map(|story| line(&common, story.name, story.tell)));
        for story in of(When::Slow) {
            lines.push(if request.slow {
                line(&common, story.name, story.tell)
            } else {
                let why = "takes minutes: `lockstep-e2e --slow`, or LOCKSTEP_E2E_SLOW=1".to_owned();
                Line { name: story.name, found: Ok(Found::NotShown(why)), took: Duration::ZERO, first: None }
            });
        }
        lines.iter_mut().for_each(|line| again(&common, line));
        lines.push(line(&common, "nothing-left", |suite| Box::pin(nothing_left(suite))));
    }
    Ok(print(&lines, began.elapsed()))
}

fn together(common: &Common, stories: VecDeque<&'static Story>, jobs: usize) -> Vec<Line> {
    let (left, done) = (Mutex::new(stories), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let story = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(story) = story else { break };
                    let line = line(common, story.name, story.tell);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Tells one story in a thread of its own, whose name stands before what it panics with.
fn line(common: &Common, name: &'static str, tell: Tell) -> Line {
    let began = Instant::now();
    eprintln!("  {name} begins");
    let found = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn_scoped(scope, || story(common, name, tell)).expect("a thread");
        thread.join().unwrap_or_else(|panic| Err(said(&*panic)))
    });
    let took = began.elapsed();
    let how = match &found {
        Ok(Found::Shown(figures)) => format!("is shown after {:.0} s: {figures}", took.as_secs_f64()),
        Ok(Found::NotShown(why)) => format!("is not shown: {why}"),
        Err(_) => format!("FAILED after {:.0} s", took.as_secs_f64()),
    };
    eprintln!("  {name} {how}");
    Line { name, found, took, first: None }
}

/// Tells a story that failed once more, by itself: nodes that share a few cores with seven other stories may have been late. The table
/// says so, and what was wrong.
fn again(common: &Common, failed: &mut Line) {
    let known = std::iter::once(&FIRST).chain(STORIES).find(|story| story.name == failed.name);
    if let (Err(error), Some(story)) = (&failed.found, known) {
        let first = Some(error.clone());
        *failed = Line { first, ..line(common, story.name, story.tell) };
    }
}

fn story(common: &Common, name: &'static str, tell: Tell) -> Result<Found, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let suite = runtime.block_on(Suite::begin(name, common)).map_err(|error| format!("{error:#}"))?;
    let found = catch_unwind(AssertUnwindSafe(|| runtime.block_on(tell(&suite))));
    let found = found.map_err(|panic| said(&*panic));
    if found.is_err() {
        eprintln!("{name}:\n{}", runtime.block_on(suite.said(HOME)));
    }
    runtime.block_on(suite.leave());
    found
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// For all stories that follow.
async fn installed(suite: &Suite) -> Found {
    let ended = installation::install(suite).await;
    ended.expect_code(0);
    Found::Shown(format!("helm upgrade --install --wait in {:.0} s", ended.took.as_secs_f64()))
}

/// Of all stories: namespaces, volumes, and pods that nobody owns any more.
async fn nothing_left(suite: &Suite) -> Found {
    let namespaces: Api<Namespace> = Api::all(suite.client.clone());
    let began = Instant::now();
    loop {
        let ours = namespaces.list(&ListParams::default().labels(OURS)).await.expect("namespaces");
        if ours.items.is_empty() {
            break;
        }
        let names: Vec<_> = ours.items.into_iter().filter_map(|one| one.metadata.name).collect();
        assert!(began.elapsed() < GONE_LIMIT, "{names:?} are not gone after {GONE_LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let left = suite.kubectl(&["get", "brun,pods", "-A", "-l", "lockstep.dev/run-uid", "-o", "name"]).await;
    assert_eq!(left.trim(), "", "agents are left");
    let volumes = suite.kubectl(&["get", "pv", "-o", "jsonpath={.items[*].spec.claimRef.namespace}"]).await;
    assert!(!volumes.contains("e2e-"), "volumes are left: {volumes}");
    Found::Shown(format!(
        "namespaces, agents and volumes are gone {:.0} s later",
        began.elapsed().as_secs_f64()
    ))
}

fn beginning(error: &str) -> String {
    error.lines().next().unwrap_or_default().chars().take(300).collect()
}

/// Prints the table; whether all of it went well.
fn print(lines: &[Line], took: Duration) -> bool {
    println!();
    for Line { name, found, took, first } in lines {
        let took = took.as_secs();
        match found {
            Ok(Found::Shown(figures)) => println!("shown      {name:<28} {took:>4} s  {figures}"),
            Ok(Found::NotShown(why)) => println!("NOT SHOWN  {name:<28} {took:>4} s  {why}"),
            Err(error) => {
                println!("FAILED     {name:<28} {took:>4} s  {}", beginning(error));
            }
        }
        if let Some(error) = first {
            println!("           told a second time; at first: {}", beginning(error));
        }
    }
    let count = |is: fn(&Result<Found, String>) -> bool| lines.iter().filter(|line| is(&line.found)).count();
    let failed = count(Result::is_err);
    println!(
        "\n{} shown, {} not shown, {failed} failed, in {} s",
        count(|found| matches!(found, Ok(Found::Shown(_)))),
        count(|found| matches!(found, Ok(Found::NotShown(_)))),
        took.as_secs()
    );
    failed == 0
}
