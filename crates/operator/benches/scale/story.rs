//! What the operator's log says of a run: when somebody was where.

use jiff::Timestamp;

/// A line of the story.
#[derive(Clone, Debug)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// A state of the agent, or what happened to the run.
    pub what: String,
}

/// The story of the run of this name in its stage `load`.
pub fn of(log: &str, run: &str) -> Vec<Line> {
    let is_load = |line: &&str| field(line, "stage=") == Some("load");
    log.lines().filter(|line| is_of(line, run)).filter(is_load).filter_map(line).collect()
}

fn is_of(line: &str, run: &str) -> bool {
    field(line, "run=").is_some_and(|name| name == run)
}

/// The value behind `name`, without quotes, up to the next space or bracket.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let at =
        line.match_indices(name).find(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric()))?.0;
    let value = &line[at + name.len()..];
    Some(match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or(quoted),
        None => value.split([' ', '}']).next().unwrap_or(value),
    })
}

fn line(line: &str) -> Option<Line> {
    let at = line.split_whitespace().next()?.parse().ok()?;
    let what = field(line, "state=").or_else(|| field(line, "what="))?.to_owned();
    Some(Line { at, what })
}

/// How long each result of a stage was waited for until it was acknowledged, seconds, as this log says.
pub fn waits_s(log: &str, stage: u32) -> Vec<f64> {
    let of_stage = format!(" stage_index={stage} ");
    let acknowledged = log.lines().filter(|line| line.contains("result is acknowledged"));
    let of_stage = acknowledged.filter(|line| line.contains(&of_stage));
    of_stage.filter_map(|line| Some(field(line, "after_ms=")?.parse::<f64>().ok()? / 1e3)).collect()
}

/// When the last of these was, seconds after `since`.
pub fn last_s(story: &[Line], what: &str, since: Timestamp) -> f64 {
    let last = story.iter().rfind(|line| line.what == what);
    last.unwrap_or_else(|| panic!("no {what} in {story:?}")).at.duration_since(since).as_secs_f64()
}

/// How often something was.
pub fn count(story: &[Line], what: &str) -> usize {
    story.iter().filter(|line| line.what == what).count()
}
