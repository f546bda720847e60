//! The `lockstep-agent` binary: serves one run, then ends.
//!
//! On one machine its secret comes through standard input, never through arguments or the environment, which others can
//! read. The pipe stays open as long as the coordinator lives: its end is how an agent learns at once that it is an
//! orphan. On a cluster everything comes through the environment, and what is secret through files.

use clap::Parser;
use lockstep_agent::session::{self, Access, Ended, Identity};
use lockstep_agent::{log, panics};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::oneshot;

/// One agent of a coordinated storage benchmark. Started by `lockstep run` or by the operator, not by people.
#[derive(Debug, Parser)]
#[command(name = "lockstep-agent", version)]
struct Args {
    /// Runs in a pod: trusts the coordinator by certificate, and proves itself by its token.
    #[arg(long, requires_all = ["token_file", "ca_file"])]
    cluster: bool,
    /// Where the coordinator listens, host:port.
    #[arg(long, env = "LOCKSTEP_COORDINATOR")]
    coordinator: String,
    /// Name of the run.
    #[arg(long, env = "LOCKSTEP_RUN")]
    run: String,
    /// Uid of the run.
    #[arg(long, env = "LOCKSTEP_RUN_UID")]
    uid: String,
    /// Index of this agent, from 0.
    #[arg(long, env = "LOCKSTEP_INDEX")]
    index: u32,
    /// Attempt under that index, from 0.
    #[arg(long, env = "LOCKSTEP_ATTEMPT", default_value_t = 0)]
    attempt: u32,
    /// Cores that this agent may use, e.g. 0,1; all when absent.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// File with this pod's token.
    #[arg(long, env = "LOCKSTEP_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// File with the authorities that may sign the coordinator, PEM.
    #[arg(long, env = "LOCKSTEP_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// How long to work on without the coordinator before the plan says so, milliseconds.
    #[arg(long, env = "LOCKSTEP_ORPHAN_GRACE_MS", default_value_t = 60_000)]
    orphan_grace_ms: u64,
    /// Where the reason of a failing exit is written.
    #[arg(long, env = "LOCKSTEP_TERMINATION_LOG")]
    termination_log: Option<PathBuf>,
    /// How the log's lines look.
    #[arg(long, env = "LOCKSTEP_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: log::Format,
}

fn main() -> ExitCode {
    let Args {
        cluster,
        coordinator,
        run,
        uid,
        index,
        attempt,
        cores,
        token_file,
        ca_file,
        orphan_grace_ms,
        termination_log,
        log_format,
    } = Args::parse();
    log::install(log_format);
    let span = log::span(&run, &uid, index, attempt);
    panics::install(termination_log.clone(), span.clone());
    let _whose = span.entered();
    // From here to `connected to the coordinator` is what an agent takes to begin.
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %coordinator, "begins");
    let reason = termination_log.as_deref();
    let (gone, parent_gone) = oneshot::channel();
    let access = match (token_file, ca_file) {
        (Some(token), Some(authorities)) if cluster => Access::Cluster { token, authorities },
        _ => match secret_of_parent(gone) {
            Ok(secret) => Access::Secret(secret),
            Err(error) => return fail(reason, "the secret could not be read from standard input", &error, 2),
        },
    };
    let orphan_grace = Duration::from_millis(orphan_grace_ms);
    let identity = Identity { coordinator, run, uid, index, attempt, cores, access, orphan_grace };
    match session::run(identity, parent_gone) {
        Ok(Ended::Released) => ExitCode::SUCCESS,
        Ok(Ended::Orphaned) => {
            let code = Ended::Orphaned.exit_code();
            fail(reason, "the coordinator was not heard of for orphanGrace", "I/O was stopped", code)
        }
        Err(error) => fail(reason, "the agent cannot run", &error, 2),
    }
}

/// Reads the secret, and tells `gone` when whoever gave it is no more.
fn secret_of_parent(gone: oneshot::Sender<()>) -> std::io::Result<String> {
    let mut secret = String::new();
    std::io::stdin().lock().read_line(&mut secret)?;
    std::thread::spawn(move || {
        // Nothing more comes; the read returns when the last writer is gone.
        let _ = std::io::stdin().lock().read(&mut [0; 1]);
        let _ = gone.send(());
    });
    Ok(secret.trim().to_owned())
}

/// Says why the process ends, in its log and where the kubelet looks for it.
fn fail(reason: Option<&Path>, what: &str, why: impl std::fmt::Display, code: u8) -> ExitCode {
    tracing::error!("{what}: {why}");
    if let Some(path) = reason {
        // A message that cannot be written has been logged.
        let _ = std::fs::write(path, format!("{what}: {why}\n"));
    }
    ExitCode::from(code)
}
