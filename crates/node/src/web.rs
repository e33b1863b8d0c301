//! Asks servers for files: what `pull`, `transfer` and `trust` share.
//!
//! [`http`] asks and follows redirects, [`answer`] judges what a server says of a part, [`retry`] says how long to wait.
//! A secret goes to the origin that it belongs to and nowhere else; no body is read further than its reader says.

pub mod answer;
pub mod http;
pub mod retry;
