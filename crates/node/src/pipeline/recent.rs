//! The last rows of a source or a feature, newest last: what digests of inputs are made from.

use std::collections::VecDeque;

use wire::body::{Readings, Values};
use wire::id::PartName;
use wire::world::WallMs;

/// At most so many rows as the part that looks at most of them together.
pub(super) struct Recent {
    keep: usize,
    rows: VecDeque<(WallMs, Vec<f64>)>,
}

impl Recent {
    pub(super) fn new(keep: usize) -> Recent {
        Recent { keep: keep.max(1), rows: VecDeque::new() }
    }

    /// Keeps so many from now on.
    pub(super) fn resize(&mut self, keep: usize) {
        self.keep = keep.max(1);
        while self.rows.len() > self.keep {
            self.rows.pop_front();
        }
    }

    /// Takes over the rows of another.
    pub(super) fn take_over(&mut self, other: Recent) {
        self.rows = other.rows;
        self.resize(self.keep);
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    /// The last row, with its time.
    pub(super) fn last(&self) -> Option<(WallMs, &[f64])> {
        let (t_ms, values) = self.rows.back()?;
        Some((*t_ms, values))
    }

    pub(super) fn remember(&mut self, t_ms: WallMs, values: &[f64]) {
        let mut slot = match self.rows.len() {
            len if len == self.keep => self.rows.pop_front().unwrap_or_default(),
            _ => (0, Vec::with_capacity(values.len())),
        };
        slot.0 = t_ms;
        slot.1.clear();
        slot.1.extend_from_slice(values);
        self.rows.push_back(slot);
    }

    /// The last rows, as a body.
    pub(super) fn body(&self, rows: usize, part: &PartName, names: &[String]) -> Readings {
        let skip = self.rows.len().saturating_sub(rows);
        let t_ms = self.rows.iter().skip(skip).map(|(t_ms, _)| *t_ms).collect();
        columns(part, names, t_ms, || self.rows.iter().skip(skip).map(|(_, values)| values.as_slice()))
    }
}

/// Rows as a `readings` body, which has columns.
pub(super) fn columns<'a, I: Iterator<Item = &'a [f64]>>(
    part: &PartName,
    names: &[String],
    t_ms: Vec<WallMs>,
    rows: impl Fn() -> I,
) -> Readings {
    let column = |at: usize| Values(rows().map(|row| row[at]).collect());
    let values = (0..names.len()).map(column).collect();
    Readings { source: part.clone(), channels: names.to_vec(), t_ms, values }
}
