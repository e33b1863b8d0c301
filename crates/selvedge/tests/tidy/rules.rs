//! The rules, one file each; every one takes the house and gives its violations in order.

use crate::tidy::house::House;
use crate::tidy::violation::Violation;

pub mod arrows;
pub mod clocks;
pub mod heads;
pub mod libraries;
pub mod loops;
pub mod manifests;
pub mod stations;
pub mod unreadable;
pub mod unsafety;
pub mod words;

/// A rule: its name, and what it finds.
pub type Rule = (&'static str, fn(&House) -> Vec<Violation>);

/// All of them.
pub const ALL: [Rule; 10] = [
    ("unreadable", unreadable::check),
    ("arrows", arrows::check),
    ("loops", loops::check),
    ("heads", heads::check),
    ("unsafety", unsafety::check),
    ("clocks", clocks::check),
    ("libraries", libraries::check),
    ("stations", stations::check),
    ("words", words::check),
    ("manifests", manifests::check),
];

/// What a rule finds, sorted, each line once.
pub fn violations(name: &str, house: &House) -> Vec<String> {
    let (_, check) = ALL.iter().find(|(known, _)| *known == name).expect("a rule of this name");
    let mut found = check(house);
    found.sort();
    found.dedup();
    found.iter().map(ToString::to_string).collect()
}
