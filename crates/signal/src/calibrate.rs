//! How rare a score is among those seen before, and how probable that makes an anomaly.
//!
//! A [`Tail`] counts scores in 128 bins of equal ratio and forgets exponentially, so it is a running
//! distribution in 1 kB. Inside the bulk the probability of a score at least as high is the counted share. Above the
//! 95 % quantile `u` a Pareto tail goes on where counting ends, `P(X ≥ x) = P(X ≥ u) (x / u)^(−1/ξ)`, with `ξ` the
//! mean log excess over `u` (Hill, "A simple general approach to inference about the tail of a distribution", 1975),
//! drawn towards a prior while there are few excesses. So a score beyond everything seen is rarer the further it lies.
//!
//! Rare is not yet wrong: one normal sample in a thousand is as rare as one in a thousand. [`anomaly_probability`] weighs
//! the two.
//!
//! Always holds: tail probabilities are in (0, 1], and a higher score never has a higher one.

use serde::{Deserialize, Serialize};

/// Bins of the running distribution.
const BINS: usize = 128;
/// Scores at or below this are all alike.
const LOWEST: f64 = 1e-3;
/// Scores at or above this are all alike.
const HIGHEST: f64 = 1e6;
/// Share of scores above which the Pareto tail takes over.
const TAIL_SHARE: f64 = 0.05;
/// The prior of `ξ`, and how many excesses it is worth. 0.25 is the tail of a Student distribution with 4 degrees of
/// freedom: heavier than a Gaussian's, as sensor noise is.
const PRIOR_XI: f64 = 0.25;
const PRIOR_EXCESSES: f64 = 10.0;

/// The share of samples that are taken to be anomalous before anything is known of them.
pub const PRIOR: f64 = 0.01;

/// The probability that a sample is anomalous whose score only a share `rarity` of the normal ones reaches; from
/// [`PRIOR`] to just below 1.
///
/// Whatever anomalies look like, the evidence for "normal" is at least `−e·p·ln p` times that for "anomalous" when
/// `p < 1/e` (Sellke, Bayarri and Berger, "Calibration of p values for testing precise null hypotheses", The American
/// Statistician 55, 2001). So this is the highest probability that the score justifies.
pub fn anomaly_probability(rarity: f64) -> f64 {
    use std::f64::consts::E;
    let p = rarity.clamp(f64::MIN_POSITIVE, 1.0);
    let for_normal = if p < 1.0 / E { -E * p * p.ln() } else { 1.0 };
    (PRIOR / (PRIOR + (1.0 - PRIOR) * for_normal)).min(1.0 - f64::EPSILON)
}

/// The running distribution of a score that is at least 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// Weight of the scores in each bin; bin `i` covers `LOWEST · r^i` to `LOWEST · r^(i+1)`.
    counts: Vec<f64>,
    total: f64,
    /// Scores after which an old one weighs half.
    memory: f64,
}

impl Tail {
    /// Nothing seen. `memory`: scores after which an old one weighs half.
    pub fn new(memory: f64) -> Tail {
        Tail { counts: vec![0.0; BINS], total: 0.0, memory }
    }

    /// Counts a score; one that is not a number is left out.
    pub fn push(&mut self, score: f64) {
        if score.is_nan() {
            return;
        }
        if self.total > 2.0 * self.memory {
            for count in &mut self.counts {
                *count *= 0.5;
            }
            self.total *= 0.5;
        }
        self.counts[bin(score).0] += 1.0;
        self.total += 1.0;
    }

    /// The weight of the scores seen: their number until forgetting sets in.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// The probability that a score is at least this high, in (0, 1]; 1 while nothing was seen.
    pub fn above(&self, score: f64) -> f64 {
        if self.total == 0.0 {
            return 1.0;
        }
        // One imaginary score above everything keeps the answer off 0 while little has been seen.
        let of_all = |weight: f64| (weight + 1.0) / (self.total + 1.0);
        let (index, inside) = bin(score);
        let (start, weight) = self.tail_start();
        if index >= start {
            let mut excess = PRIOR_XI * PRIOR_EXCESSES;
            for (i, count) in self.counts.iter().enumerate().skip(start) {
                excess += count * (i - start) as f64 * bin_width() + count * 0.5 * bin_width();
            }
            let xi = excess / (weight + PRIOR_EXCESSES);
            let distance = ((index - start) as f64 + inside) * bin_width();
            return (of_all(weight) * (-distance / xi).exp()).max(f64::MIN_POSITIVE);
        }
        let higher: f64 = self.counts[index + 1..].iter().sum();
        of_all(higher + self.counts[index] * (1.0 - inside)).min(1.0)
    }

