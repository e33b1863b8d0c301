//! Surprise: how unlike its own past is what a stream just did.
//!
//! Three heads look at each channel:
//! - *value*: the distance to the nearest value ever seen, in units of the usual such distance. The nearest-neighbour
//!   outlier (Ramaswamy, Rastogi and Shim 2000) on a line; unlike a Gaussian it knows that a stream may have several
//!   normal levels with nothing in between.
//! - *level*: the same for a moving average over 20 samples, which sees what hides in the noise.
//! - *jump*: the first difference, in standard deviations of the earlier ones: a spike back into the known range.
//!
//! A head's deviation is that of its most deviating channel. Each head is divided by a high running quantile of its
//! own deviations, so that heads and streams of any kind are comparable, and the largest is the surprise: 1 is what
//! one sample in a few hundred reaches. Values seen are kept as at most [`SEEN`] representatives a channel.
//!
//! Works from the first samples on: it is the cold start of the detector. It adapts for ever, so a lasting change
//! stops being surprising; whether the state is still the learnt one is the question of [`crate::mewma`].
//!
//! Measured on NAB (standard profile, all 58 files): value alone 66, all three heads 68; Gaussian heads on value and
//! difference instead 50.

use serde::{Deserialize, Serialize};

use crate::calibrate::Tail;

/// Representatives kept of the values that a head has seen. From 64 to all of them, NAB moves by less than 3 points.
pub const SEEN: usize = 96;
/// Samples over which the level averages; 15 to 30 serve alike.
const LEVEL_SPAN: f64 = 20.0;
/// The quantile of its own deviations that each head is divided by: value, level, jump. A jump must be rarer, for it
/// says less: noise is all jumps.
const QUANTILES: [f64; 3] = [0.995, 0.995, 0.999];
/// A deviation beyond this says no more.
const LARGEST: f64 = 1e6;
/// A value further from the mean than so many standard deviations is taken to be that far, so that a single glitch
/// of 1e300 does not blind the detector for the rest of its life.
const CLIP: f64 = 1e3;
/// Likewise a distance to the nearest value, in units of the usual one.
const CLIP_DISTANCE: f64 = 1e3;
/// No number in a detector's memory is larger, so that squares stay finite.
const LARGEST_KEPT: f64 = 1e130;

/// The heads of all channels of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Surprise {
    memory: f64,
    channels: Vec<Channel>,
    /// Distribution of each head's deviation.
    tails: Vec<Tail>,
}

/// What is kept of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Channel {
    last: Option<f64>,
    values: Moments,
    level: Moments,
    jumps: Moments,
    seen_values: Seen,
    seen_levels: Seen,
    /// Deviation of the last sample in each head.
    deviations: [f64; 3],
}

/// Values seen, thinned out where they lie closest, and the usual distance of a new one from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Ascending, at most [`SEEN`].
    values: Vec<f64>,
    distances: Moments,
}

/// Exponentially forgetting mean and variance; plain averages until `memory` samples are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Moments {
    weight: f64,
    mean: f64,
    variance: f64,
}

impl Surprise {
    /// Nothing seen. `memory`: samples after which an old one weighs 1/e.
    pub fn new(channels: usize, memory: f64) -> Surprise {
        let channel = || Channel {
            last: None,
            values: Moments::default(),
            level: Moments::default(),
            jumps: Moments::default(),
            seen_values: Seen::new(),
            seen_levels: Seen::new(),
            deviations: [0.0; 3],
        };
        Surprise {
            memory,
            channels: (0..channels).map(|_| channel()).collect(),
            tails: vec![Tail::new(memory); QUANTILES.len()],
        }
    }

    /// Takes one sample and gives its surprise, at least 0. `values`: `[channels]`, finite; a missing cell is `None`
    /// and leaves its channel as it was.
    pub fn step(&mut self, values: &[Option<f64>]) -> f64 {
        for (channel, value) in self.channels.iter_mut().zip(values) {
            channel.deviations = [0.0; 3];
            if let Some(value) = *value {
                channel.step(value, self.memory);
            }
        }
        let mut surprise = 0.0f64;
        for (head, (tail, quantile)) in self.tails.iter_mut().zip(QUANTILES).enumerate() {
            let deviations = self.channels.iter().map(|channel| channel.deviations[head]);
            let deviation = deviations.fold(0.0, f64::max);
            surprise = surprise.max(deviation / edge(tail, quantile));
            tail.push(deviation);
        }
        surprise
    }

