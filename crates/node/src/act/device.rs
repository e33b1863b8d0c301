//! Devices: how an actuator is reached. Only the guard holds them.
//!
//! A driver sets and, if it can, reads back; each call ends within the driver's time. What it is given was checked by the envelope
//! and by the guard.

mod exec;
mod http;
mod simulated;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wire::body::act::Setting;

use crate::act::limits::Allowed;
pub use exec::Exec;
pub use http::Http;

/// The most bytes that are read of a device's answer.
pub(crate) const ANSWER_MAX_BYTES: usize = 64 << 10;

/// How an actuator is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Driver {
    /// A device that does not exist: its setting is a line in a file.
    Simulated {
        /// The file.
        file: PathBuf,
    },
    /// A program is run.
    Exec(Exec),
    /// A request is sent.
    Http(Http),
}

impl Driver {
    /// Whether it can be asked what it is set to.
    pub fn reads(&self) -> bool {
        match self {
            Driver::Simulated { .. } => true,
            Driver::Exec(exec) => exec.read.is_some(),
            Driver::Http(http) => http.read_url.is_some(),
        }
    }

    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Driver::Simulated { .. } => "simulated",
            Driver::Exec(_) => "exec",
            Driver::Http(_) => "http",
        }
    }
}

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
    /// What it says is no setting.
    #[error("its answer is no setting: {why}")]
    Answer {
        /// Why.
        why: String,
    },
    /// The token is missing.
    #[error(transparent)]
    Token(#[from] crate::config::TokenError),
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
}

/// Opens a device; nothing is said to it yet.
pub fn open(driver: &Driver, allowed: &Allowed) -> Result<Box<dyn Device>, DeviceError> {
    Ok(match driver {
        Driver::Simulated { file } => Box::new(simulated::File::new(file, allowed)),
        Driver::Exec(exec) => Box::new(exec::Program::new(exec, allowed)),
        Driver::Http(http) => Box::new(http::Server::open(http, allowed)?),
    })
}
