//! Who may say that a model is genuine, and what a node believes: TUF 1.0 with signatures of two algorithms.
//!
//! The way of a document: bytes → `canonical` (strict JSON) → `envelope` (whose signatures count) → `metadata` (what it
//! says) → `update` (is it newer, fresh, and of one piece with the others) → `trusted` → `state` (on disk, fail-closed).
//! `search` finds a target below the delegations, `assignment` decides what this node shall run, `window` when,
//! `shadow` how far beside what runs. `author` writes what the others read; `keyfile` keeps its keys; `provenance` is OpenSSF's signature of a model; `eckey` is for certificates.

use wire::world::WallMs;

use crate::trust::key::KindSet;

pub mod assignment;
pub mod author;
pub mod canonical;
pub mod eckey;
pub mod envelope;
pub mod hex;
pub mod key;
pub mod keyfile;
pub mod metadata;
pub mod provenance;
pub mod search;
pub mod shadow;
pub mod sign;
pub mod state;
pub mod time;
pub mod trusted;
pub mod update;
pub mod window;

/// What a node asks of signers and of time.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which kinds of keys count.
    pub kinds: KindSet,
    /// Whether expiry is judged by the time floor where the clock is behind it.
    pub floor: bool,
    /// When this program was built: it is later than that.
    pub built_ms: WallMs,
    /// How far past its expiry timestamp, snapshot and targets may be, for nodes that are fed by hand.
    pub max_stale_ms: i64,
    /// How much is read.
    pub limits: Limits,
}

/// The most bytes of each role's file, and the most new roots of one refresh.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a root.
    pub root_bytes: u64,
    /// New roots of one refresh.
    pub rotations: u32,
    /// Bytes of a timestamp.
    pub timestamp_bytes: u64,
    /// Bytes of a snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of a targets role.
    pub targets_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            root_bytes: 512 << 10,
            rotations: 256,
            timestamp_bytes: 64 << 10,
            snapshot_bytes: 2 << 20,
            targets_bytes: 5 << 20,
        }
    }
}

impl Default for Policy {
    /// What a node does unless its settings say otherwise: hybrid keys only, the floor, nothing stale.
    fn default() -> Policy {
        Policy {
            kinds: KindSet::hybrid(),
            floor: true,
            built_ms: 0,
            max_stale_ms: 0,
            limits: Limits::default(),
        }
    }
}
