//! What is said of a hub whose database is a backup's, and asked of it: both sides, and what was done.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::hash::Hash;
use wire::world::WallMs;

/// Both sides.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RecoveryView {
    /// Whether somebody has to look: nodes are ahead, keys knock, or acts were lost.
    pub behind: bool,
    /// What this hub has.
    pub hub: Side,
    /// The highest that nodes ahead of it report.
    pub nodes: Side,
    /// How many nodes are ahead.
    pub count: u64,
    /// Those nodes by name, the first 200.
    pub ahead: Vec<AheadItem>,
    /// The rollouts that they name: where each stands, and where adoption takes it.
    pub rollouts: Vec<RaisedItem>,
    /// Rollouts that this hub does not know, most likely made after the backup. Upload plan and documents anew, then adopt.
    pub unknown: Vec<UnknownItem>,
    /// Acts that the database had lost, and that the published log brought back when the hub started.
    pub lost: LostActs,
    /// Keys with a certificate of this hub's authority that its table does not know.
    pub keys: Vec<StrangerItem>,
}

/// How far one side has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Side {
    /// The hub's id: this one's, or another's that nodes follow.
    pub hub: Option<String>,
    /// The number of the last change to what nodes shall do.
    pub revision: u64,
    /// Entries of the audit log.
    pub log: u64,
}

/// A node that is ahead.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AheadItem {
    /// Its name.
    pub node: String,
    /// In which ways, in words.
    pub why: String,
    /// When it was last heard of.
    pub seen_ms: WallMs,
    /// The revision that it was told.
    pub revision: u64,
    /// The largest log that it saw, in entries; 0: none.
    pub log: u64,
}

/// A rollout that nodes are ahead of.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RaisedItem {
    /// Its id.
    pub id: String,
    /// The releases, `model:release`.
    pub what: Vec<String>,
    /// How many nodes name documents of it that were not released here.
    pub nodes: u32,
    /// Where it stands here.
    pub phase: String,
    /// The open wave here.
    pub wave: u32,
    /// Where adoption takes it.
    pub phase_after: String,
    /// The wave then.
    pub wave_after: u32,
}

/// A rollout that this hub does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnknownItem {
    /// Its id, or that of its canaries' documents.
    pub id: String,
    /// The highest version that nodes name.
    pub version: u32,
    /// How many nodes name it.
    pub nodes: u32,
}

/// What the published log had and the database had lost: the entries are back, what they did is not done again.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct LostActs {
    /// How many entries; 0 once it was adopted.
    pub count: u64,
    /// The newest 200, the newest first. Who was denied or disabled after the backup is let in again: do it again.
    pub acts: Vec<LostAct>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LostAct {
    /// Its number in the log.
    pub id: u64,
    /// When.
    pub at_ms: WallMs,
    /// Who.
    pub who: String,
    /// What: `deny`, `rollout.wave`.
    pub act: String,
    /// About what.
    pub on: String,
}

/// A key that the authority vouches for and the table does not know.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StrangerItem {
    /// SHA-256 of its public half, 64 hexadecimal digits.
    pub key: String,
    /// The name in its certificate.
    pub node: String,
    /// The certificate's number.
    pub serial: String,
    /// Until when that counts.
    pub not_after_ms: WallMs,
    /// When it last knocked.
    pub seen_ms: WallMs,
    /// Whether the lost acts say that it, or its node, was denied. Such a key is let in only by name.
    pub denied: bool,
}

/// What shall be done.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecoverAsk {
    /// Adopt the nodes' state: revision and waves. What the database had lost of the log is then no news any more.
    pub adopt: bool,
    /// Let these keys in, 64 hexadecimal digits each.
    #[schema(value_type = Vec<String>)]
    pub keys: Vec<Hash>,
    /// Let all keys in that the authority vouches for, but those that were denied.
    pub all_keys: bool,
    /// For those who read the log.
    pub why: String,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Recovered {
    /// How many nodes were ahead, and are followed now.
    pub nodes: u64,
    /// How many rollouts were raised.
    pub rollouts: u64,
    /// How many keys were let in.
    pub keys: u64,
}
