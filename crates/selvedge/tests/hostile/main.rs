//! Bad input as a user or a stranger would bring it, to the real binary: files, requests, settings. Each is met with an
//! answer that says what is wrong, where and what to do; none with a crash, a hang or memory without a limit.
//!
//! Reads a process's highest use of memory from `/proc`, so it runs on Linux alone.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on says where; figures are for who asks"
)]

mod process;

mod recordings;
mod requests;
mod settings;
