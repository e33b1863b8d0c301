//! A water loop with a pump and eight sensors, once a second: runs of twenty minutes that begin well and then break in
//! one of eleven ways, as test benches for anomaly detectors do.
//!
//! Each run is another day: other demand, other room temperature, valves turned a little. So what is normal must be
//! learnt from each run's own begin. The faults are deep in some runs and shallow in others, sudden or creeping, and
//! the sensors are as noisy as cheap ones are: in the shallow runs a fault moves its sensors by less than their noise.
//!
//! The operating point is where the pump's curve `h0 − a·q²` meets the loop's `k·q²` (Gülich, *Centrifugal Pumps*,
//! ch. 3); a pump at constant speed has no other freedom.

use wire::world::{Entropy, Simulated, WallMs};

use super::{Sample, gauss, wander};

/// The sensors, unit last.
pub const CHANNELS: [&str; 8] = [
    "vibration_pump_g",
    "vibration_pipe_g",
    "current_a",
    "pressure_bar",
    "temperature_motor_c",
    "temperature_water_c",
    "voltage_v",
    "flow_lpm",
];

/// Readings of a run, one a second.
pub const READINGS: usize = 1_200;
/// Readings of a run in which nothing is ever wrong: there a detector learns.
pub const LEARN: usize = 400;

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The valve behind the pump closes partly: less flow, more pressure, less load.
    Outlet,
    /// The valve before the pump closes partly: less flow, less pressure, a restless pump.
    Inlet,
    /// The rotor is out of balance: the pump shakes.
    Imbalance,
    /// Bubbles collapse in the impeller: noise in everything.
    Cavitation,
    /// A bearing rubs: current, motor temperature and vibration creep up.
    Rubbing,
    /// Water is lost: air is drawn in, and the flow breathes.
    Leak,
    /// The water is heated from outside.
    Heating,
    /// A winding of the motor ages: more current for the same work.
    Winding,
    /// The pressure sensor is off by a constant.
    Offset,
    /// The flow sensor stops at its value.
    Stuck,
    /// The pipe's vibration sensor loosens: it hears less.
    Loose,
}

impl Fault {
    /// All of them, in the order of runs.
    pub const ALL: [Fault; 11] = [
        Fault::Outlet,
        Fault::Inlet,
        Fault::Imbalance,
        Fault::Cavitation,
        Fault::Rubbing,
        Fault::Leak,
        Fault::Heating,
        Fault::Winding,
        Fault::Offset,
        Fault::Stuck,
        Fault::Loose,
    ];

    /// The word for screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Outlet => "outlet",
            Fault::Inlet => "inlet",
            Fault::Imbalance => "imbalance",
            Fault::Cavitation => "cavitation",
            Fault::Rubbing => "rubbing",
            Fault::Leak => "leak",
            Fault::Heating => "heating",
            Fault::Winding => "winding",
            Fault::Offset => "offset",
            Fault::Stuck => "stuck",
            Fault::Loose => "loose",
        }
    }
}

/// One run of the loop; an iterator over [`READINGS`] samples.
#[derive(Debug, Clone)]
pub struct Run {
    chance: Simulated,
    at: usize,
    fault: Option<Fault>,
    from: usize,
    until: usize,
    rise: f64,
    depth: f64,
    /// The day: resistance of the loop, room and water temperature.
    resistance: f64,
    room_c: f64,
    water_c: f64,
    motor_c: f64,
    /// Slow wander of mains, demand and room.
    slow: [f64; 3],
    breath: f64,
    stuck_lpm: f64,
}

/// Head at no flow, metres.
const SHUTOFF_M: f64 = 9.0;
/// Pump curve, metres per (l/min)².
const CURVE: f64 = 0.0016;

impl Run {
    /// The run with this number under this seed; its fault is `Fault::ALL[number % 11]`, or none.
    pub fn new(seed: u64, number: u64, healthy: bool) -> Run {
        let mut chance = Simulated::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let mut between = |low: f64, high: f64| low + (high - low) * chance.unit();
        let from = between(450.0, 650.0) as usize;
        let until = from + between(250.0, 450.0) as usize;
        let rise = between(2.0, 60.0);
        // Shallow to deep, evenly.
        let depth = between(0.25, 1.0);
        let resistance = between(0.0020, 0.0032);
        let room_c = between(18.0, 28.0);
        let water_c = room_c + between(1.0, 6.0);
        let motor_c = room_c + between(25.0, 35.0);
        let fault = (!healthy).then(|| Fault::ALL[(number % Fault::ALL.len() as u64) as usize]);
        Run {
            at: 0,
            fault,
            from,
            until,
            rise,
            depth,
            resistance,
            room_c,
            water_c,
            motor_c,
            slow: [0.0; 3],
            breath: 0.0,
            stuck_lpm: 0.0,
            chance,
        }
    }

