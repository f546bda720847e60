//! The wires: a bridge on the control plane's machine, a wire to it from every node, and one from this machine.
//!
//! | who | address |
//! |---|---|
//! | control plane | 198.18.N.1 |
//! | node K | 198.18.N.(10+K); its pods 10.244.K.0/24, routed, never translated |
//! | this machine | 198.18.N.254 |
//! | Services | 10.96.0.0/16 |
//!
//! 198.18.0.0/15 is set aside for tests of networks (RFC 2544), so it is nobody's real one. N is the first that this
//! machine does not have. No machine has a default route, and this machine forwards nothing that comes over the wire: what
//! is for elsewhere has nowhere to go. A wire ends with the machine at its end, so nothing here needs to be removed.

use crate::machine::{Machine, expect};
use crate::state::Settings;
use crate::wait;
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Pods of all nodes.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// Services, as the API server is told.
const SERVICES: &str = "10.96.0.0/16";
const BRIDGE: &str = "machines";
/// How long the kernel may take to let go of the network of a machine that has ended.
const WIRE_LIMIT: Duration = Duration::from_secs(20);

impl Settings {
    pub(crate) fn control(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.network, 1)
    }

    pub(crate) fn node(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.network, 10 + number)
    }

    fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.network, 254)
    }

    /// This machine's end of its wire.
    pub(crate) fn wire(&self) -> String {
        format!("lockstep{}", self.network)
    }
}

/// Pods of a node.
pub(crate) fn pods(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// The first network that this machine does not have.
pub(crate) fn free() -> Result<u8> {
    let addresses = expect("ip address", &ip().args(["-4", "-oneline", "address"]).output()?)?;
    let links = expect("ip link", &ip().args(["-oneline", "link"]).output()?)?;
    let is_free = |network: &u8| {
        !addresses.contains(&format!(" 198.18.{network}."))
            && !links.contains(&format!(" lockstep{network}:"))
    };
    (0..=u8::MAX).find(is_free).context("all networks of 198.18.0.0/16 are taken on this machine")
}

/// Waits until the kernel has taken down this machine's end of a wire whose other end was on a machine that has ended.
pub(crate) fn wait_for_wire(settings: &Settings) {
    let path = std::path::Path::new("/sys/class/net").join(settings.wire());
    wait::until(WIRE_LIMIT, || !path.exists());
}

/// Lays the bridge, and the wire from this machine to it.
pub(crate) fn wire_control(settings: &Settings, control: &Machine) -> Result<()> {
    wait_for_wire(settings);
    let (wire, id) = (settings.wire(), control.init().context("the control plane's machine does not run")?);
    run(
        ip(),
        &[
            format!("link add {wire} type veth peer name host netns {id}"),
            format!("address add {}/24 dev {wire}", settings.host()),
            format!("link set {wire} up"),
        ],
    )?;
    for (file, value) in [("ipv4/conf", "forwarding=0"), ("ipv6/conf", "disable_ipv6=1")] {
        let (name, value) = value.split_once('=').unwrap_or_default();
        let path = format!("/proc/sys/net/{file}/{wire}/{name}");
        // A kernel without IPv6 has nothing to turn off.
        if std::path::Path::new(&path).exists() {
            std::fs::write(&path, value).with_context(|| format!("failed to write {path}"))?;
        }
    }
    run(
        control.on_network("ip")?,
        &[
            format!("link add {BRIDGE} type bridge"),
            format!("address add {}/24 dev {BRIDGE}", settings.control()),
            format!("link set {BRIDGE} up"),
            format!("link set host master {BRIDGE}"),
            "link set host up".to_owned(),
        ],
    )
}

/// Lays the wire of a node, unless there is one, and tells it and the control plane whose pods are where.
pub(crate) fn wire_node(settings: &Settings, control: &Machine, node: &Machine, number: u8) -> Result<()> {
    let has = |machine: &Machine, link: &str| -> Result<bool> {
        Ok(machine.on_network("ip")?.args(["link", "show", link]).output()?.status.success())
    };
    if has(node, "eth0")? {
        return Ok(());
    }
    // The wire of the node that was there before may last a moment longer than it.
    wait::until(WIRE_LIMIT, || !has(control, &node.name).unwrap_or(false));
    let id = node.init().with_context(|| format!("{} does not run", node.name))?;
    let to = |other: u8| format!("route replace {} via {}", pods(other), settings.node(other));
    run(
        control.on_network("ip")?,
        &[
            format!("link add {} type veth peer name eth0 netns {id}", node.name),
            format!("link set {} master {BRIDGE}", node.name),
            format!("link set {} up", node.name),
            to(number),
        ],
    )?;
    let mut lines =
        vec![format!("address add {}/24 dev eth0", settings.node(number)), "link set eth0 up".to_owned()];
    // Without a way there, what the node itself sends to a Service is refused before kube-proxy's rules translate it. What
    // they do not translate finds nobody.
    lines.push(format!("route add {SERVICES} dev eth0"));
    lines.extend((1..=settings.nodes).filter(|other| *other != number).map(to));
    run(node.on_network("ip")?, &lines)
}

/// Takes a node off the network, or puts it back.
pub(crate) fn plug(control: &Machine, node: &Machine, is_plugged: bool) -> Result<()> {
    run(
        control.on_network("ip")?,
        &[format!("link set {} {}", node.name, if is_plugged { "up" } else { "down" })],
    )
}

fn ip() -> Command {
    Command::new("ip")
}

/// Runs lines of `ip`, all or, where one fails, none after it.
fn run(mut command: Command, lines: &[String]) -> Result<()> {
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().context("ip (of iproute2) cannot be run")?;
    let mut stdin = running.stdin.take().context("stdin is a pipe")?;
    stdin.write_all((lines.join("\n") + "\n").as_bytes())?;
    drop(stdin);
    let output = running.wait_with_output()?;
    if !output.status.success() {
        bail!("ip failed: {}\nin\n{}", String::from_utf8_lossy(&output.stderr).trim(), lines.join("\n"));
    }
    Ok(())
}
