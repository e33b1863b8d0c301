//! What every device has: it is set, it may be read, and it fails in these ways.

use std::path::PathBuf;

use wire::body::act::Setting;

use crate::config::token::TokenError;

/// The most bytes that are read of a device's answer.
pub(crate) const ANSWER_MAX_BYTES: usize = 64 << 10;

/// A device that did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A file of it.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its program cannot be run.
    #[error("{program} cannot be run")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// Its program says no.
    #[error("{program} ended with {status}{}", said(told))]
    Status {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        told: String,
    },
    /// It took too long.
    #[error("{what} took longer than {limit_ms} ms")]
    Slow {
        /// What.
        what: String,
        /// How long it may take.
        limit_ms: u64,
    },
    /// Its server cannot be reached, or the answer breaks off.
    #[error("{host} cannot be asked: {why}")]
    Web {
        /// Who.
        host: String,
        /// Why.
        why: String,
    },
    /// Its server says no.
    #[error("{host} answers with status {status}{}", said(told))]
    Refused {
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// The begin of what it said.
        told: String,
    },
    /// It says no.
    #[error("the device refuses {place}: {why}")]
    Denied {
        /// What of it.
        place: String,
        /// Its word.
        why: String,
    },
    /// What it says is no setting.
    #[error("its answer is no setting: {why}")]
    Answer {
        /// Why.
        why: String,
    },
    /// The token is missing.
    #[error(transparent)]
    Token(#[from] TokenError),
}

fn said(told: &str) -> String {
    if told.is_empty() { String::new() } else { format!(", {told:?}") }
}

/// The begin of a stranger's words, fit for a record.
pub(crate) fn shortened(told: &str) -> String {
    told.trim().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A device that is open.
pub trait Device: Send {
    /// Sets it. Blocks.
    fn set(&mut self, to: &Setting) -> Result<(), DeviceError>;
    /// What it says that it is set to; `None` if it cannot be asked. Blocks.
    fn read(&mut self) -> Result<Option<Setting>, DeviceError>;
    /// Why it may have left its setting by itself since it was set, if so: what it hangs on broke. Does not block.
    fn lost(&mut self) -> Option<String> {
        None
    }
}
