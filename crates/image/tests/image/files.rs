//! What is in it, and what is not.

use crate::{image, make, ours, root};
use lockstep_image::contents::{PROGRAMS, USER, config};
use lockstep_image::elf;
use lockstep_image::oci::{Archive, Entry, Kind, architecture};
use std::collections::BTreeSet;

fn content(path: &str) -> String {
    match image().entries.get(path.trim_start_matches('/')) {
        Some(Entry { kind: Kind::File(content), .. }) => String::from_utf8_lossy(content).into_owned(),
        other => panic!("{path} is no file of the image: {:?}", other.map(|entry| entry.mode)),
    }
}

fn files() -> impl Iterator<Item = (&'static str, &'static [u8], u32)> {
    image().entries.iter().filter_map(|(path, entry)| match &entry.kind {
        Kind::File(content) => Some((path.as_str(), content.as_slice(), entry.mode)),
        Kind::Link(_) | Kind::Directory | Kind::Other(_) => None,
    })
}

/// What the chart starts is there, and its user may start it.
#[test]
fn what_the_chart_starts_is_there() {
    let mut commands = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("deploy/helm/lockstep/templates")).unwrap() {
        let template = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for (_, rest) in template.lines().filter_map(|line| line.split_once("command: [/")) {
            commands.insert(rest.split([',', ']']).next().unwrap().to_owned());
        }
        for (_, user) in template.lines().filter_map(|line| line.split_once("runAsUser: ")) {
            assert_eq!(user.trim(), USER.to_string());
        }
    }
    assert!(commands.contains("lockstep-operator") && commands.contains("lockstep-agent"), "{commands:?}");
    for command in commands.iter().map(String::as_str).chain(PROGRAMS) {
        let (_, _, mode) =
            files().find(|(path, ..)| *path == command).unwrap_or_else(|| panic!("no /{command}"));
        assert_eq!(mode & 0o555, 0o555, "/{command}");
    }
    assert!(content("/etc/passwd").contains(&format!("nonroot:x:{USER}:{USER}:")));
    assert!(content("/etc/group").contains(&format!("nonroot:x:{USER}:")));
}

