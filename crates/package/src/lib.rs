//! A model as it travels: what it is made of, who vouches for it, what it asks of a device; and the store that keeps it.
//!
//! Bytes come from strangers: every reader here has limits, and gives an error rather than a panic. Deciding is pure; files
//! are reached through [`disk`], so that a simulated disk can lose power at every step.
#![forbid(unsafe_code)]

pub mod archive;
pub mod bom;
pub mod card;
pub mod choose;
pub mod chunks;
pub mod config;
pub mod contract;
pub mod descriptor;
pub mod digest;
pub mod disk;
pub mod form;
pub mod golden;
pub mod index;
pub mod layout;
pub mod manifest;
pub mod media;
pub mod name;
pub mod range;
pub mod registry;
pub mod requirement;
pub mod seal;
pub mod store;
pub mod tlog;
pub mod trust;
