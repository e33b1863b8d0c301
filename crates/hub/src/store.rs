//! What the hub keeps: SQL on SQLite, one file per theme. Statements are plain SQL with `$1` parameters, so that
//! PostgreSQL can stand in; only `connection`, `database` and `schema` know which it is.
//!
//! Functions that write take the one [`connection::Writer`] inside a transaction that the caller began; functions that
//! read take the [`connection::Readers`].

pub mod alerts;
pub mod audit;
pub mod connection;
pub mod database;
pub mod nodes;
pub mod records;
pub mod schema;
pub mod series;
pub mod turn;
