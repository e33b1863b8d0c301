//! What holds on SQLite holds on PostgreSQL: the tests of what comes in and of what is answered, once more.

#![cfg(feature = "postgres")]
#![allow(clippy::duplicate_mod, reason = "each file brings its own fleet, as it does alone")]

#[path = "api.rs"]
mod api;
#[cfg(feature = "archive")]
#[path = "archive.rs"]
mod archive;
#[path = "figures.rs"]
mod figures;
#[path = "ingest.rs"]
mod ingest;
mod replicas;
#[path = "retention.rs"]
mod retention;
#[path = "search.rs"]
mod search;
