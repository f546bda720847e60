//! `lockstep watch`: a run of a cluster as it goes on, as `lockstep run` shows one of this machine, until it is over.

use super::Outcome;
use crate::args::{Style, WatchRequest};
use crate::cluster::access::{Cluster, connect};
use crate::cluster::follow::{Sight, follow};
use crate::cluster::object::Run;
use crate::cluster::seen::{self, Moment};
use crate::cluster::{block_on, changes, describe, results};
use crate::display::picture::Picture;
use crate::display::{Display, Ending, REFRESH};
use crate::local::signals::Signals;
use crate::output;
use lockstep_api::outcome::exit_code_of;
use lockstep_core::format::long_span;
use lockstep_core::problem::{Problem, exit};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

/// The exit code of a command that a person ended with Ctrl-C, by convention of shells.
const INTERRUPTED: u8 = 130;
/// Sights that may wait to be shown.
const SIGHTS: usize = 16;

/// Shows the run until it is over. The exit code is the one that `lockstep run` would have ended with.
pub fn watch(request: &WatchRequest) -> Outcome {
    block_on(async {
        let cluster = connect(&request.cluster).await?;
        let first = cluster.run(&request.name).await?;
        until_over(&cluster, first, request.style).await
    })
}

/// Shows a run from what is known of it now until it is over.
pub(super) async fn until_over(cluster: &Cluster, first: Run, style: Style) -> Outcome {
    let mut signals = Signals::listen()
        .map_err(|error| Box::new(Problem::new("signals cannot be listened to", error.to_string())))?;
    let (sights, seen) = mpsc::channel(SIGHTS);
    let following = tokio::spawn(follow(cluster.clone(), first.name(), sights));
    let ended = Watch::begin(style, first).until_over(seen, &mut signals).await;
    following.abort();
    match ended {
        Ended::Over(watch) => watch.end(cluster).await,
        Ended::Early(outcome) => outcome,
    }
}

/// What is shown, and what is known of it.
struct Watch {
    display: Display,
    run: Run,
    /// When the status came.
    came: Instant,
    /// An instant, and how long the run had lasted then.
    began: (Instant, u64),
    /// Since when the API server is away, and why.
    away: Option<(Instant, String)>,
    /// Why results are doubtful, each as it was first said.
    degraded: Vec<String>,
}

/// How watching ended.
enum Ended {
    Over(Box<Watch>),
    Early(Outcome),
}

impl Watch {
    fn begin(style: Style, run: Run) -> Self {
        let display = Display::begin(style, &run.scene(), &[]);
        let now = Instant::now();
        let mut watch =
            Self { display, began: (now, lasted_ns(&run)), run, came: now, away: None, degraded: Vec::new() };
        watch.tell(None);
        watch
    }

    async fn until_over(mut self, mut seen: mpsc::Receiver<Sight>, signals: &mut Signals) -> Ended {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.run.is_finished() {
            tokio::select! {
                sight = seen.recv() => match sight {
                    Some(Sight::Run(object)) => {
                        let run = Run::of(*object);
                        if run.uid() != self.run.uid() {
                            return self.early(gone(&run, "another run has its name now"));
                        }
                        self.came(run);
                    }
                    Some(Sight::Away(why)) => self.is_away(why),
                    Some(Sight::Refused(problem)) => return self.early(*problem),
                    Some(Sight::Gone) | None => {
                        let problem = gone(&self.run, "it is no longer there");
                        return self.early(problem);
                    }
                },
                _ = ticks.tick() => {
                    let picture = self.picture();
                    self.display.refresh(&picture);
                }
                () = signals.next() => {
                    let (name, namespace) = (self.run.name(), self.run.namespace());
                    self.display.announce(&format!(
                        "no longer watching; the run goes on (lockstep stop {name} -n {namespace} ends it)"
                    ));
                    return Ended::Early(Ok(INTERRUPTED));
                }
            }
        }
        Ended::Over(Box::new(self))
    }

