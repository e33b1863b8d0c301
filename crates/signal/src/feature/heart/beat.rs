//! Finds the beats of a heart in an electrocardiogram, sample by sample.
//!
//! After Pan and Tompkins, "A Real-Time QRS Detection Algorithm", 1985: band-pass, slope, square, mean over 150 ms;
//! the peaks of that are beats or noise by thresholds that follow both; a beat that is missing for too long is sought
//! among the peaks that were taken for noise. Theirs is written for 200 samples a second; here the filters are made
//! for the rate (Butterworth of second order at 5 and 15 Hz) and the times are in seconds.
//!
//! A beat is told about a quarter of a second after it was; its time is that of its largest deflection.

use std::f64::consts::TAU;

/// Rates at which a beat can be told from what is none.
pub const RATES_HZ: (f64, f64) = (100.0, 2000.0);
/// Two beats are at least so far apart: the heart's muscle cannot do it again sooner.
const REFRACTORY_S: f64 = 0.2;
/// A peak so soon after a beat must be as steep, or it is the beat's own T wave.
const T_WAVE_S: f64 = 0.36;
/// The mean that joins a beat's ups and downs into one hump.
const HUMP_S: f64 = 0.15;
/// The first thresholds are made from so much signal.
const LEARN_S: f64 = 2.0;
/// After so long without a beat the thresholds are halved: the lead may have been moved.
const LOST_S: f64 = 4.0;
/// But to no less than this share of what beats have been: a seventh of their size, squared.
const LEAST: f64 = 0.02;
/// An interval longer than this is a pause, and says nothing of the usual one.
const LONGEST_S: f64 = 3.0;
/// A beat that has not come after so many usual intervals is sought.
const MISSED: f64 = 1.66;

/// The detector of one lead.
#[derive(Debug, Clone)]
pub struct Beats {
    rate_hz: f64,
    high_pass: Biquad,
    low_pass: Biquad,
    /// The filtered signal, a ring that reaches as far back as a beat is looked for.
    filtered: Vec<f64>,
    /// Squared slopes, a ring of 150 ms, and their sum.
    squares: Vec<f64>,
    sum: f64,
    /// Samples taken since the begin or the last gap.
    samples: u64,
    /// The hump before this one.
    before: f64,
    candidate: Option<Peak>,
    /// The largest peak since the last beat that was taken for noise.
    passed_over: Option<Peak>,
    learning: Option<Learning>,
    /// How high beats and noise are of late.
    beat: f64,
    noise: f64,
    /// How high beats have been for long.
    established: f64,
    last: Option<Peak>,
    /// When the last beat was, or when the thresholds were last lowered for want of one.
    quiet_since: u64,
    /// The usual interval of beats, in samples; 0 before it is known.
    usual: f64,
}

/// The humps of the first seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Learning {
    highest: f64,
    sum: f64,
    count: u64,
}

/// A hump of the squared slope.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Peak {
    height: f64,
    /// The sample of the hump's top.
    top: u64,
    /// The sample of the largest deflection before it.
    beat: u64,
}

/// A beat that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// How many samples ago it was.
    pub ago: u64,
}

/// A rate for which the filters cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("beats are found at {} to {} samples a second, not at {rate_hz}", RATES_HZ.0, RATES_HZ.1)]
pub struct RateError {
    /// As configured.
    pub rate_hz: f64,
}

impl Beats {
    /// Nothing heard yet.
    pub fn new(rate_hz: f64) -> Result<Beats, RateError> {
        if !(rate_hz >= RATES_HZ.0 && rate_hz <= RATES_HZ.1) {
            return Err(RateError { rate_hz });
        }
        let samples = |seconds: f64| (seconds * rate_hz).round() as usize;
        Ok(Beats {
            rate_hz,
            high_pass: Biquad::high_pass(5.0 / rate_hz),
            low_pass: Biquad::low_pass(15.0 / rate_hz),
            filtered: vec![0.0; samples(2.0 * REFRACTORY_S + 2.0 * HUMP_S) + 1],
            squares: vec![0.0; samples(HUMP_S)],
            sum: 0.0,
            samples: 0,
            before: 0.0,
            candidate: None,
            passed_over: None,
            learning: Some(Learning::default()),
            beat: 0.0,
            noise: 0.0,
            established: 0.0,
            last: None,
            quiet_since: 0,
            usual: 0.0,
        })
    }

