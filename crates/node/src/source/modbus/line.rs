//! Where a device of Modbus is, and how it is connected to: over TCP, or over a serial line (RTU).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::Slave;
use tokio_modbus::client::{Context, rtu, tcp};

use crate::source::serial::Port;

/// Where a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Modbus TCP: host and port.
    Tcp {
        /// Its name or number.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Modbus RTU.
    Rtu(Port),
}

impl Line {
    /// Connects to a unit there; the error says what is in the way.
    pub(crate) async fn connect(&self, unit: u8, limit: Duration) -> Result<Context, String> {
        match self {
            Line::Tcp { host, port } => {
                let failed = |why: &str| format!("{self} cannot be reached: {why}");
                let stream = match timeout(limit, TcpStream::connect((host.as_str(), *port))).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return Err(failed(&error.to_string())),
                    Err(_) => return Err(failed("no answer in time")),
                };
                stream.set_nodelay(true).map_err(|error| failed(&error.to_string()))?;
                Ok(tcp::attach_slave(stream, Slave(unit)))
            }
            Line::Rtu(port) => Ok(rtu::attach_slave(port.open()?, Slave(unit))),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Tcp { host, port } => write!(f, "{host}:{port}"),
            Line::Rtu(port) => write!(f, "{}", port.device.display()),
        }
    }
}
