//! What a hub makes of nodes that know more than it does: its database was restored from a backup, or is another's.
//!
//! Nothing is ever taken back by itself. Such a node gets no documents until a person has looked at both sides; its own
//! lines of versions would refuse older ones anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use package::tlog::note::Checkpoint;
use wire::checkin::CheckIn;

use crate::rollout::documents::Planned;
use crate::rollout::plan::Kind;

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

impl Told {
    /// What a check-in says.
    pub fn of(checkin: &CheckIn) -> Told {
        let accepted = checkin.accepted.iter();
        let version = |version: u64| u32::try_from(version).unwrap_or(u32::MAX);
        let seen = checkin.checkpoint.as_deref().and_then(Checkpoint::read_brief);
        Told {
            hub: checkin.hub.clone(),
            revision: checkin.revision.unwrap_or(0),
            accepted: accepted.map(|one| (one.id.clone(), version(one.version))).collect(),
            log_size: seen.map_or(0, |(size, _)| size),
        }
    }
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
        // What it heard of another hub is counted in that one's numbers.
        return vec![Ahead::OtherHub { hub: hub.clone() }];
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

/// Which of a rollout's documents nodes name, and how many nodes name one that is not released here. A rollout must be raised to
/// these if nodes are believed.
pub fn named<'a>(
    planned: &[Planned],
    released: &BTreeSet<Kind>,
    all: impl IntoIterator<Item = &'a Told>,
) -> (BTreeSet<Kind>, u32) {
    let ids: BTreeMap<(String, u32), Kind> =
        planned.iter().map(|one| ((one.id.to_string(), one.version), one.kind)).collect();
    let (mut kinds, mut nodes) = (BTreeSet::new(), 0);
    for told in all {
        let own: Vec<Kind> = told.accepted.iter().filter_map(|named| ids.get(named).copied()).collect();
        nodes += u32::from(own.iter().any(|kind| !released.contains(kind)));
        kinds.extend(own);
    }
    (kinds, nodes)
}

#[cfg(test)]
mod tests {
    use package::trust::canonical::Value;

    use super::*;
    use crate::rollout::plan::PlanId;

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
    fn what_nodes_name_of_a_plan_and_nothing_else() {
        let (id, canaries) = (PlanId([7; 16]), PlanId([8; 16]));
        let document = |id, kind: Kind| Planned {
            id,
            version: kind.version(),
            kind,
            expires_ms: 0,
            value: Value::object([]),
        };
        let plan = [
            document(canaries, Kind::Canary),
            document(id, Kind::Wave(1)),
            document(id, Kind::Wave(2)),
            document(id, Kind::Revert(2)),
        ];
        let told = |accepted: &[(PlanId, u32)]| {
            let accepted = accepted.iter().map(|(id, version)| (id.to_string(), *version)).collect();
            Told { accepted, ..Told::default() }
        };
        let all = [told(&[(id, 1)]), told(&[(id, 2), (canaries, 1)]), told(&[(id, 9), (PlanId([9; 16]), 2)])];
        let (kinds, nodes) = named(&plan, &[Kind::Wave(1)].into(), &all);
        assert_eq!(kinds, [Kind::Canary, Kind::Wave(1), Kind::Wave(2)].into());
        assert_eq!(nodes, 1, "who names what is released is not ahead");
    }
}
