//! Labels: those set here, and how many nodes have which. Those of a node's own settings win over those set here.

use std::collections::BTreeMap;

use wire::checkin::HubLabels;
use wire::facts::{FactName, TEXT_MAX_BYTES};

use crate::fleet::view::Known;

/// The most labels that may be set here on one node.
const LABELS_MAX: usize = 32;

/// The most cells of a map of two labels.
const CELLS_MAX: usize = 4096;

/// Labels that cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabels {
    /// Too many.
    #[error("{count} labels; at most {LABELS_MAX} can be set on a node")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A name outside the alphabet.
    #[error(
        "{name:?} cannot be a label: a letter first, then letters, digits, '_', '-' and '.', at most 64 characters"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A value that is empty, too long, or has control characters.
    #[error("the value of {name:?} must have 1 to 200 characters, none of them control characters")]
    Value {
        /// The label.
        name: String,
    },
}

/// The labels of a node with these in place of those before, `rev` one up.
pub fn set(before: Option<&HubLabels>, new: BTreeMap<String, String>) -> Result<HubLabels, BadLabels> {
    const { assert!(TEXT_MAX_BYTES >= 200, "what is set must fit into a fact") };
    if new.len() > LABELS_MAX {
        return Err(BadLabels::TooMany { count: new.len() });
    }
    for (name, value) in &new {
        if name.len() > 64 || FactName::of_label(name).is_err() || FactName::new(name).is_err() {
            return Err(BadLabels::Name { name: name.chars().take(64).collect() });
        }
        if value.is_empty() || value.len() > 200 || value.chars().any(char::is_control) {
            return Err(BadLabels::Value { name: name.clone() });
        }
    }
    let rev = before.map_or(0, |before| before.rev).saturating_add(1);
    Ok(HubLabels { rev, set: new })
}

/// The nodes that have one value of a label, or one value each of two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// The value of the first label; absent: the label is.
    pub one: Option<String>,
    /// The value of the second label, where two were asked for.
    pub two: Option<String>,
    /// How many nodes.
    pub nodes: u64,
    /// How many of them are silent.
    pub silent: u64,
    /// On how many of them an alert fires.
    pub firing: u64,
    /// How many of them know more than this hub, and get no documents.
    pub conflict: u64,
    /// On how many of them a release is on trial.
    pub trial: u64,
}

/// The values of one label and of another.
type Values = (Option<String>, Option<String>);

/// Counts nodes by the values of one label or two; at most `CELLS_MAX` cells. `firing`: on this node, by name, an alert
/// fires.
pub fn map(nodes: &[Known], one: &str, two: Option<&str>, firing: impl Fn(&str) -> bool) -> Vec<Cell> {
    let mut cells: BTreeMap<Values, Cell> = BTreeMap::new();
    for node in nodes {
        let mut labels = node.labels();
        let key = (labels.remove(one), two.and_then(|two| labels.remove(two)));
        if cells.len() == CELLS_MAX && !cells.contains_key(&key) {
            continue;
        }
        let cell = cells.entry(key).or_default();
        cell.nodes += 1;
        cell.silent += u64::from(node.row.silent);
        cell.firing += u64::from(firing(&node.row.name));
        cell.conflict += u64::from(node.row.conflict.is_some());
        cell.trial += u64::from(!node.trials().is_empty());
    }
    cells.into_iter().map(|((one, two), cell)| Cell { one, two, ..cell }).collect()
}

/// Which labels there are, and how many nodes have each.
pub fn names(nodes: &[Known]) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    for label in nodes.iter().flat_map(|node| node.labels().into_keys()) {
        *names.entry(label).or_default() += 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_set() {
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let first = set(None, one("line", "2")).unwrap();
        assert_eq!(first.rev, 1);
        assert_eq!(set(Some(&first), BTreeMap::new()).unwrap(), HubLabels { rev: 2, set: BTreeMap::new() });
        for name in ["", "1", "a b", "in", &"x".repeat(65)] {
            assert!(matches!(set(None, one(name, "x")), Err(BadLabels::Name { .. })), "{name}");
        }
        for value in ["", "a\nb", &"x".repeat(201)] {
            assert!(matches!(set(None, one("a", value)), Err(BadLabels::Value { .. })), "{value}");
        }
        let many = (0..33).map(|at| (format!("l{at}"), "x".to_owned())).collect();
        assert_eq!(set(None, many), Err(BadLabels::TooMany { count: 33 }));
    }
}