    /// The score below which a share `q` of the scores lies.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut left = q.clamp(0.0, 1.0) * self.total;
        for (i, &count) in self.counts.iter().enumerate() {
            if count > 0.0 && left <= count {
                return LOWEST * ((i as f64 + left / count) * bin_width()).exp();
            }
            left -= count;
        }
        0.0
    }

    /// The first bin of the tail and the weight from there on.
    fn tail_start(&self) -> (usize, f64) {
        let mut weight = 0.0;
        for (i, &count) in self.counts.iter().enumerate().rev() {
            if weight + count > TAIL_SHARE * self.total {
                return (i + 1, weight);
            }
            weight += count;
        }
        (0, weight)
    }

    /// Whether it can have come from [`Tail::new`] and pushes.
    pub(crate) fn is_sound(&self) -> bool {
        let sum: f64 = self.counts.iter().sum();
        self.counts.len() == BINS
            && self.memory.is_finite()
            && self.memory >= 1.0
            && sum.is_finite()
            && self.counts.iter().all(|count| count.is_finite() && *count >= 0.0)
            && (sum - self.total).abs() <= 1e-6 * (1.0 + sum)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<f64>()
    }
}

fn bin_width() -> f64 {
    (HIGHEST / LOWEST).ln() / BINS as f64
}

/// The bin of a score and where it lies inside, from 0 to 1.
fn bin(score: f64) -> (usize, f64) {
    let place = (score.clamp(LOWEST, HIGHEST) / LOWEST).ln() / bin_width();
    let index = (place as usize).min(BINS - 1);
    (index, (place - index as f64).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2000 scores whose share above `x` is `exp(−x)`.
    fn exponential() -> Tail {
        let mut tail = Tail::new(1e9);
        for i in 0..2000 {
            tail.push(-((f64::from(i) + 0.5) / 2000.0).ln());
        }
        tail
    }

    #[test]
    fn tells_the_share_above_and_its_inverse() {
        let tail = exponential();
        for x in [0.1, 0.5, 1.0, 2.0, 3.0, 5.0] {
            let expected = f64::exp(-x);
            let above = tail.above(x);
            assert!((above / expected - 1.0).abs() < 0.15, "above {x}: {above}, not {expected}");
            let quantile = tail.quantile(1.0 - expected);
            assert!((quantile / x - 1.0).abs() < 0.05, "quantile of {x}: {quantile}");
        }
        assert!(tail.above(100.0) < tail.above(20.0), "beyond everything seen, further is rarer");
    }

    #[test]
    fn rare_is_not_yet_anomalous() {
        fn check(rarity: f64, expected: f64) {
            let found = anomaly_probability(rarity);
            assert!((found - expected).abs() < 0.005, "{rarity}: {found}, not {expected}");
        }
        check(1.0, 0.01);
        check(0.5, 0.01);
        check(0.01, 0.075);
        check(5.5e-4, 0.47);
        check(1e-4, 0.80);
        check(1e-6, 0.996);
        assert!(anomaly_probability(0.0) < 1.0);
        let falling = (1..400).map(|i| anomaly_probability(0.93f64.powi(i)));
        assert!(falling.is_sorted());
    }

    #[test]
    fn forgets() {
        let mut tail = Tail::new(100.0);
        for score in [1.0; 500].into_iter().chain([10.0; 500]) {
            tail.push(score);
        }
        assert!(tail.quantile(0.2) > 8.0 && tail.total() <= 201.0);
    }

    #[test]
    fn knows_nothing_at_first() {
        let mut tail = Tail::new(10.0);
        tail.push(f64::NAN);
        assert_eq!((tail.total(), tail.above(1e9), tail.quantile(0.5)), (0.0, 1.0, 0.0));
    }

    proptest! {
        #[test]
        fn higher_is_never_more_probable(
            scores in proptest::collection::vec(0.0f64..1e7, 0..300), mut probes in proptest::collection::vec(0.0f64..1e8, 2..20),
        ) {
            let mut tail = Tail::new(50.0);
            for &score in &scores {
                tail.push(score);
            }
            prop_assert!(tail.is_sound());
            probes.extend(&scores);
            probes.sort_by(f64::total_cmp);
            let mut before = 1.0;
            for probe in probes {
                let above = tail.above(probe);
                prop_assert!(above > 0.0 && above <= before + 1e-12, "{above} after {before} at {probe}");
                before = above;
            }
        }
    }
}
