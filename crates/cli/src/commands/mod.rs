//! One file per command. Each takes its request and returns the exit code; what it prints is in [`crate::display`]
//! and [`crate::preview`].

mod get;
mod plan;
mod report;
mod run;
mod start;
mod stop;
mod validate;
mod watch;

use crate::args::Request;
use crate::output;
use lockstep_core::problem::Problem;

/// What a command comes to: an exit code, or a problem that carries one.
pub type Outcome = Result<u8, Box<Problem>>;

/// Does what was asked for, and returns the exit code.
pub fn dispatch(request: Request) -> u8 {
    let outcome = match request {
        Request::Run(request) => run::run(&request),
        Request::Validate(request) => validate::validate(&request),
        Request::Plan(request) => plan::plan(&request),
        Request::Report(request) => report::report(&request),
        Request::Get(request) => get::get(&request),
        Request::Watch(request) => watch::watch(&request),
        Request::Start(request) => start::start(&request),
        Request::Stop(request) => stop::stop(&request),
    };
    outcome.unwrap_or_else(|problem| {
        output::complain(&problem);
        problem.exit
    })
}
