//! What is journalled. A [`Draft`] is what a station wants remembered; the journal numbers it, stamps it, chains it,
//! and it is a [`Record`] from then on, never changed again.
//!
//! The body is JSON text kept byte for byte: what the node wrote is what is hashed, sent, stored and shown.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::class::Class;
use crate::id::{BootId, PartName, StreamName};
use crate::world::{ClockQuality, MonoNs, WallMs};

/// The largest body a journal takes and a hub accepts, in bytes.
pub const BODY_MAX_BYTES: usize = 256 * 1024;

/// When a record was written. Order within a node is (boot, `mono_ns`); wall time is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The run of the node process.
    pub boot: BootId,
    /// Nanoseconds since that run began.
    pub mono_ns: MonoNs,
    /// Wall time, milliseconds since 1970 UTC.
    pub wall_ms: WallMs,
    /// How far the wall time can be trusted.
    pub clock: ClockQuality,
}

/// Something to remember that has no number yet.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The stream it belongs to. A stream keeps the class of its first record.
    pub stream: StreamName,
    /// How much it matters.
    pub class: Class,
    /// What the body is; the `KIND` of a type in [`crate::body`].
    pub kind: PartName,
    /// The body.
    pub body: Box<RawValue>,
}

/// One journalled record, as it travels. Its stream and class stand in the batch around it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Position in its stream, from 1, without holes.
    pub seq: u64,
    /// What the body is.
    pub kind: PartName,
    /// See [`Stamp::boot`].
    pub boot: BootId,
    /// See [`Stamp::mono_ns`].
    pub mono_ns: MonoNs,
    /// See [`Stamp::wall_ms`].
    pub wall_ms: WallMs,
    /// See [`Stamp::clock`].
    pub clock: ClockQuality,
    /// The body, byte for byte as written.
    pub body: Box<RawValue>,
}

impl Record {
    /// The four fields that say when.
    pub fn stamp(&self) -> Stamp {
        Stamp { boot: self.boot, mono_ns: self.mono_ns, wall_ms: self.wall_ms, clock: self.clock }
    }
}

/// A run of records that had to be dropped before the hub had them. Always the oldest of their stream.
/// The loss is visible at the hub, and the chain goes on from `hash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first lost sequence number.
    pub first: u64,
    /// The last lost sequence number, not before `first`.
    pub last: u64,
    /// Why.
    pub reason: GapReason,
    /// The hash of the last lost record, so that the chain can be followed past the gap.
    pub hash: crate::hash::Hash,
}

impl Gap {
    /// How many records were lost.
    pub fn count(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// Why records were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The journal's byte cap was reached.
    ByteCap,
    /// The disk had less free space than the configured floor.
    DiskFull,
    /// The hub asked for records that it once had and the node no longer keeps.
    Retired,
    /// The record was erased for the sake of somebody whom it is about.
    Erased,
    /// The node's policy keeps records of this class no longer.
    Expired,
    /// A reason that a newer version knows.
    #[serde(other)]
    Other,
}
