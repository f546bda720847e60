//! Debian packages: fetched by this machine's own apt into the user's cache, and read without being installed.
//!
//! apt knows which version is current, where it lies and what its hash is (`apt-get download --print-uris`, which asks
//! no network), so a version that is in the cache is not fetched again, and one that is not what apt says is refused.
//! No root is needed, nothing is unpacked to disk, and no script of a package is run.
//!
//! Which distribution they are of follows this machine, and must: programs that were linked here want a libc that is at
//! least as new.

use anyhow::{Context, Result, bail};
use lockstep_core::problem::Problem;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A package, read.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its fields, as dpkg keeps them.
    pub control: String,
    /// Its regular files, by path without a slash at its beginning.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Where apt says that a package is.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    file: String,
    sha256: String,
}

/// Fetches and reads packages, named as apt does: `libc6:arm64`, or `ca-certificates`, which is for all architectures.
///
/// # Errors
/// apt or dpkg-deb is not there, or a package cannot be had: a [`Problem`] that says what to do.
pub fn read<N: AsRef<str>>(names: &[N]) -> Result<Vec<Package>> {
    let cache = user_cache().join("lockstep").join("packages");
    std::fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
    names.iter().map(|name| one(name.as_ref(), &cache)).collect()
}

fn one(package: &str, cache: &Path) -> Result<Package> {
    // A directory of its own, and moved from in one step: several processes may want it at once. And apt says nothing
    // of what it finds there.
    let fresh = tempfile::tempdir_in(cache).context("a directory in the cache")?;
    let asked = apt(&["download", "--print-uris", package], fresh.path(), package)?;
    let offer = offer(&String::from_utf8_lossy(&asked.stdout))
        .ok_or_else(|| problem(package, "apt-get names no file with a SHA256 for it"))?;
    let path = cache.join(&offer.file);
    if std::fs::read(&path).map_or(true, |held| sha256(&held) != offer.sha256) {
        apt(&["download", package], fresh.path(), package)?;
        let got = fresh.path().join(&offer.file);
        let content = std::fs::read(&got)
            .map_err(|error| problem(package, &format!("apt-get left no {}: {error}", offer.file)))?;
        let is = sha256(&content);
        if is != offer.sha256 {
            bail!(problem(
                package,
                &format!("{} has SHA256 {is}, apt's lists say {}", offer.file, offer.sha256)
            ));
        }
        std::fs::rename(&got, &path).with_context(|| format!("failed to move {}", got.display()))?;
    }
    let control = dpkg(&["--field", &path.to_string_lossy()], package)?;
    let tar = dpkg(&["--fsys-tarfile", &path.to_string_lossy()], package)?;
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar.as_slice()).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            files.insert(path, content);
        }
    }
    let name = package.split(':').next().unwrap_or(package).to_owned();
    Ok(Package { name, control: String::from_utf8(control)?, files })
}

/// The line `'URI' FILE SIZE SHA256:HASH`.
fn offer(said: &str) -> Option<Offer> {
    let line = said.lines().find(|line| line.starts_with('\''))?;
    let mut words = line.split_whitespace().skip(1);
    let file = words.next()?.to_owned();
    let sha256 = words.find_map(|word| word.strip_prefix("SHA256:"))?.to_owned();
    (!file.contains('/')).then_some(Offer { file, sha256 })
}

fn apt(args: &[&str], directory: &Path, package: &str) -> Result<Output> {
    // Fetched as whoever asks: apt's own user may not write to the cache of another.
    let user = ["-o", "APT::Sandbox::User=root"];
    run(Command::new("apt-get").args(user).args(args).current_dir(directory), package)
}

fn dpkg(args: &[&str], package: &str) -> Result<Vec<u8>> {
    Ok(run(Command::new("dpkg-deb").args(args), package)?.stdout)
}

fn run(command: &mut Command, package: &str) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.env("LC_ALL", "C").output();
    let output = output.map_err(|error| problem(package, &format!("{program} cannot be run: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(problem(package, &format!("{program} ended with {}\n{}", output.status, said.trim())));
    }
    Ok(output)
}

fn problem(package: &str, cause: &str) -> Problem {
    Problem::new(format!("the image cannot be made: the Debian package {package} cannot be had"), cause)
        .likely("this machine is no Debian or Ubuntu, and has no apt-get and dpkg-deb")
        .likely("apt's lists are missing or old, or the archive cannot be reached")
        .likely("the package is of another architecture, which dpkg has not been told of")
        .next("apt-get update (as root), and try again")
        .next("for another architecture: dpkg --add-architecture ARCHITECTURE && apt-get update (as root)")
        .next("or build it with Docker, which needs nothing of this machine: make image-docker")
        .kept("nothing was written besides the cache of packages")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The user's cache directory.
fn user_cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_offers_is_understood() {
        let said = "'http://deb.example/libc6_2.36-9%2bdeb_amd64.deb' libc6_2.36-9+deb_amd64.deb 2759320 SHA256:00ff\n";
        let expected = Offer { file: "libc6_2.36-9+deb_amd64.deb".to_owned(), sha256: "00ff".to_owned() };
        assert_eq!(offer(said), Some(expected));
        assert_eq!(offer(""), None);
        assert_eq!(offer("'http://x/y.deb' ../y.deb 1 SHA256:00"), None);
    }

    #[test]
    fn what_cannot_be_had_says_what_to_do() {
        let missing = run(&mut Command::new("/nonexistent/apt-get"), "libc6:amd64").unwrap_err().to_string();
        for part in ["libc6:amd64", "cannot be run", "likely", "apt-get update", "make image-docker", "kept"]
        {
            assert!(missing.contains(part), "{missing}");
        }
        let failed = run(Command::new("sh").args(["-c", "echo E: no such package >&2; exit 100"]), "x:amd64");
        assert!(failed.unwrap_err().to_string().contains("E: no such package"));
    }
}
