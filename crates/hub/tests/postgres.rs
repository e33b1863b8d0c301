//! What holds on SQLite holds on PostgreSQL: the tests of what comes in and of what is answered, once more.

#![cfg(feature = "postgres")]

#[path = "api.rs"]
mod api;
#[path = "ingest.rs"]
mod ingest;
#[path = "search.rs"]
mod search;
