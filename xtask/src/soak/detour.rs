//! One agent's way to the coordinator led through a proxy, in a run that knows nothing of it.
//!
//! `lockstep run` starts what it is told is the agent. That is a script here: for one agent it writes down where the
//! coordinator listens, waits until a proxy stands, and starts the real agent with the proxy's address. What that agent
//! exits with is written down too.

use lockstep_testkit::process::{Dir, wait_until};
use lockstep_testkit::proxy::{Network, Proxy};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a run may take to start its agents.
const LIMIT: Duration = Duration::from_secs(60);

/// The script of a run whose agent 1 takes a detour.
pub struct Detour<'a> {
    dir: &'a Dir,
    /// What to give `lockstep run` as the agent's program.
    pub program: PathBuf,
}

impl<'a> Detour<'a> {
    /// Writes the script into the run's directory. Only the first attempt of agent 1 takes the detour.
    pub fn new(dir: &'a Dir, agent: &Path) -> Self {
        let (here, agent) = (dir.path().display(), agent.display());
        // The agent's arguments come as `--coordinator ADDRESS` first, and name index and attempt.
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n\
             *\"--index 1 --attempt 0\"*)\n\
             echo \"$2\" > '{here}/upstream.new' && mv '{here}/upstream.new' '{here}/upstream'\n\
             while [ ! -e '{here}/proxy' ]; do sleep 0.02; done\n\
             shift 2\n\
             '{agent}' --coordinator \"$(cat '{here}/proxy')\" \"$@\"\n\
             echo $? > '{here}/exit.new' && mv '{here}/exit.new' '{here}/exit' ;;\n\
             *) exec '{agent}' \"$@\" ;;\nesac\n"
        );
        let program = dir.write("agent.sh", script);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("a script that can be run");
        Self { dir, program }
    }

    /// Puts the proxy there, once the agent has been started.
    pub fn proxy(&self) -> Proxy {
        let upstream = self.dir.path().join("upstream");
        assert!(wait_until(LIMIT, || upstream.exists()), "agent 1 was never started");
        let address = self.dir.read("upstream").trim().parse().expect("the coordinator's address");
        let proxy = Proxy::start(address);
        self.dir.write("proxy.new", proxy.address().to_string());
        std::fs::rename(self.dir.path().join("proxy.new"), self.dir.path().join("proxy")).expect("a rename");
        proxy.set(Network::Pass);
        proxy
    }

    /// What the agent exited with, if it has.
    pub fn exit(&self) -> Option<i32> {
        std::fs::read_to_string(self.dir.path().join("exit")).ok()?.trim().parse().ok()
    }
}
