//! What one channel's own values say of its sensor: whether they come, move, and are as restless as they were.
//!
//! The first readings say what is usual: the longest time between two values, the longest run of equal ones, the
//! steps from value to value, the noise (second differences, which a trend does not disturb). Every limit is a
//! multiple of the largest seen then, so that a coarse or slow sensor is judged by its own habits. What a channel
//! never did while it was learnt cannot be missed: one that stood still all the time is never called stuck.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::course::Fault;

/// Noise is the mean of so many second differences.
const NOISE_SPAN: usize = 64;
/// The usual noise follows what is normal over so many readings.
const FOLLOW_SPAN: f64 = 5000.0;
/// A channel must have moved so often, while it was learnt, for standing still to mean anything.
const LEAST_MOVES: u64 = 20;
/// Equal values in a row are never strange below.
const LEAST_RUN: u64 = 20;
/// How much longer than the longest run, or the longest wait, of the learning part.
const LONGER: u64 = 5;
/// A silence is never strange below.
const LEAST_DEAD_MS: i64 = 5_000;
/// Leaps that are remembered: one fades to a third in so many readings.
const LEAP_SPAN: f64 = 100.0;
/// So many leaps within that time are a fault.
const LEAPS: f64 = 3.0;

/// The limits of one channel that its owner gave; what is absent is learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The lowest and the highest value that can be true.
    pub range: Option<(f64, f64)>,
    /// Time without a value that is too long.
    pub dead_after_ms: Option<i64>,
    /// Equal values in a row that are too many.
    pub stuck_after: Option<u64>,
    /// How many times the largest usual step a leap is.
    pub jump_factor: f64,
    /// How many times the usual noise is too much, and what part of it too little.
    pub noise_factor: f64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { range: None, dead_after_ms: None, stuck_after: None, jump_factor: 6.0, noise_factor: 5.0 }
    }
}

/// One channel's habits and its last values.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    limits: Limits,
    /// Values so far, those of earlier lives included; and those of this one.
    values: u64,
    seen: u64,
    last: f64,
    before: f64,
    last_ms: Option<i64>,
    run: u64,
    noise: f64,
    leaps: f64,
    /// How far this value leapt, if it did.
    leap: f64,
    usual: Usual,
}

/// What is usual, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Usual {
    moves: u64,
    longest_run: u64,
    longest_wait_ms: i64,
    /// The largest steps, descending. One leap there and back must not hide all others.
    steps: [f64; 4],
    /// Smallest and largest mean of [`NOISE_SPAN`] second differences.
    noise: (f64, f64),
    block: f64,
    blocks: u64,
}

impl Channel {
    pub(super) fn new(limits: Limits) -> Channel {
        Channel {
            limits,
            values: 0,
            seen: 0,
            last: 0.0,
            before: 0.0,
            last_ms: None,
            run: 0,
            noise: 0.0,
            leaps: 0.0,
            leap: 0.0,
            usual: Usual::default(),
        }
    }

    /// What is usual, once it is known.
    pub(super) fn habits(&self, learn: u64) -> Option<Usual> {
        (self.values >= learn).then_some(self.usual)
    }

    /// Goes on with what was usual in an earlier life; what came then is not a neighbour of what comes now.
    pub(super) fn recall(&mut self, usual: Usual, learn: u64) {
        (self.usual, self.values) = (usual, learn);
        // In the middle of what was usual, so that nothing is found before there is something to find.
        self.noise = (usual.noise.0 + usual.noise.1) / 2.0;
    }

    /// Values so far, those of earlier lives included.
    pub(super) fn values(&self) -> u64 {
        self.values
    }

