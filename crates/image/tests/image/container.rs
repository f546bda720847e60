//! The programs, started in nothing but the image: as its user, on a root that cannot be written to.
//!
//! No runtime of containers is needed, but root is: mounts in a namespace of their own, and chroot. They are gone with
//! the process.

use crate::image;
use lockstep_image::contents::{PROGRAMS, USER};
use lockstep_image::oci::{Archive, Kind};
use lockstep_testkit::process::{Ended, Running};
use lockstep_testkit::s3;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(60);

/// What a runtime of containers does besides: mounts, a root that is read-only, another user, an own environment.
const ENTER: &str = r#"
set -eu
root=$1 user=$2; shift 2
mount --bind "$root" "$root"
mount --bind /proc "$root/proc"
mount --bind /sys "$root/sys"
mount -t tmpfs -o mode=1777 scratch "$root/tmp"
mount -o remount,bind,ro "$root"
exec env -i PATH=/ AWS_ACCESS_KEY_ID="$KEY" AWS_SECRET_ACCESS_KEY="$SECRET" \
    "$(command -v chroot)" --userspec="$user:$user" --groups="" "$root" "$@"
"#;

/// The image's files, with the places where a runtime mounts.
fn unpacked() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    image().unpack(directory.path()).expect("the image is unpacked");
    // A temporary directory is its owner's alone; the root of a container is everybody's.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    for place in ["proc", "sys"] {
        std::fs::create_dir(directory.path().join(place)).expect("a place to mount at");
    }
    directory
}

/// Starts a program of the image.
fn start(root: &Path, program: &[&str]) -> Running {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts and enters a root of its own: run it as root"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"]);
    command.arg(root).arg(USER.to_string()).args(program);
    command.env("KEY", s3::ACCESS_KEY).env("SECRET", s3::SECRET_KEY);
    Running::start(&mut command)
}

fn run(root: &Path, program: &[&str]) -> Ended {
    start(root, program).wait(LONG)
}

#[test]
fn every_program_starts() {
    let root = unpacked();
    for program in PROGRAMS {
        let ended = run(root.path(), &[&format!("/{program}"), "--version"]);
        let version = format!("{program} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(ended.expect_code(0).stdout, version, "{}", ended.stderr);
    }
    let definition = run(root.path(), &["/lockstep-operator", "crds"]);
    assert!(definition.expect_code(0).stdout.contains("benchmarkruns.lockstep.dev"));
    // There is no shell: chroot says that it found none.
    assert_eq!(run(root.path(), &["/bin/sh", "-c", "true"]).code, 127);
}

/// A whole benchmark in the image: agents are started, and find the storage by its name.
#[test]
fn a_benchmark_finds_its_storage_by_name() {
    let (root, server) = (unpacked(), s3::TestS3::start());
    let port = server.endpoint().rsplit_once(':').expect("a port").1.to_owned();
    // What the kubelet mounts.
    std::fs::write(root.path().join("etc/hosts"), "127.0.0.1 localhost storage.test\n").unwrap();
    let manifest = MANIFEST.replace("PORT", &port);
    std::fs::write(root.path().join("etc/run.yaml"), manifest).unwrap();
    let ended = run(root.path(), &["/lockstep", "run", "-f", "/etc/run.yaml", "--results", "/tmp/results"]);
    ended.expect_code(0);
    assert_eq!(server.data("PUT"), 20);
    assert!(server.data("GET") > 0, "{}", ended.stdout);
}

const MANIFEST: &str = r#"
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: image}
spec:
  seed: 1
  agents: {replicas: 2}
  target: {uri: "s3://bench/image", endpoints: ["http://storage.test:PORT"]}
  dataset: {objects: 20, size: {fixed: 4Ki}}
  stages:
    - {name: prepare, prepare: {concurrency: 2}}
    - {name: gets, execute: {duration: 1s, concurrency: 2, operations: [{op: Get}]}}
"#;

/// Whether the files below a directory, which root has made, are those of an image: content, modes, owners, times.
#[track_caller]
pub fn same_files(tree: &str, image: &Archive) {
    let mut count = 0;
    let mut left = vec![Path::new(tree).to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(tree).expect("a path below the tree").display().to_string();
            let meant = image.entries.get(&name).unwrap_or_else(|| panic!("/{name} is not in the archive"));
            let is = std::fs::symlink_metadata(&path).expect("an entry");
            count += 1;
            assert_eq!((u64::from(is.uid()), u64::from(is.gid())), meant.owner, "/{name}");
            match &meant.kind {
                Kind::Link(target) => {
                    assert_eq!(std::fs::read_link(&path).expect("a link").to_str(), Some(target.as_str()));
                }
                Kind::File(content) => {
                    assert!(std::fs::read(&path).expect("a file") == *content, "/{name} differs");
                }
                Kind::Directory => left.push(path),
                Kind::Other(_) => panic!("/{name}: {:?}", meant.kind),
            }
            if !matches!(meant.kind, Kind::Link(_)) {
                assert_eq!(
                    (is.mode() & 0o7777, is.mtime()),
                    (meant.mode, meant.time_s.cast_signed()),
                    "/{name}"
                );
            }
        }
    }
    assert_eq!(count, image.entries.len());
}
