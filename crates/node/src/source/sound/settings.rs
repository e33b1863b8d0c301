//! What a flow says of a source of sound. Data only.

use std::path::PathBuf;
use std::time::Duration;

/// Where sound comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct SoundSettings {
    /// Where from.
    pub from: From,
    /// Samples of a channel in a second.
    pub rate_hz: u32,
    /// What the channels are called, in the order in which their samples stand.
    pub channels: Vec<String>,
}

/// A file, or a program.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    /// A WAV file.
    File {
        /// The file.
        file: PathBuf,
        /// Times as fast as it was recorded; `None`: as fast as the node takes it.
        times: Option<f64>,
        /// Begin again at its end.
        repeat: bool,
    },
    /// A program that prints samples: 16 bits, signed, the low byte first.
    Program {
        /// The program and its arguments; no shell is between.
        command: Vec<String>,
        /// The folder it runs in.
        folder: PathBuf,
        /// Silent for longer, it is started again.
        silence: Duration,
    },
}
