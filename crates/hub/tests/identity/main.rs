//! Who may do what, played against a hub with both doors: operators with tokens, nodes with certificates.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![allow(clippy::print_stdout, unreachable_pub, reason = "its rooms are shared by tests")]

mod answers;
mod door;
mod factory;
#[path = "../fleet/mod.rs"]
mod fleet;
mod matrix;
mod nodes;
mod operators;
mod people;
mod recovery;
mod tickets;
