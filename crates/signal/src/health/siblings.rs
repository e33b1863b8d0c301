//! Channels that usually move together, and the one that leaves them.
//!
//! From the first readings each channel gets up to four siblings, those it is most correlated with, and a line
//! through each pair. The next as many readings say how far from its line a pair strays. Afterwards a channel drifts
//! if it is far from most of its siblings; since each of them is then far only from it, the blame falls on one.
//! Two channels that have only each other blame nobody.
//!
//! A change of the plant parts channels too: this says that something does not fit, not that a sensor is to blame.

use serde::{Deserialize, Serialize};

/// The most siblings of a channel.
pub(super) const MOST: usize = 4;
/// Above so many channels nothing is compared: each pair costs.
pub(super) const MAX_CHANNELS: usize = 64;
/// The least correlation of siblings.
const LEAST_CORRELATION: f64 = 0.9;
/// The distance from the line is a mean over so many readings.
const SPAN: f64 = 50.0;
/// How often the usual distance is far.
const FAR: f64 = 6.0;
/// How often the largest distance seen is far.
const FARTHER: f64 = 2.0;

/// All channels of one source and their siblings.
#[derive(Debug, Clone)]
pub(super) struct Siblings {
    channels: usize,
    learn: u64,
    phase: Phase,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Too few channels, too many, or none that move together.
    Alone,
    /// Sums of values and of products, per pair. Shape: `[channels × (channels + 1) / 2]`.
    Meeting { taken: u64, origin: Vec<f64>, pairs: Vec<Pair> },
    /// Lines are known; how far pairs stray from them is being learnt, then judged.
    Known { taken: u64, ties: Vec<Tie>, far: Vec<u8>, ties_of: Vec<u8> },
}

/// Sums over readings in which both channels had a value.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    n: f64,
    a: f64,
    b: f64,
    aa: f64,
    ab: f64,
    bb: f64,
}

/// What one channel says of another: `of ≈ slope · by + offset`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tie {
    of: usize,
    by: usize,
    slope: f64,
    offset: f64,
    /// Moving mean of the distance, and what was usual of it: sum of squares and the largest.
    distance: f64,
    squares: f64,
    largest: f64,
    judged: u64,
}

impl Siblings {
    /// `learn`: readings that say who moves with whom; as many again say how closely.
    pub(super) fn new(channels: usize, learn: u64) -> Siblings {
        let phase = if (3..=MAX_CHANNELS).contains(&channels) {
            let pairs = vec![Pair::default(); channels * (channels + 1) / 2];
            Phase::Meeting { taken: 0, origin: vec![f64::NAN; channels], pairs }
        } else {
            Phase::Alone
        };
        Siblings { channels, learn, phase }
    }

    /// What is known of who moves with whom, once it is; empty: nobody does.
    pub(super) fn habits(&self) -> Option<Vec<Tie>> {
        match &self.phase {
            Phase::Alone => Some(Vec::new()),
            Phase::Known { taken, ties, .. } if *taken > self.learn => {
                Some(ties.iter().map(|tie| Tie { distance: 0.0, ..*tie }).collect())
            }
            Phase::Meeting { .. } | Phase::Known { .. } => None,
        }
    }

    /// Goes on with what was known in an earlier life; false if it cannot be of these channels.
    pub(super) fn recall(&mut self, ties: Vec<Tie>) -> bool {
        let is_sound = |tie: &Tie| {
            let numbers = [tie.slope, tie.offset, tie.distance, tie.squares, tie.largest];
            tie.of < self.channels && tie.by < self.channels && numbers.iter().all(|x| x.is_finite())
        };
        if ties.len() > self.channels * MOST || !ties.iter().all(is_sound) {
            return false;
        }
        if ties.is_empty() {
            self.phase = Phase::Alone;
        } else {
            let (far, ties_of) = (vec![0; self.channels], vec![0; self.channels]);
            self.phase = Phase::Known { taken: self.learn + 1, ties, far, ties_of };
        }
        true
    }

