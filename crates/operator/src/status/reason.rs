//! The one reason of a run that failed, out of the problem that ended it.

use lockstep_api::reasons::Reason;
use lockstep_core::op::ErrorClass;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::run::agent::{AgentState, LossReason};
use lockstep_core::run::view::RunView;

/// Why an agent was lost, in the closed list; of one that could not start, what kept it.
#[must_use]
pub fn of_loss(loss: &LossReason) -> Reason {
    let what = match loss {
        LossReason::CannotStart(why) => why.split([':', ' ']).next().unwrap_or_default(),
        loss => loss.name(),
    };
    Reason::from_name(what).or_else(|| Reason::from_name(loss.name())).unwrap_or(Reason::Ended)
}

/// Why a run failed, in the closed list. Storage speaks first, then the exit code that the problem asks for.
#[must_use]
pub fn of(problem: Option<&Problem>, view: &RunView) -> Reason {
    let Some(problem) = problem else { return Reason::StageFailed };
    let unreachable = matches!(
        problem.class,
        Some(ErrorClass::Connect | ErrorClass::Timeout | ErrorClass::Reset | ErrorClass::Protocol)
    );
    match (problem.exit, problem.class) {
        (_, Some(ErrorClass::Full)) => Reason::TargetFull,
        (_, Some(ErrorClass::Corrupt)) => Reason::CorruptData,
        (_, Some(ErrorClass::Permission)) => Reason::TargetDenied,
        (exit::DEADLINE, _) => Reason::DeadlineExceeded,
        (exit::REFUSED, _) => Reason::PreflightFailed,
        (exit::UNREACHABLE, _) if unreachable => Reason::TargetUnreachable,
        (exit::UNREACHABLE, _) => {
            let lost = problem.agent.and_then(|index| view.agents.get(index as usize));
            match lost.map(|agent| &agent.state) {
                Some(AgentState::Lost(loss @ LossReason::CannotStart(_))) => of_loss(loss),
                _ => Reason::ReadyTimeout,
            }
        }
        (_, None) if view.agents.iter().any(|agent| matches!(agent.state, AgentState::Lost(_))) => {
            Reason::AgentLost
        }
        (_, _) => Reason::StageFailed,
    }
}
