//! One lead of an electrocardiogram, 250 times a second: a heart that beats regularly, then flutters, then stops, and a
//! lead that falls off.
//!
//! Each beat is five bells: P, Q, R, S and T, with the places and widths of McSharry, Clifford, Tarassenko and Smith, "A
//! dynamical model for generating synthetic electrocardiogram signals" (2003), in seconds at a beat a second; the T
//! wave moves with the root of the interval (Bazett 1920). Breathing moves rate and baseline. In atrial fibrillation
//! intervals have no memory and the P wave gives way to a tremor at 6 Hz.

use wire::world::{Entropy, Simulated, WallMs};

use super::{Sample, gauss};

/// Its one lead.
pub const CHANNELS: [&str; 1] = ["lead_mv"];
/// Samples a second.
pub const RATE_HZ: f64 = 250.0;

/// What a heart does for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rhythm {
    /// Beats in step, so many a minute.
    Sinus(f64),
    /// Atrial fibrillation: so many beats a minute, without any order.
    Fibrillation(f64),
    /// Nothing: the ventricles stand still.
    Standstill,
    /// The electrode hangs loose: there are no values.
    LeadOff,
}

impl Rhythm {
    fn wrong(self) -> Option<&'static str> {
        match self {
            Rhythm::Sinus(rate) if rate > 130.0 => Some("fast"),
            Rhythm::Sinus(rate) if rate < 40.0 => Some("slow"),
            Rhythm::Sinus(_) => None,
            Rhythm::Fibrillation(_) => Some("fibrillation"),
            Rhythm::Standstill => Some("standstill"),
            Rhythm::LeadOff => Some("lead off"),
        }
    }
}

/// The lead; an iterator that ends with its last rhythm.
#[derive(Debug, Clone)]
pub struct Lead {
    chance: Simulated,
    start_ms: WallMs,
    at: u64,
    /// Each rhythm and the second at which it ends.
    course: Vec<(Rhythm, f64)>,
    /// Beats near now: when, the interval before it, and whether atria beat too.
    beats: Vec<(f64, f64, bool)>,
    next_beat_s: f64,
}

/// P, Q, R, S, T: seconds from R at a beat a second, millivolts, seconds wide.
const WAVES: [(f64, f64, f64); 5] = [
    (-0.167, 0.12, 0.025),
    (-0.028, -0.12, 0.011),
    (0.0, 1.0, 0.011),
    (0.028, -0.22, 0.011),
    (0.278, 0.28, 0.045),
];

impl Lead {
    /// A patient whose heart does one thing after the other: `course` has each rhythm with its seconds.
    pub fn new(seed: u64, course: &[(Rhythm, f64)], start_ms: WallMs) -> Lead {
        let mut end_s = 0.0;
        let course = course
            .iter()
            .map(|(rhythm, seconds)| {
                end_s += seconds;
                (*rhythm, end_s)
            })
            .collect();
        Lead { chance: Simulated::new(seed), start_ms, at: 0, course, beats: Vec::new(), next_beat_s: 0.3 }
    }

    fn rhythm(&self, t_s: f64) -> Option<Rhythm> {
        self.course.iter().find(|(_, end_s)| t_s < *end_s).map(|(rhythm, _)| *rhythm)
    }

    /// Lays the beats of the next half second.
    fn lay(&mut self, t_s: f64) {
        while self.next_beat_s < t_s + 0.5 {
            let at_s = self.next_beat_s;
            let interval_s = match self.rhythm(at_s) {
                Some(Rhythm::Sinus(rate)) => {
                    let breath = 0.03 * (std::f64::consts::TAU * 0.25 * at_s).sin();
                    60.0 / rate * (1.0 + breath + 0.01 * gauss(&mut self.chance))
                }
                Some(Rhythm::Fibrillation(rate)) => {
                    60.0 / rate * (0.55 + 0.9 * self.chance.unit()).max(0.35 * rate / 60.0)
                }
                // Beats go on behind a lead that is off.
                Some(Rhythm::LeadOff) => 0.8,
                Some(Rhythm::Standstill) | None => {
                    self.next_beat_s += 0.1;
                    continue;
                }
            };
            let atria = !matches!(self.rhythm(at_s), Some(Rhythm::Fibrillation(_)));
            self.beats.push((at_s, interval_s, atria));
            self.next_beat_s += interval_s;
        }
        self.beats.retain(|(at_s, ..)| *at_s > t_s - 1.0);
    }
}

impl Iterator for Lead {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let t_s = self.at as f64 / RATE_HZ;
        let rhythm = self.rhythm(t_s)?;
        self.lay(t_s);
        let mut value = 0.15 * (std::f64::consts::TAU * 0.25 * t_s).sin() + 0.02 * gauss(&mut self.chance);
        for (at_s, interval_s, atria) in &self.beats {
            for (wave, (place_s, high, wide_s)) in WAVES.into_iter().enumerate() {
                if wave == 0 && !atria {
                    continue;
                }
                let stretch = if wave == 4 { interval_s.sqrt() } else { 1.0 };
                let off = (t_s - at_s - place_s * stretch) / wide_s;
                value += high * (-0.5 * off * off).exp();
            }
        }
        if matches!(rhythm, Rhythm::Fibrillation(_)) {
            value += 0.04 * (std::f64::consts::TAU * 6.0 * t_s).sin();
        }
        if rhythm == Rhythm::LeadOff {
            value = f64::NAN;
        }
        let t_ms = self.start_ms + (t_s * 1e3).round() as WallMs;
        self.at += 1;
        Some(Sample { t_ms, values: vec![value], wrong: rhythm.wrong() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_come_as_often_as_they_should() {
        for (rhythm, expected) in
            [(Rhythm::Sinus(72.0), 72), (Rhythm::Fibrillation(100.0), 100), (Rhythm::Standstill, 0)]
        {
            let samples: Vec<f64> =
                Lead::new(3, &[(rhythm, 60.0)], 0).map(|sample| sample.values[0]).collect();
            assert_eq!(samples.len(), 15_000);
            // R peaks: above 0.6 mV, highest of their neighbourhood.
            let peaks = (25..samples.len() - 25)
                .filter(|i| samples[*i] > 0.6 && samples[i - 25..i + 25].iter().all(|x| *x <= samples[*i]))
                .count() as i64;
            assert!((peaks - expected).abs() <= expected / 12 + 1, "{peaks} beats of {rhythm:?}");
        }
    }

    #[test]
    fn one_rhythm_follows_another() {
        let course = [(Rhythm::Sinus(60.0), 5.0), (Rhythm::LeadOff, 2.0), (Rhythm::Standstill, 3.0)];
        let samples: Vec<Sample> = Lead::new(3, &course, 1_000).collect();
        assert_eq!(samples.len(), 2_500);
        assert_eq!((samples[0].t_ms, samples[250].t_ms), (1_000, 2_000));
        assert_eq!(samples[1_300].wrong, Some("lead off"));
        assert!(samples[1_300].values[0].is_nan() && samples[2_000].wrong == Some("standstill"));
    }
}