    fn early(mut self, problem: Problem) -> Ended {
        let picture = self.picture();
        self.display.refresh(&picture);
        Ended::Early(Err(Box::new(problem)))
    }

    /// A newer status.
    fn came(&mut self, run: Run) {
        if let Some((since, _)) = self.away.take() {
            let gap = long_span(since.elapsed().as_secs());
            self.display.announce(&format!("the API server answers again after {gap}"));
        }
        let before = std::mem::replace(&mut self.run, run);
        self.came = Instant::now();
        if before.status.attempt != self.run.status.attempt || before.status.start_time.is_none() {
            self.began = (self.came, lasted_ns(&self.run));
        }
        self.tell(Some(&before));
    }

    /// Shows what this status adds to the one before.
    fn tell(&mut self, before: Option<&Run>) {
        let picture = self.picture();
        for message in &picture.degraded {
            if !self.degraded.contains(message) {
                self.degraded.push(message.clone());
            }
        }
        let picture = self.picture();
        for event in changes::between(before, &self.run, picture.elapsed_ns) {
            self.display.told(&event, &picture);
        }
        self.display.refresh(&picture);
    }

    fn is_away(&mut self, why: String) {
        if self.away.is_none() {
            self.display.announce(&format!("the API server does not answer, and is asked again: {why}"));
            self.away = Some((Instant::now(), why));
        }
    }

    /// The run at this instant.
    fn picture(&self) -> Picture {
        let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let moment =
            Moment { elapsed_ns: self.began.1 + ns(self.began.0.elapsed()), age_ns: ns(self.came.elapsed()) };
        let mut picture = seen::picture(&self.run, moment);
        if let Some((since, why)) = &self.away {
            let away = long_span(since.elapsed().as_secs());
            let old = long_span(self.came.elapsed().as_secs());
            picture.waits_for = Some(format!(
                "the API server has not answered for {away}; what stands here is {old} old: {why}"
            ));
        }
        // In the order in which they became known.
        let known = self.degraded.iter().cloned();
        picture.degraded = known
            .chain(picture.degraded.into_iter().filter(|message| !self.degraded.contains(message)))
            .collect();
        picture
    }

    /// The run is over: its report where there is one, else what status says.
    async fn end(self, cluster: &Cluster) -> Outcome {
        let picture = self.picture();
        let code = exit_code_of(&self.run.status).unwrap_or(exit::STAGE_FAILED);
        let named = self.run.status.results.as_ref().is_some_and(|results| results.config_map.is_some());
        let stored = if named { Some(results::fetch(cluster, &self.run).await) } else { None };
        match stored {
            Some(Ok(stored)) => self.display.end_with(&picture, &stored.report, &stored.place),
            other => {
                let problems: Vec<Problem> = describe::problem(&self.run).into_iter().collect();
                let ending = Ending {
                    outcome: self.run.phase(),
                    verdict: &self.run.status.verdict,
                    exit_code: code,
                    degraded: &picture.degraded,
                    thresholds: &[],
                    problems: &problems,
                    results: "",
                };
                let tables = describe::details(&self.run, jiff::Timestamp::now());
                self.display.end(&picture, &ending, &tables);
                if let Some(Err(problem)) = other {
                    output::complain(&problem);
                }
            }
        }
        Ok(code)
    }
}

/// How long a run had lasted when its status was written.
fn lasted_ns(run: &Run) -> u64 {
    let status = &run.status;
    let update = status.progress.as_ref().and_then(|progress| progress.last_update_time.as_ref());
    let until = status.completion_time.as_ref().or(update);
    status.start_time.as_ref().zip(until).map_or(0, |(start, until)| seen::between_ns(start.0, until.0))
}

fn gone(run: &Run, cause: &str) -> Problem {
    let place = format!("{}/{}", run.namespace(), run.name());
    Problem::new(format!("run {place} was deleted before it was over"), cause)
        .likely("somebody deleted it, or its ttlAfterFinished passed while nobody looked")
        .next(format!("lockstep get -n {}", run.namespace()))
        .exit(exit::ABORTED)
}
