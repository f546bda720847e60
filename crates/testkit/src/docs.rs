//! Commands of the documentation, so that what people copy is what tests run.
//!
//! A fenced block whose info string begins with `sh` is part of a script: those of a page, in their order, are one script,
//! with one shell, as for somebody who types them. Words behind `sh` say what a block needs beyond kubectl, helm, the plugin
//! and a cluster ([`NEEDS`]); whoever runs a page says what there is, and the other blocks are passed over. A page must make
//! sense without them. Indented blocks, and fences of other languages, are to be read, and run by nobody.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a block may need, and what that means.
pub const NEEDS: [(&str, &str); 4] = [
    ("kind", "Docker and kind on this machine: the block makes the cluster, or removes it"),
    ("rust", "a Rust toolchain, and the minutes that a build takes"),
    ("storage", "a cluster with a default StorageClass, whose volumes are made when they are asked for"),
    ("seaweedfs", "a cluster that can run the image of SeaweedFS"),
];

/// A block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Line of its first command in the page, from 1.
    pub line: usize,
    /// What it needs: words of [`NEEDS`].
    pub needs: Vec<String>,
    /// The commands.
    pub text: String,
}

/// The blocks of commands of a page, in order.
///
/// # Panics
/// A fence is not closed, or a block needs what [`NEEDS`] does not know.
#[must_use]
pub fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let mut text = String::new();
        loop {
            let (_, line) = lines.next().unwrap_or_else(|| panic!("line {}: not closed", index + 1));
            if line.starts_with("```") {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        let mut words = info.split_whitespace();
        if words.next() != Some("sh") {
            continue;
        }
        let needs: Vec<String> = words.map(str::to_owned).collect();
        for need in &needs {
            assert!(NEEDS.iter().any(|(known, _)| known == need), "line {}: what is {need}?", index + 1);
        }
        found.push(Block { line: index + 2, needs, text });
    }
    found
}

/// The script of a page, for a machine and cluster that have these; says on standard error before each block where it is.
#[must_use]
pub fn script(page: &str, text: &str, has: &[&str]) -> String {
    let mut script = String::new();
    for block in blocks(text) {
        if block.needs.iter().all(|need| has.contains(&need.as_str())) {
            let _ = write!(script, "echo '--- {page}:{}' >&2\n{}", block.line, block.text);
        }
    }
    script
}

/// A directory for PATH, with programs under the names by which documentation calls them.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn path_with(programs: &[(&str, PathBuf)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory for programs");
    for (name, program) in programs {
        std::os::unix::fs::symlink(program, directory.path().join(name)).expect("a link to a program");
    }
    directory
}

/// The shell that runs the commands of a page, from the root of the repository, until one fails.
///
/// # Panics
/// The page cannot be read, or has nothing to run here.
#[must_use]
pub fn command(root: &Path, page: &str, has: &[&str]) -> Command {
    let text = std::fs::read_to_string(root.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let script = script(page, &text, has);
    assert!(!script.is_empty(), "{page} has no commands for {has:?}");
    let mut bash = Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c", &script]).current_dir(root);
    bash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Ended, Running};
    use std::time::Duration;

    const PAGE: &str = "# A page\n\n    indented: not run\n\n```sh\nx=1\n\nexport Y=2\n```\n\n```yaml\nkind: Pod\n```\n\n```sh kind rust\nexit 3\n```\nText.\n\n```sh\n[ $x$Y = 12 ]\n```\n";

    #[test]
    fn blocks_of_commands_are_found_with_what_they_need() {
        let found = blocks(PAGE);
        let seen: Vec<_> =
            found.iter().map(|block| (block.line, block.needs.join(" "), block.text.as_str())).collect();
        let expected = [
            (6, String::new(), "x=1\n\nexport Y=2\n"),
            (16, "kind rust".to_owned(), "exit 3\n"),
            (21, String::new(), "[ $x$Y = 12 ]\n"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_page_is_one_script_of_what_can_run_here() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("page.md"), PAGE).expect("a page");
        let run = |has: &[&str]| -> Ended {
            Running::start(&mut command(directory.path(), "page.md", has)).wait(Duration::from_secs(10))
        };
        let ended = run(&[]);
        assert!(ended.expect_code(0).stderr.contains("--- page.md:21"), "{}", ended.stderr);
        let ended = run(&["kind"]);
        assert!(!ended.expect_code(0).stderr.contains("page.md:16"), "rust is not there: {}", ended.stderr);
        let ended = run(&["kind", "rust"]);
        assert!(ended.expect_code(3).stderr.ends_with("+ exit 3\n"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("page.md:21"), "{}", ended.stderr);
    }

    #[test]
    #[should_panic(expected = "what is docker?")]
    fn a_need_that_nobody_knows_is_a_mistake() {
        let _ = blocks("```sh docker\n```\n");
    }

    #[test]
    #[should_panic(expected = "not closed")]
    fn a_fence_that_is_not_closed_is_a_mistake() {
        let _ = blocks("```sh\nx\n");
    }
}
