//! The `lockstep-operator` binary: `run` serves a cluster, `crds` prints what it serves.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::events::{Recorder, Reporter};
use lockstep_coordinator::Coordinator;
use lockstep_operator::admin::{self, Admin, Watched};
use lockstep_operator::client::context::Context;
use lockstep_operator::client::watch;
use lockstep_operator::pods::config::{Installation, Tokens};
use lockstep_operator::trust::jwks::Jwks;
use lockstep_operator::trust::keeper::Trust;
use lockstep_operator::trust::review::Reviews;
use lockstep_operator::trust::rotation::Terms;
use lockstep_operator::trust::tokens::{PodTokens, Voucher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Epoch of a leader without rivals.
const EPOCH_ALONE: i64 = 1;

/// Runs BenchmarkRuns of a cluster.
#[derive(Debug, Parser)]
#[command(name = "lockstep-operator", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until it is asked to end.
    Run {
        /// What the chart installed, YAML or JSON.
        #[arg(long, env = "LOCKSTEP_INSTALLATION")]
        installation: PathBuf,
        /// Where agents connect.
        #[arg(long, default_value = "0.0.0.0:7443")]
        listen: SocketAddr,
        /// Where probes and Prometheus ask.
        #[arg(long, default_value = "0.0.0.0:8080")]
        admin: SocketAddr,
        /// How the log's lines look.
        #[arg(long, env = "LOCKSTEP_LOG_FORMAT", value_enum, default_value = "text")]
        log_format: admin::log::Format,
        /// Secret of the operator's namespace with its certificate authority; made empty by the chart.
        #[arg(long, default_value = "lockstep-ca")]
        ca_secret: String,
    },
    /// Prints the CustomResourceDefinition.
    Crds,
}

fn main() -> Result<()> {
    let Args { command } = Args::parse();
    match command {
        Command::Crds => {
            print!("{}", serde_yaml::to_string(&lockstep_api::crd::json())?);
            Ok(())
        }
        Command::Run { installation, listen, admin: admin_port, log_format, ca_secret } => {
            let admin = Arc::new(Admin::new(admin::log::Filter::install(log_format)));
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                let ports = admin::http::bind(admin_port).await;
                for port in ports.with_context(|| format!("port {admin_port}"))? {
                    tokio::spawn(admin::http::serve(port, Arc::clone(&admin)));
                }
                serve(&installation, listen, &ca_secret, &admin).await
            })
        }
    }
}

async fn serve(
    installation: &std::path::Path,
    listen: SocketAddr,
    ca_secret: &str,
    admin: &Admin,
) -> Result<()> {
    let text = std::fs::read_to_string(installation)
        .with_context(|| format!("the installation {} cannot be read", installation.display()))?;
    let installation: Installation =
        serde_yaml::from_str(&text).context("the installation is not what the chart makes")?;
    let client = admin::api::client(Arc::clone(&admin.vitals)).await;
    let client = client.map_err(|error| anyhow::anyhow!(error)).context("the API server cannot be found")?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &installation.namespace);
    let (runs, run_changes) = watch::runs(&client, &installation.namespaces);
    let (pods, pod_changes) = watch::pods(&client, &installation.namespaces);
    let host = installation.coordinator.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
    let terms = Terms {
        authority_s: installation.certificates.authority_seconds.into(),
        serving_s: installation.certificates.serving_seconds.into(),
    };
    let trust = Arc::new(Trust::open(secrets, ca_secret, vec![host], terms).await?);
    let tls = trust.server()?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("port {listen}"))?;
    let voucher = match installation.tokens {
        Tokens::Review => Voucher::Review(Reviews::new(client.clone())),
        Tokens::Jwks => Voucher::Jwks(Jwks::read(client.clone()).await?),
    };
    let tokens = PodTokens::new(voucher, Arc::clone(&trust), runs.clone(), pods.clone());
    let coordinator = Coordinator::serve(listener, Arc::new(tokens), Some(tls));
    let (runs_seen, pods_seen) = (runs.clone(), pods.clone());
    admin.attach(Watched { runs: runs_seen, pods: pods_seen, coordinator: coordinator.observer() });
    // There is no other replica yet.
    admin.vitals.set_leads(true);
    let reporter =
        Reporter { controller: "lockstep.dev/operator".to_owned(), instance: std::env::var("HOSTNAME").ok() };
    let recorder = Recorder::new(client.clone(), reporter);
    let (kept, seen) = (Arc::clone(&trust), pods.clone());
    // Alone, it leads.
    tokio::spawn(async move { kept.keep(&seen, || true).await });
    let vitals = Arc::clone(&admin.vitals);
    let context =
        Context::new(client, installation, runs, pods, coordinator, trust, EPOCH_ALONE, recorder, vitals);
    tracing::info!(%listen, "serving");
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        () = watch::serve(Arc::new(context), run_changes, pod_changes) => anyhow::bail!("a watch ended"),
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("asked to end");
    Ok(())
}
