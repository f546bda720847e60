//! `cargo xtask image`: builds the programs, and writes the image.
//!
//! In the Dockerfile it runs as a program of its own (`lockstep-image`), which builds in seconds, with `--binaries` and
//! `--tree`: the files that Docker packs are the files of the archive.

use crate::contents::{self, Facts, PROGRAMS};
use crate::oci::{Archive, Image};
use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use lockstep_core::problem::Problem;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Makes the container image without a daemon: an OCI archive for `docker load`, `ctr images import` and `kind load
/// image-archive`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask image")]
pub struct Args {
    /// How the programs are built; `dev` is what `cargo test` has built already.
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
    /// Takes the programs from this directory instead of building them.
    #[arg(long, value_name = "DIR", conflicts_with = "profile")]
    binaries: Option<PathBuf>,
    /// Where the archive is written; default `target/image/lockstep-<version>-<architecture>.tar`.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Writes the image's files below this directory, which must not be there, and no archive.
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    tree: Option<PathBuf>,
    /// What the image is called where it is imported; the chart's default.
    #[arg(long, default_value = concat!("lockstep:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// How hard the layer is compressed; default is 9, and 1 with `--profile dev`.
    #[arg(long, value_name = "1-9", value_parser = clap::value_parser!(u32).range(1..=9))]
    level: Option<u32>,
    /// Commit of the sources; default is git's HEAD.
    #[arg(long)]
    revision: Option<String>,
    /// Time that the image and its files bear, seconds since 1970; default is that of git's HEAD.
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    time: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    Dev,
    Release,
}

/// Does what was asked for.
///
/// # Errors
/// The programs cannot be built, or the image not be made.
pub fn run(args: Args) -> Result<()> {
    let Args { profile, binaries, output, tree, name, level, revision, time } = args;
    let binaries = match binaries {
        Some(binaries) => binaries,
        None => build(profile)?,
    };
    let facts = Facts {
        revision: revision.unwrap_or_else(head),
        time_s: time.or_else(head_time).unwrap_or_default(),
    };
    // What is imported on this machine and thrown away is packed quickly, what goes over a network as small as it gets.
    let level = level.unwrap_or(if profile == Profile::Dev { 1 } else { 9 });
    let image = contents::image(&binaries, &facts)?.level(level);
    if let Some(tree) = tree {
        let mut archive = Vec::new();
        image.level(1).write(&name, &mut archive)?;
        let image = Archive::read(archive.as_slice())?;
        std::fs::create_dir(&tree).with_context(|| format!("failed to create {}", tree.display()))?;
        image.unpack(&tree)?;
        println!("{}: {} entries, {}", tree.display(), image.entries.len(), mega(image.bytes()));
        return Ok(());
    }
    let output = output.unwrap_or_else(|| {
        let file = format!("lockstep-{}-{}.tar", env!("CARGO_PKG_VERSION"), image.config().architecture);
        target_directory().join("image").join(file)
    });
    write(&image, &name, &output)
}

fn write(image: &Image, name: &str, output: &Path) -> Result<()> {
    let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)
        .with_context(|| format!("failed to create {}", directory.display()))?;
    // Beside, and moved in one step: nobody imports half an image.
    let fresh = tempfile::NamedTempFile::new_in(directory).context("a file beside the archive")?;
    let written = image.write(name, BufWriter::new(fresh.as_file()))?;
    std::fs::set_permissions(fresh.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    fresh.persist(output).with_context(|| format!("failed to write {}", output.display()))?;
    let read = Archive::open(output)?;
    println!("{} ({}), {}", written.name, read.config.architecture, written.digest);
    println!("{} packed, {} unpacked: {}", mega(written.layer_bytes), mega(read.bytes()), output.display());
    Ok(())
}

/// Builds the programs; gives their directory.
fn build(profile: Profile) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(ROOT).args(["build", "--message-format=json-render-diagnostics", "--bins"]);
    match profile {
        // All of it: as `cargo test --workspace` has built it, so that nothing is built anew.
        Profile::Dev => cargo.arg("--workspace"),
        // Only what is shipped: nothing that tests alone need is compiled in.
        Profile::Release => {
            cargo.args(["--release", "-p", "lockstep-operator", "-p", "lockstep-agent", "-p", "lockstep-cli"])
        }
    };
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo")?;
    if !output.status.success() {
        bail!(
            Problem::new(
                "the image cannot be made: its programs do not build",
                format!("cargo ended with {}", output.status)
            )
            .likely("what the compiler says above")
            .next("mend it, and try again")
            .kept("nothing was written")
        );
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    let found = executables.find(|path| path.file_name().is_some_and(|name| name == PROGRAMS[0]));
    let program = found.with_context(|| format!("cargo names no {}", PROGRAMS[0]))?;
    Ok(program.parent().context("a program lies in a directory")?.to_owned())
}

/// Commit of the sources, with a mark where they are not what was committed; empty outside of a repository.
fn head() -> String {
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return String::new() };
    let is_clean = git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    if is_clean { commit } else { format!("{commit}-dirty") }
}

fn head_time() -> Option<u64> {
    git(&["log", "-1", "--format=%ct"])?.parse().ok()
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(ROOT).args(args).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(ROOT).join("target"), PathBuf::from)
}

/// Megabytes of 1,000,000 bytes, as registries count them.
fn mega(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}
