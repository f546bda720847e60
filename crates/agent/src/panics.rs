//! When a thread of the agent breaks: it is said where a person looks, without what is nobody's business, and the process
//! ends. An agent of which a part is gone neither measures nor answers as it should.
//!
//! A panic may carry anything, as the text of an error that was not expected: so it goes through the same scrubbing as a
//! server's words.

use crate::scrub::Scrub;
use std::any::Any;
use std::path::PathBuf;

/// Exit code of a process whose thread broke; Rust's own.
const EXIT_BROKEN: i32 = 101;
/// Variables with secrets, as they come from the Secret of a run.
const SECRET_VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// From now on, a panic of any thread is written to the log, within `span`, and to `termination_log`, and ends the process.
pub fn install(termination_log: Option<PathBuf>, span: tracing::Span) {
    std::panic::set_hook(Box::new(move |info| {
        let said = said(std::thread::current().name(), info.location(), info.payload(), &environment());
        span.in_scope(|| tracing::error!("{said}"));
        if let Some(path) = &termination_log {
            // A message that cannot be written has been logged.
            let _ = std::fs::write(path, format!("{said}\n"));
        }
        std::process::exit(EXIT_BROKEN);
    }));
}

/// Hides what the environment holds.
fn environment() -> Scrub {
    let values: Vec<String> = SECRET_VARIABLES.iter().filter_map(|name| std::env::var(name).ok()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).map(str::trim).collect();
    Scrub::of(&values)
}

fn said(
    thread: Option<&str>,
    location: Option<&std::panic::Location<'_>>,
    payload: &dyn Any,
    scrub: &Scrub,
) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text");
    let at = location.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = thread.unwrap_or("without a name");
    format!("the agent broke, which is a fault in it: thread {thread} at {at}: {}", scrub.clean(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::problem::Problem;

    #[test]
    fn a_thread_that_breaks_with_a_problem_in_its_hands_tells_no_secret() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let held = Problem::new(format!("{secret} was refused"), "by the server");
        let broken = std::thread::spawn(move || panic!("it is accepted: {held:?}")).join().unwrap_err();
        let text = broken.downcast_ref::<String>().unwrap();
        assert!(text.contains(secret), "it was in the panic: {text}");
        let said = said(Some("worker"), None, &*broken, &Scrub::of(&[secret]));
        assert!(!said.contains(secret), "{said}");
        assert!(said.contains("thread worker at an unknown place: it is accepted"), "{said}");
    }
}
