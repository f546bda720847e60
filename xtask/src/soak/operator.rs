//! Tests of the operator against a real control plane that CI shortens, with the spans that count.

use super::Found;
use anyhow::{Context, ensure};
use std::process::Command;
use std::time::Duration;

/// How long an idle operator is looked at.
const IDLE: Duration = Duration::from_secs(60);

/// It writes nothing but its Lease for a minute.
pub fn idle() -> Found {
    test("what_the_operator_may_is_what_it_uses", "LOCKSTEP_TEST_IDLE_S", IDLE)?;
    Ok(format!("{} s without a write", IDLE.as_secs()))
}

/// The API server is gone for so long, and etcd is compacted meanwhile: the run goes on.
pub fn outage(span: Duration) -> Found {
    let said = test("a_run_goes_on_while_the_api_server_is_gone", "LOCKSTEP_TEST_OUTAGE_S", span)?;
    let line = said.lines().find(|line| line.contains("status is current"));
    Ok(line.context("it does not say when status was current")?.trim().to_owned())
}

/// Runs one test of the suite with one span lengthened; answers what it said.
fn test(name: &str, variable: &str, span: Duration) -> anyhow::Result<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut test = Command::new("cargo");
    test.args(["test", "--quiet", "--workspace", "--test", "cluster"]);
    if !cfg!(debug_assertions) {
        test.arg("--release");
    }
    test.args(["--", name, "--nocapture"]).env(variable, span.as_secs().to_string());
    let output = test.current_dir(root).output().context("cargo")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(said)
}
