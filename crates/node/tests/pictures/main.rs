//! Pictures and sound into a node: folders, cameras behind programs, cameras that stream, microphones; and networks that look and listen.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop at any fault, and says what it skips"
)]

mod borrowed;
mod camera;
mod folder;
mod light;
mod others;
#[cfg(feature = "cameras")]
mod rtsp;
mod sound;
#[path = "../stand/mod.rs"]
mod stand;
mod words;
