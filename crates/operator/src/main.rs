//! The `lockstep-operator` binary: `run` serves a cluster, `crds` prints what it serves.
//!
//! Two runtimes: sessions of agents on one, on the other what decides and writes. When a thousand agents hand in at once, what
//! they say waits in one queue, and what they wait for does not wait behind it.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Config};
use lockstep_coordinator::{Caps, Coordinator};
use lockstep_operator::admin::{self, Admin, Watched};
use lockstep_operator::client::context::Context;
use lockstep_operator::client::{going, watch};
use lockstep_operator::leader::{Leadership, Mandate, fence, identity};
use lockstep_operator::pods::config::{Installation, Tokens};
use lockstep_operator::trust::jwks::Jwks;
use lockstep_operator::trust::keeper::Trust;
use lockstep_operator::trust::review::Reviews;
use lockstep_operator::trust::rotation::Terms;
use lockstep_operator::trust::tokens::{PodTokens, Voucher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Connections that wait until they are accepted.
const BACKLOG: u32 = 1_024;

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
        /// Lease of the operator's namespace by which replicas agree on who leads.
        #[arg(long, default_value = "lockstep")]
        lease: String,
    },
    /// Prints the CustomResourceDefinition.
    Crds,
}

fn main() -> Result<ExitCode> {
    let Args { command } = Args::parse();
    match command {
        Command::Crds => {
            print!("{}", serde_yaml::to_string(&lockstep_api::crd::json())?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { installation, listen, admin: admin_port, log_format, ca_secret, lease } => {
            let admin = Arc::new(Admin::new(admin::log::Filter::install(log_format)));
            let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let (runtime, sessions) = (runtime()?, runtime()?);
            let done = runtime.block_on(async {
                let ports = admin::http::bind(admin_port).await;
                for port in ports.with_context(|| format!("port {admin_port}"))? {
                    tokio::spawn(admin::http::serve(port, Arc::clone(&admin)));
                }
                serve(&installation, (listen, sessions.handle()), &ca_secret, &lease, &admin).await
            });
            // In the log, and so as its other lines are, not beside it.
            Ok(match done {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the operator cannot go on");
                    ExitCode::FAILURE
                }
            })
        }
    }
}

async fn serve(
    installation: &std::path::Path,
    (listen, sessions): (SocketAddr, &Handle),
    ca_secret: &str,
    lease: &str,
    admin: &Admin,
) -> Result<()> {
    let began = Timestamp::now();
    let text = std::fs::read_to_string(installation)
        .with_context(|| format!("the installation {} cannot be read", installation.display()))?;
    let installation: Installation =
        serde_yaml::from_str(&text).context("the installation is not what the chart makes")?;
    let (config, vitals) =
        (Config::infer().await.context("the API server cannot be found")?, Arc::clone(&admin.vitals));
    let client = || {
        let client = admin::api::builder(config.clone(), Arc::clone(&vitals));
        anyhow::Ok(client.context("the API server cannot be reached")?.build())
    };
    // A connection is served by the runtime that has opened it.
    let (client, of_sessions) = (client()?, client()?);
    let mandate = Mandate::default();
    let writes = fence::client(config, mandate.clone(), Arc::clone(&vitals));
    let writes = writes.context("the API server cannot be reached")?;
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
    let socket = bound(listen).with_context(|| format!("port {listen}"))?;
    let voucher = match installation.tokens {
        Tokens::Review => Voucher::Review(Reviews::new(of_sessions)),
        Tokens::Jwks => Voucher::Jwks(Jwks::read(of_sessions).await?),
    };
    let tokens = PodTokens::new(voucher, Arc::clone(&trust), runs.clone(), pods.clone());
    // Nobody is told apart before all pods are known, and a thousand agents that are refused dial again, and again.
    let (listens, listening) = oneshot::channel();
    let listening = async {
        match listening.await {
            Ok(listener) => listener,
            Err(_) => std::future::pending().await,
        }
    };
    let coordinator = {
        let _sessions = sessions.enter();
        Coordinator::serve_capped(listening, Arc::new(tokens), Some(tls), Caps::default())
    };
    let (runs_seen, pods_seen) = (runs.clone(), pods.clone());
    admin.attach(Watched { runs: runs_seen, pods: pods_seen, coordinator: coordinator.observer() });
    let reporter =
        Reporter { controller: "lockstep.dev/operator".to_owned(), instance: std::env::var("HOSTNAME").ok() };
    let recorder = Recorder::new(writes.clone(), reporter);
    let (kept, seen, leads) = (Arc::clone(&trust), pods.clone(), mandate.clone());
    tokio::spawn(async move { kept.keep(&seen, || leads.holds()).await });
    let leases: Api<Lease> = Api::namespaced(client.clone(), &installation.namespace);
    let holder = identity(&variable("POD_NAME"), &variable("POD_UID"), began);
    let held = mandate.clone();
    let begin = move || {
        let _ = listens.send(socket.listen(BACKLOG)?);
        tracing::info!(%listen, "serving");
        Ok(Leadership::start(leases, lease, &holder, held))
    };
    let context =
        Context::new(writes, installation, runs, pods, coordinator, trust, mandate, recorder, vitals);
    let context = Arc::new(context);
    let goes = Arc::clone(&context);
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let ended = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("asked to end");
        going::until_let_go(&goes, client).await;
    };
    let served = watch::serve(context, run_changes, pod_changes, begin, ended).await;
    served.with_context(|| format!("port {listen}"))
}

/// A socket that has its address, and refuses connections until it listens.
fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// What the pod says of itself; a name of the process where it is not one.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| std::process::id().to_string())
}
