//! What the process that proves says, a line each, and how it ends when nobody listens any more.

use std::io::{self, Write as _};

use serde::Serialize;

/// Nothing is open that would have to be closed.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever reads the answers is gone, and the model may be in the middle of one"
)]
pub(super) fn end() {
    std::process::exit(1);
}

/// Prints one line of JSON.
pub(super) fn say(said: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}