    /// Takes one reading. `values`: `[channels]`, NaN where nothing can be compared.
    pub(super) fn step(&mut self, values: &[f64]) {
        match &mut self.phase {
            Phase::Alone => {}
            Phase::Meeting { taken, origin, pairs } => {
                for (origin, value) in origin.iter_mut().zip(values) {
                    if origin.is_nan() {
                        *origin = *value;
                    }
                }
                meet(values, origin, pairs);
                *taken += 1;
                if *taken >= self.learn {
                    let ties = tie(self.channels, origin, pairs);
                    self.phase = if ties.is_empty() {
                        Phase::Alone
                    } else {
                        let (far, ties_of) = (vec![0; self.channels], vec![0; self.channels]);
                        Phase::Known { taken: 0, ties, far, ties_of }
                    };
                }
            }
            Phase::Known { taken, ties, far, ties_of } => {
                *taken += 1;
                let learning = *taken <= self.learn;
                far.fill(0);
                ties_of.fill(0);
                for tie in ties.iter_mut() {
                    let distance = values[tie.of] - (tie.slope * values[tie.by] + tie.offset);
                    if !distance.is_finite() {
                        // What was long ago says nothing of now.
                        tie.distance -= tie.distance / SPAN;
                        continue;
                    }
                    // A single leap is no drift.
                    let most = if learning { f64::INFINITY } else { 3.0 * tie.limit() };
                    let distance = distance.clamp(-most, most);
                    tie.distance += (distance - tie.distance) / SPAN;
                    if learning {
                        // The mean must have swung in.
                        if *taken as f64 > SPAN {
                            tie.squares += tie.distance * tie.distance;
                            tie.largest = tie.largest.max(tie.distance.abs());
                            tie.judged += 1;
                        }
                        continue;
                    }
                    ties_of[tie.of] += 1;
                    far[tie.of] += u8::from(tie.distance.abs() > tie.limit());
                }
            }
        }
    }

    /// Whether a channel is far from most of its siblings, and from at least two.
    pub(super) fn parted(&self, channel: usize) -> bool {
        match &self.phase {
            Phase::Known { far, ties_of, .. } => far[channel] >= 2 && 2 * far[channel] > ties_of[channel],
            _ => false,
        }
    }

    /// The sibling that a channel is farthest from, and how far.
    pub(super) fn farthest(&self, channel: usize) -> Option<(usize, f64)> {
        let Phase::Known { ties, .. } = &self.phase else { return None };
        let own = ties.iter().filter(|tie| tie.of == channel && tie.distance.is_finite());
        let farthest = own.max_by(|a, b| a.share().total_cmp(&b.share()))?;
        Some((farthest.by, farthest.distance))
    }
}

impl Tie {
    /// The distance that is far. Infinite where nothing was learnt.
    fn limit(&self) -> f64 {
        if self.judged < SPAN as u64 {
            return f64::INFINITY;
        }
        (FAR * (self.squares / self.judged as f64).sqrt()).max(FARTHER * self.largest).max(1e-12)
    }

    fn share(&self) -> f64 {
        self.distance.abs() / self.limit()
    }
}

fn meet(values: &[f64], origin: &[f64], pairs: &mut [Pair]) {
    let mut at = 0;
    for i in 0..values.len() {
        for j in 0..=i {
            // As distances from the first value, squares lose no digits.
            let (a, b) = (values[i] - origin[i], values[j] - origin[j]);
            if a.is_finite() && b.is_finite() {
                let pair = &mut pairs[at];
                pair.n += 1.0;
                pair.a += a;
                pair.b += b;
                pair.aa += a * a;
                pair.ab += a * b;
                pair.bb += b * b;
            }
            at += 1;
        }
    }
}

