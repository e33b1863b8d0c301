//! The words hub and node share. No IO, no threads, no async.
//!
//! In reading order:
//!
//! - [`world`]: time and chance as traits, so that a seeded simulation can stand in for both;
//! - [`id`]: the names of nodes, journals, boots and streams;
//! - [`class`]: how much a record matters, and so who is dropped last;
//! - [`hash`]: SHA-256, as bytes and as text;
//! - [`record`]: what is journalled, once numbered; [`chain`] links each record to the one before;
//! - [`body`]: what the records of each kind say;
//! - [`batch`]: a run of records on its way up, and the hub's answer;
//! - [`checkin`]: the call by which a node and its hub agree on where they stand;
//! - [`identity`]: how a node comes to belong to a hub; [`base32`]: what of it people type;
//! - [`number`]: readings as JSON, where "no value" must have a form;
//! - [`facts`]: what a node says it is; [`select`] chooses nodes by it, on the hub and on the node alike.
//!
//! **Forward compatible, always.** Encodings are JSON. A record's body travels and is stored byte for byte as the
//! node wrote it, so a field this version does not know survives. Check-in types keep unknown fields in `extra`.
//! New fields are optional; a field never changes its meaning.

#![forbid(unsafe_code)]

pub mod base32;
pub mod batch;
pub mod body;
pub mod chain;
pub mod checkin;
pub mod class;
pub mod facts;
pub mod hash;
pub mod id;
pub mod identity;
pub mod number;
pub mod record;
pub mod select;
pub mod world;

/// The version of the words in this crate. A reader accepts every version up to the next incompatible one
/// and ignores what it does not know.
pub const PROTOCOL: u32 = 1;
