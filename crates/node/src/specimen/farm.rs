//! Two soil probes of a farm, heard over LoRaWAN: uplinks about every quarter of an hour, some of them lost, a gateway that is down for
//! some hours, soil that dries, rain, and a battery that ends.
//!
//! Soil loses water by evaporation in proportion to what it holds and to the sun, as simple bucket models of irrigation have it
//! (FAO Irrigation and Drainage Paper 56, 1998); rain fills it at once. A lithium cell holds its voltage long and then falls, and is
//! lower when it is cold.

use std::fmt::Write as _;

use jiff::Timestamp;
use wire::world::{Entropy, Simulated, WallMs};

use super::{Sample, gauss};

/// What a probe measures: volumetric water content in percent, the soil's temperature, the voltage of its battery.
pub const CHANNELS: [&str; 3] = ["moisture", "temperature", "battery"];
/// The probes: their names, and their identities on the air.
pub const PROBES: [(&str, &str); 2] = [("north", "a84041000181c061"), ("south", "a84041000181c062")];
/// Hours that are told.
pub const HOURS: f64 = 96.0;
/// The north's soil holds less than it should from about here on; exact in [`Farm::dry_from_h`].
const DRY: f64 = 22.0;
/// It rains then.
pub const RAIN_H: f64 = 70.0;
/// The gateway of the south is down for these hours.
pub const DOWN_H: (f64, f64) = (30.0, 36.0);
/// The battery of the south is below this at its end.
pub const LOW_V: f64 = 3.3;

/// One uplink that got through.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    /// Which of [`PROBES`].
    pub probe: usize,
    /// How many it has sent before, lost ones too.
    pub counter: u32,
    /// How strongly the gateway heard it, in dBm.
    pub rssi: i32,
    /// What it says, and when.
    pub sample: Sample,
}

/// What the farm did.
#[derive(Debug, Clone, PartialEq)]
pub struct Farm {
    /// In the order of time.
    pub uplinks: Vec<Uplink>,
    /// When the north's soil fell below 22 %, in hours.
    pub dry_from_h: f64,
    /// Uplinks that were sent and not heard.
    pub lost: usize,
}

impl Farm {
    /// Four days from `start_ms` on, which should be a midnight.
    pub fn new(seed: u64, start_ms: WallMs) -> Farm {
        let mut chance = Simulated::new(seed);
        let mut farm = Farm { uplinks: Vec::new(), dry_from_h: f64::NAN, lost: 0 };
        for probe in 0..PROBES.len() {
            farm.listen(probe, start_ms, &mut chance);
        }
        farm.uplinks.sort_by_key(|uplink| uplink.sample.t_ms);
        farm
    }

    fn listen(&mut self, probe: usize, start_ms: WallMs, chance: &mut Simulated) {
        let is_north = probe == 0;
        // Sand in the north, loam in the south.
        let (mut moisture, drying) = if is_north { (34.0, 0.012) } else { (36.0, 0.004) };
        let (mut at_h, mut counter) = (chance.unit() * 0.25, 0u32);
        let mut has_rained = false;
        while at_h < HOURS {
            let step_h = 0.25 * (1.0 + 0.1 * gauss(chance)).clamp(0.5, 1.5);
            // The sun of a day: nothing at night.
            let sun = (std::f64::consts::TAU * (at_h - 6.0) / 24.0).sin().max(0.0);
            moisture -= moisture * drying * (0.15 + 2.6 * sun) * step_h;
            if at_h >= RAIN_H && !has_rained {
                (moisture, has_rained) = (moisture + 20.0, true);
            }
            if is_north && moisture < DRY && self.dry_from_h.is_nan() {
                self.dry_from_h = at_h;
            }
            let temperature = 14.0 + 5.0 * (std::f64::consts::TAU * (at_h - 10.0) / 24.0).sin();
            // The south's cell ends in the last day.
            let age = if is_north { 0.0 } else { ((at_h - 60.0) / 36.0).max(0.0) };
            let battery = 3.6 - 0.5 * age * age + 0.004 * (temperature - 14.0) + 0.004 * gauss(chance);
            let rssi = (-104.0 + 6.0 * gauss(chance)).round().clamp(-130.0, -60.0) as i32;
            let is_down = !is_north && (DOWN_H.0..DOWN_H.1).contains(&at_h);
            let is_heard = chance.unit() >= 0.08 && !is_down;
            if is_heard {
                let wrong = match () {
                    () if is_north && moisture < DRY => Some("dry"),
                    () if battery < LOW_V => Some("battery"),
                    () => None,
                };
                let t_ms = start_ms + (at_h * 3_600_000.0).round() as i64;
                let values =
                    vec![moisture + 0.15 * gauss(chance), temperature + 0.1 * gauss(chance), battery];
                let sample = Sample { t_ms, values, wrong };
                self.uplinks.push(Uplink { probe, counter, rssi, sample });
            } else {
                self.lost += 1;
            }
            counter += 1;
            at_h += step_h;
        }
    }

    /// What one probe said.
    pub fn of(&self, probe: usize) -> impl Iterator<Item = Sample> {
        self.uplinks.iter().filter(move |uplink| uplink.probe == probe).map(|uplink| uplink.sample.clone())
    }
}

impl Uplink {
    /// The topic by which ChirpStack 4 hands it on.
    pub fn topic(&self) -> String {
        format!("application/farm/device/{}/event/up", PROBES[self.probe].1)
    }

    /// The payload that goes with it, for a probe whose profile has a codec.
    pub fn payload(&self) -> String {
        let (name, eui) = PROBES[self.probe];
        let Uplink { counter, rssi, sample: Sample { t_ms, values, .. }, .. } = self;
        let time = Timestamp::from_millisecond(*t_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut text = String::new();
        // Plain words and numbers: nothing to escape.
        let _ = write!(
            text,
            "{{\"time\":\"{time}\",\"deviceInfo\":{{\"deviceName\":\"{name}\",\"devEui\":\"{eui}\"}},\"fCnt\":{counter},\"fPort\":2,\
             \"object\":{{\"soil\":{{\"moisture\":{:.2},\"temperature\":{:.2}}},\"battery_v\":{:.3}}},\
             \"rxInfo\":[{{\"gatewayId\":\"0016c001f0000001\",\"rssi\":{rssi},\"snr\":5.5}}]}}",
            values[0], values[1], values[2]
        );
        text
    }
}
