//! What is in the image, and what it says of itself: the one place that decides it, for `cargo xtask image` and the
//! Dockerfile alike.
//!
//! The programs, stripped; the loader and the libraries that they name, and those that these name; the certificates of
//! public authorities; and the few files by which a libc knows users and how names are resolved. No shell, no package
//! manager, nothing that is setuid or that others may write but `/tmp`. What each package is, and under which licence,
//! stands where scanners look for it (`/var/lib/dpkg/status.d`, `/usr/share/doc`).
//!
//! The programs are linked dynamically on purpose: a glibc that is linked statically loads the very same libraries when
//! it resolves a name, and fails where they are missing.

use crate::oci::{Config, Image};
use crate::packages::{self, Package};
use crate::{elf, strip};
use anyhow::{Context, Result, ensure};
use lockstep_core::problem::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The programs, each at `/<name>`: `operator.yaml` and `installation.yaml` of the chart name the first two.
pub const PROGRAMS: [&str; 3] = ["lockstep-operator", "lockstep-agent", "lockstep"];
/// Whom they run as: `nonroot` of distroless images.
pub const USER: u64 = 65_532;
/// What the image needs of Debian: the distribution's name, the libc, and what unwinds a panic's stack.
const PACKAGES: [&str; 3] = ["base-files", "libc6", "libgcc-s1"];
/// Public authorities, the same for all architectures.
const AUTHORITIES_PACKAGE: &str = "ca-certificates";
/// Where programs look for the certificates of public authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is known besides the programs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Commit of the sources; no label when empty.
    pub revision: String,
    /// Time that everything bears, seconds since 1970.
    pub time_s: u64,
}

/// What the image says of itself.
#[must_use]
pub fn config(architecture: &str, revision: &str) -> Config {
    let labels = [
        ("title", "Lockstep"),
        ("description", "Coordinated storage benchmarks: operator, agent and command line"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("source", env!("CARGO_PKG_REPOSITORY")),
        ("revision", revision),
    ];
    let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
    Config {
        architecture: architecture.to_owned(),
        user: format!("{USER}:{USER}"),
        entrypoint: vec!["/lockstep".to_owned()],
        environment: vec!["PATH=/".to_owned()],
        working_directory: "/".to_owned(),
        labels: labels
            .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()))
            .collect(),
        command: Vec::new(),
    }
}

/// The image of the programs in a directory.
///
/// # Errors
/// A program is missing or none of one architecture with the others, or a package cannot be had.
pub fn image(binaries: &Path, facts: &Facts) -> Result<Image> {
    let (mut programs, mut all) = (Vec::new(), Vec::new());
    for name in PROGRAMS {
        let path = binaries.join(name);
        let whole = std::fs::read(&path).map_err(|error| missing(&path, &error))?;
        let needs = elf::needs(&whole).with_context(|| path.display().to_string())?;
        programs.push((name, strip::strip(&path, needs.architecture)?));
        all.push(needs);
    }
    let architecture = all[0].architecture;
    ensure!(
        all.iter().all(|needs| needs.architecture == architecture),
        "{} has programs of several architectures",
        binaries.display()
    );
    let mut names = PACKAGES.map(|name| format!("{name}:{architecture}")).to_vec();
    names.push(AUTHORITIES_PACKAGE.to_owned());
    let mut packages = packages::read(&names)?;
    // Where the licence of libgcc is: `gcc-12-base`, of another number in each release.
    let base: Vec<&str> = packages.iter().filter_map(|package| gcc_base(&package.control)).collect();
    ensure!(base.len() == 1, "libgcc-s1 depends on no gcc-…-base: {base:?}");
    let base = format!("{}:{architecture}", base[0]);
    packages.extend(packages::read(&[base])?);
    let mut image = Image::new(config(architecture, &facts.revision)).time(facts.time_s);
    for (name, program) in programs {
        image = image.bytes(&format!("/{name}"), program, 0o755);
    }
    let loaders: BTreeSet<&str> = all.iter().filter_map(|needs| needs.loader.as_deref()).collect();
    for (path, content) in libraries(&all, &loaders, &packages)? {
        // A library is mapped, never started.
        let mode = if loaders.contains(path.as_str()) { 0o755 } else { 0o644 };
        image = image.bytes(&path, content, mode);
    }
    Ok(accounts(system(image, &packages)?))
}

fn gcc_base(control: &str) -> Option<&str> {
    let depends = control.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let mut names = depends.split(", ").filter_map(|wanted| wanted.split_whitespace().next());
    names.find(|name| name.starts_with("gcc-") && name.ends_with("-base"))
}

