//! Python packages that tests need: each in one pinned version, installed once into the user's cache directory and never
//! into the checkout or the system.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The user's cache directory; a temporary one where there is none.
fn user_cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
}

/// The directory that holds a package with what it needs, for `PYTHONPATH`; installed first if it is not there.
///
/// # Panics
/// It cannot be installed; the panic says what to do.
#[must_use]
pub fn package(name: &str, version: &str) -> PathBuf {
    let cache = user_cache().join("lockstep-testkit");
    let directory = cache.join(format!("{name}-{version}"));
    if directory.is_dir() {
        return directory;
    }
    std::fs::create_dir_all(&cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
    // Installed beside, and moved in one step: tests of several processes may do this at one time.
    let fresh = tempfile::tempdir_in(&cache).expect("a temporary directory in the cache");
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
    command.arg(fresh.path()).arg(format!("{name}=={version}"));
    let advice = format!("install python3 with pip, or put {name} {version} into {}", directory.display());
    let output = command.output().unwrap_or_else(|error| {
        panic!("this test needs {name}, and python3 cannot be run to install it ({error}): {advice}")
    });
    assert!(
        output.status.success(),
        "this test needs {name} {version}, and pip could not install it: {advice}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Whoever was quicker has the same.
    let _ = std::fs::rename(fresh.path(), &directory);
    directory
}
