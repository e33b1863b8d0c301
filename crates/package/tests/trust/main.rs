//! What a client of TUF must do and must refuse, one file per topic, against a repository that can be broken at will.
//!
//! The topics are those of the TUF conformance suite, which is run by hand; behind them stand our own: hybrid
//! signatures, strict JSON, time, state on disk, assignments, authoring.
#![allow(clippy::unwrap_used, reason = "tests")]

mod assignment;
mod author;
mod basic;
mod delegations;
mod download;
mod expiration;
mod hybrid;
mod keys;
mod quoting;
mod rollback;
mod rotation;
mod simulator;
mod state;
mod strict;
mod time;