/// Nothing can be executed but what was meant, and nothing be changed by whom it runs as.
#[test]
fn an_intruder_finds_nothing_to_use() {
    let mut executable = BTreeSet::new();
    for (path, entry) in &image().entries {
        assert!(!matches!(entry.kind, Kind::Other(_)), "/{path}: {:?}", entry.kind);
        assert_eq!(entry.owner, (0, 0), "/{path}");
        let is_file = matches!(entry.kind, Kind::File(_));
        if is_file && entry.mode & 0o111 != 0 {
            executable.insert(path.rsplit('/').next().unwrap().to_owned());
        }
        let may_be_changed = entry.mode & 0o022 != 0 && !matches!(entry.kind, Kind::Link(_));
        assert_eq!(may_be_changed, path == "tmp", "/{path}: mode {:o}", entry.mode);
        assert!(path == "tmp" || entry.mode & 0o7000 == 0, "/{path}: mode {:o}", entry.mode);
    }
    assert_eq!(image().entries["tmp"].mode, 0o1777);
    let meant = |name: &String| PROGRAMS.contains(&name.as_str()) || name.starts_with("ld-linux-");
    let unknown: Vec<&String> = executable.iter().filter(|name| !meant(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for (path, content, mode) in files() {
        let is_library = path.starts_with("usr/lib/") && path.contains(".so.");
        assert!(mode & 0o111 != 0 || is_library || !content.starts_with(b"\x7fELF"), "/{path} is a program");
        assert!(!content.starts_with(b"#!"), "/{path} is a script");
    }
}

/// Every library that anything needs, and no other; nothing of a debugger.
#[test]
fn libraries_are_those_that_are_needed() {
    let names = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let (mut needed, mut there) = (BTreeSet::new(), BTreeSet::new());
    for (path, content, _) in files().filter(|(_, content, _)| content.starts_with(b"\x7fELF")) {
        let needs = elf::needs(content).unwrap_or_else(|error| panic!("/{path}: {error:#}"));
        assert_eq!(needs.architecture, image().config.architecture, "/{path}");
        needed.extend(needs.libraries);
        if let Some(loader) = needs.loader.filter(|_| PROGRAMS.contains(&path)) {
            assert!(image().entries.contains_key(loader.trim_start_matches('/')), "{loader}");
            needed.insert(names(&loader));
        }
        // Names of sections are at the end of the file.
        let end = &content[content.len().saturating_sub(1 << 16)..];
        let has = |section: &[u8]| end.windows(section.len()).any(|window| window == section);
        assert!(has(b".shstrtab\0") && !has(b".debug_line\0"), "/{path} has line tables");
        if !PROGRAMS.contains(&path) {
            there.insert(names(path));
        }
    }
    assert_eq!(there, needed);
}

#[test]
fn it_says_what_it_is() {
    let image = image();
    let revision = "org.opencontainers.image.revision";
    let own = config(architecture(std::env::consts::ARCH), &image.config.labels[revision]);
    assert_eq!(image.config, own);
    assert_eq!(own.user, format!("{USER}:{USER}"));
    assert_eq!(own.labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
}

/// Scanners, lawyers and TLS find what they look for.
#[test]
fn packages_licences_and_authorities_are_named() {
    assert!(content("/usr/lib/os-release").contains("VERSION_ID="));
    for package in ["base-files", "ca-certificates", "libc6", "libgcc-s1"] {
        let status = content(&format!("/var/lib/dpkg/status.d/{package}"));
        for field in [format!("Package: {package}\n"), "\nVersion: ".to_owned()] {
            assert!(format!("\n{status}").contains(&field), "{status}");
        }
    }
    assert!(content("/usr/share/doc/libc6/copyright").contains("GNU Lesser"));
    let libgcc =
        files().find(|(path, ..)| path.starts_with("usr/share/doc/gcc-") && path.ends_with("/copyright"));
    assert!(
        libgcc
            .is_some_and(|(_, text, _)| String::from_utf8_lossy(text).contains("RUNTIME LIBRARY EXCEPTION"))
    );
    assert!(content("/usr/share/doc/lockstep/LICENSE").contains("Apache License"));
    let authorities = content("/etc/ssl/certs/ca-certificates.crt");
    let (begun, ended) = ("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n");
    assert!(authorities.matches(begun).count() > 100);
    assert_eq!(authorities.matches(begun).count(), authorities.matches(ended).count());
}

/// The same programs give the same bytes, whatever the time and place, and `--tree` gives the files of the archive.
#[test]
fn it_is_the_same_twice_and_as_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let said = make(&["--output", &path("elsewhere/a.tar"), "--name", "registry.example/lockstep:7"]);
    let archive = Archive::open(path("elsewhere/a.tar").as_ref()).unwrap();
    // The digest is that of everything but the name.
    assert_eq!(archive.digest, ours().digest);
    assert_eq!(archive.name.as_deref(), Some("registry.example/lockstep:7"));
    assert_eq!(
        ours().name.as_deref(),
        Some(concat!("docker.io/library/lockstep:", env!("CARGO_PKG_VERSION")))
    );
    assert!(said.contains(&archive.digest) && said.contains(&path("elsewhere/a.tar")), "{said}");
    assert!(archive.entries.values().all(|entry| entry.time_s.to_string() == crate::TIME_S));
    make(&["--tree", &path("tree")]);
    crate::container::same_files(&path("tree"), &archive);
}

/// LABEL, USER, ENV and ENTRYPOINT of the Dockerfile are those of the image that is made without it; its compiler is ours.
#[test]
fn the_dockerfile_says_the_same() {
    let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let last = text.rsplit_once("FROM scratch\n").expect("it ends with a stage from scratch").1;
    let of = |word: &str| {
        let lines = last.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        lines.map(str::trim).collect::<Vec<_>>()
    };
    let own = config("amd64", "$REVISION");
    let label = of("LABEL").concat();
    let mut count = 0;
    for (name, value) in &own.labels {
        assert!(label.contains(&format!("{name}=\"{value}\"")), "{name} in\n{label}");
        count += 1;
    }
    assert_eq!(label.matches("=\"").count(), count, "{label}");
    assert_eq!(of("USER"), [own.user]);
    assert_eq!(of("ENV"), own.environment);
    assert_eq!(of("ENTRYPOINT"), [format!("{:?}", own.entrypoint)]);
    assert_eq!(of("COPY"), ["--from=files / /"]);
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    assert!(makefile.contains(concat!("--tag lockstep:", env!("CARGO_PKG_VERSION"), " ")), "{makefile}");
    assert!(text.contains(&format!("ARG RUST_VERSION={}\n", env!("CARGO_PKG_RUST_VERSION"))));
}
