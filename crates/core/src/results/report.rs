//! `results.json`: everything about a run, in one versioned document.
//!
//! Names are camelCase, numbers are integers with the unit in the name, and no percentile stands without its
//! count. The two ledgers say what the data set holds and which operations are accounted for; neither contains a
//! silent gap. [`Report::build`] is a pure merge: the same inputs give the same document in whatever order parts
//! came. Deliberately no rendering: tables, TSV and HTML are made from this by others.

use super::ledger::{DatasetLedger, OperationsLedgerRow, operations_ledger};
use super::merge::{inherit_starts, merge_stage};
use super::part::StagePart;
use super::series::Series;
use super::stage::{StageFacts, StageReport};
use crate::plan::Threshold;
use crate::problem::Problem;
use crate::thresholds::{Outcome, ThresholdResult, Verdict, evaluate_all, exit_code, verdict};
use serde::{Deserialize, Serialize};

/// Version of the document.
pub const SCHEMA_VERSION: u32 = 1;

/// The whole document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Which run, of what, when.
    pub run: RunFacts,
    /// How it ended.
    pub outcome: Outcome,
    /// What the thresholds say.
    pub verdict: Verdict,
    /// The exit code of `lockstep run`.
    pub exit_code: u8,
    /// Why the results are in doubt; empty when they are not.
    pub degraded: Vec<String>,
    /// Each threshold.
    pub thresholds: Vec<ThresholdResult>,
    /// Each stage that was begun, in order.
    pub stages: Vec<StageReport>,
    /// What the data set holds; `None` when nothing was prepared.
    pub dataset: Option<DatasetLedger>,
    /// Which operations are accounted for.
    pub operations: Vec<OperationsLedgerRow>,
    /// What happened.
    pub timeline: Vec<TimelineEvent>,
    /// What went wrong with the run as a whole; stages have their own.
    pub problems: Vec<Problem>,
}

/// Which run, of what, when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFacts {
    /// Name of the run.
    pub name: String,
    /// Its unique id.
    pub uid: String,
    /// Its seed.
    pub seed: u64,
    /// Attempt of the whole run.
    pub attempt: u32,
    /// Version of Lockstep.
    pub version: String,
    /// Target, as the manifest gives it.
    pub target_uri: String,
    /// Agents asked for.
    pub replicas: u32,
    /// Wall time of the start.
    pub started: String,
    /// Wall time of the end.
    pub finished: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEvent {
    /// When, milliseconds since the run's start.
    pub at_ms: u64,
    /// Since when, where it ends something that lasted (a pause, a disconnection, a stall): the interval's other end.
    #[serde(default)]
    pub since_ms: Option<u64>,
    /// To which agent; `None` is the run.
    pub agent: Option<u32>,
    /// What.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// One stage's inputs.
#[derive(Clone, Copy, Debug)]
pub struct StageInput<'a> {
    /// What the coordinator knows.
    pub facts: &'a StageFacts,
    /// What the agents handed in, each (agent, attempt) once; parts of other stages do not count.
    pub parts: &'a [StagePart],
    /// Per-second response times from intervals, if they were gathered.
    pub live: Option<&'a Series>,
}

impl<'a> StageInput<'a> {
    fn own_parts(&self) -> impl Iterator<Item = &'a StagePart> + use<'a> {
        let stage = self.facts.stage;
        self.parts.iter().filter(move |part| part.stage == stage)
    }
}

