//! `docs/security.md`: what the operator may, and why. The table of rights is read from the chart's templates, where each
//! rule has its reason in the comment above it, so that page and chart cannot differ.

use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::path::Path;

const INTRODUCTION: &str = include_str!("security.md");

/// One rule of a role in the chart.
#[derive(Debug, PartialEq, Eq)]
struct Right {
    groups: String,
    resources: String,
    names: String,
    verbs: String,
    reason: String,
}

/// The page's text.
///
/// # Errors
/// A template cannot be read, or has a rule without a reason.
pub fn render() -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    page.push_str(
        "\n## Rights of the operator\n\nMade from the chart's templates.\n\n| API group | resource | verbs | why |\n|---|---|---|---|\n",
    );
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/lockstep/templates");
    let mut files: Vec<_> = std::fs::read_dir(&templates)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    let mut rights = Vec::new();
    // Roles for people, and for the pod of `helm test`, are no rights of the operator.
    let foreign = ["users.yaml", "test.yaml"];
    let is_ours = |file: &&std::fs::DirEntry| !foreign.iter().any(|name| file.file_name() == *name);
    for file in files.iter().filter(|file| file.path().is_file()).filter(is_ours) {
        let text = std::fs::read_to_string(file.path())?;
        rights.extend(rights_of(&text).with_context(|| format!("{}", file.path().display()))?);
    }
    ensure!(!rights.is_empty(), "the chart has no rule of a role");
    for Right { groups, resources, names, verbs, reason } in &rights {
        let names = if names.is_empty() { String::new() } else { format!(" named `{names}`") };
        writeln!(page, "| {groups} | {resources}{names} | {verbs} | {reason} |")?;
    }
    Ok(page)
}

/// The rules of a template: lines of the form `- {apiGroups: […], resources: […], verbs: […]}`. A rule without a comment of
/// its own shares that of the rule above it.
fn rights_of(template: &str) -> Result<Vec<Right>> {
    let (mut rights, mut reason, mut fresh) = (Vec::new(), String::new(), false);
    for line in template.lines().map(str::trim) {
        if line.starts_with("kind: ") || line.starts_with("{{- define") {
            reason.clear();
        } else if let Some(comment) = line.strip_prefix("# ") {
            reason = if fresh { format!("{reason} {comment}") } else { comment.to_owned() };
            fresh = true;
        } else if line.starts_with("- {apiGroups:") && line.contains("verbs:") {
            fresh = false;
            ensure!(!reason.is_empty(), "a rule without a reason above it: {line}");
            let list = |field: &str| list(line, field);
            let groups = list("apiGroups").replace("\"\"", "core");
            let (resources, verbs) = (list("resources"), list("verbs"));
            ensure!(
                !groups.is_empty() && !resources.is_empty() && !verbs.is_empty(),
                "no rule that can be read: {line}"
            );
            let names = template_free(&list("resourceNames"));
            rights.push(Right { groups, resources, names, verbs, reason: reason.clone() });
        } else {
            fresh = false;
        }
    }
    Ok(rights)
}

/// The text between the brackets behind `field`.
fn list(line: &str, field: &str) -> String {
    let found =
        line.split_once(&format!("{field}: [")).map(|(_, rest)| rest.split(']').next().unwrap_or_default());
    found.unwrap_or_default().to_owned()
}

/// A name as people read it: what a template computes is the release's name.
fn template_free(name: &str) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("{{") {
        let (_, behind) = after.split_once("}}").unwrap_or_default();
        text.push_str(before);
        text.push_str("<release>");
        rest = behind;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_the_comment_above_it_and_none_goes_without() {
        let text = "kind: Role\nrules:\n  # Why,\n  # in two lines.\n  - {apiGroups: [\"\"], resources: [secrets], resourceNames: [{{ x }}-ca], verbs: [get]}\n  \
                    - {apiGroups: [a], resources: [b, c], verbs: [d]}\n";
        let rights = rights_of(text).unwrap();
        assert_eq!(
            (rights[0].reason.as_str(), rights[1].reason.as_str()),
            ("Why, in two lines.", "Why, in two lines.")
        );
        assert_eq!((rights[0].groups.as_str(), rights[0].names.as_str()), ("core", "<release>-ca"));
        assert_eq!((rights[1].resources.as_str(), rights[1].verbs.as_str()), ("b, c", "d"));
        assert!(rights_of("kind: Role\n  - {apiGroups: [a], resources: [b], verbs: [c]}\n").is_err());
    }
}
