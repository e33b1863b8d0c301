//! Conditions over the values of several parts: `pump.temperature > 80.0 && health.p > 0.9`.
//!
//! The language is CEL's, as far as conditions need it: comparisons, arithmetic, `&&`, `||`, `!`, `? :`, `in [..]`,
//! `has(part.field)`, and of our own `abs`, `min`, `max`, `duration("30s")` and `age(part.field)`. A text is read once, when
//! a flow is checked: words to a tree ([`parse`]), the tree to one whose types are right (`check`). Judging it afterwards
//! reads a [`Board`] and allocates nothing.
//!
//! A missing value is neither true nor false. As in CEL, `false && missing` is false and `true || missing` is true: what
//! decides alone decides. Everything else that meets a missing value is missing.

mod check;
mod eval;
mod explain;
pub mod names;
pub mod parse;
mod tree;

use std::ops::Range;

use wire::world::WallMs;

use crate::board::{Board, Kind, Slot};
pub use explain::Reasons;
use names::Names;
use parse::Bad;
pub use tree::Compare;
use tree::{Read, Typed};

/// An expression whose types are right.
#[derive(Debug, Clone)]
pub struct Expression {
    text: Box<str>,
    tree: Typed,
    reads: Vec<Read>,
    slots: Vec<Slot>,
    stale_after_ms: Option<i64>,
}

impl Expression {
    /// Reads an expression that gives `wanted`.
    pub fn parse(text: &str, wanted: Kind, names: &dyn Names) -> Result<Expression, Bad> {
        let untyped = parse::parse(text)?;
        let (tree, reads) = check::check(untyped, wanted, names)?;
        let slots = reads.iter().map(|read| read.slot).collect();
        Ok(Expression { text: text.into(), tree, reads, slots, stale_after_ms: None })
    }

    /// Reads an expression as far as it can be without knowing its names.
    pub fn syntax(text: &str) -> Result<(), Bad> {
        parse::parse(text).map(drop)
    }

    /// The same, with values of that age counted as missing. Without it: ten usual intervals of their source, at least 1 m.
    pub fn with_stale_after(self, stale_after_ms: Option<i64>) -> Expression {
        Expression { stale_after_ms, ..self }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it reads, each slot once, in the order of the text.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// What it reads as it was written, part and field, beside [`Expression::slots`].
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.reads.iter().map(|read| (&*read.part, &*read.field))
    }

    /// Where each slot it reads stands first in the text.
    pub fn places(&self) -> impl Iterator<Item = (Slot, &Range<usize>)> {
        self.reads.iter().map(|read| (read.slot, &read.field_at))
    }

    /// Whether it holds; `None` if a value that matters is missing. An expression of another kind never does.
    pub fn holds(&self, board: &Board, now_ms: WallMs) -> Option<bool> {
        match &self.tree {
            Typed::Truth(tree) => eval::truth(tree, board.at(now_ms, self.stale_after_ms)),
            _ => None,
        }
    }

    /// Its number, a duration in milliseconds; NaN if a value that matters is missing, or if it is no number.
    pub fn number(&self, board: &Board, now_ms: WallMs) -> f64 {
        match &self.tree {
            Typed::Number(tree) => eval::number(tree, board.at(now_ms, self.stale_after_ms)),
            _ => f64::NAN,
        }
    }

    /// Why it holds, or fails, in words, by the comparisons that decided.
    pub fn why(&self, board: &Board, now_ms: WallMs) -> Reasons {
        let view = board.at(now_ms, self.stale_after_ms);
        match &self.tree {
            Typed::Truth(tree) => explain::explain(tree, view, &self.text, &self.reads),
            _ => Reasons::default(),
        }
    }

    /// What stands on the left of its first comparison, however old; NaN if there is none.
    pub fn first_value(&self, board: &Board) -> f64 {
        match &self.tree {
            // No age is too old.
            Typed::Truth(tree) => {
                let now_ms = self.slots.iter().filter_map(|slot| board.written_ms(*slot)).max();
                eval::first_left(tree, board.at(now_ms.unwrap_or(0), Some(i64::MAX)))
            }
            _ => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests;
