//! Why an expression holds or fails, in words: the comparisons that decided, each with the values it was made on.

use std::ops::Range;

use super::eval::{number, text, truth};
use super::tree::{Comparison, Number, Read, Text, Truth};
use crate::board::{Kind, Slot, View};
use crate::config::quantity::show_duration;

/// The most comparisons that are told.
const MOST: usize = 8;

/// Why.
#[derive(Debug, Clone, PartialEq)]
pub struct Reasons {
    /// `temperature was 93.1, above 80`.
    pub words: String,
    /// What stood on the left of the first comparison that decided; NaN if none did.
    pub value: f64,
    /// What the comparisons that decided have read.
    pub slots: Vec<Slot>,
}

impl Default for Reasons {
    fn default() -> Reasons {
        Reasons { words: String::new(), value: f64::NAN, slots: Vec::new() }
    }
}

/// Tells why `tree` is what it is now.
pub(super) fn explain(tree: &Truth, view: View<'_>, text: &str, reads: &[Read]) -> Reasons {
    // A condition that is one comparison of a field says the field alone; everything else says whose it is.
    let single = matches!(tree, Truth::Compare(it)
        if matches!((&it.left, &it.right), (Number::Slot(_), Number::Literal(_))));
    let mut teller = Teller { view, text, reads, single, told: Vec::new(), found: Reasons::default() };
    teller.tell(tree);
    let Teller { mut told, mut found, .. } = teller;
    let more = told.len().saturating_sub(MOST);
    told.truncate(MOST);
    found.words = told.join(", and ");
    if more > 0 {
        found.words += &format!(", and {more} more");
    }
    found
}

struct Teller<'a> {
    view: View<'a>,
    text: &'a str,
    reads: &'a [Read],
    single: bool,
    told: Vec<String>,
    found: Reasons,
}

impl<'a> Teller<'a> {
    fn tell(&mut self, tree: &'a Truth) {
        let Some(outcome) = truth(tree, self.view) else { return };
        match tree {
            Truth::Literal(truth) => self.told.push(format!("it is always {truth}")),
            Truth::Slot(slot) => {
                self.note(*slot);
                let name = self.name(*slot);
                let words = match self.read(*slot) {
                    Some(read) if &*read.field == "firing" => {
                        format!("{} {}", read.part, if outcome { "was firing" } else { "was not firing" })
                    }
                    _ => format!("{name} was {outcome}"),
                };
                self.told.push(words);
            }
            Truth::Has(slot) => {
                self.note(*slot);
                let there = if outcome { "was there" } else { "was missing" };
                self.told.push(format!("{} {there}", self.name(*slot)));
            }
            Truth::Not(inner) => self.tell(inner),
            // All parts make a conjunction true, one alone makes it false.
            Truth::All(parts) => self.tell_those(parts, outcome, !outcome),
            Truth::Any(parts) => self.tell_those(parts, outcome, outcome),
            Truth::Choose(three) => {
                self.tell(&three.0);
                let chosen = if truth(&three.0, self.view) == Some(true) { &three.1 } else { &three.2 };
                self.tell(chosen);
            }
            Truth::Compare(it) => self.compare(it, outcome),
            Truth::SameAs { two, .. } => two.iter().for_each(|one| self.tell(one)),
            Truth::SameText { two, left, .. } => {
                two.iter().for_each(|one| self.note_text(one));
                let [value, other] = [&two[0], &two[1]].map(|one| text(one, self.view).unwrap_or_default());
                let left = &self.text[left.clone()];
                let other = if value == other { String::new() } else { format!(", not {}", quoted(other)) };
                self.told.push(format!("{left} was {}{other}", quoted(value)));
            }
            Truth::NumberIn { value, of, left } => {
                let found = number(value, self.view);
                self.value(found);
                self.note_number(value);
                let of: Vec<String> = of.iter().take(MOST).map(|one| show_number(*one)).collect();
                self.is_in(left, &show_number(found), &of, outcome);
            }
            Truth::TextIn { value, of, left } => {
                self.note_text(value);
                let found = quoted(text(value, self.view).unwrap_or_default());
                let of: Vec<String> = of.iter().take(MOST).map(|one| quoted(one)).collect();
                self.is_in(left, &found, &of, outcome);
            }
        }
    }

