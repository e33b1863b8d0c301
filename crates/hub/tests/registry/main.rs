//! The registry against a real hub on loopback: what clients of OCI distribution do, and what they should not.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![allow(clippy::print_stdout, reason = "a test that lacks a program says so")]

mod access;
#[cfg(feature = "s3")]
#[path = "../bucket/mod.rs"]
mod bucket;
#[cfg(feature = "s3")]
mod elsewhere;
#[path = "../fleet/mod.rs"]
mod fleet;
mod grants;
mod manifests;
mod online;
mod pull;
mod push;
#[path = "../pushing/mod.rs"]
mod pushing;
mod releases;
mod rollouts;
mod schemathesis;
mod tuf;
