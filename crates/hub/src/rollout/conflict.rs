//! What a hub makes of nodes that know more than it does: its database was restored from a backup, or is another's.
//!
//! Nothing is ever taken back by itself. Such a node gets no documents until a person has looked at both sides; its own
//! lines of versions would refuse older ones anyway.

use std::collections::BTreeMap;
use std::fmt;

use crate::rollout::plan::{Kind, PlanId};

/// What a node says of this hub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The hub that it knows; `None`: it has never met one.
    pub hub: Option<String>,
    /// The highest revision that it was told.
    pub revision: u64,
    /// Documents that it accepted: by id, the highest version.
    pub accepted: Vec<(String, u32)>,
    /// The size of the largest log that it saw.
    pub log_size: u64,
}

/// What this hub knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub hub: String,
    /// The highest revision that it gave anybody.
    pub revision: u64,
    /// The highest version that it released, of each id of its rollouts' documents.
    pub released: BTreeMap<String, u32>,
    /// How long its log is.
    pub log_size: u64,
}

/// How a node is ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ahead {
    /// It knows another hub.
    OtherHub {
        /// Which.
        hub: String,
    },
    /// It was told a later revision.
    Revision {
        /// Which.
        told: u64,
        /// The highest of this hub.
        known: u64,
    },
    /// It accepted a document that this hub has not released.
    Document {
        /// Its id.
        id: String,
        /// The version that the node has.
        version: u32,
        /// The highest that was released.
        released: u32,
    },
    /// It accepted a document of a rollout that this hub does not know. It may be made by hand, so this alone is shown,
    /// and stops nothing.
    UnknownRollout {
        /// The id.
        id: String,
    },
    /// It saw a longer log.
    Log {
        /// Its size.
        told: u64,
        /// The size of this hub's.
        known: u64,
    },
}

impl Ahead {
    /// Whether the node gets no documents because of it.
    pub fn stops(&self) -> bool {
        !matches!(self, Ahead::UnknownRollout { .. })
    }
}

impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ahead::OtherHub { hub } => write!(f, "it knows another hub, {}", hub.escape_debug()),
            Ahead::Revision { told, known } => {
                write!(f, "it was told revision {told}, this hub is at {known}")
            }
            Ahead::Document { id, version, released } => {
                write!(f, "it has version {version} of {id}, this hub has released {released}")
            }
            Ahead::UnknownRollout { id } => write!(f, "it has a document of {id}, which is not known here"),
            Ahead::Log { told, known } => write!(f, "it saw a log of {told} entries, this hub's has {known}"),
        }
    }
}

/// In which ways a node is ahead of this hub; empty: it is not.
pub fn ahead(told: &Told, known: &Known) -> Vec<Ahead> {
    let mut ways = Vec::new();
    if let Some(hub) = told.hub.as_ref().filter(|hub| **hub != known.hub) {
        ways.push(Ahead::OtherHub { hub: hub.clone() });
    }
    if told.revision > known.revision {
        ways.push(Ahead::Revision { told: told.revision, known: known.revision });
    }
    for (id, version) in &told.accepted {
        match known.released.get(id) {
            Some(released) if version > released => {
                ways.push(Ahead::Document { id: id.clone(), version: *version, released: *released });
            }
            Some(_) => {}
            None => ways.push(Ahead::UnknownRollout { id: id.clone() }),
        }
    }
    if told.log_size > known.log_size {
        ways.push(Ahead::Log { told: told.log_size, known: known.log_size });
    }
    ways
}

/// How far a rollout must be raised if nodes are believed: the highest wave that they name, and whether they were already
/// told to go back.
pub fn adopt(id: PlanId, waves: u32, all: &[Told]) -> (Option<u32>, Option<Kind>) {
    let id = id.to_string();
    let versions = all.iter().flat_map(|told| &told.accepted).filter(|(of, _)| *of == id);
    let (mut wave, mut back) = (None, None);
    for (_, version) in versions {
        match version {
            1..=500 if *version <= waves => wave = wave.max(Some(*version)),
            501..=999 if *version - 500 <= waves => back = back.max(Some(Kind::Revert(version - 500))),
            _ => {}
        }
    }
    (wave, back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_ahead_and_how() {
        let id = PlanId([7; 16]).to_string();
        let known =
            Known { hub: "a".to_owned(), revision: 10, released: [(id.clone(), 2)].into(), log_size: 40 };
        let same =
            Told { hub: Some("a".to_owned()), revision: 10, accepted: vec![(id.clone(), 2)], log_size: 40 };
        #[track_caller]
        fn check(known: &Known, told: Told, expected: &str) {
            let found: Vec<String> = ahead(&told, known).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(";"), expected);
        }
        check(&known, same.clone(), "");
        check(&known, Told::default(), "");
        check(&known, Told { revision: 11, ..same.clone() }, "it was told revision 11, this hub is at 10");
        check(&known, Told { hub: Some("b".into()), ..same.clone() }, "it knows another hub, b");
        check(&known, Told { log_size: 41, ..same.clone() }, "it saw a log of 41 entries, this hub's has 40");
        let third = vec![(id.clone(), 3)];
        let expected = format!("it has version 3 of {id}, this hub has released 2");
        check(&known, Told { accepted: third, ..same.clone() }, &expected);
        let foreign = Told { accepted: vec![("f".repeat(32), 1)], ..same };
        assert!(ahead(&foreign, &known).iter().all(|way| !way.stops()), "it may be made by hand");
    }

    #[test]
    fn what_nodes_say_raises_a_rollout_and_never_lowers_it() {
        let id = PlanId([7; 16]);
        let told = |versions: &[u32]| {
            let accepted = versions.iter().map(|version| (id.to_string(), *version)).collect();
            Told { accepted, ..Told::default() }
        };
        assert_eq!(adopt(id, 4, &[told(&[1]), told(&[3]), told(&[2])]), (Some(3), None));
        assert_eq!(adopt(id, 4, &[told(&[2, 502]), told(&[501])]), (Some(2), Some(Kind::Revert(2))));
        assert_eq!(
            adopt(id, 4, &[told(&[9, 1000, 777])]),
            (None, None),
            "versions that no plan of four waves has"
        );
        assert_eq!(adopt(PlanId([8; 16]), 4, &[told(&[3])]), (None, None));
    }
}
