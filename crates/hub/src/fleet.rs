//! The fleet as it says it is: facts come with check-ins as differences, and every reader sees all nodes at once.
//!
//! In reading order: [`take`], what a check-in does to the facts that are held; [`view`], all nodes in memory, for
//! searching; [`labels`], those that are set here; [`coverage`], which variant of a release each node would take.
//!
//! Always: no difference is applied to a state that was not acknowledged. A hub that lost its memory asks for everything.

pub mod coverage;
pub mod device;
pub mod labels;
pub mod view;

use wire::checkin::{CheckIn, HubLabels, Inventory};
use wire::facts::{Fact, FactName, Facts};

use crate::store::connection::Writer;
use crate::store::facts::{self, HeldFacts};

/// What the answer to a check-in says of facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// The node shall say everything the next time.
    pub full: bool,
    /// The labels that are set here.
    pub labels: Option<HubLabels>,
}

/// Takes what a check-in says of the node, within the transaction that takes the check-in. Told twice it changes nothing
/// twice.
pub async fn take(writer: &mut Writer, node: i64, checkin: &CheckIn) -> Result<Told, sqlx::Error> {
    let held = facts::held(writer, node).await?;
    let labels = held.labels.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let boot = checkin.boot.to_string();
    let full = match merge(&held, &boot, checkin.inventory.as_ref()) {
        Merged::Same => false,
        Merged::Unknown => true,
        Merged::New { seq, facts } => {
            let text = serde_json::to_string(&facts).map_err(|error| sqlx::Error::Encode(error.into()))?;
            let other = Some(text.as_str()).filter(|text| held.facts.as_deref() != Some(*text));
            facts::keep(writer, node, &boot, seq, other).await?;
            false
        }
    };
    Ok(Told { full, labels })
}

#[derive(Debug, PartialEq)]
enum Merged {
    /// Nothing is new.
    Same,
    /// What it changes is not held here.
    Unknown,
    /// What the node is by now.
    New { seq: i64, facts: Facts },
}

/// What is held and what is told make what is known.
fn merge(held: &HeldFacts, boot: &str, told: Option<&Inventory>) -> Merged {
    let is_same_run = held.boot.as_deref() == Some(boot);
    let Some(told) = told else { return if is_same_run { Merged::Same } else { Merged::Unknown } };
    let Ok(seq) = i64::try_from(told.seq) else { return Merged::Unknown };
    let is_held = is_same_run && held.facts.is_some();
    if is_held && held.seq == seq {
        return Merged::Same;
    }
    let base = match &held.facts {
        _ if told.base == 0 => Facts::default(),
        Some(text) if is_held && u64::try_from(held.seq) == Ok(told.base) => {
            serde_json::from_str(text).unwrap_or_default()
        }
        _ => return Merged::Unknown,
    };
    Merged::New { seq, facts: changed(base, told) }
}

/// One by one: a fact of a kind that this version does not know, or for which there is no room, is not known here, and
/// the others are.
fn changed(mut facts: Facts, told: &Inventory) -> Facts {
    for name in told.drop.iter().filter_map(|name| FactName::new(name).ok()) {
        facts.drop(&name);
    }
    for (name, value) in &told.set {
        let Ok(name) = FactName::new(name) else { continue };
        let kept = serde_json::from_value::<Fact>(value.clone()).ok();
        if kept.is_none_or(|fact| facts.set(name.clone(), fact).is_err()) {
            facts.drop(&name);
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(seq: u64, base: u64, set: serde_json::Value, drop: &[&str]) -> Inventory {
        let drop = drop.iter().map(|name| (*name).to_owned()).collect();
        Inventory { seq, base, set: serde_json::from_value(set).unwrap(), drop, ..Inventory::default() }
    }

    fn held(boot: &str, seq: i64, facts: &str) -> HeldFacts {
        HeldFacts { boot: Some(boot.into()), seq, facts: Some(facts.into()), labels: None }
    }

    #[test]
    fn differences_apply_to_what_was_acknowledged_and_to_nothing_else() {
        let known = held("b", 3, r#"{"ram":1,"site":"x"}"#);
        #[track_caller]
        fn check(held: &HeldFacts, told: Option<Inventory>, expected: Option<&str>) {
            let merged = match merge(held, "b", told.as_ref()) {
                Merged::New { facts, .. } => Some(serde_json::to_string(&facts).unwrap()),
                Merged::Same => Some("same".into()),
                Merged::Unknown => None,
            };
            assert_eq!(merged.as_deref(), expected);
        }
        check(&known, Some(told(4, 3, json!({"ram": 2}), &["site"])), Some(r#"{"ram":2}"#));
        check(&known, Some(told(4, 2, json!({"ram": 2}), &[])), None);
        check(&known, Some(told(9, 0, json!({"isa": ["avx2"]}), &[])), Some(r#"{"isa":["avx2"]}"#));
        // Its answer was lost, so it tells the same again.
        check(&known, Some(told(3, 2, json!({"ram": 1}), &[])), Some("same"));
        check(&known, None, Some("same"));
        // Another run of its process, and a hub that was restored.
        check(&held("a", 3, "{}"), Some(told(4, 3, json!({}), &[])), None);
        check(&held("a", 3, "{}"), None, None);
        check(&HeldFacts::default(), None, None);
        check(&HeldFacts::default(), Some(told(1, 0, json!({"ram": 1}), &[])), Some(r#"{"ram":1}"#));
        check(&known, Some(told(u64::MAX, 0, json!({}), &[])), None);
    }

    #[test]
    fn what_cannot_be_kept_is_not_known_and_the_rest_is() {
        let long = "x".repeat(600);
        let odd = told(1, 0, json!({"a": 1, "b": null, "c": {"d": 1}, "in": 1, "e": long, "f": [1]}), &["1"]);
        let Merged::New { facts, .. } = merge(&HeldFacts::default(), "b", Some(&odd)) else { panic!() };
        assert_eq!(serde_json::to_string(&facts).unwrap(), r#"{"a":1}"#);
        // What is told anew and cannot be kept does not stay as it was.
        let again = told(2, 1, json!({"a": null}), &[]);
        let Merged::New { facts, .. } = merge(&held("b", 1, r#"{"a":1}"#), "b", Some(&again)) else {
            panic!()
        };
        assert!(facts.is_empty());
    }
}
