//! A pump station that does not exist: enough physics that its five sensors agree with one another, and faults that
//! break that agreement the way real ones do. It knows when it is broken, so a detector can be judged on it.
//!
//! Pure: a seed gives the same afternoon every time; the caller paces it.
//!
//! The station is one variable-speed centrifugal pump against a static head and pipe friction. Affinity laws: head
//! grows with the square of speed, power with its cube (Gülich, *Centrifugal Pumps*, ch. 3). The operating point is
//! where the pump's curve `h0·n² − a·q²` meets the system's `hs + k·q²`.

use wire::world::{Entropy, Simulated, WallMs};

/// The station's sensors, unit last. Shape of [`PumpSample::values`].
pub const CHANNELS: [&str; 5] = ["vibration_mm_s", "pressure_bar", "temperature_c", "flow_m3h", "current_a"];

/// How the station runs.
#[derive(Debug, Clone, PartialEq)]
pub struct PumpConfig {
    /// Readings a second.
    pub rate_hz: f64,
    /// No fault before this many seconds, so that a detector can learn what normal is.
    pub quiet_s: f64,
    /// Mean time from the end of one fault to the beginning of the next, in seconds; infinite for a healthy pump.
    pub fault_every_s: f64,
}

impl Default for PumpConfig {
    fn default() -> PumpConfig {
        PumpConfig { rate_hz: 5.0, quiet_s: 420.0, fault_every_s: 120.0 }
    }
}

/// What is wrong with the station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The inlet runs short of pressure: bubbles collapse in the impeller. Vibration up, flow and head restless.
    Cavitation,
    /// A bearing runs dry: vibration creeps up, and the temperature after it.
    Bearing,
    /// A pipe burst downstream: more flow against less pressure.
    Leak,
    /// Something closes the discharge: flow falls, pressure rises, the pump runs off its best point.
    Blockage,
    /// The pressure sensor stops at its last value.
    StuckSensor,
}

impl Fault {
    const ALL: [Fault; 5] =
        [Fault::Leak, Fault::Cavitation, Fault::Bearing, Fault::Blockage, Fault::StuckSensor];

    /// The word for screens and ground-truth columns.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Cavitation => "cavitation",
            Fault::Bearing => "bearing",
            Fault::Leak => "leak",
            Fault::Blockage => "blockage",
            Fault::StuckSensor => "stuck-sensor",
        }
    }

    /// How long it takes to be fully there, and how long it lasts, in seconds.
    fn course_s(self) -> (f64, f64) {
        match self {
            Fault::Cavitation => (4.0, 30.0),
            Fault::Bearing => (25.0, 60.0),
            Fault::Leak => (2.0, 40.0),
            Fault::Blockage => (8.0, 40.0),
            Fault::StuckSensor => (0.0, 45.0),
        }
    }
}

/// One reading of all sensors, with the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PumpSample {
    /// When, milliseconds since 1970 UTC.
    pub t_ms: WallMs,
    /// In the order and units of [`CHANNELS`].
    pub values: [f64; 5],
    /// What is wrong, if anything.
    pub fault: Option<Fault>,
}

/// The station. Ask it for one [`next`](Pump::next) sample after another; it never ends.
#[derive(Debug, Clone)]
pub struct Pump {
    config: PumpConfig,
    chance: Simulated,
    start_ms: WallMs,
    samples: u64,
    demand: f64,
    temperature_c: f64,
    noise: [f64; 5],
    stuck_bar: f64,
    fault: Option<Active>,
    next_fault_s: f64,
    faults_seen: usize,
}

#[derive(Debug, Clone, Copy)]
struct Active {
    fault: Fault,
    since_s: f64,
    until_s: f64,
}

/// Static head of the system, metres.
const STATIC_HEAD_M: f64 = 12.0;
/// Shut-off head at full speed, metres.
const SHUTOFF_HEAD_M: f64 = 42.0;
/// Pump curve, metres per (m³/h)².
const PUMP_CURVE: f64 = 0.0022;
/// Pipe friction, metres per (m³/h)².
const FRICTION: f64 = 0.0030;
/// Flow at the best efficiency point at full speed, m³/h.
const BEST_FLOW_M3H: f64 = 72.0;
/// Time in which the bearing housing follows a change of load, seconds.
const THERMAL_S: f64 = 120.0;

