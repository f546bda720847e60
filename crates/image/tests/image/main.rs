//! The image, as whoever runs it finds it: made of the programs that `cargo test --workspace` has built, or the archive
//! that `LOCKSTEP_IMAGE` names (of this machine's architecture), such as one that Docker made.

mod container;
mod docker;
mod files;

use lockstep_image::oci::Archive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What labels are made of where a test makes the image.
const REVISION: &str = "0123456789abcdef";
/// The time that it bears.
const TIME_S: &str = "1700000000";

/// The workspace.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Where Cargo puts the programs of all packages.
fn programs() -> PathBuf {
    let own = Path::new(env!("CARGO_BIN_EXE_lockstep-image"));
    let directory = own.parent().expect("a program lies in a directory");
    for program in lockstep_image::contents::PROGRAMS {
        let path = directory.join(program);
        assert!(path.is_file(), "{} is not built: run `cargo build --workspace --bins`", path.display());
    }
    directory.to_owned()
}

/// Runs the command that makes the image.
fn make(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep-image"));
    command
        .arg("--binaries")
        .arg(programs())
        .args(["--level", "1", "--revision", REVISION, "--time", TIME_S])
        .args(args);
    let output = command.output().expect("the command starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

/// The image of the programs of this build, made once for all tests.
fn ours() -> &'static Archive {
    static OURS: OnceLock<Archive> = OnceLock::new();
    OURS.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let archive = directory.path().join("image.tar");
        make(&["--output", &archive.to_string_lossy()]);
        Archive::open(&archive).expect("what was written can be read")
    })
}

/// The image that is looked at.
fn image() -> &'static Archive {
    static NAMED: OnceLock<Option<Archive>> = OnceLock::new();
    let named = NAMED.get_or_init(|| {
        let archive = std::env::var_os("LOCKSTEP_IMAGE")?;
        Some(Archive::open(Path::new(&archive)).expect("LOCKSTEP_IMAGE names an archive of an image"))
    });
    named.as_ref().unwrap_or_else(|| ours())
}
