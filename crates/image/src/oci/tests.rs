//! What was written, read back; and read by others, where they are there.

use super::*;

fn sample(directory: &Path) -> Image {
    let program = directory.join("program");
    std::fs::write(&program, b"\x7fELF").unwrap();
    let config = Config {
        architecture: "arm64".to_owned(),
        user: "65532:65532".to_owned(),
        entrypoint: vec!["/program".to_owned()],
        command: vec!["--help".to_owned()],
        environment: vec!["A=b".to_owned()],
        working_directory: "/etc".to_owned(),
        labels: BTreeMap::from([("org.opencontainers.image.title".to_owned(), "Sample".to_owned())]),
    };
    Image::new(config)
        .time(1_700_000_000)
        .file("/program", &program, 0o555)
        .bytes("/etc/deep/down/passwd", "root", 0o444)
        .link("/lib", "usr/lib")
        .directory("/tmp", 0o1777)
        .directory("/data", 0o700)
        .owned("/data", 65_532, 65_533)
        .bytes(&format!("/{}/name", "long".repeat(40)), "x", 0o644)
}

fn packed(image: &Image, name: &str) -> (Vec<u8>, Written) {
    let mut bytes = Vec::new();
    let written = image.write(name, &mut bytes).unwrap();
    (bytes, written)
}

#[test]
fn what_was_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let image = sample(directory.path());
    let (bytes, written) = packed(&image, "lockstep:test");
    let read = Archive::read(bytes.as_slice()).unwrap();
    assert_eq!(read.config, image.config);
    assert_eq!(read.name.as_deref(), Some("docker.io/library/lockstep:test"));
    assert_eq!((&read.name, &read.digest), (&Some(written.name), &written.digest));
    assert_eq!(read.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    let paths: Vec<&str> =
        read.entries.keys().map(String::as_str).filter(|path| !path.starts_with("long")).collect();
    assert_eq!(
        paths,
        ["data", "etc", "etc/deep", "etc/deep/down", "etc/deep/down/passwd", "lib", "program", "tmp"]
    );
    let entry = |path: &str| &read.entries[path];
    assert_eq!(entry("program").kind, Kind::File(b"\x7fELF".to_vec()));
    assert_eq!((entry("program").mode, entry("program").owner), (0o555, (0, 0)));
    assert_eq!(entry("lib").kind, Kind::Link("usr/lib".to_owned()));
    assert_eq!((&entry("tmp").kind, entry("tmp").mode), (&Kind::Directory, 0o1777));
    assert_eq!((entry("data").mode, entry("data").owner), (0o700, (65_532, 65_533)));
    assert_eq!((&entry("etc/deep").kind, entry("etc/deep").mode), (&Kind::Directory, 0o755));
    assert!(read.entries.values().all(|entry| entry.time_s == 1_700_000_000));
    let long = format!("{}/name", "long".repeat(40));
    assert_eq!(entry(&long).kind, Kind::File(b"x".to_vec()));
}

#[test]
fn two_writes_are_the_same_bytes_and_any_change_another_digest() {
    let directory = tempfile::tempdir().unwrap();
    let (first, written) = packed(&sample(directory.path()), "lockstep:test");
    // Anew, from files with other times and owners, and placed in another order.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut turned = sample(elsewhere.path());
    std::fs::File::open(elsewhere.path().join("program"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    let entries = std::mem::take(&mut turned.entries);
    turned.entries.extend(entries.into_iter().rev());
    assert!(first == packed(&turned, "lockstep:test").0, "two writes differ");
    for other in [
        sample(directory.path()).bytes("/more", "", 0o444),
        sample(directory.path()).time(1),
        sample(directory.path()).owned("/tmp", 1, 0),
    ] {
        assert_ne!(packed(&other, "lockstep:test").1.digest, written.digest);
    }
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (mut bytes, _) = packed(&sample(directory.path()), "lockstep:test");
    // In the configuration, which alone holds this.
    let at = bytes.windows(6).position(|window| window == b"Sample").expect("the label is there");
    bytes[at] = b's';
    let refused = Archive::read(bytes.as_slice()).unwrap_err().to_string();
    assert!(refused.contains("sha256:"), "{refused}");
    let refused = Archive::read([0; 1024].as_slice()).unwrap_err().to_string();
    assert!(refused.contains("no index.json"), "{refused}");
}

#[test]
fn names_are_those_that_runtimes_know() {
    for (name, full) in [
        ("lockstep", "docker.io/library/lockstep:latest"),
        ("lockstep:test", "docker.io/library/lockstep:test"),
        ("owner/lockstep:1", "docker.io/owner/lockstep:1"),
        ("ghcr.io/owner/lockstep", "ghcr.io/owner/lockstep:latest"),
        ("localhost/lockstep:1", "localhost/lockstep:1"),
        ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
    ] {
        assert_eq!(full_name(name), full);
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in ["/", "/a/../b", "/a//b", "./a"] {
        let placed = std::panic::catch_unwind(|| Image::new(Config::host()).directory(path, 0o755));
        assert!(placed.is_err(), "{path}");
    }
}

/// GNU tar reads both tars, with owners, modes and links as they were meant.
#[test]
fn the_tar_of_the_system_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, written) = packed(&sample(directory.path()), "lockstep:test");
    let archive = directory.path().join("image.tar");
    std::fs::write(&archive, &bytes).unwrap();
    let run = |args: &[&str]| {
        let output =
            std::process::Command::new("tar").args(args).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["-xf", "image.tar"]);
    let read = |path: &str| std::fs::read_to_string(directory.path().join(path)).unwrap();
    let index: Value = serde_json::from_str(&read("index.json")).unwrap();
    let annotations = &index["manifests"][0]["annotations"];
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "test");
    assert_eq!(annotations["io.containerd.image.name"], "docker.io/library/lockstep:test");
    assert_eq!(index["manifests"][0]["digest"], written.digest.as_str());
    let docker: Value = serde_json::from_str(&read("manifest.json")).unwrap();
    let layer = docker[0]["Layers"][0].as_str().unwrap();
    let listed = run(&["--numeric-owner", "-tvzf", layer]);
    for line in ["drwx------ 65532/65533", "-r-xr-xr-x 0/0", "lib -> usr/lib", "drwxrwxrwt 0/0"] {
        assert!(listed.contains(line), "{line} is not in\n{listed}");
    }
}