impl Pump {
    /// A station whose first reading is taken at `start_ms`.
    pub fn new(seed: u64, config: PumpConfig, start_ms: WallMs) -> Pump {
        let next_fault_s = config.quiet_s;
        Pump {
            config,
            chance: Simulated::new(seed),
            start_ms,
            samples: 0,
            demand: 0.0,
            temperature_c: 36.0,
            noise: [0.0; 5],
            stuck_bar: 0.0,
            fault: None,
            next_fault_s,
            faults_seen: 0,
        }
    }

    /// The next reading.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it needs no Option")]
    pub fn next(&mut self) -> PumpSample {
        let step_s = 1.0 / self.config.rate_hz;
        let t_s = self.samples as f64 * step_s;
        self.samples += 1;
        let fault = self.course(t_s);
        let how_much = |wanted: Fault| match fault {
            Some((fault, depth)) if fault == wanted => depth,
            _ => 0.0,
        };

        // Demand: a wet well that fills and empties in about a minute and a half, and people who open taps.
        self.demand = drift(&mut self.chance, self.demand, step_s / 20.0, 0.02);
        let speed = 0.88 + 0.07 * (t_s * std::f64::consts::TAU / 90.0).sin() + self.demand;

        // Operating point.
        let (cavitation, leak, blockage) =
            (how_much(Fault::Cavitation), how_much(Fault::Leak), how_much(Fault::Blockage));
        let restless = 1.0 - cavitation * (0.12 + 0.10 * self.chance.unit());
        let shutoff = SHUTOFF_HEAD_M * speed * speed * restless;
        let friction = FRICTION * (1.0 - 0.45 * leak) * (1.0 + 2.5 * blockage);
        let static_head = STATIC_HEAD_M * (1.0 - 0.5 * leak);
        let flow = ((shutoff - static_head) / (PUMP_CURVE + friction)).max(0.0).sqrt();
        let head = shutoff - PUMP_CURVE * flow * flow;

        // Shaft power in kW, through an efficiency that falls away from the best point.
        let off_best = flow / (BEST_FLOW_M3H * speed) - 1.0;
        let efficiency = (0.78 * (1.0 - 0.9 * off_best * off_best)).max(0.3);
        let power_kw = 1000.0 * 9.81 * (flow / 3600.0) * head / efficiency / 1000.0;
        let current = 4.0 + power_kw / (3f64.sqrt() * 0.4 * 0.86);

        // The bearing warms with the load, and more when it runs dry.
        let bearing = how_much(Fault::Bearing);
        let settles_at = 24.0 + 2.1 * power_kw + 38.0 * bearing;
        self.temperature_c += (settles_at - self.temperature_c) * step_s / THERMAL_S;

        let vibration = 1.1
            + 0.9 * speed * speed
            + 3.0 * off_best * off_best
            + 2.4 * bearing
            + cavitation * (1.2 + 1.5 * self.chance.unit());

        // Sensor noise has memory: neighbouring readings resemble one another.
        const NOISE: [f64; 5] = [0.07, 0.015, 0.12, 0.35, 0.08];
        for (noise, sigma) in self.noise.iter_mut().zip(NOISE) {
            *noise = 0.6 * *noise + 0.8 * sigma * gauss(&mut self.chance);
        }
        let mut pressure = head / 10.2 + self.noise[1];
        if how_much(Fault::StuckSensor) > 0.0 {
            pressure = self.stuck_bar;
        } else {
            self.stuck_bar = pressure;
        }
        let values = [
            vibration + self.noise[0],
            pressure,
            self.temperature_c + self.noise[2],
            flow + self.noise[3],
            current + self.noise[4],
        ];
        let t_ms = self.start_ms + (t_s * 1000.0).round() as i64;
        PumpSample { t_ms, values, fault: fault.map(|(fault, _)| fault) }
    }

