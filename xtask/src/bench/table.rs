//! Turns, their medians and ratios, and the table.

/// What one turn did.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Operations that were done.
    pub operations: u64,
    /// How long it took, seconds.
    pub wall_s: f64,
    /// CPU time that the process under test used, seconds.
    pub cpu_s: f64,
}

impl Turn {
    /// Operations per second of CPU time: what one core does in a second.
    pub fn per_core(&self) -> f64 {
        self.operations as f64 / self.cpu_s
    }

    /// Operations per second of wall time.
    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.wall_s
    }
}

/// A floor's turn, and Lockstep's right after it or right before.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The plain loop.
    pub floor: Turn,
    /// Lockstep.
    pub lockstep: Turn,
}

impl Pair {
    /// Lockstep against its floor, per core in use.
    pub fn ratio(&self) -> f64 {
        self.lockstep.per_core() / self.floor.per_core()
    }

    /// The same by the wall clock.
    pub fn wall_ratio(&self) -> f64 {
        self.lockstep.per_second() / self.floor.per_second()
    }
}

/// The middle one; the mean of both where there are two. Not a number without values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

/// One line of the table; cells are text, because rows measure different things.
#[derive(Clone, Debug)]
pub struct Row {
    /// As `--only` knows it, or one of several figures under such a name.
    pub name: String,
    /// Median of the floor's turns.
    pub floor: String,
    /// Median of Lockstep's turns.
    pub lockstep: String,
    /// Median of the pairs' ratios; lowest and highest behind it.
    pub ratio: String,
    /// The same by the wall clock.
    pub wall: String,
    /// What is wanted.
    pub goal: String,
    /// Whether it is met.
    pub met: bool,
}

impl Row {
    /// A row of pairs; `goal` and `met` are set by who knows them. `unit` follows the rates.
    pub fn of_pairs(name: &'static str, pairs: &[Pair]) -> Self {
        let rate = |turn: &dyn Fn(&Pair) -> Turn| {
            format!("{} /s/core", thousands(median(pairs.iter().map(|pair| turn(pair).per_core()))))
        };
        Self {
            name: name.to_owned(),
            floor: rate(&|pair| pair.floor),
            lockstep: rate(&|pair| pair.lockstep),
            ratio: spread(pairs.iter().map(Pair::ratio)),
            wall: spread(pairs.iter().map(Pair::wall_ratio)),
            goal: String::new(),
            met: false,
        }
    }
}

/// The median ratio of pairs.
pub fn ratio_of(pairs: &[Pair]) -> f64 {
    median(pairs.iter().map(Pair::ratio))
}

fn spread(values: impl Iterator<Item = f64> + Clone) -> String {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.clone().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.2} ({low:.2}-{high:.2})", median(values))
}

/// A rate, short.
pub fn thousands(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.2} M", rate / 1e6) } else { format!("{:.0} k", rate / 1e3) }
}

/// Prints the table in Markdown, so that it can be pasted.
pub fn print(rows: &[Row], machine: &str) {
    println!("\n{machine}\n");
    let head = ["what", "floor", "lockstep", "ratio", "by the wall clock", "goal", "met"].map(str::to_owned);
    let cells = |row: &Row| {
        let met = if row.met { "yes" } else { "no" };
        let Row { name, floor, lockstep, ratio, wall, goal, met: _ } = row.clone();
        [name, floor, lockstep, ratio, wall, goal, met.to_owned()]
    };
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0));
    for (number, line) in lines.iter().enumerate() {
        let padded: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", padded.join(" | "));
        if number == 0 {
            println!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_are_of_pairs() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
        assert!(median([]).is_nan());
        let turn = |operations, wall_s, cpu_s| Turn { operations, wall_s, cpu_s };
        let pair = Pair { floor: turn(100, 1.0, 2.0), lockstep: turn(60, 1.0, 1.0) };
        assert_eq!((pair.ratio(), pair.wall_ratio()), (1.2, 0.6));
        assert_eq!(Row::of_pairs("null", &[pair]).ratio, "1.20 (1.20-1.20)");
        assert_eq!((thousands(2_500_000.0), thousands(12_400.0)), ("2.50 M".to_owned(), "12 k".to_owned()));
    }
}
