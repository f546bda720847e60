//! Loopback addresses of one's own: `127.a.0.0/16` for a control plane, its nodes and their pods.
//!
//! Every address of 127.0.0.0/8 is the machine itself on Linux. A control plane that has its own can use the well-known
//! ports, and keeps them while its API server is stopped: connections take their own ports on 127.0.0.1, not here.
//! And every pod can have an address, without touching the machine's network.

use anyhow::{Result, bail};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The port that is held to claim a network. Nothing answers on it.
const CLAIM_PORT: u16 = 2378;
/// How many networks are tried.
const ATTEMPTS: u64 = 100;
/// 127.0 to 127.63 are left to whoever uses loopback addresses by hand (systemd's resolver is on 127.0.0.53).
const NETWORKS: std::ops::Range<u64> = 64..255;

/// A claimed network. It is free for others when this is dropped, or with the process.
pub(crate) struct Network {
    second: u8,
    next: AtomicU32,
    _claim: TcpListener,
}

impl Network {
    /// Claims a network that nobody has.
    pub(crate) fn claim() -> Result<Self> {
        let random = RandomState::new();
        for attempt in 0..ATTEMPTS {
            let offset = random.hash_one(attempt) % (NETWORKS.end - NETWORKS.start);
            let Ok(second) = u8::try_from(NETWORKS.start + offset) else { continue };
            if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, second, 0, 1), CLAIM_PORT)) {
                return Ok(Self { second, next: AtomicU32::new(2), _claim: claim });
            }
        }
        bail!(
            "failed to claim a loopback network: port {CLAIM_PORT} could be bound on none of {ATTEMPTS} addresses 127.x.0.1; \
             only Linux serves all of 127.0.0.0/8"
        )
    }

    /// An address that was not given out before. There are 65,000, for what lives as long as one test binary.
    pub(crate) fn next(&self) -> Ipv4Addr {
        let host = self.next.fetch_add(1, Ordering::Relaxed);
        self.host(u16::try_from(host).expect("a test binary has fewer than 65,000 pods"))
    }

    /// An address of it.
    pub(crate) fn host(&self, host: u16) -> Ipv4Addr {
        let [high, low] = host.to_be_bytes();
        Ipv4Addr::new(127, self.second, high, low)
    }
}
