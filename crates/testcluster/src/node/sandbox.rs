//! A container as a local process: a root file system, an `/etc/hosts`, mounts and a user of its own.
//!
//! The root file system is an overlay whose lower layer is this machine's and whose upper one is memory, so that mounts
//! land at the absolute paths that the pod names and nothing it writes is ever seen here. The "image" is then the few
//! files that are bound over it. All of it lives in a mount namespace, which the kernel takes apart with the last process.
//!
//! What it is not: a container runtime. There is neither a process nor a network namespace (the pods reach what listens
//! on loopback, which is what tests want), no cgroup, no seccomp. A process that ignores SIGTERM as PID 1 would does not.

use super::MACHINE;
use crate::keeper::{command_in, kill_group, mark};
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use tokio::process::{Child, Command};

/// Something of this machine at a path of the container.
#[derive(Clone, Debug)]
pub(super) struct Bind {
    pub from: PathBuf,
    /// Absolute path in the container.
    pub to: String,
    pub read_only: bool,
}

/// Who a container runs as, and what it may.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    /// Supplementary groups: `fsGroup` and `supplementalGroups`.
    pub groups: Vec<i64>,
    pub drops_capabilities: bool,
    pub no_new_privileges: bool,
    pub read_only_root: bool,
}

/// All that is needed to start a process in a container.
pub(super) struct Sandbox<'a> {
    /// Directory of the cluster's keeper.
    pub keeper: &'a Path,
    /// An empty directory for the root file system.
    pub root: &'a Path,
    pub hostname: &'a str,
    pub binds: &'a [Bind],
    pub rights: &'a Rights,
    pub command: &'a [String],
    pub environment: &'a BTreeMap<String, String>,
    pub working_directory: &'a str,
    pub log: &'a Path,
}

/// A running container. Dropped, it is killed with all that it started.
pub(super) struct Process {
    child: Child,
    id: u32,
    mark: PathBuf,
}

impl Process {
    /// Process id of its first process, which leads the group.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Waits for its end; the exit code is 128 + n for signal n. Whatever it left running is killed.
    pub(super) async fn wait(&mut self) -> Result<i32> {
        let status = self.child.wait().await?;
        kill_group(self.id, Signal::KILL);
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Asks its first process to end, as a runtime does.
    pub(super) fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.id).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Kills it.
    pub(super) fn kill(&self) {
        kill_group(self.id, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill_group(self.id, Signal::KILL);
        let _ = std::fs::remove_file(&self.mark);
    }
}

impl Sandbox<'_> {
    /// Starts the process.
    pub(super) fn start(&self) -> Result<Process> {
        std::fs::create_dir_all(self.root)?;
        let script = self.root.with_extension("sh");
        std::fs::write(&script, self.script()).context("failed to write the script of a container")?;
        let mut command = command_in(self.keeper, MACHINE.tool("unshare")?);
        command
            .args(["--mount", "--uts", "--propagation", "private", "/bin/sh"])
            .arg(&script)
            .args(self.command);
        let log = File::options().create(true).append(true).open(self.log)?;
        command.env_clear().envs(self.environment).stdout(log.try_clone()?).stderr(log);
        let child = Command::from(command).spawn().context("failed to start a container")?;
        let id = child.id().context("a process without an id")?;
        Ok(Process { mark: mark(self.keeper, id), child, id })
    }

