//! Places that are wrong: unreachable is exit code 4, refused is 5, and a place that fills up is 1. Nothing is created,
//! overwritten or deleted in any that is not ours; what is kept of such a run is its results directory, with its logs.

mod common;

use common::{LONG, agents, data_files, dir, expect_problem, listing, lives, report, wait_for_files};
use lockstep_core::op::ErrorClass;
use lockstep_core::thresholds::Outcome;
use lockstep_testkit::process::{Dir, Ended, Running, signal, wait_until};
use lockstep_testkit::raw::{Raw, closed_port};
use lockstep_testkit::s3::{ACCESS_KEY, BUCKET, Fault, SECRET_KEY, TestS3};
use lockstep_testkit::tmpfs::with_tmpfs;
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;

/// A manifest for a target, in the form of flow YAML.
fn manifest(dir: &Dir, target: &str, duration: &str, rate: u32) {
    let text = format!(
        "apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: place}}
spec:
  seed: 7
  agents: {{replicas: 2}}
  target: {{{target}}}
  dataset: {{objects: 100, size: {{fixed: 16Ki}}}}
  start: {{maxSkew: 10s}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 2}}}}
    - name: mixed
      execute:
        duration: {duration}
        concurrency: 1
        rate: {{operationsPerSecond: {rate}}}
        operations: [{{op: Put, weight: 100, size: {{fixed: 16Ki}}}}]
    - {{name: cleanup, cleanup: {{concurrency: 2}}, runOn: Always}}
",
    );
    dir.write("run.yaml", text);
}

fn file(path: &Path) -> String {
    format!("uri: \"file://{}\"", path.display())
}

/// What a refusal must say and be.
#[track_caller]
fn expect_stopped(dir: &Dir, name: &str, ended: &Ended, exit: i32, words: &[&str]) {
    let said = format!("{name}\n{}\n{}", ended.stdout, ended.stderr);
    println!("{name}: code {}, {:?}", ended.code, ended.took);
    assert_eq!(ended.code, exit, "{said}");
    expect_problem(&ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not said\n{said}");
    }
    let report = report(dir);
    assert_eq!((report.outcome, i32::from(report.exit_code)), (Outcome::Failed, exit), "{said}");
}

#[test]
fn a_directory_that_is_not_ours_to_use_is_refused_and_stays_as_it_is() {
    let cases: [(&str, &str, &[&str]); 4] = [
        ("no parent", "no/such", &["mkdir -p"]),
        ("foreign", "foreign", &["bears no marker", "precious", "nothing was touched"]),
        ("a file", "afile", &["is no directory"]),
        ("below a file", "afile/below", &["directory"]),
    ];
    for (name, place, words) in cases {
        let dir = dir();
        let root = dir.path().join("root");
        dir.write("root/foreign/precious", "mine");
        dir.write("root/foreign/deeper/d00/obj-00000000", "mine, too");
        dir.write("root/afile", "mine");
        manifest(&dir, &file(&root.join(place)), "1s", 100);
        let before = listing(&root);
        let ended = dir.command().args(["run", "-f", "run.yaml"]).run(LONG);
        expect_stopped(&dir, name, &ended, 5, words);
        assert!(listing(&root) == before, "{name}: {:?}", listing(&root).keys());
    }
}

#[test]
fn a_read_only_file_system_is_refused_before_any_load() {
    for below in ["", "place"] {
        let dir = dir();
        let mount = dir.path().join("mount");
        std::fs::create_dir(&mount).expect("a mount point");
        manifest(&dir, &file(&mount.join(below)), "1s", 100);
        let script = "mount -o remount,ro none \"$1\" && exec \"$2\" run -f run.yaml";
        let ended = mounted(&dir, &mount, 1 << 20, script).wait(LONG);
        expect_stopped(&dir, "read-only", &ended, 5, &["Read-only file system", "findmnt"]);
    }
}

