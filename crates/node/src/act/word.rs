//! What the node and its guard say to one another: one line of JSON each.

use std::io::{self, BufRead, Read as _};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wire::body::act::Setting;
use wire::id::PartName;

use super::device::Driver;
use super::limits::Allowed;

/// The most bytes of a line.
pub const LINE_MAX_BYTES: u64 = 1 << 20;

/// A device that the guard holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The actuator.
    pub name: PartName,
    /// How it is reached.
    pub driver: Driver,
    /// What it may be set to, whatever the node says.
    pub allowed: Allowed,
    /// What it goes back to.
    pub safe: Setting,
    /// The node says at least this often that it is alive.
    pub lease_ms: u64,
    /// Whether it is asked what it is set to, each time.
    pub confirm: bool,
    /// How long it may take until it says so.
    pub settle_ms: u64,
    /// How far what it says may be from a number.
    pub tolerance: f64,
}

/// What the node says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// The first line: hold these.
    Hold {
        /// One guard at a time holds this file: it waits for the one before it.
        lock: PathBuf,
        /// The devices.
        devices: Vec<Held>,
    },
    /// Set one.
    Set {
        /// Which.
        actuator: PartName,
        /// Names it in [`Said::Set`].
        id: u64,
        /// To what.
        to: Setting,
    },
    /// The node is alive.
    Alive,
}

/// What the guard says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// It holds the devices.
    Holds,
    /// It did as it was told.
    Set {
        /// Which.
        actuator: PartName,
        /// Which order.
        id: u64,
        /// What the device says, if it can be asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read: Option<Setting>,
        /// What failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
        /// How long it took.
        took_ms: u64,
    },
    /// The device goes back to its safe setting without an order; it takes nothing else before that was ordered, too.
    Lapsed {
        /// Which.
        actuator: PartName,
        /// Why.
        why: String,
    },
}

/// Reads one line; `None` at the end.
pub fn read_line<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
}

/// Writes one line.
pub fn write_line(to: &mut impl io::Write, words: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(words).map_err(io::Error::other)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}
