//! `cargo xtask tidy`: the rules of the house that a program can check, all faults at once.
//!
//! Deliberately textual and simple. What the compiler and clippy see better (names, `unwrap`, public items without
//! documentation) is left to them.

use crate::{generated, workflows};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// A file with more lines than this is two things.
const MOST_LINES: usize = 600;
/// Directories that are not ours to check.
const FOREIGN: [&str; 3] = ["target", "node_modules", "lockstep-results"];
/// What no code may hold; in halves, so that this file does not hold it either.
const UNFINISHED: [(&str, &str); 4] =
    [("to", "do!("), ("unimple", "mented!("), ("db", "g!("), ("#[ig", "nore")];
/// Places of somebody's machine, in halves likewise.
const HOMES: [(&str, &str); 4] = [("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/"), ("/wo", "rk/")];
/// What is read as text.
const TEXTS: [&str; 8] = ["rs", "md", "toml", "yaml", "yml", "proto", "sh", "py"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or(root)
}

/// Fails with a list of everything that is wrong.
///
/// # Errors
/// When a rule is broken, or a file cannot be read.
pub fn check() -> Result<()> {
    let root = root();
    let mut faults = Vec::new();
    for path in files(&root)? {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !TEXTS.contains(&extension) && path.file_name().is_none_or(|name| name != "Makefile") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        let found = faults_of(&name, extension, &text);
        faults.extend(found.into_iter().map(|fault| format!("{name}{fault}")));
        // A fragment below src/ is read where it ends up.
        let fragment = extension == "md" && name.contains("src/");
        for link in links(extension, &text).into_iter().filter(|_| !fragment) {
            let from = if extension == "md" { path.parent().unwrap_or(&root) } else { &root };
            if !from.join(&link).exists() {
                faults.push(format!("{name}: `{link}` does not exist"));
            }
        }
    }
    faults.extend(generated::stale()?);
    faults.extend(workflows::faults()?);
    faults.sort();
    ensure!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
    Ok(())
}

fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || FOREIGN.contains(&&*name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Faults of one file, each to be read behind its name.
fn faults_of(name: &str, extension: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if extension == "rs" && lines > MOST_LINES {
        faults.push(format!(": {lines} lines, more than {MOST_LINES}"));
    }
    if extension == "rs" && name.contains("src/") && !text.trim_start().starts_with("//!") {
        faults.push(": does not begin with the module's documentation (`//!`)".to_owned());
    }
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if extension == "rs" {
            let unfinished = UNFINISHED.map(|(head, tail)| format!("{head}{tail}"));
            let code = line.trim_start();
            let found =
                unfinished.iter().find(|word| !code.starts_with("//") && code.contains(word.as_str()));
            faults.extend(found.map(|word| format!(":{number}: `{word}`")));
        }
        let homes = HOMES.map(|(head, tail)| format!("{head}{tail}"));
        // `https://example.com/home/` is no place of a machine.
        let found = homes.iter().find(|home| {
            line.match_indices(home.as_str()).any(|(at, _)| {
                !line[..at].ends_with(|before: char| before.is_alphanumeric() || ".-_*".contains(before))
            })
        });
        faults.extend(found.map(|home| format!(":{number}: a path below `{home}`")));
    }
    faults
}

/// Files of this repository that a text points to: links of Markdown (relative to it), and in code every `docs/*.md`.
fn links(extension: &str, text: &str) -> Vec<String> {
    let mut links = Vec::new();
    if extension == "md" {
        for part in text.split("](").skip(1) {
            let link = part.split([')', '#', ' ']).next().unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with("mailto:");
            if !link.is_empty() && !elsewhere {
                links.push(link.to_owned());
            }
        }
    } else {
        for (at, _) in text.match_indices("docs/") {
            let end = text[at..].find(|c: char| !(c.is_ascii_alphanumeric() || "/-_.".contains(c)));
            let link = text[at..end.map_or(text.len(), |end| at + end)].trim_end_matches('.');
            let inside =
                text[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || "/.".contains(c));
            if link.ends_with(".md") && (!inside || text[..at].ends_with("../")) {
                links.push(link.to_owned());
            }
        }
    }
    links.sort();
    links.dedup();
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        check().unwrap();
    }

    #[test]
    fn faults_are_found() {
        let doc = "//! Text.\n";
        assert_eq!(faults_of("a/src/b.rs", "rs", doc), [""; 0]);
        assert_eq!(faults_of("a/src/b.rs", "rs", "use x;\n").len(), 1);
        assert_eq!(faults_of("a/src/b.rs", "rs", &format!("{doc}{}", "\n".repeat(MOST_LINES))).len(), 1);
        for (head, tail) in UNFINISHED {
            assert_eq!(faults_of("a/tests/b.rs", "rs", &format!("    {head}{tail}x)]")).len(), 1);
            assert_eq!(faults_of("a/tests/b.rs", "rs", &format!("    // {head}{tail}x)]")).len(), 0);
        }
        for (head, tail) in HOMES {
            assert_eq!(faults_of("a.md", "md", &format!("see {head}{tail}x")).len(), 1);
            assert_eq!(faults_of("a.md", "md", &format!("see https://host.example{head}{tail}x")).len(), 0);
        }
    }

    #[test]
    fn links_are_found() {
        let text = "[a](b.md#c) [d](https://e.f/g.md) [h](../i.md) [j](#k)";
        assert_eq!(links("md", text), ["../i.md", "b.md"]);
        assert_eq!(links("rs", "see docs/cli.md. And https://x.y/docs/z.md"), ["docs/cli.md"]);
    }
}