    /// Begins anew: the signal was away.
    pub fn clear(&mut self) {
        self.high_pass.state = [0.0; 2];
        self.low_pass.state = [0.0; 2];
        self.filtered.fill(0.0);
        self.squares.fill(0.0);
        (self.sum, self.samples, self.before, self.quiet_since, self.usual) = (0.0, 0, 0.0, 0, 0.0);
        (self.beat, self.noise, self.established) = (0.0, 0.0, 0.0);
        (self.candidate, self.passed_over, self.last) = (None, None, None);
        self.learning = Some(Learning::default());
    }

    /// Takes one sample, in any unit, finite; gives the beat that is known to be one by now.
    pub fn push(&mut self, value: f64) -> Option<Beat> {
        if self.samples == 0 {
            // A filter that begins at the signal's own level does not ring.
            self.high_pass.settle(value);
        }
        let filtered = self.low_pass.step(self.high_pass.step(value));
        let hump = self.hump(filtered);
        let now = self.samples;
        self.samples += 1;
        let found = if self.learning.is_some() {
            self.learn(hump, now);
            None
        } else {
            self.lower(now);
            self.follow(hump, now);
            self.settle(now).or_else(|| self.seek(now))
        };
        self.before = hump;
        found.map(|peak| Beat { ago: now - peak.beat })
    }

    /// The mean of the squared slope over the last 150 ms.
    fn hump(&mut self, filtered: f64) -> f64 {
        let len = self.filtered.len() as u64;
        self.filtered[(self.samples % len) as usize] = filtered;
        // Five points as in the paper, as far apart in time as there.
        let apart = ((self.rate_hz / 200.0).round() as u64).max(1);
        let back = |steps: u64| match self.samples.checked_sub(steps * apart) {
            Some(at) => self.filtered[(at % len) as usize],
            None => 0.0,
        };
        let slope = (2.0 * back(0) + back(1) - back(3) - 2.0 * back(4)) / 8.0;
        let at = (self.samples % self.squares.len() as u64) as usize;
        self.sum += slope * slope - self.squares[at];
        self.squares[at] = slope * slope;
        if at == 0 {
            // Anew once a round, so that rounding does not pile up.
            self.sum = self.squares.iter().sum();
        }
        self.sum.max(0.0) / self.squares.len() as f64
    }

    /// The first thresholds: a third of the highest hump, and half of the mean.
    fn learn(&mut self, hump: f64, now: u64) {
        let Some(learning) = &mut self.learning else { return };
        // The filters need a while to swing in.
        if now as f64 > 0.3 * self.rate_hz {
            learning.highest = learning.highest.max(hump);
            learning.sum += hump;
            learning.count += 1;
        }
        // On a line that is flat there is nothing to learn from.
        if now as f64 + 1.0 >= LEARN_S * self.rate_hz && learning.highest > 0.0 {
            self.beat = learning.highest / 3.0;
            self.noise = learning.sum / learning.count as f64 / 2.0;
            self.established = self.beat;
            self.quiet_since = now;
            self.learning = None;
        }
    }

    /// Thresholds that nothing reaches any more come down, but not to where a heart that stands still seems to beat.
    fn lower(&mut self, now: u64) {
        if (now - self.quiet_since) as f64 > LOST_S * self.rate_hz {
            self.beat = (0.5 * self.beat).max(LEAST * self.established);
            self.noise = self.noise.min(0.5 * self.beat);
            self.quiet_since = now;
        }
    }

    /// Keeps the highest hump of late as the candidate.
    fn follow(&mut self, hump: f64, now: u64) {
        let higher = match self.candidate {
            Some(candidate) => hump > candidate.height,
            None => hump > self.before,
        };
        if higher {
            self.candidate = Some(Peak { height: hump, top: now, beat: now });
        }
    }