/// The ties of each channel to those that it moves with most closely.
fn tie(channels: usize, origin: &[f64], pairs: &[Pair]) -> Vec<Tie> {
    let mut ties = Vec::new();
    for of in 0..channels {
        let mut known: Vec<(f64, Tie)> = (0..channels)
            .filter(|by| *by != of)
            .filter_map(|by| {
                let Pair { n, a, b, aa, ab, bb } = pairs[of.max(by) * (of.max(by) + 1) / 2 + of.min(by)];
                let (mean_a, mean_b) = (a / n, b / n);
                let (aa, ab, bb) =
                    (aa / n - mean_a * mean_a, ab / n - mean_a * mean_b, bb / n - mean_b * mean_b);
                let correlation = ab / (aa * bb).sqrt();
                if !(n >= SPAN && correlation.abs() >= LEAST_CORRELATION) {
                    return None;
                }
                // `a` belongs to the higher index.
                let (mean_of, mean_by, slope) =
                    if of > by { (mean_a, mean_b, ab / bb) } else { (mean_b, mean_a, ab / aa) };
                let offset = origin[of] + mean_of - slope * (origin[by] + mean_by);
                let tie = Tie { of, by, slope, offset, distance: 0.0, squares: 0.0, largest: 0.0, judged: 0 };
                Some((correlation.abs(), tie)).filter(|(_, tie)| (tie.slope * tie.offset).is_finite())
            })
            .collect();
        known.sort_by(|a, b| b.0.total_cmp(&a.0));
        ties.extend(known.into_iter().take(MOST).map(|(_, tie)| tie));
    }
    ties
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four channels of which three follow one rhythm, with a little of their own.
    fn plant(i: u64) -> [f64; 4] {
        let t = i as f64;
        let common = (t * 0.05).sin() + 0.3 * (t * 0.013).cos();
        let own = |c: f64| 0.02 * (t * (1.7 + c)).sin();
        [10.0 + common + own(0.0), 5.0 - 2.0 * common + own(0.1), 0.5 * common + own(0.2), (t * 0.9).sin()]
    }

    fn after(readings: u64) -> Siblings {
        let mut siblings = Siblings::new(4, 400);
        for i in 0..readings {
            siblings.step(&plant(i));
        }
        siblings
    }

    #[test]
    fn the_one_that_drifts_is_blamed_and_its_siblings_are_not() {
        for drifting in 0..3 {
            let mut siblings = after(2000);
            let mut found = None;
            for i in 2000..3000 {
                let mut values = plant(i);
                values[drifting] += 0.002 * (i - 2000) as f64;
                siblings.step(&values);
                for channel in (0..4).filter(|channel| *channel != drifting) {
                    assert!(!siblings.parted(channel), "{channel} blamed for {drifting} at {i}");
                }
                if siblings.parted(drifting) {
                    found.get_or_insert(i - 2000);
                }
            }
            assert!(found.is_some_and(|after| after < 400), "{drifting}: {found:?}");
            assert!(siblings.farthest(drifting).is_some());
        }
    }

    #[test]
    fn nobody_is_blamed_while_all_is_well_or_nothing_is_tied() {
        let mut siblings = after(1000);
        for i in 1000..9000 {
            siblings.step(&plant(i));
            assert!((0..4).all(|channel| !siblings.parted(channel)), "{i}");
        }
        let mut two = Siblings::new(2, 100);
        for i in 0..1000 {
            let [a, b, ..] = plant(i);
            two.step(&[a, b + i as f64]);
            assert!(!two.parted(0) && !two.parted(1));
        }
    }

    #[test]
    fn missing_values_and_absurd_ones_are_no_panic() {
        let mut siblings = Siblings::new(3, 60);
        for i in 0..1000u64 {
            let [a, b, c, _] = plant(i);
            let strange = [f64::NAN, 1e60, -1e60, a][(i % 4) as usize];
            siblings.step(&[strange, b, if i % 3 == 0 { f64::NAN } else { c }]);
            siblings.farthest(0);
        }
    }
}