    /// Tells those parts that made the outcome; `one`: one of them was enough.
    fn tell_those(&mut self, parts: &'a [Truth], outcome: bool, one: bool) {
        for part in parts {
            if truth(part, self.view) == Some(outcome) {
                self.tell(part);
                if one {
                    return;
                }
            }
        }
    }

    fn is_in(&mut self, left: &Range<usize>, found: &str, of: &[String], outcome: bool) {
        let among = if outcome { "among" } else { "not among" };
        let left = &self.text[left.clone()];
        self.told.push(format!("{left} was {found}, {among} {}", of.join(", ")));
    }

    /// `pump.temperature was 93.1, above 80`.
    fn compare(&mut self, it: &'a Comparison, outcome: bool) {
        let [left, right] = [number(&it.left, self.view), number(&it.right, self.view)];
        let show = |value: f64| match it.durations {
            true => show_duration(value as i64),
            false => show_number(value),
        };
        self.value(left);
        self.note_number(&it.left);
        self.note_number(&it.right);
        let what = match &it.left {
            Number::Slot(slot) => self.name(*slot),
            Number::Age(slot) => format!("the age of {}", self.name(*slot)),
            _ => self.written(&it.left_at),
        };
        let limit = match &it.right {
            Number::Literal(_) => show(right),
            Number::Slot(slot) => format!("{}, which was {}", self.name(*slot), show(right)),
            _ => format!("{}, which was {}", self.written(&it.right_at), show(right)),
        };
        let not = if outcome { "" } else { "not " };
        self.told.push(format!("{what} was {}, {not}{} {limit}", show(left), it.compare.in_words()));
    }

    /// A part of the condition as it was written, in one line.
    fn written(&self, at: &Range<usize>) -> String {
        self.text[at.clone()].split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn value(&mut self, value: f64) {
        if self.found.value.is_nan() {
            self.found.value = value;
        }
    }

    fn note(&mut self, slot: Slot) {
        if !self.found.slots.contains(&slot) {
            self.found.slots.push(slot);
        }
    }

    fn note_number(&mut self, tree: &'a Number) {
        match tree {
            Number::Literal(_) => {}
            Number::Slot(slot) | Number::Age(slot) => self.note(*slot),
            Number::Negate(inner) | Number::Absolute(inner) => self.note_number(inner),
            Number::Two(_, two) => two.iter().for_each(|one| self.note_number(one)),
            Number::Least(of) | Number::Most(of) => of.iter().for_each(|one| self.note_number(one)),
            Number::Choose(three) => {
                self.note_number(if truth(&three.0, self.view) == Some(true) { &three.1 } else { &three.2 });
            }
        }
    }

    fn note_text(&mut self, tree: &'a Text) {
        match tree {
            Text::Literal(_) => {}
            Text::Slot(slot) => self.note(*slot),
            Text::Choose(three) => {
                self.note_text(if truth(&three.0, self.view) == Some(true) { &three.1 } else { &three.2 });
            }
        }
    }

    fn read(&self, slot: Slot) -> Option<&'a Read> {
        self.reads.iter().find(|read| read.slot == slot)
    }

    fn name(&self, slot: Slot) -> String {
        match self.read(slot) {
            Some(read) if self.single && read.kind == Kind::Number && !of_model(&read.field) => {
                read.field.to_string()
            }
            Some(read) => format!("{}.{}", read.part, read.field),
            None => String::new(),
        }
    }
}

/// `p` and `score` say nothing without the model that gave them.
fn of_model(field: &str) -> bool {
    matches!(field, "p" | "score")
}

fn quoted(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    format!("{short:?}")
}

/// A number with as many digits as a person wants to read: five that count.
fn show_number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs().log10().floor();
    if !(-5.0..15.0).contains(&size) {
        return format!("{value:.4e}");
    }
    let decimals = (4.0 - size).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        fn check(value: f64, expected: &str) {
            assert_eq!(show_number(value), expected);
        }
        check(0.0, "0");
        check(80.0, "80");
        check(123_456.789, "123457");
        check(0.999_999_9, "1");
        check(1e-9, "1.0000e-9");
        check(-3.5e20, "-3.5000e20");
    }
}
