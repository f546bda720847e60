//! The image that Docker makes of the same files, where Docker is: held against ours.
//!
//! Only the last stage of the Dockerfile is built, with our files in the place of its stage `files`: seconds instead of
//! a release build, and no network. What the stages before it do is this crate's own command, and CI builds them.

use crate::{REVISION, TIME_S, make, ours, root};
use lockstep_image::oci::{Archive, Entry};
use std::collections::BTreeMap;
use std::process::Command;

fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).current_dir(root()).output();
    let output = output.map_err(|error| format!("docker cannot be run: {error}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

/// Times aside: the builder gives directories its own.
fn files(image: &Archive) -> BTreeMap<&str, Entry> {
    let timeless = |entry: &Entry| Entry { time_s: 0, ..entry.clone() };
    image.entries.iter().map(|(path, entry)| (path.as_str(), timeless(entry))).collect()
}

#[test]
fn docker_makes_the_same_image() {
    // Said past the capture of the test harness: this is no pass in silence.
    let missing = |why: &str| {
        use std::io::Write as _;
        let line = format!(
            "docker_makes_the_same_image: not compared, no Docker engine with buildx answers: {why}\n"
        );
        let _ = std::io::stderr().write_all(line.as_bytes());
    };
    if let Err(why) =
        docker(&["version", "--format", "{{.Server.Version}}"]).and_then(|_| docker(&["buildx", "version"]))
    {
        missing(&why);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    make(&["--tree", &path("files")]);
    let tag = format!("lockstep-test:{}", std::process::id());
    let (files_of, revision) = (format!("files={}", path("files")), format!("REVISION={REVISION}"));
    let epoch = format!("SOURCE_DATE_EPOCH={TIME_S}");
    let made = docker(&[
        "buildx",
        "build",
        "--load",
        "--provenance=false",
        "--build-context",
        &files_of,
        "--build-arg",
        &revision,
        "--build-arg",
        &epoch,
        "--tag",
        &tag,
        ".",
    ])
    .and_then(|_| docker(&["save", "--output", &path("docker.tar"), &tag]));
    let _ = docker(&["image", "rm", "--force", &tag]);
    made.unwrap_or_else(|why| panic!("{why}"));
    let made = Archive::open(path("docker.tar").as_ref()).expect("Docker 25 or later saves OCI archives");
    let ours = ours();
    assert_eq!(made.config, ours.config);
    assert_eq!(files(&made).keys().collect::<Vec<_>>(), files(ours).keys().collect::<Vec<_>>());
    let made = files(&made);
    for (path, entry) in files(ours) {
        assert!(made[path] == entry, "/{path} differs");
    }
}