    /// Takes one reading's value, NaN if it is missing. `learn`: values that say what is usual; `well`: whether the
    /// channel is, so that nothing is learnt from a fault.
    pub(super) fn step(&mut self, t_ms: i64, value: f64, learn: u64, well: bool) -> Option<Fault> {
        let since_ms = match self.last_ms {
            Some(last_ms) => t_ms.saturating_sub(last_ms),
            None => {
                // Not a value yet: waiting begins with the source.
                self.last_ms = Some(t_ms);
                0
            }
        };
        if !value.is_finite() {
            let limit_ms = self.dead_after_ms(learn)?;
            return (since_ms > limit_ms).then_some(Fault::Dead);
        }
        if !self.possible(value) {
            // It came, but says nothing of the channel's habits.
            self.last_ms = Some(t_ms);
            return Some(Fault::Range);
        }
        let value = value.clamp(-1e60, 1e60);
        let learning = self.values < learn;
        self.last_ms = Some(t_ms);
        if learning && self.seen > 0 {
            self.usual.longest_wait_ms = self.usual.longest_wait_ms.max(since_ms);
        }
        let found = self.judge(value, learning, well);
        self.before = self.last;
        self.last = value;
        self.values += 1;
        self.seen += 1;
        found
    }

    fn judge(&mut self, value: f64, learning: bool, well: bool) -> Option<Fault> {
        if self.seen == 0 {
            self.run = 1;
            return None;
        }
        let step = (value - self.last).abs();
        self.run = if step == 0.0 { self.run + 1 } else { 1 };
        self.leaps *= 1.0 - 1.0 / LEAP_SPAN;
        self.leap = 0.0;
        if self.seen == 1 {
            return None;
        }
        let bend = (value - 2.0 * self.last + self.before).abs();
        // A single leap is no noise: it counts as three times what would be too much.
        let (_, high) = self.usual.noise;
        let most = if high > 0.0 { 3.0 * self.limits.noise_factor * high } else { f64::INFINITY };
        self.noise += (bend.min(most) - self.noise) / NOISE_SPAN as f64;
        if learning {
            self.learn(step, bend);
            return None;
        }
        if self.run >= self.stuck_after().unwrap_or(u64::MAX) {
            return Some(Fault::Stuck);
        }
        let usual_step = self.usual.step();
        if usual_step > 0.0 && step > self.limits.jump_factor * usual_step {
            self.leap = step;
            self.leaps += 1.0;
        }
        if self.leaps > LEAPS {
            return Some(Fault::Jumps);
        }
        let (low, high) = self.usual.noise;
        if high > 0.0 && self.noise > self.limits.noise_factor * high {
            return Some(Fault::Noisy);
        }
        if low > 0.0 && self.noise < low / self.limits.noise_factor {
            return Some(Fault::Quiet);
        }
        if well {
            // What wanders slowly stays usual; a sudden change is judged long before it is learnt.
            self.usual.noise.0 += (self.noise - low).min(0.0) / FOLLOW_SPAN;
            self.usual.noise.1 += (self.noise - high).max(0.0) / FOLLOW_SPAN;
        }
        None
    }

    fn learn(&mut self, step: f64, bend: f64) {
        let usual = &mut self.usual;
        usual.moves += u64::from(step > 0.0);
        usual.longest_run = usual.longest_run.max(self.run);
        if let Some(at) = usual.steps.iter().position(|known| step > *known) {
            usual.steps[at..].rotate_right(1);
            usual.steps[at] = step;
        }
        usual.block += bend / NOISE_SPAN as f64;
        if self.values.is_multiple_of(NOISE_SPAN as u64) {
            let (low, high) = usual.noise;
            // The first block is short, and a filter that swings in may be in it.
            usual.noise = match usual.blocks {
                0 => (0.0, 0.0),
                1 => (usual.block, usual.block),
                _ => (low.min(usual.block), high.max(usual.block)),
            };
            usual.blocks += 1;
            usual.block = 0.0;
        }
    }

    fn stuck_after(&self) -> Option<u64> {
        let learnt =
            (self.usual.moves >= LEAST_MOVES).then(|| (LONGER * self.usual.longest_run).max(LEAST_RUN));
        self.limits.stuck_after.or(learnt)
    }

