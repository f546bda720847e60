//! `docs/status.md`: conditions, the table of outcomes, and every reason with what to do about it, out of the code that
//! decides and says them.

use anyhow::Result;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_api::outcome::{OUTCOMES, VERDICTS, conditions, failure_exit};
use lockstep_api::reasons::Reason;
use lockstep_core::thresholds::{Outcome, Verdict, exit_code};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const INTRODUCTION: &str = include_str!("status.md");

/// The page's text.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub fn render() -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    outcomes(&mut page)?;
    page.push_str("\n## Conditions\n\n| type | meaning |\n|---|---|\n");
    for type_ in ConditionType::ALL {
        writeln!(page, "| `{type_}` | {} |", type_.meaning())?;
    }
    page.push_str(
        "\n## Reasons\n\nOne closed list: the same word is the reason of a condition, of an Event, of an agent in `agentProblems`, and \
         the value of a metric's label. `!` marks those whose Event is a warning, `†` those for which an agent is lost, so that \
         `failurePolicy.rules` may name them.\n\n| reason | meaning | what to do |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let warning = if reason.is_warning() { " !" } else { "" };
        let loss = if reason.is_loss() { " †" } else { "" };
        writeln!(page, "| `{reason}`{warning}{loss} | {} | {} |", reason.meaning(), reason.next())?;
    }
    Ok(page)
}

/// A row per outcome and verdict that can be; those that come to the same share one.
fn outcomes(page: &mut String) -> Result<()> {
    page.push_str(
        "\n## How a run can end\n\n| phase | verdict | Complete | Failed | Finished | Passed | Ready | Stalled | exit code |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in OUTCOMES {
        // A run that failed or was stopped is not judged.
        let judged = matches!(outcome, Outcome::Succeeded | Outcome::Partial);
        let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
        for verdict in VERDICTS.into_iter().filter(|verdict| judged || *verdict == Verdict::None) {
            let row = row(outcome, verdict);
            match rows.iter_mut().find(|(known, _)| *known == row) {
                Some((_, verdicts)) => verdicts.push(verdict.name()),
                None => rows.push((row, vec![verdict.name()])),
            }
        }
        for (row, verdicts) in rows {
            writeln!(page, "| {outcome:?} | {} | {row} |", verdicts.join(", "))?;
        }
    }
    page.push_str("\nExit codes of a run that failed, by the reason of `Failed`:\n\n| exit code | reasons |\n|---|---|\n");
    for code in codes() {
        let with = |began| Reason::ALL.iter().filter(move |reason| failure_exit(**reason, began) == code);
        let always: Vec<&Reason> =
            with(true).filter(|reason| failure_exit(**reason, false) == code).collect();
        let before = with(false).filter(|reason| failure_exit(**reason, true) != code);
        let mut names: Vec<String> = if code == 1 {
            vec!["any other".to_owned()]
        } else {
            always.iter().map(|reason| format!("`{reason}`")).collect()
        };
        names.extend(before.map(|reason| format!("`{reason}` before the first stage started")));
        writeln!(page, "| {code} | {} |", names.join(", "))?;
    }
    Ok(())
}

fn codes() -> BTreeSet<u8> {
    Reason::ALL.iter().map(|reason| failure_exit(*reason, true)).collect()
}

fn row(outcome: Outcome, verdict: Verdict) -> String {
    // Any reason: it stands in the cell as the failure's own.
    let last = conditions(outcome, verdict, Reason::StageFailed);
    let truth = |is: bool| if is { Truth::True.name() } else { Truth::False.name() };
    let failed = match (last.complete, outcome) {
        (true, _) => "False".to_owned(),
        (false, Outcome::Failed) => "True, why it failed".to_owned(),
        (false, _) => format!("True `{}`", last.reason),
    };
    let passed = match last.passed {
        Truth::Unknown if outcome != Outcome::Failed => format!("Unknown `{}`", last.passed_reason),
        passed => passed.name().to_owned(),
    };
    let complete = truth(last.complete);
    let stalled = if last.complete { "not there" } else { "True" };
    let code = match outcome {
        Outcome::Failed => codes().iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
        _ => exit_code(outcome, verdict, 1).to_string(),
    };
    format!("{complete} | {failed} | True | {passed} | {complete} | {stalled} | {code}")
}
