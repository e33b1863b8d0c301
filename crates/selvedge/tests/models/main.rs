//! The verbs for language models, as a user meets them: the real binary on a tiny model that is made here.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says where")]

mod against;
mod ask;
mod chat;
mod known;
mod net;
mod shelf;
mod stage;
mod tiny;
mod workshop;
