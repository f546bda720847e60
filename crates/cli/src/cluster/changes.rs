//! What happened between two statuses, in lines: who is in trouble and why, what a person asked for, which attempt.
//!
//! A status tells how things are, so what came and went between two of them is not here; the run's Events have it
//! (`kubectl describe`). Deliberately nothing about stages: their lines say that themselves.

use super::object::Run;
use crate::display::story::Event;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_api::status::AgentProblem;

/// What the second status adds to the first; without a first one, what is wrong already. `elapsed_ns`: since the run began.
#[must_use]
pub fn between(before: Option<&Run>, after: &Run, elapsed_ns: u64) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    let mut tell = |what: &'static str, agent: Option<(u32, u32)>, reason: String, line: String| {
        events.push(Event { elapsed_ns, agent, what, reason, notable: true, line: Some(line) });
    };
    let attempt = |run: &Run| run.status.attempt;
    if before.is_some_and(|before| attempt(before) > 0 && attempt(after) > attempt(before)) {
        let number = attempt(after);
        tell("Resumed", None, String::new(), format!("attempt {number} of the run begins"));
    }
    if let Some(mode) = after.stop().filter(|mode| before.and_then(Run::stop) != Some(mode)) {
        let reason = after.spec()["stop"]["reason"].as_str().unwrap_or_default().to_owned();
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let how = if mode == "Immediate" { "at once, without cleanup" } else { "I/O ends, results are kept" };
        tell("Aborting", None, reason, format!("somebody stops the run ({how}){why}"));
    }
    let held = |run: &Run| run.truth(ConditionType::Suspended) == Some(Truth::True);
    if held(after) && !before.is_some_and(held) {
        tell("Suspended", None, String::new(), "the run is held: spec.suspend".to_owned());
    }
    let epoch = |run: &Run| run.status.epoch;
    if before.is_some_and(|before| epoch(before) > 0 && epoch(after) > epoch(before)) {
        tell(
            "CoordinatorChanged",
            None,
            String::new(),
            "another replica of the operator goes on with the run".to_owned(),
        );
    }
    // Before it begins, a wait is all that happens.
    let waits = |run: &Run| {
        let waits = matches!(run.phase(), "Waiting" | "Scheduling");
        waits.then(|| run.status.message.clone())
    };
    if let Some(message) = waits(after).filter(|message| before.and_then(waits).as_ref() != Some(message)) {
        tell("Waiting", None, message.clone(), message);
    }
    let known = before.map_or(&[][..], |before| &before.status.agent_problems);
    for problem in &after.status.agent_problems {
        let same = |other: &AgentProblem| {
            (other.index, other.attempt, &other.reason) == (problem.index, problem.attempt, &problem.reason)
        };
        if !known.iter().any(same) {
            tell(
                "AgentProblem",
                agent(problem),
                format!("{}: {}", problem.reason, problem.message),
                trouble(problem),
            );
        }
    }
    for problem in known {
        let still = after.status.agent_problems.iter().any(|other| other.index == problem.index);
        if !still && !after.is_finished() {
            let line = format!("agent {} is no longer in trouble ({})", problem.index, problem.reason);
            tell("AgentReconnected", agent(problem), problem.reason.clone(), line);
        }
    }
    events
}

fn agent(problem: &AgentProblem) -> Option<(u32, u32)> {
    Some((u32::try_from(problem.index).ok()?, u32::try_from(problem.attempt).ok()?))
}

/// `agent 6 (attempt 2) OOMKilled: ended after 3h12m · pod tree-64m-6-1 on node-3`.
#[must_use]
pub fn trouble(problem: &AgentProblem) -> String {
    let attempt = match problem.attempt {
        0 => String::new(),
        attempt => format!(" (attempt {})", attempt + 1),
    };
    let node = if problem.node.is_empty() { String::new() } else { format!(" on {}", problem.node) };
    let message = problem.message.lines().next().unwrap_or_default();
    format!("agent {}{attempt} {}: {message} · pod {}{node}", problem.index, problem.reason, problem.pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::tests::run;
    use serde_json::{Value, json};

    fn lines(before: Option<&Run>, after: &Run) -> Vec<String> {
        between(before, after, 0).into_iter().filter_map(|event| event.line).collect()
    }

    fn status(problems: &Value) -> Value {
        json!({"phase": "Running", "attempt": 1, "epoch": 1, "agentProblems": problems})
    }

    #[test]
    fn each_change_is_told_once() {
        let lost = json!([{"index": 6, "attempt": 1, "pod": "n-6-1", "node": "node-3", "reason": "OOMKilled",
                           "message": "ended after 3h12m"}]);
        let well = run(json!({}), status(&json!([])));
        let ill = run(json!({}), status(&lost));
        let line = "agent 6 (attempt 2) OOMKilled: ended after 3h12m · pod n-6-1 on node-3";
        assert_eq!(lines(None, &well), [""; 0]);
        assert_eq!(
            (lines(Some(&well), &ill), lines(None, &ill)),
            (vec![line.to_owned()], vec![line.to_owned()])
        );
        assert_eq!(lines(Some(&ill), &ill), [""; 0]);
        assert_eq!(lines(Some(&ill), &well), ["agent 6 is no longer in trouble (OOMKilled)"]);
        let event = &between(Some(&well), &ill, 7)[0];
        assert_eq!((event.agent, event.elapsed_ns, event.what), (Some((6, 1)), 7, "AgentProblem"));
    }

    #[test]
    fn what_people_and_operators_do_is_told() {
        let before = run(json!({}), status(&json!([])));
        let mut later = status(&json!([]));
        (later["attempt"], later["epoch"]) = (json!(2), json!(2));
        let after = run(json!({"stop": {"mode": "Graceful", "reason": "lunch"}}), later);
        assert_eq!(
            lines(Some(&before), &after),
            [
                "attempt 2 of the run begins",
                "somebody stops the run (I/O ends, results are kept): lunch",
                "another replica of the operator goes on with the run",
            ]
        );
        let waiting = run(json!({}), json!({"phase": "Waiting", "message": "waits for run perf/x"}));
        assert_eq!(lines(None, &waiting), ["waits for run perf/x"]);
    }
}
