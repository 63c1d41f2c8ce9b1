//! Columns for people: each as wide as its widest cell, the last one free.

use std::fmt::{self, Display};

use crate::escape::Escaped;

/// Rows of cells under a line of titles.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these titles.
    pub(super) fn new<const N: usize>(titles: [&str; N]) -> Table {
        Table {
            rows: vec![titles.map(str::to_owned).to_vec()],
        }
    }

    /// One more row. Cells may hold untrusted text.
    pub(super) fn row<const N: usize>(&mut self, cells: [&dyn Display; N]) {
        let cell = |cell: &dyn Display| Escaped(cell.to_string().as_bytes()).to_string();
        self.rows.push(cells.map(cell).to_vec());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
