//! An expression once its types are right: what cannot be judged cannot be said.

use std::ops::Range;

use crate::board::{Kind, Slot};

/// A field that an expression reads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    pub(super) slot: Slot,
    pub(super) part: Box<str>,
    pub(super) field: Box<str>,
    pub(super) kind: Kind,
    /// Where the field stands in the text, first.
    pub(super) field_at: Range<usize>,
}

/// An expression of either kind.
#[derive(Debug, Clone)]
pub(super) enum Typed {
    Truth(Truth),
    /// Durations too: they are milliseconds.
    Number(Number),
    Text(Text),
}

/// Gives a number, NaN if it is missing.
#[derive(Debug, Clone)]
pub(super) enum Number {
    Literal(f64),
    Slot(Slot),
    Age(Slot),
    Negate(Box<Number>),
    Absolute(Box<Number>),
    Two(Operator, Box<[Number; 2]>),
    Least(Vec<Number>),
    Most(Vec<Number>),
    Choose(Box<(Truth, Number, Number)>),
}

/// How two numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Plus,
    Minus,
    Times,
    By,
}

/// Gives a text, or nothing if it is missing.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Literal(Box<str>),
    Slot(Slot),
    Choose(Box<(Truth, Text, Text)>),
}

/// True, false or missing.
#[derive(Debug, Clone)]
pub(super) enum Truth {
    Literal(bool),
    Slot(Slot),
    Has(Slot),
    Not(Box<Truth>),
    All(Vec<Truth>),
    Any(Vec<Truth>),
    Choose(Box<(Truth, Truth, Truth)>),
    Compare(Box<Comparison>),
    SameAs { equal: bool, two: Box<[Truth; 2]> },
    SameText { equal: bool, two: Box<[Text; 2]>, left: Range<usize> },
    NumberIn { value: Box<Number>, of: Vec<f64>, left: Range<usize> },
    TextIn { value: Box<Text>, of: Vec<Box<str>>, left: Range<usize> },
}

/// Two numbers compared.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    pub(super) compare: Compare,
    pub(super) left: Number,
    pub(super) right: Number,
    /// Where each side stands in the text.
    pub(super) left_at: Range<usize>,
    pub(super) right_at: Range<usize>,
    /// Whether both sides are durations.
    pub(super) durations: bool,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
}

impl Compare {
    /// Whether `value` and `limit` compare so; `None` if either is missing.
    pub fn holds(self, value: f64, limit: f64) -> Option<bool> {
        if value.is_nan() || limit.is_nan() {
            return None;
        }
        Some(match self {
            Compare::Above => value > limit,
            Compare::AtLeast => value >= limit,
            Compare::Below => value < limit,
            Compare::AtMost => value <= limit,
            Compare::Equal => value == limit,
            Compare::Unequal => value != limit,
        })
    }

    /// In words: "9.31, above 8".
    pub fn in_words(self) -> &'static str {
        match self {
            Compare::Above => "above",
            Compare::AtLeast => "at least",
            Compare::Below => "below",
            Compare::AtMost => "at most",
            Compare::Equal => "equal to",
            Compare::Unequal => "other than",
        }
    }

    /// As it is when its sides change places.
    pub(super) fn turned(self) -> Compare {
        match self {
            Compare::Above => Compare::Below,
            Compare::AtLeast => Compare::AtMost,
            Compare::Below => Compare::Above,
            Compare::AtMost => Compare::AtLeast,
            same => same,
        }
    }
}
