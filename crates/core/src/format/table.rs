//! Plain tables: columns as wide as their widest cell, two spaces between them.
//!
//! Deliberately without borders and colour: what is printed can be cut by column, and is narrow enough for a terminal.

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction.
#[derive(Clone, Debug)]
pub struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a head; the first column holds words, the others numbers.
    #[must_use]
    pub fn new(head: &[&str]) -> Self {
        let aligns =
            (0..head.len()).map(|column| if column == 0 { Align::Left } else { Align::Right }).collect();
        Self { aligns, rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// A table of words: every column begins at the left.
    #[must_use]
    pub fn of_words(head: &[&str]) -> Self {
        Self { aligns: vec![Align::Left; head.len()], ..Self::new(head) }
    }

    /// Adds a row; cells beyond the head's are dropped, missing ones are empty.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, each after `indent` spaces and without spaces at its end.
    #[must_use]
    pub fn lines(&self, indent: usize) -> Vec<String> {
        let width_of = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.aligns.len()).map(width_of).collect();
        let render = |row: &Vec<String>| {
            let mut line = " ".repeat(indent);
            for (column, (align, wide)) in self.aligns.iter().zip(&widths).enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let padding = " ".repeat(wide - width(cell));
                let gap = if column > 0 { "  " } else { "" };
                match align {
                    Align::Left => line.extend([gap, cell, &padding]),
                    Align::Right => line.extend([gap, &padding, cell]),
                }
            }
            line.truncate(line.trim_end().len());
            line
        };
        self.rows.iter().map(render).collect()
    }
}

/// Columns that a text takes on a terminal. Everything that is printed here is of single width.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// A text of exactly `wide` columns, cut with an ellipsis or padded.
#[must_use]
pub fn fitted(text: &str, wide: usize) -> String {
    let text = cut(text, wide);
    format!("{text}{}", " ".repeat(wide - width(&text)))
}

/// A text of at most `wide` columns; where it is cut, an ellipsis says so.
#[must_use]
pub fn cut(text: &str, wide: usize) -> String {
    if width(text) <= wide {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(wide.saturating_sub(1)).collect();
    if wide > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_letters_weigh() {
        let mut table = Table::new(&["op", "count", "p50"]);
        table.row(vec!["Get".to_owned(), "865,113".to_owned(), "55 µs".to_owned()]);
        table.row(vec!["Put".to_owned(), "9".to_owned(), "1.2 ms".to_owned()]);
        assert_eq!(
            table.lines(2),
            ["  op     count     p50", "  Get  865,113   55 µs", "  Put        9  1.2 ms",]
        );
    }

    #[test]
    fn short_rows_do_not_break_a_table() {
        let mut table = Table::new(&["op", "count"]);
        table.row(vec!["Get".to_owned()]);
        assert_eq!(table.lines(0), ["op   count", "Get"]);
    }

    #[test]
    fn names_are_cut_and_padded_to_width() {
        assert_eq!([fitted("prepare", 9), fitted("a-very-long-name", 9)], ["prepare  ", "a-very-l…"]);
    }
}
