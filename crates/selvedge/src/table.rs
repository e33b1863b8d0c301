//! Lists for people: columns under their names, as wide as what stands in them.

use std::fmt;

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells. Lines never end in blanks.
#[derive(Debug)]
pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
    /// Blanks before each line.
    indent: usize,
}

impl Table {
    /// With a line of names above.
    pub(crate) fn new<const N: usize>(columns: [(&str, Side); N]) -> Table {
        let sides = columns.iter().map(|(_, side)| *side).collect();
        let names = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Table { sides, rows: vec![names], indent: 0 }
    }

    /// Without names.
    pub(crate) fn plain(sides: impl IntoIterator<Item = Side>) -> Table {
        Table { sides: sides.into_iter().collect(), rows: Vec::new(), indent: 0 }
    }

    /// Moves all of it to the right.
    pub(crate) fn indented(self, indent: usize) -> Table {
        Table { indent, ..self }
    }

    /// Adds a row; a missing cell is empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..self.sides.len())
            .map(|at| self.rows.iter().filter_map(|row| row.get(at)).map(width).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (at, cell) in row.iter().take(widths.len()).enumerate() {
                let blanks = " ".repeat(widths[at] - width(cell));
                line += if at > 0 { "  " } else { "" };
                match self.sides[at] {
                    Side::Left => line += &format!("{cell}{blanks}"),
                    Side::Right => line += &format!("{blanks}{cell}"),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text of at most so many characters; what was cut off ends in `…`.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!((clipped("größer", 6).as_str(), clipped("größer", 4).as_str()), ("größer", "grö…"));
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let mut table =
            Table::new([("name", Side::Left), ("size", Side::Right), ("", Side::Left)]).indented(2);
        table.row(["größer", "1 B", "x"]);
        table.row(["a", "100 kB"]);
        assert_eq!(table.to_string(), "  name      size\n  größer     1 B  x\n  a       100 kB\n");
    }
}
