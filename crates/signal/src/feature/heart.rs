//! How a heart beats: rate and rhythm from an electrocardiogram.
//!
//! Beats are found sample by sample (`beat.rs`); every `hop` the intervals of the last `window` become numbers. The
//! irregularity is the root mean square of successive differences over the mean interval: sinus rhythm stays around
//! 0.05, atrial fibrillation above 0.1 (Dash, Chon, Lu and Raeder, "Automatic real time detection of atrial
//! fibrillation", 2009).
//!
//! These are numbers for an alarm that a person looks at, no diagnosis.

pub mod beat;

use std::collections::VecDeque;

use beat::{Beats, RateError};

/// What each number is called, in the order of [`Heart::measure`].
pub const NAMES: [&str; 7] =
    ["rate_bpm", "rr_ms", "sdnn_ms", "rmssd_ms", "irregularity", "beats", "since_beat_s"];

/// Intervals outside are pauses or artefacts: they are no part of a rhythm.
const INTERVAL_S: (f64, f64) = (0.2, 3.0);
/// A silence of the signal of so long begins anew.
const GAP_S: f64 = 0.5;

/// The beats of one lead.
#[derive(Debug, Clone)]
pub struct Heart {
    rate_hz: f64,
    window: u64,
    beats: Beats,
    /// Samples taken.
    samples: u64,
    /// Samples since the signal was last away.
    unbroken: u64,
    last: f64,
    missing: u64,
    /// The samples of the beats within the window, oldest first.
    found: VecDeque<u64>,
    /// The last beat, also if it is older than the window.
    newest: Option<u64>,
}

impl Heart {
    /// `window`: samples that are looked back on.
    pub fn new(rate_hz: f64, window: usize) -> Result<Heart, RateError> {
        let beats = Beats::new(rate_hz)?;
        // Five beats a second is the refractory time's limit.
        let most = (window as f64 / rate_hz / INTERVAL_S.0) as usize + 2;
        Ok(Heart {
            rate_hz,
            window: window as u64,
            beats,
            samples: 0,
            unbroken: 0,
            last: 0.0,
            missing: 0,
            found: VecDeque::with_capacity(most),
            newest: None,
        })
    }

    /// Takes one sample, in any unit. What is not finite is missing: it is held, and after half a second the beats are
    /// sought anew.
    pub fn push(&mut self, value: f64) {
        self.samples += 1;
        self.unbroken += 1;
        if value.is_finite() {
            self.missing = 0;
            self.last = value.clamp(-1e60, 1e60);
        } else {
            self.missing += 1;
            if self.missing as f64 > GAP_S * self.rate_hz {
                self.clear();
                return;
            }
        }
        if self.unbroken == self.missing {
            // Nothing was measured yet that could be held.
            self.unbroken = 0;
            self.missing = 0;
            return;
        }
        let Some(beat) = self.beats.push(self.last) else { return };
        let at = self.samples.saturating_sub(beat.ago);
        let oldest = self.samples.saturating_sub(self.window);
        while self.found.front().is_some_and(|found| *found <= oldest) {
            self.found.pop_front();
        }
        self.found.push_back(at);
        self.newest = Some(at);
    }

    /// The signal was away: what comes is not the next beat of what was.
    pub fn clear(&mut self) {
        self.beats.clear();
        self.found.clear();
        self.newest = None;
        self.unbroken = 0;
        self.missing = 0;
    }

