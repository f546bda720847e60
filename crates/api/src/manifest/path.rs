//! Paths into a manifest, as faults print them and `--set` takes them: `spec.stages[2].execute.duration`.

/// `parent` extended by the member `key`; a key that is no plain word stands in brackets and quotes.
#[must_use]
pub fn member(parent: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    match (parent.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{parent}.{key}"),
        // A key can be as long as a manifest; a path is for people.
        (_, false) => format!("{parent}[{:?}]", key.chars().take(80).collect::<String>()),
    }
}

/// `parent` extended by an index.
#[must_use]
pub fn item(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Member of an object.
    Member(String),
    /// Item of a list by its position.
    Index(usize),
    /// Item of a list by its `name`, or member of an object.
    Named(String),
}

/// Splits a path into steps. `None` when it is malformed.
#[must_use]
pub fn parse(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        if let Some(tail) = rest.strip_prefix('[') {
            let (inner, tail) = match tail.strip_prefix('"') {
                Some(quoted) => quoted.split_once("\"]")?,
                None => tail.split_once(']')?,
            };
            let is_quoted = rest.starts_with("[\"");
            steps.push(match inner.parse() {
                _ if is_quoted => Step::Member(inner.to_owned()),
                Ok(index) => Step::Index(index),
                Err(_) if inner.is_empty() => return None,
                Err(_) => Step::Named(inner.to_owned()),
            });
            rest = tail;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, tail) = rest.split_at(end);
            if name.is_empty() || name.contains([']', '"']) {
                return None;
            }
            steps.push(Step::Member(name.to_owned()));
            rest = tail;
        }
        if rest.is_empty() {
            return Some(steps);
        }
        if let Some(tail) = rest.strip_prefix('.') {
            rest = tail;
            if rest.starts_with('[') || rest.is_empty() {
                return None;
            }
        } else if !rest.starts_with('[') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_as_they_are_printed() {
        let name = |text: &str| Step::Member(text.to_owned());
        assert_eq!(
            parse("spec.stages[2].execute").unwrap(),
            [name("spec"), name("stages"), Step::Index(2), name("execute")]
        );
        assert_eq!(parse("spec.stages[mixed].name").unwrap()[2], Step::Named("mixed".into()));
        assert_eq!(parse(&member("metadata.labels", "a.b/c")).unwrap()[2], name("a.b/c"));
        for bad in ["", ".", "a..b", "a.", "a[", "a[]", "a[0]b", "a.[0]", "a]"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