    /// `value` of a channel, but not further than so many standard deviations from its mean.
    pub fn tame(&self, channel: usize, value: f64, deviations: f64) -> f64 {
        self.channels.get(channel).map_or(value, |channel| channel.values.clip(value, deviations))
    }

    /// How much each channel had to do with the last sample's surprise: its own. Adds to `out`: `[channels]`.
    pub fn contributions(&self, out: &mut [f64]) {
        for (out, channel) in out.iter_mut().zip(&self.channels) {
            let heads = channel.deviations.iter().zip(&self.tails).zip(QUANTILES);
            *out += heads.map(|((deviation, tail), q)| deviation / edge(tail, q)).fold(0.0, f64::max);
        }
    }

    pub(crate) fn is_sound(&self, channels: usize) -> bool {
        self.channels.len() == channels
            && self.tails.len() == QUANTILES.len()
            && self.memory.is_finite()
            && self.memory >= 1.0
            && self.tails.iter().all(Tail::is_sound)
            && self.channels.iter().all(Channel::is_sound)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let seen = |seen: &Seen| seen.values.capacity() * size_of::<f64>();
        self.channels.capacity() * size_of::<Channel>()
            + self.channels.iter().map(|c| seen(&c.seen_values) + seen(&c.seen_levels)).sum::<usize>()
            + self.tails.capacity() * size_of::<Tail>()
            + self.tails.iter().map(Tail::heap_bytes).sum::<usize>()
    }
}

/// What a head is divided by: its quantile, and not less than a deviation that means nothing.
fn edge(tail: &Tail, quantile: f64) -> f64 {
    tail.quantile(quantile).max(0.5)
}

impl Channel {
    fn step(&mut self, value: f64, memory: f64) {
        let value = self.values.clip(value, CLIP);
        self.values.push(value, memory);
        self.level.push(value, LEVEL_SPAN);
        let jump = self.last.map(|last| value - last);
        self.last = Some(value);
        self.deviations = [
            self.seen_values.step(value, memory),
            self.seen_levels.step(self.level.mean, memory),
            jump.map_or(0.0, |jump| self.jumps.deviation(jump)),
        ];
        if let Some(jump) = jump {
            self.jumps.push(jump, memory);
        }
    }

    fn is_sound(&self) -> bool {
        self.last.is_none_or(|last| last.abs() <= LARGEST_KEPT)
            && [&self.values, &self.level, &self.jumps].iter().all(|moments| moments.is_sound())
            && self.seen_values.is_sound()
            && self.seen_levels.is_sound()
            && self.deviations.iter().all(|deviation| (0.0..=LARGEST).contains(deviation))
    }
}

impl Seen {
    fn new() -> Seen {
        Seen { values: Vec::with_capacity(SEEN + 1), distances: Moments::default() }
    }

    /// The distance from `value` to the nearest seen before, in units of the usual one; then `value` is seen.
    fn step(&mut self, value: f64, memory: f64) -> f64 {
        let at = self.values.partition_point(|seen| *seen < value);
        let below = at.checked_sub(1).map(|i| value - self.values[i]);
        let above = self.values.get(at).map(|seen| seen - value);
        let distance = below.unwrap_or(f64::INFINITY).min(above.unwrap_or(f64::INFINITY));
        if distance > 0.0 {
            // Allocates only in a detector just built, copied or restored.
            self.values.reserve_exact(SEEN + 1 - self.values.len());
            self.values.insert(at, value);
            if self.values.len() > SEEN {
                self.thin_out();
            }
        }
        if !distance.is_finite() {
            return 0.0;
        }
        let Moments { weight, mean: usual, .. } = self.distances;
        let clipped =
            if weight >= 20.0 && usual > 0.0 { distance.min(CLIP_DISTANCE * usual) } else { distance };
        self.distances.push(clipped, memory);
        if weight < 2.0 { 0.0 } else { (distance / usual.max(1e-12)).min(LARGEST) }
    }

    /// Drops the value whose neighbours lie closest to each other; the lowest and the highest stay.
    fn thin_out(&mut self) {
        let spacing = |i: usize| self.values[i + 1] - self.values[i - 1];
        if let Some(i) = (1..self.values.len() - 1).min_by(|&a, &b| spacing(a).total_cmp(&spacing(b))) {
            self.values.remove(i);
        }
    }

