//! Judges an expression by what stands on the board. Allocates nothing; its depth is bounded when it is read.

use super::tree::{Number, Operator, Text, Truth};
use crate::board::View;

/// NaN if a value that matters is missing.
pub(super) fn number(tree: &Number, view: View<'_>) -> f64 {
    match tree {
        Number::Literal(number) => *number,
        Number::Slot(slot) => view.number(*slot),
        Number::Age(slot) => view.age_ms(*slot),
        Number::Negate(inner) => -number(inner, view),
        Number::Absolute(inner) => number(inner, view).abs(),
        Number::Two(operator, two) => {
            let [left, right] = [number(&two[0], view), number(&two[1], view)];
            match operator {
                Operator::Plus => left + right,
                Operator::Minus => left - right,
                Operator::Times => left * right,
                Operator::By => left / right,
            }
        }
        Number::Least(of) => extreme(of, view, f64::min),
        Number::Most(of) => extreme(of, view, f64::max),
        Number::Choose(three) => match truth(&three.0, view) {
            Some(true) => number(&three.1, view),
            Some(false) => number(&three.2, view),
            None => f64::NAN,
        },
    }
}

/// `f64::min` and `f64::max` pass over NaN; a missing value is not passed over.
fn extreme(of: &[Number], view: View<'_>, pick: fn(f64, f64) -> f64) -> f64 {
    let mut found = f64::NAN;
    for one in of {
        let one = number(one, view);
        if one.is_nan() {
            return f64::NAN;
        }
        found = pick(found, one);
    }
    found
}

/// `None` if it is missing.
pub(super) fn text<'a>(tree: &'a Text, view: View<'a>) -> Option<&'a str> {
    match tree {
        Text::Literal(text) => Some(text),
        Text::Slot(slot) => view.text(*slot),
        Text::Choose(three) => match truth(&three.0, view)? {
            true => text(&three.1, view),
            false => text(&three.2, view),
        },
    }
}

/// `None` if a value that matters is missing.
pub(super) fn truth(tree: &Truth, view: View<'_>) -> Option<bool> {
    match tree {
        Truth::Literal(truth) => Some(*truth),
        Truth::Slot(slot) => view.truth(*slot),
        Truth::Has(slot) => Some(view.has(*slot)),
        Truth::Not(inner) => truth(inner, view).map(|truth| !truth),
        Truth::All(parts) => first_that_decides(parts, view, false),
        Truth::Any(parts) => first_that_decides(parts, view, true),
        Truth::Choose(three) => match truth(&three.0, view)? {
            true => truth(&three.1, view),
            false => truth(&three.2, view),
        },
        Truth::Compare(it) => it.compare.holds(number(&it.left, view), number(&it.right, view)),
        Truth::SameAs { equal, two } => Some((truth(&two[0], view)? == truth(&two[1], view)?) == *equal),
        Truth::SameText { equal, two, .. } => Some((text(&two[0], view)? == text(&two[1], view)?) == *equal),
        Truth::NumberIn { value, of, .. } => {
            let value = number(value, view);
            (!value.is_nan()).then(|| of.contains(&value))
        }
        Truth::TextIn { value, of, .. } => {
            let value = text(value, view)?;
            Some(of.iter().any(|one| **one == *value))
        }
    }
}

/// `decides` as soon as one part says so; otherwise missing if one is, otherwise the contrary.
fn first_that_decides(parts: &[Truth], view: View<'_>, decides: bool) -> Option<bool> {
    let mut all_known = true;
    for part in parts {
        match truth(part, view) {
            Some(truth) if truth == decides => return Some(decides),
            Some(_) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(!decides)
}

/// What stands on the left of the first comparison; NaN if there is none.
pub(super) fn first_left(tree: &Truth, view: View<'_>) -> f64 {
    first_compared(tree).map_or(f64::NAN, |left| number(left, view))
}

fn first_compared(tree: &Truth) -> Option<&Number> {
    match tree {
        Truth::Compare(it) => Some(&it.left),
        Truth::NumberIn { value, .. } => Some(value),
        Truth::Not(inner) => first_compared(inner),
        Truth::All(parts) | Truth::Any(parts) => parts.iter().find_map(first_compared),
        Truth::Choose(three) => {
            first_compared(&three.0).or_else(|| first_compared(&three.1)).or_else(|| first_compared(&three.2))
        }
        Truth::SameAs { two, .. } => two.iter().find_map(first_compared),
        Truth::Literal(_)
        | Truth::Slot(_)
        | Truth::Has(_)
        | Truth::SameText { .. }
        | Truth::TextIn { .. } => None,
    }
}