/// Everything that a report is made of.
#[derive(Clone, Debug)]
pub struct ReportInputs<'a> {
    /// Which run.
    pub run: RunFacts,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code that the failure asks for; used when the outcome is `Failed`.
    pub failure_exit: u8,
    /// Whether an objection that the plan counts makes the verdict inconclusive.
    pub in_doubt: bool,
    /// Why the results are in doubt.
    pub degraded: Vec<String>,
    /// The plan's thresholds.
    pub thresholds: &'a [Threshold],
    /// Objects that the data set is to have; `None` when nothing was to be prepared.
    pub objects_planned: Option<u64>,
    /// The stages in order.
    pub stages: &'a [StageInput<'a>],
    /// What happened, in any order.
    pub timeline: Vec<TimelineEvent>,
    /// Problems of the run as a whole.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Merges everything into the document.
    #[must_use]
    pub fn build(inputs: ReportInputs<'_>) -> Self {
        let ReportInputs {
            run,
            outcome,
            failure_exit,
            in_doubt,
            degraded,
            thresholds,
            objects_planned,
            stages,
            mut timeline,
            problems,
        } = inputs;
        let mut reports: Vec<_> =
            stages.iter().map(|stage| merge_stage(stage.facts, stage.parts, stage.live)).collect();
        inherit_starts(&mut reports);
        let thresholds = evaluate_all(thresholds, &reports);
        let verdict = verdict(outcome, &thresholds, in_doubt);
        timeline.sort_by(|a, b| (a.at_ms, a.agent, &a.what).cmp(&(b.at_ms, b.agent, &b.what)));
        let prepares = stages.iter().filter(|stage| stage.facts.kind == "prepare");
        let prepared = prepares.flat_map(StageInput::own_parts);
        Self {
            schema_version: SCHEMA_VERSION,
            run,
            outcome,
            verdict,
            exit_code: exit_code(outcome, verdict, failure_exit),
            degraded,
            thresholds,
            dataset: objects_planned.map(|planned| DatasetLedger::of(planned, prepared)),
            operations: operations_ledger(stages.iter().flat_map(StageInput::own_parts)),
            stages: reports,
            timeline,
            problems,
        }
    }

    /// The document as indented JSON with a final line end.
    ///
    /// # Errors
    /// None that these types can cause; kept for the caller to report rather than to hide.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|json| json + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{ErrorClass, Op};
    use crate::results::cell::Sample;
    use crate::results::part::PartState;

    const SECOND_NS: u64 = 1_000_000_000;

    /// A part of a 10 s window with `gets` gets of 1 ms, of which the last ended late, and one error.
    fn part(stage: u32, agent: u32, attempt: u32, gets: u64) -> StagePart {
        let mut part = StagePart::new(stage, agent, attempt);
        part.window_ns = 10 * SECOND_NS;
        part.first_operation_coordinator_ns = Some(SECOND_NS + u64::from(agent) * 1500);
        part.other_requests = 2;
        for at in 0..gets {
            let sample = Sample {
                op: Op::Get,
                size_bytes: 1000,
                intended_ns: 0,
                start_ns: 0,
                first_byte_ns: Some(1000),
                end_ns: 1_000_000,
            };
            part.totals.record_ok(&sample, false, at + 1 == gets);
            if at == 0 {
                part.totals.record_error(&sample, ErrorClass::Timeout);
            }
        }
        part.series.add(agent, &part.totals, false);
        part.environment.insert("kernel".to_owned(), if agent == 0 { "6.1" } else { "6.8" }.to_owned());
        part
    }

    fn build(prepare: &[StagePart], mixed: &[StagePart], timeline: Vec<TimelineEvent>) -> Report {
        let facts = |stage, name: &str, kind: &str, window_ns| StageFacts {
            stage,
            name: name.to_owned(),
            kind: kind.to_owned(),
            agents_planned: 2,
            window_ns,
            skew_ns: Some(2_001),
            ..StageFacts::default()
        };
        let first = facts(0, "prepare", "prepare", None);
        let second = facts(1, "mixed", "execute", Some(10 * SECOND_NS));
        let stages = [
            StageInput { facts: &first, parts: prepare, live: None },
            StageInput { facts: &second, parts: mixed, live: None },
        ];
        Report::build(ReportInputs {
            run: RunFacts::default(),
            outcome: Outcome::Partial,
            failure_exit: 1,
            in_doubt: false,
            degraded: vec!["agent 1 was lost".to_owned()],
            thresholds: &[],
            objects_planned: Some(100),
            stages: &stages,
            timeline,
            problems: Vec::new(),
        })
    }

    fn prepared() -> Vec<StagePart> {
        let mut parts = vec![part(0, 0, 1, 0), part(0, 1, 1, 0), part(0, 1, 2, 0)];
        for (part, (from, to)) in parts.iter_mut().zip([(0, 40), (40, 70), (60, 100)]) {
            part.ranges_done.push((from, to));
            part.created = to - from;
        }
        parts[2].totals.repeated_operations = 10;
        parts
    }

    fn measured() -> Vec<StagePart> {
        let mut lost = part(1, 1, 2, 5);
        lost.state = PartState::Lost {
            reason: "OOMKilled".to_owned(),
            unaccounted_from_ns: 4 * SECOND_NS,
            unaccounted_to_ns: 5 * SECOND_NS,
        };
        lost.window_ns = 4 * SECOND_NS;
        vec![part(1, 0, 1, 11), lost, part(1, 2, 1, 11)]
    }

    #[test]
    fn rates_are_of_the_window_and_counts_of_everything_sent() {
        let report = build(&prepared(), &measured(), Vec::new());
        let stage = &report.stages[1];
        assert_eq!((stage.window_ns, stage.agents_complete), (10 * SECOND_NS, 2));
        assert_eq!((stage.total.count, stage.total.drained, stage.total.error_count), (27, 3, 3));
        assert_eq!((stage.total.milli_operations_per_second, stage.total.bytes_per_second), (2400, 2400));
        assert_eq!((stage.requests, stage.other_requests), (30, 6));
        assert_eq!(
            stage.total.response.map(|response| (response.count, response.p99_ns)),
            Some((27, 1_000_000))
        );
        assert_eq!(stage.total.first_byte.map(|first| first.mean_ns), Some(1000));
        assert_eq!((stage.start.skew_micros, stage.start.first_operation_skew_micros), (Some(3), Some(3)));
        assert_eq!(stage.environment.iter().map(|row| row.agents).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(stage.series.iter().map(|row| row.count).collect::<Vec<_>>(), [11, 5, 11]);
    }

    #[test]
    fn a_stage_that_flowed_out_of_a_warm_up_shows_the_start_of_the_warm_up() {
        let stage = |stage, name: &str, discard| {
            let facts = StageFacts {
                stage,
                name: name.to_owned(),
                discard,
                planned_start: Some(format!("start of {name}")),
                // Only agents that began at a common start say when they did.
                skew_ns: (stage == 0).then_some(1_500),
                clock_error_ns: Some(if stage == 0 { 40_000 } else { 0 }),
                ..StageFacts::default()
            };
            merge_stage(&facts, &[0, 1].map(|agent| part(stage, agent, 0, 3)), None)
        };
        let mut stages = vec![stage(0, "warm", true), stage(1, "warmer", true), stage(2, "mixed", false)];
        stages.push(stage(3, "next", false));
        inherit_starts(&mut stages);
        let start = |stage: usize| {
            let start = &stages[stage].start;
            let names = (start.inherited_from.as_deref(), start.planned.as_deref());
            (start.skew_micros, start.clock_error_micros, names)
        };
        assert_eq!(start(0), (Some(2), Some(40), (None, Some("start of warm"))));
        assert_eq!(start(1), (Some(2), Some(40), (Some("warm"), Some("start of warmer"))));
        assert_eq!(start(2), (Some(2), Some(40), (Some("warm"), Some("start of mixed"))));
        assert_eq!(start(3), (None, Some(0), (None, Some("start of next"))), "a barrier lies between");
    }

    #[test]
    fn neither_ledger_has_a_silent_gap() {
        let report = build(&prepared(), &measured(), Vec::new());
        let want = DatasetLedger {
            planned: 100,
            done: 100,
            done_ranges: vec![(0, 100)],
            created: 110,
            existed: 0,
            repeated: 10,
        };
        assert_eq!(report.dataset, Some(want));
        let rows: Vec<_> = report
            .operations
            .iter()
            .map(|row| (row.agent, row.attempt, row.operations_reported, row.unaccounted.len()))
            .collect();
        assert_eq!(rows, [(0, 1, 12, 0), (1, 1, 0, 0), (1, 2, 6, 1), (2, 1, 12, 0)]);
        assert_eq!(report.exit_code, 2);
    }

    #[test]
    fn the_document_does_not_depend_on_the_order_in_which_parts_came() {
        let event = |at_ms, what: &str| TimelineEvent {
            since_ms: None,
            at_ms,
            agent: None,
            what: what.to_owned(),
            reason: String::new(),
        };
        let (mut prepare, mut mixed) = (prepared(), measured());
        let forward = build(&prepare, &mixed, vec![event(1, "a"), event(2, "b")]);
        prepare.reverse();
        mixed.reverse();
        assert_eq!(build(&prepare, &mixed, vec![event(2, "b"), event(1, "a")]), forward);
        let json = forward.to_json().expect("serialises");
        assert_eq!(serde_json::from_str::<Report>(&json).expect("reads"), forward);
    }

    #[test]
    fn names_are_camel_case_and_numbers_are_integers() {
        let json = build(&prepared(), &measured(), Vec::new()).to_json().expect("serialises");
        fn walk(value: &serde_json::Value) {
            match value {
                serde_json::Value::Number(number) => assert!(!number.is_f64(), "{number}"),
                serde_json::Value::Array(list) => list.iter().for_each(walk),
                serde_json::Value::Object(map) => {
                    for (name, value) in map {
                        assert!(!name.contains('_'), "{name}");
                        walk(value);
                    }
                }
                _ => {}
            }
        }
        walk(&serde_json::from_str(&json).expect("reads"));
        assert!(json.contains("\"schemaVersion\": 1"));
    }

    #[test]
    fn percentiles_of_a_second_are_shown_only_where_all_of_it_is_known() {
        let parts = measured();
        let mut live = Series::new();
        live.add(0, &parts[0].totals, true);
        live.add(2, &parts[1].totals, true);
        let facts = StageFacts { stage: 1, ..StageFacts::default() };
        let stage = merge_stage(&facts, &parts, Some(&live));
        assert_eq!(
            stage.series.iter().map(|row| row.p99_ns).collect::<Vec<_>>(),
            [Some(1_000_000), None, None],
            "second 1 is missing, second 2 is of another count"
        );
    }
}
