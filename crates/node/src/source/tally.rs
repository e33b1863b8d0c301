//! What a reader of foreign rows refused, and why: counts, with the first line of each kind.

use serde::Serialize;
use wire::world::WallMs;

/// A kind of trouble.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// How often.
    pub count: u64,
    /// The first line it happened on, from 1; 0 if it never did.
    pub first_line: u64,
}

impl Trouble {
    /// Notes one more.
    pub fn count(&mut self, line: u64) {
        if self.count == 0 {
            self.first_line = line;
        }
        self.count += 1;
    }
}

/// What became of the rows and cells of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Rows that became readings.
    pub rows: u64,
    /// Rows refused: older than a row before them.
    pub out_of_order: Trouble,
    /// Rows refused: the time of the row before them; the first is kept.
    pub duplicate: Trouble,
    /// Rows refused: the time could not be read.
    pub bad_time: Trouble,
    /// Rows refused: more cells than the header.
    pub too_wide: Trouble,
    /// Rows refused: not UTF-8.
    pub not_utf8: Trouble,
    /// Rows with fewer cells than the header; those that lack are missing.
    pub ragged: Trouble,
    /// Cells of channels that hold text; they are missing.
    pub text: Trouble,
    /// Cells of channels that are empty, `NaN`, `null` or infinite.
    pub missing: u64,
}

impl Tally {
    /// Counts a row by its time: whether it becomes a reading, the newest so far. One that is older, or as old, is refused.
    pub fn takes(&mut self, t_ms: WallMs, newest_ms: &mut Option<WallMs>, line: u64) -> bool {
        match *newest_ms {
            Some(newest) if t_ms < newest => self.out_of_order.count(line),
            Some(newest) if t_ms == newest => self.duplicate.count(line),
            _ => {
                *newest_ms = Some(t_ms);
                self.rows += 1;
                return true;
            }
        }
        false
    }

    /// Rows refused.
    pub fn refused_rows(&self) -> u64 {
        let kinds = [self.out_of_order, self.duplicate, self.bad_time, self.too_wide, self.not_utf8];
        kinds.iter().map(|kind| kind.count).sum()
    }

    /// Rows and cells refused: what a source counts as refused.
    pub fn refused(&self) -> u64 {
        self.refused_rows() + self.text.count
    }

    /// Whether every row was whole.
    pub fn is_clean(&self) -> bool {
        self.refused() == 0 && self.ragged.count == 0 && self.missing == 0
    }
}

/// One line: `1 200 rows, 4 refused: 3 out of order (first at line 17), 1 not UTF-8 (at line 90)`.
impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        fn list(f: &mut std::fmt::Formatter<'_>, kinds: &[(Trouble, &str)]) -> std::fmt::Result {
            let mut before = "";
            for (Trouble { count, first_line }, what) in kinds.iter().filter(|(kind, _)| kind.count > 0) {
                let first = if *count > 1 { "first " } else { "" };
                write!(f, "{before}{count} {what} ({first}at line {first_line})")?;
                before = ", ";
            }
            Ok(())
        }
        let rows = |count| if count == 1 { "row" } else { "rows" };
        write!(f, "{} {} read", self.rows, rows(self.rows))?;
        if self.refused_rows() > 0 {
            write!(f, ", {} {} refused: ", self.refused_rows(), rows(self.refused_rows()))?;
            list(
                f,
                &[
                    (self.out_of_order, "out of order"),
                    (self.duplicate, "with the time of the row before"),
                    (self.bad_time, "without a readable time"),
                    (self.too_wide, "with more cells than the header"),
                    (self.not_utf8, "not UTF-8"),
                ],
            )?;
        }
        if self.text.count + self.ragged.count > 0 {
            f.write_str("; ")?;
            let text = if self.text.count == 1 { "cell that holds text" } else { "cells that hold text" };
            let ragged =
                if self.ragged.count == 1 { "row with too few cells" } else { "rows with too few cells" };
            list(f, &[(self.text, text), (self.ragged, ragged)])?;
        }
        if self.missing > 0 {
            let cells = if self.missing == 1 { "cell" } else { "cells" };
            write!(f, "; {} {cells} empty or not finite", self.missing)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line() {
        let mut tally = Tally { rows: 7, ..Tally::default() };
        assert_eq!(tally.to_string(), "7 rows read");
        assert!(tally.is_clean());
        tally.out_of_order.count(17);
        tally.out_of_order.count(19);
        tally.not_utf8.count(90);
        tally.text.count(4);
        tally.missing = 3;
        assert_eq!(
            tally.to_string(),
            "7 rows read, 3 rows refused: 2 out of order (first at line 17), 1 not UTF-8 (at line 90); \
             1 cell that holds text (at line 4); 3 cells empty or not finite"
        );
        assert_eq!((tally.refused_rows(), tally.refused()), (3, 4));
    }
}