#[test]
fn a_place_that_fills_up_fails_the_stage_with_its_class_and_can_still_be_cleaned_up() {
    let dir = dir();
    let mount = dir.path().join("mount");
    std::fs::create_dir(&mount).expect("a mount point");
    manifest(&dir, &file(&mount.join("place")), "30s", 2_000);
    // The mount is seen by its processes alone: what is left in it is listed there.
    let script = "\"$2\" run -f run.yaml; code=$?; ls -A \"$1\" >left; exit $code";
    let ended = mounted(&dir, &mount, 8 << 20, script).wait(LONG);
    expect_stopped(&dir, "full", &ended, 1, &["No space left on device", "class 'full'", "mixed stopped"]);
    let report = report(&dir);
    let stage = &report.stages[2];
    assert!(stage.total.errors.get(&ErrorClass::Full).is_some_and(|count| *count > 0), "{:?}", stage.total);
    assert!(report.problems.iter().any(|problem| problem.class == Some(ErrorClass::Full)));
    let cleanup = &report.stages[3];
    assert_eq!(cleanup.state, "Done", "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(dir.read("left"), "", "cleanup leaves nothing");
}

/// `sh` with the mount as `$1` and the command as `$2`, in a mount namespace of its own.
fn mounted(dir: &Dir, mount: &Path, bytes: u64, script: &str) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(mount).arg(env!("CARGO_BIN_EXE_lockstep"));
    command.current_dir(dir.path()).env("LC_ALL", "C");
    Running::start(&mut with_tmpfs(mount, bytes, &command))
}

