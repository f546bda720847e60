//! Reading a manifest from a file or standard input, never more than a manifest may have, and making the plan.

use crate::args::request::Input;
use lockstep_api::fault;
use lockstep_api::manifest::{self, Manifest, SIZE_MAX};
use lockstep_api::resolve::{ResolveOptions, Resolved};
use lockstep_core::problem::{Problem, exit};
use serde_json::{Value, json};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// Where a manifest comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestSource {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl fmt::Display for ManifestSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("-"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Reads and checks the form of a manifest, with its overrides.
///
/// # Errors
///
/// When it cannot be read, is too large, or does not fit the schema; every fault is in the problem.
pub fn load(input: &Input) -> Result<Manifest, Box<Problem>> {
    let bytes = match &input.source {
        ManifestSource::Stdin => bounded(io::stdin().lock()),
        ManifestSource::File(path) => File::open(path).and_then(bounded),
    };
    let bytes = bytes.map_err(|error| unreadable(&input.source, &error))?;
    if bytes.len() > SIZE_MAX {
        return Err(Box::new(
            Problem::new(
                format!("{} was refused: it is too large", input.source),
                "more than 1 MiB was read",
            )
            .likely("it is not a manifest, but data or a log")
            .next("name the YAML file of a BenchmarkRun with -f")
            .kept("nothing was started and nothing was written")
            .exit(exit::REFUSED),
        ));
    }
    manifest::load(&bytes, &input.overrides).map_err(|faults| refused(input, &faults))
}

/// Makes the plan of a run on this machine.
///
/// # Errors
///
/// Every fault of meaning, as one problem.
pub fn resolve_local(input: &Input, manifest: &Manifest, uid: &str) -> Result<Resolved, Box<Problem>> {
    let options = ResolveOptions { replicas: input.agents, uid: uid.to_owned(), local: true };
    manifest.resolve(&options).map_err(|faults| refused(input, &faults))
}

/// Makes the plan of a run wherever it may run: for this machine, or, where that alone refuses it, for a cluster.
/// What this machine refuses then stands among the notes.
///
/// # Errors
///
/// Every fault that stands in the way anywhere, as one problem.
pub fn resolve_anywhere(input: &Input, manifest: &Manifest) -> Result<Resolved, Box<Problem>> {
    let options = ResolveOptions { replicas: input.agents, uid: String::new(), local: true };
    let faults = match manifest.resolve(&options) {
        Ok(resolved) => return Ok(resolved),
        Err(faults) => faults,
    };
    match manifest.resolve(&ResolveOptions { local: false, ..options }) {
        Ok(mut resolved) => {
            resolved.notes.extend(faults.iter().map(|fault| format!("`lockstep run` refuses it: {fault}")));
            Ok(resolved)
        }
        Err(_) => Err(refused(input, &faults)),
    }
}

/// Makes the plan of a run on a cluster.
///
/// # Errors
///
/// Every fault of meaning, as one problem.
pub fn resolve_for_cluster(input: &Input, manifest: &Manifest) -> Result<Resolved, Box<Problem>> {
    let options = ResolveOptions { replicas: input.agents, uid: String::new(), local: false };
    manifest.resolve(&options).map_err(|faults| refused(input, &faults))
}

/// The manifest as a document, with everything that the command line replaces.
pub fn document(input: &Input, manifest: &Manifest) -> Value {
    let mut document = manifest.document.clone();
    if let Some(replicas) = input.agents {
        let agents = &mut document["spec"]["agents"];
        // The manifest had `spec` as an object, or it would not have been accepted.
        if !agents.is_object() {
            *agents = json!({});
        }
        agents["replicas"] = json!(replicas);
        // A quorum for eight is no reason to refuse a trial with two.
        if agents["minAvailable"].as_u64().is_some_and(|least| least > u64::from(replicas)) {
            agents["minAvailable"] = json!(replicas);
        }
    }
    document
}

/// At most one byte more than a manifest may have: enough to know that it is too large.
fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(SIZE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(source: &ManifestSource, error: &io::Error) -> Box<Problem> {
    let problem = Problem::new(format!("{source} cannot be read"), error.to_string());
    let problem = match error.kind() {
        io::ErrorKind::NotFound => problem.likely("the path is misspelt, or relative to another directory"),
        io::ErrorKind::PermissionDenied => problem.likely("the file belongs to another user"),
        io::ErrorKind::IsADirectory => problem.likely("it is a directory; name the file in it"),
        _ => problem,
    };
    Box::new(
        problem
            .next("lockstep validate -f FILE")
            .kept("nothing was started and nothing was written")
            .exit(exit::REFUSED),
    )
}

fn refused(input: &Input, faults: &[fault::Fault]) -> Box<Problem> {
    Box::new(fault::problem(&input.source.to_string(), faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &std::path::Path) -> Input {
        Input { source: ManifestSource::File(path.to_owned()), overrides: Vec::new(), agents: None }
    }

    #[test]
    fn nothing_is_read_beyond_the_limit() {
        assert_eq!(bounded(io::repeat(b'x')).expect("reads").len(), SIZE_MAX + 1);
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_its_reason() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("run.yaml");
        let problem = load(&input(&path)).expect_err("there is no file");
        assert!(
            problem.what.ends_with("run.yaml cannot be read") && problem.exit == exit::REFUSED,
            "{problem}"
        );
        for (bytes, want) in [
            (vec![b'a'; SIZE_MAX + 1], "it is too large"),
            (vec![0xff, 0xfe, 0x00], "1 fault"),
            (b"kind: Pod\n".to_vec(), "2 faults"),
        ] {
            std::fs::write(&path, bytes).expect("writes");
            let problem = load(&input(&path)).expect_err("it is no manifest");
            assert!(problem.what.ends_with(want), "{problem}");
            assert_eq!((problem.exit, problem.next.is_empty()), (exit::REFUSED, false));
        }
        let problem = load(&input(directory.path())).expect_err("it is a directory");
        assert!(problem.what.ends_with("cannot be read"), "{problem}");
    }
}