    /// Makes the root file system, then becomes the command.
    fn script(&self) -> String {
        let root = quote(&self.root.join("root").display().to_string());
        let layers = quote(&self.root.display().to_string());
        let mount = MACHINE.quoted("mount");
        let mut script = format!(
            "set -e\npath=$PATH\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nroot={root}; layers={layers}\n\
             echo {} > /proc/sys/kernel/hostname\n\
             {mount} -t tmpfs -o mode=0755 none \"$layers\"\nmkdir \"$layers/u\" \"$layers/w\" \"$root\"\n\
             {mount} -t overlay -o \"lowerdir=/,upperdir=$layers/u,workdir=$layers/w\" overlay \"$root\"\n\
             {mount} -t tmpfs -o mode=0755 none \"$root/dev\"\n\
             for device in null zero full random urandom; do : > \"$root/dev/$device\"; \
             {mount} --bind /dev/$device \"$root/dev/$device\"; done\n\
             ln -s /proc/self/fd \"$root/dev/fd\"; mkdir -m 1777 \"$root/dev/shm\"\n\
             {mount} -t tmpfs -o mode=1777 none \"$root/tmp\"\n{mount} -t tmpfs -o mode=0755 none \"$root/run\"\n",
            quote(self.hostname)
        );
        for directory in &MACHINE.mounts {
            let _ = writeln!(script, "{mount} --rbind {0} \"$root\"{0}", quote(directory));
        }
        // Where a path of the container is: `/var/run` and others are links, which must not lead out of it.
        let (chroot, realpath) = (MACHINE.quoted("chroot"), MACHINE.quoted("realpath"));
        let _ = writeln!(script, "at() {{ at=\"$root$({chroot} \"$root\" {realpath} -m -- \"$1\")\"; }}");
        for bind in self.binds {
            let (from, to) = (quote(&bind.from.display().to_string()), quote(&bind.to));
            // A file is bound over a file, a directory over a directory; what is missing is made, in memory.
            let _ = writeln!(
                script,
                "at {to}\nif [ -d {from} ]; then mkdir -p \"$at\"; else mkdir -p \"$(dirname \"$at\")\"; \
                 [ -e \"$at\" ] || : > \"$at\"; fi\n{mount} --bind {from} \"$at\""
            );
            if bind.read_only {
                let _ = writeln!(script, "{mount} -o remount,bind,ro \"$at\"");
            }
        }
        // A runtime makes it where the image does not have it.
        let directory = quote(self.working_directory);
        let _ = writeln!(script, "at {directory}\nmkdir -p \"$at\"");
        if self.rights.read_only_root {
            let _ = writeln!(script, "{mount} -o remount,ro \"$root\"");
        }
        let rights: String = self.rights.flags().iter().map(|flag| format!(" {flag}")).collect();
        let (env, setpriv) = (MACHINE.quoted("env"), MACHINE.quoted("setpriv"));
        // The container's own PATH: it is in the environment, so what was assigned above would be handed on.
        let _ = writeln!(
            script,
            "PATH=$path\nexec {chroot} \"$root\" {env} -C {directory} {setpriv}{rights} -- \"$@\""
        );
        script
    }
}

impl Rights {
    /// Flags of setpriv.
    fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let gid = self.gid.or(self.uid.map(|_| 0));
        if let Some(gid) = gid {
            flags.push(format!("--regid={gid}"));
        }
        if let Some(uid) = self.uid {
            flags.push(format!("--reuid={uid}"));
        }
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        flags.push(match groups.as_slice() {
            [] => "--clear-groups".to_owned(),
            groups => format!("--groups={}", groups.join(",")),
        });
        if self.drops_capabilities {
            flags.extend(["--bounding-set=-all".to_owned(), "--inh-caps=-all".to_owned()]);
        }
        if self.no_new_privileges {
            flags.push("--no-new-privs".to_owned());
        }
        flags
    }
}

/// A command inside a running container: what an exec probe runs.
pub(super) fn inside(
    process: u32,
    rights: &Rights,
    environment: &BTreeMap<String, String>,
    command: &[String],
) -> Result<Command> {
    let mut nsenter = Command::new(MACHINE.tool("nsenter")?);
    nsenter.args(["--target", &process.to_string(), "--mount", "--uts", "--root", "--wd", "--"]);
    nsenter.arg(MACHINE.tool("setpriv")?).args(rights.flags()).arg("--").args(command);
    nsenter.env_clear().envs(environment).kill_on_drop(true);
    Ok(nsenter)
}

/// A word for a shell.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
