//! The server as an app meets it: over HTTP, with real models that are tiny and made here.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

mod answers;
mod client;
mod clients;
mod doors;
mod house;
mod in_a_node;
mod loads;
mod python;
mod slots;
mod spares;
mod tiny;
