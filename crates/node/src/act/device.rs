//! Devices: how an actuator is reached. Only the guard holds them.
//!
//! A driver sets and, if it can, reads back; each call ends within the driver's time. What it is given was checked by the envelope
//! and by the guard.

mod exec;
pub mod face;
mod http;
pub mod modbus;
pub mod mqtt;
mod simulated;
mod told;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wire::body::act::Setting;

use crate::act::limits::Allowed;
use crate::source::modbus::line::Line;
pub use exec::Exec;
use face::{Device, DeviceError};
pub use http::Http;
use modbus::Modbus;
use mqtt::Mqtt;

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
    /// A message is sent through a broker.
    Mqtt(Box<Mqtt>),
    /// A coil or registers are written.
    Modbus(Modbus),
}

impl Driver {
    /// Whether it can be asked what it is set to.
    pub fn reads(&self) -> bool {
        match self {
            Driver::Simulated { .. } => true,
            Driver::Exec(exec) => exec.read.is_some(),
            Driver::Http(http) => http.read_url.is_some(),
            Driver::Mqtt(mqtt) => mqtt.read_topic.is_some(),
            Driver::Modbus(_) => true,
        }
    }

    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Driver::Simulated { .. } => "simulated",
            Driver::Exec(_) => "exec",
            Driver::Http(_) => "http",
            Driver::Mqtt(_) => "mqtt",
            Driver::Modbus(Modbus { line: Line::Tcp { .. }, .. }) => "modbus-tcp",
            Driver::Modbus(Modbus { line: Line::Rtu(_), .. }) => "modbus-rtu",
        }
    }

    /// How far what it says may be from a number that it was set to, if nothing else is said: what it cannot tell apart.
    pub fn coarseness(&self, allowed: &Allowed) -> f64 {
        match (self, allowed) {
            (Driver::Modbus(Modbus { register, read, .. }), Allowed::Range { min, max }) => {
                let largest = min.abs().max(max.abs());
                1e-9 + register.coarseness(largest).max(read.coarseness(largest))
            }
            _ => 1e-9,
        }
    }

    /// The same, with a name of ours where it needs one and the flow gives none.
    pub fn known_as(&self, name: impl FnOnce() -> String) -> Driver {
        match self {
            Driver::Mqtt(mqtt) if mqtt.client_id.is_none() => {
                Driver::Mqtt(Box::new(Mqtt { client_id: Some(name()), ..(**mqtt).clone() }))
            }
            other => other.clone(),
        }
    }
}

/// Opens a device; nothing is said to it yet. `safe`: what it goes back to.
pub fn open(driver: &Driver, allowed: &Allowed, safe: &Setting) -> Result<Box<dyn Device>, DeviceError> {
    Ok(match driver {
        Driver::Simulated { file } => Box::new(simulated::File::new(file, allowed)),
        Driver::Exec(exec) => Box::new(exec::Program::new(exec, allowed)),
        Driver::Http(http) => Box::new(http::Server::open(http, allowed)?),
        Driver::Mqtt(mqtt) => Box::new(mqtt::Station::open(mqtt, allowed, safe)?),
        Driver::Modbus(modbus) => Box::new(modbus::Unit::open(modbus, allowed)?),
    })
}
