//! Tables for people: columns as wide as they must be, Markdown as it is pasted into README.

use std::fmt::Write as _;

/// A table of text.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(super) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// Adds a row; missing cells at its end are empty.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as Markdown, the first column to the left and all others to the right.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0).max(3)
            })
            .collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, &width) in widths.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = match column {
                    0 => write!(text, "| {:width$} ", cell(row, column)),
                    _ => write!(text, "| {:>width$} ", cell(row, column)),
                };
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let (dashes, end) = ("-".repeat(width + 1), if column == 0 { '-' } else { ':' });
                    let _ = write!(text, "|{dashes}{end}");
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// A number with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The same, or a dash where there is none.
pub(super) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["server", "µs"]);
        table.row(["manager".to_owned(), number(99.26)]);
        table.row(["flask".to_owned()]);
        let expected = "| server  |   µs |\n|---------|-----:|\n| manager | 99.3 |\n| flask   |      |\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!([12_345.6, 99.94, 7.126, 0.0].map(number), ["12346", "99.9", "7.13", "0.00"]);
        assert_eq!(maybe(None), "-");
    }
}