fn run_s3(dir: &Dir, endpoint: &str, bucket: &str, secret: &str) -> Ended {
    manifest(dir, &format!("uri: \"s3://{bucket}/run\", endpoints: [\"{endpoint}\"]"), "1s", 100);
    let command = dir.command().args(["run", "-f", "run.yaml"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", secret).run(LONG)
}

#[test]
fn an_endpoint_that_refuses_hangs_or_speaks_no_s3_is_unreachable() {
    let silent = Raw::silent();
    let garbage = Raw::answering(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 22\r\nConnection: close\r\n\r\n\
          <html>It works!</html>",
    );
    let no_http = Raw::answering(b"220 mail.example.com ESMTP ready\r\n");
    let cases: [(&str, std::net::SocketAddr, &[&str]); 4] = [
        ("refuses", closed_port(), &["connection refused by", "curl"]),
        ("hangs", silent.address(), &["no answer within", "curl"]),
        ("a web page", garbage.address(), &["S3"]),
        ("no HTTP", no_http.address(), &[]),
    ];
    std::thread::scope(|scope| {
        for (name, address, words) in cases {
            scope.spawn(move || {
                let dir = dir();
                let endpoint = format!("http://{address}");
                let ended = run_s3(&dir, &endpoint, BUCKET, SECRET_KEY);
                expect_stopped(&dir, name, &ended, 4, words);
                assert!(ended.stderr.contains(&endpoint), "{name}: {}", ended.stderr);
            });
        }
    });
}

#[test]
fn a_bucket_that_is_missing_or_denied_or_not_ours_is_refused_and_stays_as_it_is() {
    /// Name, bucket, secret, what the server does, words that must be said.
    type Case = (&'static str, &'static str, &'static str, Option<Fault>, &'static [&'static str]);
    let cases: [Case; 5] = [
        ("no bucket", "nosuch", SECRET_KEY, None, &["NoSuchBucket"]),
        ("denied", BUCKET, SECRET_KEY, Some(Fault::deny()), &["AccessDenied"]),
        ("may not write", BUCKET, SECRET_KEY, Some(Fault::deny().verb("PUT")), &["AccessDenied"]),
        ("wrong secret", BUCKET, "wrong", None, &["SignatureDoesNotMatch"]),
        ("foreign", BUCKET, SECRET_KEY, None, &["bears no marker", "nothing was touched"]),
    ];
    for (name, bucket, secret, fault, words) in cases {
        let (dir, server) = (dir(), TestS3::start());
        for key in ["run/precious", "runner/precious", "precious"] {
            if name == "foreign" || key != "run/precious" {
                std::fs::create_dir_all(server.file(key).parent().expect("a parent")).expect("a directory");
                std::fs::write(server.file(key), "mine").expect("an object");
            }
        }
        let _fault = fault.map(|fault| server.fault(fault));
        let objects = || {
            let mut found = listing(&server.directory().join(BUCKET));
            // The server keeps directories where objects were: there are none in S3.
            found.retain(|_, content| content.is_some());
            found
        };
        let before = objects();
        let ended = run_s3(&dir, &server.endpoint(), bucket, secret);
        expect_stopped(&dir, name, &ended, 5, words);
        assert!(objects() == before, "{name}: {:?}", objects().keys());
    }
}

#[test]
fn a_second_run_in_the_same_place_is_refused_and_the_first_is_unharmed() {
    let (first, second) = (dir(), dir());
    let place = first.path().join("place");
    for dir in [&first, &second] {
        manifest(dir, &file(&place), "4s", 200);
    }
    let mut run = first.command().args(["run", "-f", "run.yaml"]).start();
    wait_for_files(&mut run, &place, 110);
    let ended = second.command().args(["run", "-f", "run.yaml"]).run(LONG);
    let words = ["another run is using it", "the lock is held by run", "nothing was touched"];
    expect_stopped(&second, "second", &ended, 5, &words);
    assert!(run.is_running(), "the first run was over before the second was refused");
    run.wait(LONG).expect_code(0);
    let report = report(&first);
    assert_eq!((report.outcome, report.stages[2].total.error_count), (Outcome::Succeeded, 0));
    assert!(!place.exists(), "{:?}", listing(&place).keys());
}

#[test]
fn the_lock_of_a_killed_run_is_taken_over_and_said_so() {
    let (first, second) = (dir(), dir());
    let place = first.path().join("place");
    for dir in [&first, &second] {
        manifest(dir, &file(&place), "2s", 200);
    }
    let mut run = first.command().args(["run", "-f", "run.yaml"]).start();
    wait_for_files(&mut run, &place, 110);
    let killed = agents(run.pid());
    run.signal(Signal::KILL);
    killed.iter().for_each(|agent| signal(agent.pid, Signal::KILL));
    run.wait(LONG).expect_code(128 + 9);
    assert!(wait_until(LONG, || killed.iter().all(|agent| !lives(agent.pid))));
    assert!(data_files(&place) > 100);

    let ended = second.command().args(["run", "-f", "run.yaml"]).run(LONG);
    ended.expect_code(0);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("taken over from run") && said.contains("which is gone"), "{said}");
    assert_eq!(report(&second).outcome, Outcome::Succeeded);
    assert_eq!(report(&second).dataset.map(|ledger| ledger.existed), Some(100));
}

#[test]
fn a_run_whose_lock_another_takes_says_so_and_leaves_the_place_alone() {
    let (dir, server) = (dir(), TestS3::start());
    manifest(&dir, &format!("uri: \"s3://{BUCKET}/run\", endpoints: [\"{}\"]", server.endpoint()), "60s", 50);
    let command = dir.command().args(["run", "-f", "run.yaml"]);
    let command = command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let mut run = command.start();
    assert!(wait_until(LONG, || server.data("PUT") > 110), "the load does not begin");
    assert!(run.is_running());
    let lock = server.file("run/.lockstep.lock");
    let record =
        std::fs::read_to_string(&lock).expect("a lock").replace("\"runUid\": \"", "\"runUid\": \"other-");
    for entry in server.directory().read_dir().expect("the server's directory") {
        let entry = entry.expect("an entry");
        if entry.file_name().to_string_lossy().ends_with(".internal.json") {
            std::fs::remove_file(entry.path()).expect("what the server knows of its objects");
        }
    }
    std::fs::write(&lock, record).expect("another's lock");
    let ended = run.wait(LONG);
    expect_stopped(&dir, "lost", &ended, 5, &["was lost", "it is held by run other-"]);
    assert!(std::fs::read_to_string(&lock).expect("a lock").contains("other-"));
    assert!(server.file("run/.lockstep-data-set.json").exists());
    assert_eq!(report(&dir).stages[3].state, "Skipped", "what is another's is not cleaned up");
    assert_eq!(server.data("DELETE"), 0);
}
