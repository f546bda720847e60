//! `cargo xtask notes VERSION`: the text of a release, which is the section of CHANGELOG.md under that version; and a refusal where
//! anything of the repository speaks of another version.

use anyhow::{Context, Result, ensure};
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Prints the section.
///
/// # Errors
/// There is none, or the workspace or the chart is of another version.
pub fn print(version: &str) -> Result<()> {
    ensure!(
        version == env!("CARGO_PKG_VERSION"),
        "the workspace is of version {}, not {version}: set it in Cargo.toml",
        env!("CARGO_PKG_VERSION")
    );
    let read = |file: &str| {
        std::fs::read_to_string(Path::new(ROOT).join(file)).with_context(|| format!("cannot read {file}"))
    };
    let chart: serde_json::Value = serde_yaml::from_str(&read("deploy/helm/lockstep/Chart.yaml")?)?;
    for field in ["version", "appVersion"] {
        let found = &chart[field];
        ensure!(found == version, "`{field}` of the chart is {found}, not {version}");
    }
    print!("{}", section(&read("CHANGELOG.md")?, version)?);
    Ok(())
}

/// What stands under `## VERSION`, which may be followed by a date.
fn section(changelog: &str, version: &str) -> Result<String> {
    let is_head = |line: &&str| {
        line.strip_prefix("## ").and_then(|head| head.split_whitespace().next()) == Some(version)
    };
    let mut lines = changelog.lines().skip_while(|line| !is_head(line)).skip(1).peekable();
    ensure!(lines.peek().is_some(), "CHANGELOG.md has no section `## {version}`: rename `## Unreleased`");
    let text: Vec<&str> = lines.take_while(|line| !line.starts_with("## ")).collect();
    let text = text.join("\n").trim().to_owned();
    ensure!(!text.is_empty(), "the section `## {version}` of CHANGELOG.md is empty");
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "# Changelog\n\n## Unreleased\n\n## 0.2.0 (2027-01-01)\n\n- Faster.\n  Much.\n\n## 0.1.0\n\n- First.\n";

    #[test]
    fn a_section_ends_with_the_next_one() {
        assert_eq!(section(CHANGELOG, "0.2.0").unwrap(), "- Faster.\n  Much.\n");
        assert_eq!(section(CHANGELOG, "0.1.0").unwrap(), "- First.\n");
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for (version, says) in
            [("0.3.0", "no section `## 0.3.0`"), ("Unreleased", "is empty"), ("0.2", "no section")]
        {
            assert!(section(CHANGELOG, version).unwrap_err().to_string().contains(says), "{version}");
        }
        assert!(print("9.9.9").unwrap_err().to_string().contains("Cargo.toml"));
    }
}