    fn dead_after_ms(&self, learn: u64) -> Option<i64> {
        let learnt = (self.values >= learn)
            .then(|| self.usual.longest_wait_ms.saturating_mul(LONGER as i64).max(LEAST_DEAD_MS));
        self.limits.dead_after_ms.or(learnt)
    }

    /// Whether the channel can have this value.
    pub(super) fn possible(&self, value: f64) -> bool {
        self.limits.range.is_none_or(|(low, high)| (low..=high).contains(&value))
    }

    /// Whether this value leapt: it is doubtful even where the channel is not.
    pub(super) fn leapt(&self) -> bool {
        self.leap > 0.0
    }

    /// Why it has `fault`, in words, at `t_ms` with `value`.
    pub(super) fn reason(&self, fault: Fault, t_ms: i64, value: f64) -> String {
        let usual = &self.usual;
        match fault {
            Fault::Dead => {
                let since_ms = self.last_ms.map_or(0, |last_ms| t_ms.saturating_sub(last_ms));
                format!("no value for {}", Lasted(since_ms))
            }
            Fault::Stuck => format!(
                "it has been {} for {} readings; at most {} were usual",
                Short(self.last),
                self.run,
                usual.longest_run.max(1)
            ),
            Fault::Range => {
                let (low, high) = self.limits.range.unwrap_or((f64::NAN, f64::NAN));
                format!("it was {}, outside {} to {}", Short(value), Short(low), Short(high))
            }
            Fault::Jumps => {
                format!(
                    "it leaps by {}; a step of {} was usual at most",
                    Short(self.leap),
                    Short(usual.step())
                )
            }
            Fault::Noisy => {
                format!("its noise is {} times the most that was usual", Short(self.noise / usual.noise.1))
            }
            Fault::Quiet => {
                format!("its noise is {} of the least that was usual", Short(self.noise / usual.noise.0))
            }
            Fault::Drift => "it parts from the channels that it moves with".to_owned(),
        }
    }
}

impl Usual {
    /// Whether these are numbers that a channel can have learnt.
    pub(super) fn is_sound(&self) -> bool {
        let (low, high) = self.noise;
        let numbers = [low, high, self.block];
        numbers.iter().chain(&self.steps).all(|x| x.is_finite() && *x >= 0.0)
            && self.longest_wait_ms >= 0
            && low <= high
    }

    /// As no channel has learnt it.
    #[cfg(test)]
    pub(super) fn spoil(&mut self) {
        self.noise = (2.0, 1.0);
    }

    /// The largest step, but for the few largest.
    fn step(&self) -> f64 {
        self.steps[self.steps.len() - 1]
    }
}

/// A number with four digits that count.
pub(super) struct Short(pub(super) f64);

impl fmt::Display for Short {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Short(x) = *self;
        if x != 0.0 && x.is_finite() && !(1e-3..1e6).contains(&x.abs()) {
            return write!(out, "{x:.3e}");
        }
        let digits = if x == 0.0 { 0 } else { (3.0 - x.abs().log10().floor()).clamp(0.0, 6.0) as usize };
        let text = format!("{x:.digits$}");
        out.write_str(if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        })
    }
}

/// A time in the largest unit that fits.
pub(super) struct Lasted(pub(super) i64);

impl fmt::Display for Lasted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 1_000 => write!(out, "{ms} ms"),
            ms if ms < 120_000 => write!(out, "{} s", ms / 1_000),
            ms if ms < 7_200_000 => write!(out, "{} min", ms / 60_000),
            ms => write!(out, "{} h", ms / 3_600_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_in_words() {
        let check = |x: f64, text: &str| assert_eq!(Short(x).to_string(), text);
        check(0.0, "0");
        check(9.3124, "9.312");
        check(140.0, "140");
        check(-0.25, "-0.25");
        check(123_456.0, "123456");
        check(1.5e9, "1.500e9");
        check(1e-7, "1.000e-7");
        assert_eq!(Lasted(119_000).to_string(), "119 s");
        assert_eq!(Lasted(180_000).to_string(), "3 min");
    }
}
