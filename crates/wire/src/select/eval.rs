//! A tree and the facts of one node: true or false, never an error. One node's odd fact must not stop a page.
//!
//! A fact that is absent, or of another type than what it is compared with, makes its term false, also `!=`.

use std::cmp::Ordering;

use super::tree::{Expr, Op, Term, Unit, Value};
use crate::facts::{Fact, Facts};

/// Whether the node is meant.
pub(super) fn holds(tree: &Expr, facts: &Facts) -> bool {
    match tree {
        Expr::Or(parts) => parts.iter().any(|part| holds(part, facts)),
        Expr::And(parts) => parts.iter().all(|part| holds(part, facts)),
        Expr::Not(inner) => !holds(inner, facts),
        Expr::Term(term) => term_holds(term, facts),
    }
}

/// Whether one term is true of the node.
pub(super) fn term_holds(term: &Term, facts: &Facts) -> bool {
    let found = term.name().and_then(|name| facts.find(name));
    match (term, found) {
        (Term::All, _) => true,
        (_, None) => false,
        (Term::Is(_), Some(fact)) => *fact != Fact::Truth(false),
        (Term::Compare(_, op, value), Some(fact)) => compare(*op, fact, value),
        (Term::In(_, values), Some(fact)) => values.iter().any(|value| compare(Op::Same, fact, value)),
        (Term::Has(_, wanted), Some(Fact::List(list))) => list.contains(wanted),
        (Term::Has(_, wanted), Some(Fact::Text(text))) => text == wanted,
        (Term::Like(_, shape), Some(Fact::Text(text))) => like(shape, text),
        (Term::Has(..) | Term::Like(..), Some(_)) => false,
    }
}

fn compare(op: Op, fact: &Fact, value: &Value) -> bool {
    let order = match (fact, value) {
        (Fact::Text(fact), Value::Text(value)) => natural(fact, value),
        (Fact::Number(fact), Value::Number(number, unit)) => {
            match fact.partial_cmp(&(number * unit.map_or(1.0, Unit::factor))) {
                Some(order) => order,
                None => return false,
            }
        }
        (Fact::Truth(fact), Value::Truth(value)) => match op {
            Op::Same => return fact == value,
            Op::Other => return fact != value,
            _ => return false,
        },
        _ => return false,
    };
    match op {
        Op::Same => order.is_eq(),
        Op::Other => order.is_ne(),
        Op::Less => order.is_lt(),
        Op::AtMost => order.is_le(),
        Op::More => order.is_gt(),
        Op::AtLeast => order.is_ge(),
    }
}

/// The order of texts in which runs of digits count as numbers, so that `0.9.1` comes before `0.10.0`. Only equal texts are equal.
fn natural(left: &str, right: &str) -> Ordering {
    let (mut a, mut b) = (left.as_bytes(), right.as_bytes());
    while let (Some(first), Some(second)) = (a.first(), b.first()) {
        if first.is_ascii_digit() && second.is_ascii_digit() {
            let (digits, others) = (digits(&mut a), digits(&mut b));
            let order = digits.len().cmp(&others.len()).then_with(|| digits.cmp(others));
            if order.is_ne() {
                return order;
            }
        } else if first != second {
            return first.cmp(second);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
    // One is the beginning of the other, or they differ only in leading zeros.
    a.len().cmp(&b.len()).then_with(|| left.cmp(right))
}

/// Takes a run of digits off the front; gives it without leading zeros.
fn digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    &run[run.iter().position(|byte| *byte != b'0').unwrap_or(run.len())..]
}

/// Whether the whole text has this shape. Goes back to the last `*` only, so it takes at most shape × text steps.
fn like(shape: &str, text: &str) -> bool {
    let (shape, text): (Vec<char>, Vec<char>) = (shape.chars().collect(), text.chars().collect());
    let (mut s, mut t) = (0, 0);
    // Where the last star stands, and where in the text what follows it was tried last.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match shape.get(s) {
            Some('*') => {
                star = Some((s, t));
                s += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (s, t) = (s + 1, t + 1),
            _ => {
                let Some((stood, tried)) = star else { return false };
                star = Some((stood, tried + 1));
                (s, t) = (stood + 1, tried + 1);
            }
        }
    }
    shape[s..].iter().all(|c| *c == '*')
}