    fn is_sound(&self) -> bool {
        self.values.len() <= SEEN
            && self.values.iter().all(|value| value.abs() <= LARGEST_KEPT)
            && self.values.is_sorted()
            && self.distances.is_sound()
    }
}

impl Moments {
    /// `|x − mean| / sd` from what was seen before `x`; 0 while there are fewer than two.
    fn deviation(&self, x: f64) -> f64 {
        if self.weight < 2.0 {
            return 0.0;
        }
        let sd = self.variance.sqrt().max(1e-6 * self.mean.abs()).max(1e-12);
        ((x - self.mean).abs() / sd).min(LARGEST)
    }

    /// `x`, but not further than so many standard deviations from the mean. What was constant so far counts as known
    /// to a thousandth.
    fn clip(&self, x: f64, deviations: f64) -> f64 {
        if self.weight < 20.0 {
            return x;
        }
        let reach = deviations * self.variance.sqrt().max(1e-3 * self.mean.abs()).max(1e-12);
        x.clamp(self.mean - reach, self.mean + reach)
    }

    fn push(&mut self, x: f64, memory: f64) {
        self.weight = (self.weight + 1.0).min(memory);
        let gain = 1.0 / self.weight;
        let step = x - self.mean;
        self.mean += gain * step;
        self.variance = (1.0 - gain) * (self.variance + gain * step * step);
    }

    fn is_sound(&self) -> bool {
        [self.weight, self.mean, self.variance].iter().all(|x| x.abs() <= LARGEST_KEPT)
            && self.weight >= 0.0
            && self.variance >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day of 24 samples between two levels with a little noise, many times over.
    fn two_levels(i: u32) -> f64 {
        let level = if i % 24 < 12 { 10.0 } else { 50.0 };
        level + f64::from(i.wrapping_mul(2_654_435_761) >> 16) / 65536.0
    }

    /// Surprise at `last`, after `before` samples of the two levels.
    fn check(before: u32, last: &[f64]) -> f64 {
        let mut surprise = Surprise::new(1, 4000.0);
        for i in 0..before {
            surprise.step(&[Some(two_levels(i))]);
        }
        last.iter().map(|&value| surprise.step(&[Some(value)])).last().unwrap()
    }

    #[test]
    fn sees_what_was_never_seen() {
        for (what, last, expected) in [
            ("a usual value", &[two_levels(480)][..], false),
            ("above everything", &[70.0], true),
            ("between the levels, where a Gaussian expects most", &[30.0], true),
            ("the wrong level only by rhythm", &[50.3], false),
            ("an absurd value", &[1e60], true),
        ] {
            let surprise = check(480, last);
            assert_eq!(surprise > 1.5, expected, "{what}: {surprise}");
        }
    }

    #[test]
    fn a_glitch_does_not_blind() {
        let mut last = vec![1e60];
        last.extend((480..1200).map(two_levels));
        last.push(80.0);
        assert!(check(480, &last) > 1.5);
    }

    #[test]
    fn a_lasting_change_stops_being_surprising() {
        let last: Vec<f64> = (480..600).map(|i| two_levels(i) + 100.0).collect();
        assert!(check(480, &last[..1]) > 1.5);
        assert!(check(480, &last) < 1.0);
    }

    #[test]
    fn a_constant_that_moves_is_surprising_and_one_that_stays_is_not() {
        for constant in [0.0, 5.0, -1e9] {
            let mut surprise = Surprise::new(1, 4000.0);
            for _ in 0..200 {
                assert_eq!(surprise.step(&[Some(constant)]), 0.0);
            }
            assert!(surprise.step(&[Some(constant + 1.0)]) > 1.5, "{constant}");
        }
    }

    #[test]
    fn names_the_channel() {
        let mut surprise = Surprise::new(3, 4000.0);
        for i in 0..480 {
            surprise.step(&[Some(two_levels(i)), Some(two_levels(i + 7)), None]);
        }
        surprise.step(&[Some(two_levels(480)), Some(99.0), None]);
        let mut parts = [0.0; 3];
        surprise.contributions(&mut parts);
        assert!(parts[1] > 3.0 * parts[0] && parts[2] == 0.0, "{parts:?}");
    }
}
