//! Devices: how an actuator is reached. Only the guard holds them.
//!
//! A driver sets and, if it can, reads back; each call ends within the driver's time. What it is given was checked by the envelope
//! and by the guard.

mod exec;
pub mod face;
mod http;
mod simulated;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::act::limits::Allowed;
pub use exec::Exec;
use face::{Device, DeviceError};
pub use http::Http;

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

/// Opens a device; nothing is said to it yet.
pub fn open(driver: &Driver, allowed: &Allowed) -> Result<Box<dyn Device>, DeviceError> {
    Ok(match driver {
        Driver::Simulated { file } => Box::new(simulated::File::new(file, allowed)),
        Driver::Exec(exec) => Box::new(exec::Program::new(exec, allowed)),
        Driver::Http(http) => Box::new(http::Server::open(http, allowed)?),
    })
}