    /// What breaks in it.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn how_much(&self, wanted: Fault) -> f64 {
        match self.fault {
            Some(fault) if fault == wanted && (self.from..self.until).contains(&self.at) => {
                self.depth * ((self.at - self.from + 1) as f64 / self.rise).min(1.0)
            }
            _ => 0.0,
        }
    }

    fn reading(&mut self) -> [f64; 8] {
        let [mains, demand, room] = &mut self.slow;
        *mains = wander(&mut self.chance, *mains, 1.0 / 20.0);
        *demand = wander(&mut self.chance, *demand, 1.0 / 40.0);
        *room = wander(&mut self.chance, *room, 1.0 / 600.0);
        let [mains, demand, room] = self.slow;

        // The operating point: mains move the speed a little, demand turns a valve.
        let voltage = 230.0 + 2.0 * mains;
        let speed = 1.0 + 0.004 * mains;
        let (outlet, inlet) = (self.how_much(Fault::Outlet), self.how_much(Fault::Inlet));
        let (cavitation, leak) = (self.how_much(Fault::Cavitation), self.how_much(Fault::Leak));
        let resistance = self.resistance * (1.0 + 0.03 * demand) * (1.0 + 0.5 * outlet + 0.25 * inlet);
        self.breath = wander(&mut self.chance, self.breath, 1.0 / 6.0);
        let starved = 1.0 - 0.12 * inlet - 0.10 * cavitation - 0.08 * leak * (1.0 + self.breath);
        let shutoff = SHUTOFF_M * speed * speed * starved.max(0.3);
        let flow = (shutoff / (CURVE + resistance)).max(0.0).sqrt();
        let head = shutoff - CURVE * flow * flow;

        // Load, current, heat.
        let rubbing = self.how_much(Fault::Rubbing);
        let load = 0.35 + flow * head / 250.0 + 0.25 * rubbing;
        let current = load * 230.0 / voltage * (1.0 + 0.12 * self.how_much(Fault::Winding));
        let motor = self.room_c + room + 28.0 * current.powi(2) + 6.0 * rubbing;
        self.motor_c += (motor - self.motor_c) / 240.0;
        let water = self.room_c + room + 4.0 + 12.0 * self.how_much(Fault::Heating) + 1.0 * current;
        self.water_c += (water - self.water_c) / 300.0;

        let shake = 0.10 + 0.0004 * flow + 0.06 * self.how_much(Fault::Imbalance) + 0.03 * rubbing;
        let restless =
            cavitation * (0.02 + 0.04 * self.chance.unit()) + 0.02 * inlet + 0.02 * leak * self.breath.abs();
        let pipe = (0.05 + 0.0006 * flow + 0.3 * (shake - 0.12) + restless)
            * (1.0 - 0.5 * self.how_much(Fault::Loose));
        const NOISE: [f64; 8] = [0.006, 0.005, 0.03, 0.02, 0.15, 0.08, 0.6, 0.5];
        let noise = NOISE.map(|sigma| sigma * gauss(&mut self.chance));
        let mut values = [
            shake + restless,
            pipe,
            current,
            head / 10.2 + 0.12 * self.how_much(Fault::Offset),
            self.motor_c,
            self.water_c,
            voltage,
            flow,
        ];
        for (value, noise) in values.iter_mut().zip(noise) {
            *value += noise;
        }
        if self.how_much(Fault::Stuck) > 0.0 {
            values[7] = self.stuck_lpm;
        } else {
            self.stuck_lpm = values[7];
        }
        values
    }
}

impl Iterator for Run {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        if self.at >= READINGS {
            return None;
        }
        let values = self.reading().to_vec();
        let broken = (self.from..self.until).contains(&self.at);
        let wrong = self.fault.filter(|_| broken).map(Fault::as_str);
        let t_ms = START_MS + self.at as WallMs * 1_000;
        self.at += 1;
        Some(Sample { t_ms, values, wrong })
    }
}

/// 2026-01-01.
const START_MS: WallMs = 1_767_225_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_the_same_for_the_same_seed_and_well_at_its_begin() {
        for number in 0..22 {
            let run: Vec<Sample> = Run::new(7, number, false).collect();
            assert_eq!(run, Run::new(7, number, false).collect::<Vec<_>>());
            assert_eq!(run.len(), READINGS);
            assert!(run[..LEARN].iter().all(|sample| sample.wrong.is_none()));
            let broken = run.iter().filter(|sample| sample.wrong.is_some()).count();
            assert!((250..=450).contains(&broken), "{broken}");
            assert!(run.iter().all(|sample| sample.values.iter().all(|value| value.is_finite())));
        }
        assert_ne!(Run::new(7, 0, false).next(), Run::new(8, 0, false).next());
    }

    #[test]
    fn a_healthy_loop_stays_within_its_plate() {
        let plate = [
            (0.05, 0.2),
            (0.02, 0.15),
            (0.5, 2.0),
            (0.2, 0.9),
            (30.0, 110.0),
            (15.0, 45.0),
            (215.0, 245.0),
            (20.0, 70.0),
        ];
        for number in 0..20 {
            for sample in Run::new(3, number, true) {
                for ((value, (low, high)), channel) in sample.values.iter().zip(plate).zip(CHANNELS) {
                    assert!((low..high).contains(value), "{channel} {value} in run {number}");
                }
                assert_eq!(sample.wrong, None);
            }
        }
    }
}
