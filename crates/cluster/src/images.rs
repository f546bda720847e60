//! The images that every node has, made here out of static programs, and the import of any.
//!
//! | image | what |
//! |---|---|
//! | `lockstep-test/pod:1` | holds the namespaces of pods; asks the network from within one (`tests/control-plane/pod`) |
//! | `lockstep-test/busybox:1` | a shell, for provisioned volumes and for whoever looks around |
//! | `chrislusf/seaweedfs:4.48` | an S3 server under the name of its own image, so that manifests need no other; runs as 65532, its data in `/data` |
//!
//! Nothing is pulled: a pod names what was imported, and its pull policy is `IfNotPresent` or `Never`.

use crate::machine::{Machine, expect};
use crate::programs::Programs;
use anyhow::{Context, Result};
use lockstep_core::problem::Problem;
use lockstep_testcluster::cache;
use lockstep_testkit::oci::{Config, Image};
use lockstep_testkit::seaweed;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// What holds the namespaces of pods.
pub(crate) const POD: &str = "docker.io/lockstep-test/pod:1";
/// A shell.
pub(crate) const BUSYBOX: &str = "docker.io/lockstep-test/busybox:1";
/// User of images that need no rights.
const USER: u64 = 65532;
/// To be raised with what is made here, so that nobody keeps an archive of before.
const FORMAT: u32 = 1;
/// Names by which busybox is called.
const APPLETS: &str = "sh cat chmod chown cp cut date dd df du echo env false find grep head hostname id ip kill ln ls mkdir \
                       mount mv nc nslookup od ping printf ps pwd rm rmdir sed sleep sort stat sync tail tee test touch tr \
                       true uname uniq wc wget which xargs";

/// Archives of the images of every node, made if they are not in the cache.
pub(crate) fn own(programs: &Programs) -> Result<Vec<PathBuf>> {
    let busybox = programs.packages.busybox()?;
    let weed = seaweed::install();
    let version = seaweed::VERSION;
    Ok(vec![
        archive(POD, &programs.pod, |program| {
            let config = Config {
                entrypoint: vec!["/pod".to_owned()],
                command: vec!["pause".to_owned()],
                user: format!("{USER}:{USER}"),
                ..Config::host()
            };
            Image::new(config).file("/pod", program, 0o555)
        })?,
        archive(BUSYBOX, &busybox, |program| {
            let config = Config {
                command: vec!["/bin/sh".to_owned()],
                environment: vec!["PATH=/bin".to_owned()],
                ..Config::host()
            };
            let image = Image::new(config).file("/bin/busybox", program, 0o555).directory("/tmp", 0o1777);
            APPLETS
                .split_whitespace()
                .fold(image, |image, name| image.link(&format!("/bin/{name}"), "busybox"))
        })?,
        archive(&format!("docker.io/chrislusf/seaweedfs:{version}"), &weed, |program| {
            let config = Config {
                entrypoint: vec!["/usr/bin/weed".to_owned()],
                command: vec!["server".to_owned(), "-dir=/data".to_owned(), "-s3".to_owned()],
                user: format!("{USER}:{USER}"),
                ..Config::host()
            };
            let image = Image::new(config).level(1).file("/usr/bin/weed", program, 0o555);
            image.directory("/data", 0o700).owned("/data", USER, USER).directory("/tmp", 0o1777)
        })?,
    ])
}

/// The archive of an image that consists of a program; of another program it is another file.
fn archive(name: &str, program: &Path, image: impl Fn(&Path) -> Image) -> Result<PathBuf> {
    let content = std::fs::metadata(program).with_context(|| program.display().to_string())?;
    let key = format!("{FORMAT} {name} {} {} {:?}", program.display(), content.len(), content.modified()?);
    let hash: String = Sha256::digest(key).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let short = name.rsplit('/').next().unwrap_or(name).replace(':', "-");
    let directory = cache().join("images");
    let path = directory.join(format!("{short}-{hash}.tar"));
    if !path.exists() {
        std::fs::create_dir_all(&directory)?;
        let fresh = directory.join(format!(".{short}.{}", std::process::id()));
        image(program).write(name, BufWriter::new(File::create(&fresh)?))?;
        std::fs::rename(&fresh, &path)?;
    }
    Ok(path)
}

/// Imports archives into nodes, all at once.
pub(crate) fn import<'a>(
    nodes: impl Iterator<Item = &'a Machine>,
    programs: &Programs,
    archives: &[PathBuf],
) -> Result<()> {
    let ctr = programs.packages.bin().join("ctr");
    let import = |node: &Machine| -> Result<()> {
        for archive in archives {
            let file = File::open(archive).map_err(|error| unreadable(archive, &error))?;
            let mut command = node.command(&ctr)?;
            // From stdin: its /tmp and /var are not ours.
            command.args(["--namespace=k8s.io", "images", "import", "-"]).stdin(file);
            expect(
                &format!("{} was not imported into {}", archive.display(), node.name),
                &command.output()?,
            )?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let import = &import;
        let importing: Vec<_> = nodes.map(|node| scope.spawn(move || import(node))).collect();
        importing
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

pub(crate) fn unreadable(archive: &Path, error: &std::io::Error) -> Problem {
    Problem::new(format!("{} was not imported", archive.display()), error.to_string())
        .likely("the image was not built yet")
        .next("cargo xtask image --profile dev")
        .kept("the cluster, and the images that it had")
}