    /// What the last `window` was like. `out`: in the order of [`NAMES`].
    ///
    /// Rate in beats a minute and mean interval need one interval, the spreads two: standard deviation, root mean
    /// square of successive differences, and that over the mean. They are missing (NaN) before. `since_beat_s`:
    /// seconds since the last beat or, before there was any, since the signal began; a beat is known a quarter of a
    /// second late.
    pub fn measure(&self, out: &mut [f64; NAMES.len()]) {
        let oldest = self.samples.saturating_sub(self.window);
        let times = || self.found.iter().filter(move |found| **found > oldest);
        let intervals = || {
            let pairs = times().zip(times().skip(1)).map(|(a, b)| b.saturating_sub(*a) as f64 / self.rate_hz);
            pairs.filter(|interval| (INTERVAL_S.0..=INTERVAL_S.1).contains(interval))
        };
        let (count, sum) =
            intervals().fold((0.0, 0.0), |(count, sum), interval| (count + 1.0, sum + interval));
        let mean = if count >= 1.0 { sum / count } else { f64::NAN };
        let squares: f64 = intervals().map(|interval| (interval - mean).powi(2)).sum();
        let steps: f64 = intervals().zip(intervals().skip(1)).map(|(a, b)| (b - a).powi(2)).sum();
        let enough = |x: f64| if count >= 2.0 { x } else { f64::NAN };
        let sdnn = enough((squares / (count - 1.0)).sqrt());
        let rmssd = enough((steps / (count - 1.0)).sqrt());
        let since = self.newest.map_or(self.unbroken, |newest| self.samples.saturating_sub(newest));
        *out = [
            60.0 / mean,
            1e3 * mean,
            1e3 * sdnn,
            1e3 * rmssd,
            rmssd / mean,
            times().count() as f64,
            since as f64 / self.rate_hz,
        ];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn noise(i: u64) -> f64 {
        let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Millivolts of a lead: each beat's P, Q, R, S and T as bells around its time, a baseline that breathes, and noise.
    fn lead(beats: &[f64], t: f64, noisy: f64, seed: u64) -> f64 {
        const WAVES: [(f64, f64, f64); 5] = [
            (-0.17, 0.15, 0.025),
            (-0.03, -0.12, 0.010),
            (0.0, 1.0, 0.011),
            (0.03, -0.25, 0.011),
            (0.25, 0.3, 0.045),
        ];
        let near = beats.partition_point(|beat| *beat < t - 0.6);
        let waves: f64 = beats[near..]
            .iter()
            .take_while(|beat| **beat < t + 0.6)
            .flat_map(|beat| {
                WAVES.map(|(at, high, wide)| high * (-0.5 * ((t - beat - at) / wide).powi(2)).exp())
            })
            .sum();
        waves + 0.2 * (TAU * 0.25 * t).sin() + noisy * noise(seed + (t * 1e4) as u64)
    }

    /// Feeds a minute and gives what stood at its end, and every beat that was found.
    fn listen(rate_hz: f64, beats: &[f64], noisy: f64) -> ([f64; NAMES.len()], Vec<f64>) {
        let mut heart = Heart::new(rate_hz, (30.0 * rate_hz) as usize).unwrap();
        let (mut out, mut found) = ([0.0; NAMES.len()], Vec::new());
        for i in 0..(60.0 * rate_hz) as u64 {
            let before = heart.newest;
            heart.push(lead(beats, i as f64 / rate_hz, noisy, 77));
            if heart.newest != before {
                found.extend(heart.newest.map(|at| at as f64 / rate_hz));
            }
        }
        heart.measure(&mut out);
        (out, found)
    }

    fn regular(bpm: f64) -> Vec<f64> {
        (0..).map(|i| 0.4 + f64::from(i) * 60.0 / bpm).take_while(|t| *t < 60.5).collect()
    }

    /// How many true beats were found and how many that were none, after the first three seconds.
    fn compare(truth: &[f64], found: &[f64]) -> (usize, usize, usize) {
        let settled = |t: &&f64| (3.0..59.5).contains(*t);
        let near = |list: &[f64], t: f64| list.iter().any(|other| (other - t).abs() < 0.1);
        let all = truth.iter().filter(settled).count();
        let hits = truth.iter().filter(settled).filter(|t| near(found, **t)).count();
        (all, hits, found.iter().filter(settled).filter(|t| !near(truth, **t)).count())
    }

    #[test]
    fn rates_from_35_to_190_are_found_at_every_rate_of_sampling() {
        for rate_hz in [128.0, 250.0, 500.0, 1000.0] {
            for bpm in [35.0, 60.0, 75.0, 120.0, 190.0] {
                let ([rate, rr, sdnn, rmssd, irregularity, ..], found) = listen(rate_hz, &regular(bpm), 0.05);
                let (all, hits, wrong) = compare(&regular(bpm), &found);
                assert_eq!((hits, wrong), (all, 0), "{bpm} at {rate_hz} Hz");
                assert!(
                    (rate - bpm).abs() < 0.5 && (rr - 6e4 / bpm).abs() < 3.0,
                    "{rate} for {bpm} at {rate_hz} Hz"
                );
                assert!(sdnn < 12.0 && rmssd < 16.0 && irregularity < 0.04, "{sdnn} {rmssd} {irregularity}");
            }
        }
    }

    #[test]
    fn an_irregular_rhythm_is_irregular_and_its_beats_are_found_in_noise() {
        let mut truth = vec![0.5];
        for i in 0..90u64 {
            let interval = 0.7 + 0.3 * noise(i);
            truth.push(truth[i as usize] + interval);
        }
        truth.retain(|t| *t < 60.5);
        let (out, found) = listen(250.0, &truth, 0.15);
        let (all, hits, wrong) = compare(&truth, &found);
        assert!(hits * 100 >= all * 98 && wrong * 100 <= all * 2, "{hits} of {all}, {wrong} that were none");
        assert!(out[4] > 0.2, "{out:?}");
    }

    #[test]
    fn a_heart_that_stops_is_told_by_its_silence() {
        let stopped: Vec<f64> = regular(72.0).into_iter().filter(|t| *t < 40.0).collect();
        let (out, found) = listen(250.0, &stopped, 0.03);
        assert_eq!(compare(&stopped, &found).2, 0);
        let last = stopped[stopped.len() - 1];
        assert!((out[6] - (60.0 - last)).abs() < 0.1, "{out:?}");
    }

    #[test]
    fn a_lead_that_falls_off_begins_anew() {
        let mut heart = Heart::new(250.0, 2500).unwrap();
        let truth = regular(60.0);
        let mut out = [0.0; NAMES.len()];
        for i in 0..5000u64 {
            let t = i as f64 / 250.0;
            heart.push(if (6.0..8.0).contains(&t) { f64::NAN } else { lead(&truth, t, 0.02, 5) });
            if i == 2000 {
                heart.measure(&mut out);
                assert!(out[0].is_nan() && out[5] == 0.0 && out[6] < 0.1, "{out:?}");
            }
        }
        heart.measure(&mut out);
        assert!((out[0] - 60.0).abs() < 0.5, "{out:?}");
        assert!(Heart::new(50.0, 500).is_err() && Heart::new(f64::NAN, 500).is_err());
    }

    #[test]
    fn whatever_comes_is_no_panic() {
        let mut heart = Heart::new(100.0, 1000).unwrap();
        let mut out = [0.0; NAMES.len()];
        for i in 0..20_000u64 {
            let value = match i % 7 {
                0 => 1e300,
                1 => -1e300,
                2 => f64::INFINITY,
                _ => noise(i) * 1e30,
            };
            heart.push(if i % 2000 < 300 { f64::NAN } else { value });
            heart.measure(&mut out);
            assert!(out[6] >= 0.0 && out[5] < 60.0);
        }
    }
}
