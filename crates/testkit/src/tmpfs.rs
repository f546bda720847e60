//! A command that sees a small file system of its own: a tmpfs of a given size, in a private mount namespace.
//!
//! That is how a full disk is tested without filling one. The mount is seen by the command alone and goes with it.

use std::path::Path;
use std::process::{Command, Stdio};

/// A way to mount that this machine allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// With the rights that we have.
    Own,
    /// As root of a user namespace of its own.
    UserNamespace,
}

impl Way {
    fn unshare(self) -> Command {
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if self == Self::UserNamespace {
            command.args(["--user", "--map-root-user"]);
        }
        command
    }

    fn works(self) -> bool {
        let mut probe = self.unshare();
        probe.args(["sh", "-c", "mount -t tmpfs -o size=64k none /tmp"]);
        probe.stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }
}

/// The command, to be run with a tmpfs of `bytes` (whole pages are counted) mounted on `directory`, which must exist.
/// Give the result to [`crate::process::Running::start`].
///
/// # Panics
/// This machine gives no right to mount; the panic says what to do.
#[must_use]
pub fn with_tmpfs(directory: &Path, bytes: u64, command: &Command) -> Command {
    let way = [Way::Own, Way::UserNamespace].into_iter().find(|way| way.works());
    let way = way.unwrap_or_else(|| {
        panic!(
            "this test mounts a tmpfs in a namespace of its own, and may not here: run it as root, or allow user \
             namespaces (sysctl kernel.unprivileged_userns_clone=1), or give the container CAP_SYS_ADMIN"
        )
    });
    let mut outer = way.unshare();
    // `exec` keeps the process id: signals reach the command, not a shell.
    outer.args(["sh", "-c", "mount -t tmpfs -o \"size=$1\" none \"$2\" && shift 2 && exec \"$@\"", "tmpfs"]);
    outer.arg(bytes.to_string()).arg(directory).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(current) = command.get_current_dir() {
        outer.current_dir(current);
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Running;
    use std::time::Duration;

    #[test]
    fn it_fills_up_and_nobody_else_sees_it() {
        let directory = tempfile::tempdir().unwrap();
        let script = format!(
            "cd {} && exec sh -c 'head -c 100000 /dev/zero >small && head -c 2000000 /dev/zero >large'",
            directory.path().display()
        );
        let mut inner = Command::new("sh");
        inner.args(["-c", &script]).env("LC_ALL", "C");
        let ended =
            Running::start(&mut with_tmpfs(directory.path(), 1 << 20, &inner)).wait(Duration::from_secs(20));
        assert_ne!(ended.code, 0);
        assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
