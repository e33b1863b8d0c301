//! A source that plays the pump station of `pump`: to look at a whole system without a sensor.

use super::bring::{Source, SourceError};
use super::pace::Pace;
use super::pump::{CHANNELS, Pump, PumpConfig};
use super::queue::{Event, Inlet};
use crate::flow::source::SimulatedConfig;

/// The station, played for ever.
pub struct SimulatedPump {
    config: SimulatedConfig,
    /// Made at the first run, so that its present is now; kept over failures.
    pump: Option<Pump>,
}

impl SimulatedPump {
    /// A station that has been running for as long as its `history` when it is run, and tells it at once.
    pub fn new(config: SimulatedConfig) -> SimulatedPump {
        SimulatedPump { config, pump: None }
    }
}

/// The generator's settings.
pub fn pump_config(config: &SimulatedConfig) -> PumpConfig {
    PumpConfig {
        rate_hz: config.rate_hz,
        quiet_s: config.quiet_ms as f64 / 1e3,
        fault_every_s: config.fault_every_ms.map_or(f64::INFINITY, |ms| ms as f64 / 1e3),
    }
}

impl Source for SimulatedPump {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        inlet.tell(Event::Opened { channels: CHANNELS.map(str::to_owned).to_vec() })?;
        let SimulatedConfig { seed, speed, history_ms, .. } = self.config;
        let (now_ms, now_ns) = (inlet.clock().wall_ms(), inlet.clock().mono_ns());
        let mut pace = if self.pump.is_none() { Pace::at(speed, now_ms, now_ns) } else { Pace::new(speed) };
        let start_ms = now_ms - history_ms;
        let pump = self.pump.get_or_insert_with(|| Pump::new(seed, pump_config(&self.config), start_ms));
        loop {
            let sample = pump.next();
            pace.push(sample.t_ms, &sample.values, inlet)?;
        }
    }
}
