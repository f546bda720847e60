//! Preflight's checks of a directory: whether it can be reached, written, read and removed from, and whether the
//! plan fits into it. Leaves nothing behind. Deliberately no benchmark of its own.

use super::file::class_of;
use super::place::Check;
use lockstep_core::op::ErrorClass;
use lockstep_core::plan::{Existing, Plan, Sharing, StageKind};
use lockstep_core::problem::{Problem, exit};
use rustix::io::Errno;
use std::fs;
use std::path::Path;

/// What the plan will put into the file system, of all agents together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Expected bytes, with three standard deviations.
    pub bytes: u128,
    /// Files and directories.
    pub inodes: u64,
    /// Whether some of it may be there already, so that too little space is only a doubt.
    pub may_exist: bool,
}

impl Needs {
    /// What a plan needs; nothing for one without a prepare stage that writes.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let prepares = plan.stages.iter().any(|stage| matches!(stage.kind, StageKind::Prepare { .. }));
        if !prepares || plan.existing == Existing::Reuse {
            return Self::default();
        }
        let sets = if plan.sharing == Sharing::PerAgent { u64::from(plan.replicas) } else { 1 };
        let bytes = plan.dataset.expected_bytes();
        let inodes = plan.dataset.len().saturating_add(plan.dataset.names().directories());
        Self {
            bytes: bytes
                .mean_bytes
                .saturating_add(bytes.three_sigma_bytes())
                .saturating_mul(u128::from(sets)),
            inodes: inodes.saturating_mul(sets),
            may_exist: plan.existing == Existing::FillGaps,
        }
    }
}

/// All checks of the place at `path` (`base`, or a directory in it).
#[must_use]
pub fn check(base: &Path, path: &Path, needs: Needs) -> Vec<Check> {
    // Where the place is still missing, what it will lie in is checked.
    let there = [path, base].into_iter().find(|path| path.is_dir());
    let there = there.or_else(|| base.parent().filter(|parent| parent.is_dir()));
    let Some(there) = there else {
        let problem = Problem::new(
            format!("target file://{}: neither it nor its parent is a directory", base.display()),
            Errno::NOENT.to_string(),
        )
        .class(ErrorClass::NotFound)
        .likely("the parent directory is missing, or its file system is not mounted")
        .next(format!("mkdir -p {}", base.parent().unwrap_or(base).display()))
        .exit(exit::REFUSED);
        return vec![Check { name: "reachable", finding: "missing".into(), problem: Some(problem) }];
    };
    let reachable = if there == path {
        format!("{} is a directory", path.display())
    } else {
        format!("{} is missing and will be created in {}", path.display(), there.display())
    };
    vec![
        Check { name: "reachable", finding: reachable, problem: None },
        rights(there),
        space(there, needs),
        file_system(there),
    ]
}

fn rights(directory: &Path) -> Check {
    let probe = directory.join(format!(".lockstep-probe-{}", std::process::id()));
    let content: &[u8] = b"probe";
    let result = fs::write(&probe, content)
        .and_then(|()| fs::read(&probe))
        .and_then(|read| if read == content { Ok(()) } else { Err(Errno::IO.into()) });
    let removed = fs::remove_file(&probe);
    let problem = result.and(removed).err().map(|error| {
        let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        Problem::new(
            format!("target {}: a probe cannot be written, read and removed", directory.display()),
            error.to_string(),
        )
        .class(class_of(errno))
        .likely(if errno == Errno::ROFS {
            "the file system is mounted read-only"
        } else {
            "this user may not write there"
        })
        .next(format!("ls -ld {0} && findmnt -T {0}", directory.display()))
        .exit(exit::REFUSED)
    });
    let finding = if problem.is_some() { "denied" } else { "write, read and remove work" };
    Check { name: "rights", finding: finding.into(), problem }
}

fn space(directory: &Path, needs: Needs) -> Check {
    let Ok(stat) = rustix::fs::statvfs(directory) else {
        return Check {
            name: "free-space",
            finding: "unknown: the file system does not say".into(),
            problem: None,
        };
    };
    let free_bytes = u128::from(stat.f_bavail) * u128::from(stat.f_frsize);
    // Some file systems make inodes as they need them, and say 0.
    let inodes_short = stat.f_files > 0 && needs.inodes > stat.f_favail;
    let finding = format!(
        "{free_bytes} bytes and {} inodes free, {} bytes and {} inodes needed",
        stat.f_favail, needs.bytes, needs.inodes
    );
    let short = needs.bytes > free_bytes || inodes_short;
    if short && needs.may_exist {
        let finding = format!("{finding}; enough only if most of the data set is there already");
        return Check { name: "free-space", finding, problem: None };
    }
    let problem = short.then(|| {
        Problem::new(format!("target {}: the data set does not fit", directory.display()), finding.clone())
            .class(ErrorClass::Full)
            .likely("the data set is larger than meant, or the volume smaller")
            .next(format!("df -h {0} && df -i {0}", directory.display()))
            .kept("nothing was written")
            .exit(exit::REFUSED)
    });
    Check { name: "free-space", finding, problem }
}

fn file_system(directory: &Path) -> Check {
    let finding = mount_of(directory).unwrap_or_else(|| "unknown".into());
    Check { name: "file-system", finding, problem: None }
}

/// Type, source and options of the file system that a directory lies in.
fn mount_of(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let (point, options) = (*left.get(4)?, *left.get(5)?);
        let mut right = right.split(' ');
        let (kind, source) = (right.next()?, right.next()?);
        // Of mounts over one another the last one counts, hence `>=`.
        let depth = point.len();
        if directory.starts_with(point) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, format!("{kind} on {source}, mounted at {point} ({options})")));
        }
    }
    best.map(|(_, text)| text)
}
