//! Startup, liveness and readiness probes, as in pkg/kubelet/prober: thresholds, and what their outcome means.

use super::context::{Environment, Handle, KillOrder, PodContext};
use super::events::WARNING;
use super::sandbox::inside;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

/// A running container as its probes see it.
#[derive(Clone)]
pub(super) struct Probed {
    pub ctx: Arc<PodContext>,
    pub container: Container,
    pub environment: Environment,
    pub handle: Handle,
}

/// Starts the probes of a container that has just started; they end when the set is dropped.
pub(super) fn start(probed: &Probed) -> JoinSet<()> {
    let mut probes = JoinSet::new();
    let container = &probed.container;
    let (has_startup, has_readiness) =
        (container.startup_probe.is_some(), container.readiness_probe.is_some());
    probed.ctx.update(&container.name, |record| {
        record.is_started = !has_startup;
        record.is_ready = !has_startup && !has_readiness;
    });
    let kinds = [
        (Kind::Startup, &container.startup_probe),
        (Kind::Liveness, &container.liveness_probe),
        (Kind::Readiness, &container.readiness_probe),
    ];
    for (kind, probe) in kinds {
        if let Some(probe) = probe.clone() {
            probes.spawn(run(probed.clone(), kind, probe));
        }
    }
    probes
}

/// Probes for ever, or until a startup probe has passed.
async fn run(probed: Probed, kind: Kind, probe: Probe) {
    let name = probed.container.name.as_str();
    if kind != Kind::Startup {
        // The others wait for it.
        let started = |state: &super::state::PodState| {
            state.containers.get(name).is_some_and(|record| record.is_started)
        };
        let _ = probed.ctx.state.subscribe().wait_for(started).await;
    }
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let (passes, failures) = (probe.success_threshold.unwrap_or(1), probe.failure_threshold.unwrap_or(3));
    let limit = seconds(probe.timeout_seconds, 1);
    let (mut passed, mut failed) = (0, 0);
    loop {
        let outcome = tokio::time::timeout(limit, attempt(&probed, &probe)).await;
        match outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {limit:?}"))) {
            Ok(()) => (passed, failed) = (passed + 1, 0),
            Err(error) => {
                (passed, failed) = (0, failed + 1);
                let message = format!("{kind:?} probe failed: {error:#}");
                probed.ctx.container_event(name, WARNING, "Unhealthy", &message);
            }
        }
        if passed == passes {
            let has_readiness = probed.container.readiness_probe.is_some();
            probed.ctx.update(name, |record| match kind {
                Kind::Startup => {
                    record.is_started = true;
                    record.is_ready = !has_readiness;
                }
                Kind::Readiness => record.is_ready = true,
                Kind::Liveness => {}
            });
            if kind == Kind::Startup {
                return;
            }
        }
        if failed == failures {
            if kind == Kind::Readiness {
                probed.ctx.update(name, |record| record.is_ready = false);
            } else {
                let said = format!("{kind:?}").to_lowercase();
                let message = format!("Container {name} failed {said} probe, will be restarted");
                probed.ctx.container_event(name, super::events::NORMAL, "Killing", &message);
                // One that has ended by itself needs no order.
                let _ = probed.handle.orders.send(KillOrder::Unhealthy);
                return;
            }
        }
        tokio::time::sleep(seconds(probe.period_seconds, 10)).await;
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.map_or(default, |value| u64::try_from(value).unwrap_or(0)))
}

async fn attempt(probed: &Probed, probe: &Probe) -> Result<()> {
    match (&probe.http_get, &probe.tcp_socket, &probe.exec) {
        (Some(action), _, _) => http_get(probed, action).await,
        (_, Some(action), _) => tcp(probed, action).await,
        (_, _, Some(action)) => exec(probed, action).await,
        _ => bail!("the test node does not know this kind of probe"),
    }
}

/// Connects to a port of the pod, by number or by name.
async fn connect(probed: &Probed, host: Option<&str>, port: &IntOrString) -> Result<TcpStream> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = probed.container.ports.iter().flatten();
            let found = ports.find(|port| port.name.as_deref() == Some(name));
            found.with_context(|| format!("no port is called {name}"))?.container_port
        }
    };
    let host = host.map_or_else(|| probed.ctx.address.to_string(), ToOwned::to_owned);
    Ok(TcpStream::connect((host.as_str(), u16::try_from(number)?)).await?)
}

async fn tcp(probed: &Probed, action: &TCPSocketAction) -> Result<()> {
    connect(probed, action.host.as_deref(), &action.port).await.map(drop)
}

async fn http_get(probed: &Probed, action: &HTTPGetAction) -> Result<()> {
    let mut socket = connect(probed, action.host.as_deref(), &action.port).await?;
    let path = action.path.as_deref().unwrap_or("/");
    let host = probed.ctx.address;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/1\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.context("no HTTP answer")?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let code = head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).context("no HTTP answer")?;
    ensure!((200..400).contains(&code), "HTTP probe failed with statuscode: {code}");
    Ok(())
}

async fn exec(probed: &Probed, action: &ExecAction) -> Result<()> {
    let rights = probed.ctx.rights(&probed.container);
    let command = action.command.clone().unwrap_or_default();
    let output = inside(probed.handle.process, &rights, &probed.environment, &command)?.output().await?;
    ensure!(output.status.success(), "{} {}", output.status, String::from_utf8_lossy(&output.stdout).trim());
    Ok(())
}
