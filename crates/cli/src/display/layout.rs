//! A line that fits: its parts give up words, then themselves, in an order that the line's author chose, so that a narrow
//! terminal shows less and never loses what stands at the end.
//!
//! Pure text of single-width characters. Deliberately no colour and no cursor: [`super::terminal`] has those, and a log
//! takes the line in [full](Line::full).

use lockstep_core::format::table::{cut, width};

/// Columns of a bar where there is room.
const BAR_MAX: usize = 20;
/// Columns below which a bar says less than the numbers beside it.
const BAR_MIN: usize = 6;

/// A part of a line, in forms that get shorter: each with the step from which on it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part(Vec<(u8, String)>);

impl Part {
    /// A part that stays as it is.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(vec![(0, text.into())])
    }

    /// A shorter form from `step` on, later than those that the part has.
    #[must_use]
    pub fn shorter(mut self, step: u8, text: impl Into<String>) -> Self {
        self.0.push((step, text.into()));
        self
    }

    /// Nothing from `step` on.
    #[must_use]
    pub fn gone(self, step: u8) -> Self {
        self.shorter(step, "")
    }

    fn at(&self, step: u8) -> &str {
        self.0.iter().rev().find(|(from, _)| *from <= step).map_or("", |(_, text)| text)
    }

    fn last_step(&self) -> u8 {
        self.0.last().map_or(0, |(from, _)| *from)
    }
}

/// A line: perhaps a bar, parts in their order, and what they wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Thousandths of the bar that are full, and the step from which on there is no bar.
    pub bar: Option<(u64, u8)>,
    /// The parts.
    pub parts: Vec<Part>,
    /// What stands between two parts.
    pub between: &'static str,
    /// What the line waits for. A log appends it; a terminal has a line for it, so that it costs no number its place.
    pub waits_for: Option<String>,
}

impl Line {
    /// A line of one part.
    #[must_use]
    pub fn of(text: impl Into<String>) -> Self {
        Self { bar: None, parts: vec![Part::new(text)], between: "  ", waits_for: None }
    }

    /// Everything in words, without a bar: for logs.
    #[must_use]
    pub fn full(&self) -> String {
        let text = self.at(0);
        match &self.waits_for {
            Some(reason) => format!("{text}  {reason}"),
            None => text,
        }
    }

    /// The line in at most `wide` columns. The bar shrinks first; then the parts go through their steps, one after the
    /// other, until the line fits. What does not fit at the last step is cut.
    #[must_use]
    pub fn fitted(&self, wide: usize) -> String {
        let last = self.parts.iter().map(Part::last_step).max().unwrap_or(0);
        for step in 0..=last {
            let text = self.at(step);
            let Some((per_mille, _)) = self.bar.filter(|(_, gone)| step < *gone) else {
                if width(&text) <= wide {
                    return text;
                }
                continue;
            };
            let room = wide.saturating_sub(width(&text) + width(self.between));
            if room >= BAR_MIN {
                return format!("{}{}{text}", bar(per_mille, room.min(BAR_MAX)), self.between);
            }
        }
        cut(&self.at(last), wide)
    }

    fn at(&self, step: u8) -> String {
        let shown: Vec<&str> =
            self.parts.iter().map(|part| part.at(step)).filter(|text| !text.is_empty()).collect();
        shown.join(self.between)
    }
}

/// A bar of `wide` columns, of which this many thousandths are full.
fn bar(per_mille: u64, wide: usize) -> String {
    let full = (per_mille.min(1_000) as usize * wide) / 1_000;
    format!("{}{}", "█".repeat(full), "░".repeat(wide - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            bar: Some((500, 2)),
            parts: vec![
                Part::new("10 of 20").shorter(1, "10/20"),
                Part::new("extra").gone(2),
                Part::new("0 errors").shorter(3, "0 err"),
            ],
            between: "  ",
            waits_for: Some("waiting for agent 1".to_owned()),
        }
    }

    #[test]
    fn the_bar_shrinks_before_words_do_and_what_is_last_stays() {
        let want = [
            (60, "██████████░░░░░░░░░░  10 of 20  extra  0 errors"),
            (33, "███░░░  10 of 20  extra  0 errors"),
            (32, "████░░░░  10/20  extra  0 errors"),
            (29, "10/20  0 errors"),
            (14, "10/20  0 err"),
            (8, "10/20  …"),
            (1, "…"),
            (0, ""),
        ];
        for (wide, text) in want {
            assert_eq!(line().fitted(wide), text, "{wide}");
        }
    }

    #[test]
    fn a_log_takes_everything_and_what_it_waits_for() {
        assert_eq!(line().full(), "10 of 20  extra  0 errors  waiting for agent 1");
    }
}
