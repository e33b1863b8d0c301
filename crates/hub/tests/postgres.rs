//! What holds on SQLite holds on PostgreSQL: the tests of what comes in and of what is answered, once more.

#![cfg(feature = "postgres")]
#![allow(clippy::duplicate_mod, reason = "each file brings its own fleet, as it does alone")]

#[path = "api.rs"]
mod api;
#[path = "ingest.rs"]
mod ingest;
mod replicas;
#[path = "search.rs"]
mod search;
