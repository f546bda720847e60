//! The `lockstep-agent` binary: serves one run, then ends.
//!
//! Its secret comes through standard input, never through arguments or the environment, which others can read. The
//! pipe stays open as long as the coordinator lives: its end is how an agent learns at once that it is an orphan.

use clap::Parser;
use lockstep_agent::session::{self, Identity};
use std::io::{BufRead, Read};
use std::process::ExitCode;
use tokio::sync::oneshot;

/// One agent of a coordinated storage benchmark. Started by `lockstep run` or by the operator, not by people.
#[derive(Debug, Parser)]
#[command(name = "lockstep-agent", version)]
struct Args {
    /// Where the coordinator listens, host:port.
    #[arg(long)]
    coordinator: String,
    /// Name of the run.
    #[arg(long)]
    run: String,
    /// Uid of the run.
    #[arg(long)]
    uid: String,
    /// Index of this agent, from 0.
    #[arg(long)]
    index: u32,
    /// Attempt under that index, from 0.
    #[arg(long, default_value_t = 0)]
    attempt: u32,
    /// Cores that this agent may use, e.g. 0,1; all when absent.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
}

fn main() -> ExitCode {
    let Args { coordinator, run, uid, index, attempt, cores } = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("LOCKSTEP_LOG").unwrap_or_else(|_| "info".into()),
        )
        .init();
    let mut secret = String::new();
    if let Err(error) = std::io::stdin().lock().read_line(&mut secret) {
        tracing::error!(%error, "the secret could not be read from standard input");
        return ExitCode::from(2);
    }
    let secret = secret.trim().to_owned();
    let (gone, parent_gone) = oneshot::channel();
    std::thread::spawn(move || {
        // Nothing more comes; the read returns when the last writer is gone.
        let _ = std::io::stdin().lock().read(&mut [0; 1]);
        let _ = gone.send(());
    });
    let identity = Identity { coordinator, run, uid, index, attempt, cores, secret };
    match session::run(identity, parent_gone) {
        Ok(ended) => ExitCode::from(ended.exit_code()),
        Err(error) => {
            tracing::error!(%error, "the agent cannot run");
            ExitCode::from(2)
        }
    }
}