/// Loader and libraries, by their path in the image.
fn libraries(
    all: &[elf::Needs],
    loaders: &BTreeSet<&str>,
    packages: &[Package],
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut placed = BTreeMap::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for &loader in loaders {
        let name = loader.rsplit('/').next().unwrap_or(loader).to_owned();
        let (_, content) = library(&name, packages)?;
        placed.insert(loader.to_owned(), content.clone());
        seen.insert(name);
    }
    let mut left: Vec<String> = all.iter().flat_map(|needs| needs.libraries.clone()).collect();
    while let Some(name) = left.pop() {
        if seen.insert(name.clone()) {
            let (path, content) = library(&name, packages)?;
            // Debian 12 packs what Debian 13 has below /usr; the loader looks into both.
            placed.insert(format!("/usr/{}", path.trim_start_matches("usr/")), content.clone());
            left.extend(elf::needs(content).with_context(|| name.clone())?.libraries);
        }
    }
    Ok(placed)
}

/// The file of a library, by its name.
fn library<'a>(name: &str, packages: &'a [Package]) -> Result<(&'a str, &'a Vec<u8>)> {
    let files = packages.iter().flat_map(|package| &package.files);
    let mut found = files.filter(|(path, _)| path.contains("lib/") && path.ends_with(&format!("/{name}")));
    found.next().map(|(path, content)| (path.as_str(), content)).ok_or_else(|| {
        Problem::new(
            format!("the image cannot be made: a program needs {name}"),
            "no package of the image has it",
        )
        .likely("a dependency links to a library of the system since lately")
        .likely("the programs were built for another distribution, or against musl")
        .next("do without that library, or add its package to PACKAGES in crates/image/src/contents.rs")
        .next("build the programs on this machine: leave --binaries out")
        .kept("nothing was written")
        .into()
    })
}

/// Authorities, the name of the distribution, and what the packages are.
fn system(mut image: Image, packages: &[Package]) -> Result<Image> {
    let mut authorities = String::new();
    for package in packages {
        for (path, content) in &package.files {
            if path.starts_with("usr/share/ca-certificates/") && path.ends_with(".crt") {
                authorities.push_str(std::str::from_utf8(content).with_context(|| path.clone())?);
            } else if path == "usr/lib/os-release"
                || *path == format!("usr/share/doc/{}/copyright", package.name)
            {
                image = image.bytes(path, content.clone(), 0o644);
            }
        }
        let status = format!("/var/lib/dpkg/status.d/{}", package.name);
        image = image.bytes(&status, package.control.clone(), 0o644);
    }
    ensure!(authorities.contains("BEGIN CERTIFICATE"), "the package ca-certificates has no certificate");
    let licence = include_str!("../../../LICENSE");
    Ok(image
        .bytes(AUTHORITIES, authorities, 0o644)
        .bytes("/usr/share/doc/lockstep/LICENSE", licence, 0o644)
        .link("/etc/os-release", "../usr/lib/os-release"))
}

/// Whom a libc knows, where it looks names up, and the one place that everybody may write to.
fn accounts(image: Image) -> Image {
    let passwd =
        format!("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n");
    image
        .bytes("/etc/passwd", passwd, 0o644)
        .bytes("/etc/group", format!("root:x:0:\nnonroot:x:{USER}:\n"), 0o644)
        // The kubelet's hosts file first, then DNS.
        .bytes("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
        .directory("/tmp", 0o1777)
}

fn missing(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(format!("the image cannot be made: {} cannot be read", path.display()), error.to_string())
        .likely("--binaries names a directory where not all three programs are")
        .next(format!("name one with {}", PROGRAMS.join(", ")))
        .next("or leave --binaries out: they are built first")
        .kept("nothing was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_no_package_has_says_what_to_do() {
        let refused = library("libssl.so.3", &[]).unwrap_err().to_string();
        for part in ["libssl.so.3", "cause", "likely", "next", "PACKAGES", "kept"] {
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn the_package_with_the_licence_of_libgcc_is_found() {
        let control =
            "Package: libgcc-s1\nDepends: gcc-12-base (= 12.2), libc6 (>= 2.35)\nReplaces: libgcc1\n";
        assert_eq!(gcc_base(control), Some("gcc-12-base"));
        assert_eq!(gcc_base("Package: libc6\nDepends: libgcc-s1\n"), None);
    }

    #[test]
    fn a_directory_without_programs_says_what_to_do() {
        let refused = image(Path::new("/nonexistent"), &Facts::default()).unwrap_err().to_string();
        assert!(refused.contains("/nonexistent/lockstep-operator"), "{refused}");
        assert!(refused.contains("--binaries"), "{refused}");
    }
}