    /// The candidate is a peak when nothing higher came for the refractory time; then it is a beat or noise.
    fn settle(&mut self, now: u64) -> Option<Peak> {
        let candidate = self.candidate?;
        if ((now - candidate.top) as f64) < REFRACTORY_S * self.rate_hz {
            return None;
        }
        self.candidate = None;
        let peak = Peak { beat: self.deflection(candidate.top, now), ..candidate };
        if self.is_echo(&peak) {
            return None;
        }
        let t_wave = self.is_t_wave(&peak);
        if peak.height > self.threshold() && !t_wave {
            self.beat += 0.125 * (peak.height - self.beat);
            return Some(self.accept(peak));
        }
        self.noise += 0.125 * (peak.height.min(self.beat) - self.noise);
        if !t_wave && self.passed_over.is_none_or(|before| peak.height > before.height) {
            self.passed_over = Some(peak);
        }
        None
    }

    /// If a beat is overdue, the largest peak that was passed over was probably it.
    fn seek(&mut self, now: u64) -> Option<Peak> {
        let (last, passed_over) = (self.last?, self.passed_over?);
        let overdue = self.usual > 0.0 && (now - last.top) as f64 > MISSED * self.usual;
        if !overdue || passed_over.height <= 0.5 * self.threshold() {
            return None;
        }
        self.beat += 0.25 * (passed_over.height - self.beat);
        Some(self.accept(passed_over))
    }

    fn threshold(&self) -> f64 {
        (self.noise + 0.25 * (self.beat - self.noise)).max(0.25 * LEAST * self.established)
    }

    fn accept(&mut self, peak: Peak) -> Peak {
        if let Some(last) = self.last {
            let interval = (peak.beat - last.beat) as f64;
            if interval < LONGEST_S * self.rate_hz {
                self.usual =
                    if self.usual > 0.0 { self.usual + 0.125 * (interval - self.usual) } else { interval };
            }
        }
        self.established += (peak.height - self.established) / 64.0;
        self.last = Some(peak);
        self.passed_over = None;
        self.quiet_since = peak.top;
        peak
    }

    fn is_echo(&self, peak: &Peak) -> bool {
        self.last.is_some_and(|last| peak.beat <= last.beat + (REFRACTORY_S * self.rate_hz) as u64)
    }

    fn is_t_wave(&self, peak: &Peak) -> bool {
        self.last.is_some_and(|last| {
            let since = peak.beat.saturating_sub(last.beat) as f64;
            // Heights are squares of slopes: half as steep is a quarter as high.
            since < T_WAVE_S * self.rate_hz && peak.height < 0.25 * last.height
        })
    }

    /// The sample of the largest deflection that a hump was made from.
    fn deflection(&self, top: u64, now: u64) -> u64 {
        let len = self.filtered.len() as u64;
        let reach = ((HUMP_S + 0.05) * self.rate_hz) as u64;
        let first = top.saturating_sub(reach).max((now + 1).saturating_sub(len));
        let magnitude = |at: &u64| self.filtered[(at % len) as usize].abs();
        (first..=top).max_by(|a, b| magnitude(a).total_cmp(&magnitude(b))).unwrap_or(top)
    }
}

/// A filter of second order, direct form II transposed.
#[derive(Debug, Clone, Copy)]
struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Biquad {
    /// Butterworth, by the bilinear transform. `cut`: as a share of the rate.
    fn low_pass(cut: f64) -> Biquad {
        let warped = (TAU * cut / 2.0).tan();
        let norm = 1.0 / (1.0 + 2f64.sqrt() * warped + warped * warped);
        let b = warped * warped * norm;
        Biquad { b: [b, 2.0 * b, b], a: Biquad::poles(warped, norm), state: [0.0; 2] }
    }

    fn high_pass(cut: f64) -> Biquad {
        let warped = (TAU * cut / 2.0).tan();
        let norm = 1.0 / (1.0 + 2f64.sqrt() * warped + warped * warped);
        Biquad { b: [norm, -2.0 * norm, norm], a: Biquad::poles(warped, norm), state: [0.0; 2] }
    }

    fn poles(warped: f64, norm: f64) -> [f64; 2] {
        [2.0 * (warped * warped - 1.0) * norm, (1.0 - 2f64.sqrt() * warped + warped * warped) * norm]
    }

    /// As if the input had always been `x`, and the output were 0: for a high pass.
    fn settle(&mut self, x: f64) {
        self.state = [-self.b[0] * x, self.b[2] * x];
    }

    fn step(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.state[0];
        self.state[0] = self.b[1] * x - self.a[0] * y + self.state[1];
        self.state[1] = self.b[2] * x - self.a[1] * y;
        y
    }
}
