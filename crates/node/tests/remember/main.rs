//! The remembering half of the node: what the journal keeps, what it drops, how it mends, and what sync brings up.
//! One binary, because each would link SQLite again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod journal_caps;
mod journal_erased;
mod journal_keeps;
mod journal_mends;
mod stand;
mod sync_lanes;
mod sync_night;
mod uplink_http;