    /// The fault at `t_s` and how deep it is, `0.0..=1.0`; begins and ends faults when their time has come.
    fn course(&mut self, t_s: f64) -> Option<(Fault, f64)> {
        if self.fault.is_some_and(|active| t_s >= active.until_s) {
            self.fault = None;
            // Exponential waiting times: a fault does not know when the last one was.
            let wait = -self.config.fault_every_s * (1.0 - self.chance.unit()).ln();
            self.next_fault_s = t_s + wait.max(20.0);
        }
        if self.fault.is_none() && t_s >= self.next_fault_s && self.config.fault_every_s.is_finite() {
            // All kinds in turn, so that a short demonstration shows each.
            let fault = Fault::ALL[self.faults_seen % Fault::ALL.len()];
            self.faults_seen += 1;
            let lasts = fault.course_s().1 * (0.8 + 0.4 * self.chance.unit());
            self.fault = Some(Active { fault, since_s: t_s, until_s: t_s + lasts });
        }
        let Active { fault, since_s, .. } = self.fault?;
        let rise_s = fault.course_s().0;
        let depth = if rise_s > 0.0 { ((t_s - since_s) / rise_s).clamp(0.0, 1.0) } else { 1.0 };
        Some((fault, depth))
    }
}

/// A value that wanders and is drawn back to zero (Ornstein–Uhlenbeck); `rate` is the step over the memory.
fn drift(chance: &mut Simulated, value: f64, rate: f64, sigma: f64) -> f64 {
    value * (1.0 - rate) + sigma * (2.0 * rate).sqrt() * gauss(chance)
}

/// A standard normal number (Box and Muller 1958).
fn gauss(chance: &mut Simulated) -> f64 {
    let radius = (-2.0 * (1.0 - chance.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * chance.unit()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: PumpConfig, seconds: f64) -> Vec<PumpSample> {
        let count = (seconds * config.rate_hz) as usize;
        let mut pump = Pump::new(11, config, 0);
        (0..count).map(|_| pump.next()).collect()
    }

    fn mean(samples: &[PumpSample], channel: usize) -> f64 {
        samples.iter().map(|sample| sample.values[channel]).sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn a_healthy_station_stays_within_its_plate() {
        let healthy = run(PumpConfig { fault_every_s: f64::INFINITY, ..PumpConfig::default() }, 3_600.0);
        let plate = [(1.0, 3.5), (1.5, 4.5), (25.0, 75.0), (20.0, 110.0), (5.0, 40.0)];
        for sample in &healthy {
            assert_eq!(sample.fault, None);
            for ((value, (low, high)), channel) in sample.values.iter().zip(plate).zip(CHANNELS) {
                assert!((low..high).contains(value), "{channel} {value} at {} ms", sample.t_ms);
            }
        }
        assert_eq!(healthy[5].t_ms, 1_000);
    }

    #[test]
    fn each_fault_leaves_its_mark() {
        let samples = run(PumpConfig { fault_every_s: 60.0, ..PumpConfig::default() }, 3_600.0);
        let well: Vec<_> = samples.iter().copied().filter(|sample| sample.fault.is_none()).collect();
        let during = |fault| -> Vec<_> {
            samples.iter().copied().filter(|sample| sample.fault == Some(fault)).collect()
        };
        let [vibration, pressure, temperature, flow, _] = [0, 1, 2, 3, 4];
        assert!(samples[..2_100].iter().all(|sample| sample.fault.is_none()), "the quiet time is quiet");
        assert!(mean(&during(Fault::Cavitation), vibration) > mean(&well, vibration) + 1.0);
        assert!(mean(&during(Fault::Bearing), vibration) > mean(&well, vibration) + 1.0);
        assert!(mean(&during(Fault::Bearing), temperature) > mean(&well, temperature) + 2.0);
        assert!(mean(&during(Fault::Leak), flow) > mean(&well, flow) + 5.0);
        assert!(mean(&during(Fault::Leak), pressure) < mean(&well, pressure) - 0.2);
        assert!(mean(&during(Fault::Blockage), flow) < mean(&well, flow) - 10.0);
        let stuck = during(Fault::StuckSensor);
        assert!(stuck.windows(2).take(100).all(|pair| pair[0].values[pressure] == pair[1].values[pressure]));
    }

    #[test]
    fn the_same_seed_gives_the_same_afternoon() {
        assert_eq!(run(PumpConfig::default(), 600.0), run(PumpConfig::default(), 600.0));
    }
}
