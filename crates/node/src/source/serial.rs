//! A source that listens to a serial line: each line of text is a payload.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serial2_tokio::{CharSize, SerialPort, Settings, StopBits};

use super::bring::{Source, SourceError, wait_for};
use super::funnel::{Funnel, FunnelSettings};
use super::lines::{Lines, attend};
use super::queue::Inlet;

/// A serial line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// `/dev/ttyUSB0`.
    pub device: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// The bit that makes the count of ones even or odd.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// A parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    /// No such bit.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

impl Port {
    /// Opens it: 8 bits, no flow control. The error says what is in the way.
    pub(super) fn open(&self) -> Result<SerialPort, String> {
        let apply = |mut line: Settings| {
            line.set_raw();
            line.set_baud_rate(self.baud)?;
            line.set_char_size(CharSize::Bits8);
            line.set_parity(match self.parity {
                Parity::None => serial2_tokio::Parity::None,
                Parity::Even => serial2_tokio::Parity::Even,
                Parity::Odd => serial2_tokio::Parity::Odd,
            });
            line.set_stop_bits(if self.stop_bits == 2 { StopBits::Two } else { StopBits::One });
            Ok(line)
        };
        SerialPort::open(&self.device, apply)
            .map_err(|error| format!("{} cannot be opened: {error}", self.device.display()))
    }
}

/// Which line, and what comes over it.
#[derive(Debug, Clone, PartialEq)]
pub struct SerialSettings {
    /// The line.
    pub port: Port,
    /// Silent for longer, it is opened again.
    pub silence: Option<Duration>,
    /// How lines become readings.
    pub funnel: FunnelSettings,
}

/// Listens.
pub struct Serial {
    settings: SerialSettings,
    funnel: Funnel,
}

impl Serial {
    /// A source; `declared`: channels that the flow names by themselves.
    pub fn new(settings: SerialSettings, declared: Option<&[String]>) -> Serial {
        let funnel = Funnel::new(settings.funnel.clone(), declared);
        Serial { settings, funnel }
    }

    async fn listen(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let place = self.settings.port.device.display().to_string();
        let port = self.settings.port.open().map_err(SourceError::Outside)?;
        self.funnel.begin(format!("{place} is open"), inlet)?;
        let mut lines = Lines::new(port, self.settings.funnel.max_payload_bytes);
        attend(&mut lines, &place, &mut self.funnel, self.settings.silence, inlet).await?;
        Err(SourceError::Outside(format!("{place} was closed at its other end")))
    }
}

impl Source for Serial {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        wait_for(self.listen(inlet))
    }
}
