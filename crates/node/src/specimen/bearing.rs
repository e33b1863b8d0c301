//! An acceleration sensor on a bearing, a thousand times a second: the hum of a shaft at 10 Hz, noise, and, once the
//! outer race is damaged, a blow for every ball that rolls over the spot, each ringing at the housing's own frequency.
//!
//! Blows come at 3.585 times the shaft's speed, each a little early or late as balls slip (Randall and Antoni, 2011).

use wire::world::{Entropy, Simulated, WallMs};

use super::{Sample, gauss};

/// Its one sensor.
pub const CHANNELS: [&str; 1] = ["acceleration_g"];
/// Samples a second.
pub const RATE_HZ: f64 = 1_000.0;
/// Turns of the shaft a second.
pub const SHAFT_HZ: f64 = 10.0;
/// Balls that pass a spot of the outer race in one turn.
pub const OUTER: f64 = 3.585;
/// The housing rings so often a second, and for so long.
const RINGING_HZ: f64 = 300.0;
const RINGING_S: f64 = 0.006;

/// The sensor; an iterator that ends after `seconds`.
#[derive(Debug, Clone)]
pub struct Bearing {
    chance: Simulated,
    start_ms: WallMs,
    at: u64,
    end: u64,
    damaged_from_s: f64,
    next_blow_s: f64,
    last_blow: Option<(f64, f64)>,
}

impl Bearing {
    /// Well until `damaged_from_s`, then worse for twenty seconds, then as bad as it gets.
    pub fn new(seed: u64, seconds: f64, damaged_from_s: f64, start_ms: WallMs) -> Bearing {
        Bearing {
            chance: Simulated::new(seed),
            start_ms,
            at: 0,
            end: (seconds * RATE_HZ) as u64,
            damaged_from_s,
            next_blow_s: damaged_from_s,
            last_blow: None,
        }
    }
}

impl Iterator for Bearing {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        if self.at >= self.end {
            return None;
        }
        let t_s = self.at as f64 / RATE_HZ;
        if t_s >= self.next_blow_s {
            let depth = ((t_s - self.damaged_from_s) / 20.0).clamp(0.05, 1.0);
            self.last_blow = Some((self.next_blow_s, depth * (0.8 + 0.4 * self.chance.unit())));
            self.next_blow_s += (1.0 + 0.01 * gauss(&mut self.chance)) / (OUTER * SHAFT_HZ);
        }
        let turn = std::f64::consts::TAU;
        let hum = 0.3 * (turn * SHAFT_HZ * t_s).sin() + 0.1 * (turn * 2.0 * SHAFT_HZ * t_s + 1.0).sin();
        let ringing = self.last_blow.map_or(0.0, |(blow_s, strength)| {
            let since_s = t_s - blow_s;
            strength * (-since_s / RINGING_S).exp() * (turn * RINGING_HZ * since_s).sin()
        });
        let value = hum + ringing + 0.15 * gauss(&mut self.chance);
        let t_ms = self.start_ms + (t_s * 1e3).round() as WallMs;
        let wrong = (t_s >= self.damaged_from_s).then_some("outer race");
        self.at += 1;
        Some(Sample { t_ms, values: vec![value], wrong })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_bearing_strikes_and_a_well_one_does_not() {
        let samples: Vec<Sample> = Bearing::new(1, 60.0, 30.0, 0).collect();
        assert_eq!(samples.len(), 60_000);
        assert_eq!(samples[1_000].t_ms, 1_000);
        let largest = |range: std::ops::Range<usize>| {
            samples[range].iter().map(|s| s.values[0].abs()).fold(0.0, f64::max)
        };
        assert!(largest(0..30_000) < 1.2 && largest(50_000..60_000) > 1.3);
        assert!(samples.iter().all(|sample| sample.wrong.is_some() == (sample.t_ms >= 30_000)));
    }
}
