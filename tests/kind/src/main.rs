//! `lockstep-e2e`: what Lockstep must do on a real cluster, shown on the one that KUBECONFIG names: kind, the cluster of this
//! repository that needs no Docker, or a real one on which nobody else uses Lockstep.
//!
//! ```text
//! lockstep-e2e [--cluster TAR] [--slow] [--jobs N] [NAME...]    stories, all or those whose names contain one of these
//! lockstep-e2e [--cluster TAR] bench                            measures instead
//! lockstep-e2e --list                                           what there is
//! ```
//!
//! Each story has namespaces of its own, and those that touch no node and measure nothing are told side by side.
//! Nothing is faked: agents and operators are pods of the image that the nodes have, the storage is SeaweedFS behind a
//! Service, and what a report counts is held against what boto3 finds there. What a cluster cannot do is not passed over:
//! the table at the end says what was not shown, and why. Deliberately not a test of Kubernetes, nor of what
//! the stand-in's tests show better (crates/operator/tests/cluster): only what takes real nodes, containers, DNS and volumes.
//!
//! | variable | says |
//! |---|---|
//! | `KUBECONFIG` | which cluster; without this, `--cluster` makes one for the occasion, with the image of that archive, and removes it |
//! | `LOCKSTEP_E2E_IMAGE` | the image, as the nodes know it; `lockstep:<version>` otherwise |
//! | `LOCKSTEP_E2E_SHARED_CLASS` | a StorageClass whose volumes many nodes may write to |
//! | `LOCKSTEP_E2E_SLOW` | what takes minutes too (`--slow`) |

mod bench;
mod installation;
mod nodes;
mod own;
mod release;
mod runner;
mod store;
mod stories;
mod suite;

use anyhow::{Result, bail};
use lockstep_core::problem::Problem;
use std::path::PathBuf;
use std::process::ExitCode;

/// What was asked for.
#[derive(Clone, Debug, Default)]
struct Request {
    /// Archive of the image for a cluster that is made where none is named.
    cluster: Option<PathBuf>,
    /// What takes minutes too.
    slow: bool,
    /// Only a list.
    list: bool,
    /// Measures instead.
    bench: bool,
    /// Stories at once; some number that suits the machine when absent.
    jobs: Option<usize>,
    /// Parts of the names of the stories that are wanted; all when empty.
    names: Vec<String>,
}

impl Request {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let is_slow = std::env::var_os("LOCKSTEP_E2E_SLOW").is_some_and(|value| value != "0");
        let mut request = Self { slow: is_slow, ..Self::default() };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--cluster" => request.cluster = arguments.next().map(PathBuf::from),
                "--slow" => request.slow = true,
                "--list" => request.list = true,
                "--jobs" => request.jobs = arguments.next().map(|number| number.parse()).transpose()?,
                "bench" => request.bench = true,
                flag if flag.starts_with('-') => {
                    bail!(
                        "`{flag}` is unknown; usage: lockstep-e2e [--cluster TAR] [--slow] [--jobs N] [--list] [bench | NAME...]"
                    )
                }
                _ => request.names.push(argument),
            }
        }
        Ok(request)
    }
}

fn main() -> ExitCode {
    match tell() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that was told went well.
fn tell() -> Result<bool> {
    let request = Request::read(std::env::args().skip(1))?;
    if request.list {
        runner::list();
        return Ok(true);
    }
    runner::check(&request.names)?;
    let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    match (named, &request.cluster) {
        (Some(kubeconfig), _) => on(&request, kubeconfig),
        // Removed when it goes out of scope, whatever happened meanwhile.
        (None, Some(image)) => {
            let cluster = own::Cluster::up(image)?;
            let went = on(&request, cluster.kubeconfig().to_owned());
            cluster.down()?;
            went
        }
        (None, None) => Err(nowhere().into()),
    }
}

fn on(request: &Request, kubeconfig: PathBuf) -> Result<bool> {
    if request.bench { bench::measure(kubeconfig) } else { runner::run(request, kubeconfig) }
}

fn nowhere() -> Problem {
    Problem::new("The end-to-end suite was not run", "KUBECONFIG names no cluster, and none was asked for")
        .likely("no cluster was made yet, or its kubeconfig was not exported in this shell")
        .next("`make e2e` makes a cluster that needs no Docker, runs the suite on it, and removes it")
        .next("`make cluster-up` makes the same and leaves it; `make kind-up` makes one with kind; both say what to export")
        .next("or set KUBECONFIG to a cluster on which nobody else uses Lockstep, and LOCKSTEP_E2E_IMAGE to an image that its nodes can pull")
        .kept("nothing was touched")
}
