//! How much two arms differ, as an interval that may be looked at after every node: over a whole experiment it misses the
//! true difference in at most α of all experiments, whenever one stops.
//!
//! The sequential t-test of two samples with one variance that nobody knows: the size of the effect, in deviations, is mixed
//! over a normal prior of mean 0 (Gönen, Johnson, Lu, Westfall 2005), the variance over the right Haar prior, by which the
//! Bayes factor is a test martingale under every variance (Pérez-Ortiz, Lardy, de Heide, Grünwald 2022). So for values that
//! are normal it is exact from the third node on, and says "nobody knows" where few nodes say no more. What it cannot
//! exclude of all differences is the interval.

use serde::{Deserialize, Serialize};

use crate::experiment::plan::{Better, Measure};
use crate::rollout::sequential::Moments;

/// The variance of the prior of the effect, in deviations squared. Half a deviation is what some hundred nodes find.
const PRIOR: f64 = 0.25;

/// What two arms told so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Arm a.
    pub a: Moments,
    /// Arm b.
    pub b: Moments,
}

impl Pair {
    /// Takes a node's figure.
    pub fn add(&mut self, arm: usize, value: f64) {
        if arm == 0 { self.a.add(value) } else { self.b.add(value) }
    }
}

/// By how much arm b lies above arm a.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The difference of the means.
    pub change: f64,
    /// Not less than this.
    pub low: f64,
    /// Not more than this.
    pub high: f64,
}

/// What the interval says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Arm a is better.
    A,
    /// Arm b is better.
    B,
    /// They differ by less than matters.
    NoDifference,
}

/// ln of the Bayes factor of a difference of `shift` against any other; `None` while there are no two values to judge by.
pub fn ln_e(pair: &Pair, shift: f64) -> Option<f64> {
    let Shape { n, degrees, error, change } = shape(pair)?;
    let t2 = ((change - shift) / error).powi(2);
    let k = 1.0 + n * PRIOR;
    let ratio = (t2 / degrees).ln_1p() - (t2 / (degrees * k)).ln_1p();
    Some(0.5 * (degrees + 1.0) * ratio - 0.5 * k.ln())
}

/// All differences that are not excluded at `alpha`; `None` while none is.
pub fn interval(pair: &Pair, alpha: f64) -> Option<Interval> {
    let Shape { n, degrees, error, change } = shape(pair)?;
    let k = 1.0 + n * PRIOR;
    // (1 + t²/ν) / (1 + t²/(νk)) = c where the factor is 1/α: t² = ν (c - 1) / (1 - c/k).
    let c = ((0.5 * k.ln() - alpha.ln()) * 2.0 / (degrees + 1.0)).exp();
    if c >= k {
        return None;
    }
    let reach = error * (degrees * (c - 1.0) / (1.0 - c / k)).sqrt();
    let all = Interval { change, low: change - reach, high: change + reach };
    (all.low.is_finite() && all.high.is_finite()).then_some(all)
}

/// What an interval says of a measure, if it says something.
pub fn finding(measure: &Measure, found: &Interval) -> Option<Finding> {
    let effect = measure.effect();
    if -effect < found.low && found.high < effect {
        return Some(Finding::NoDifference);
    }
    let b_is_better = match measure.better {
        _ if found.low <= 0.0 && found.high >= 0.0 => return None,
        Better::Up => found.low > 0.0,
        Better::Down => found.high < 0.0,
    };
    Some(if b_is_better { Finding::B } else { Finding::A })
}

struct Shape {
    /// How many pairs of nodes would say as much, halved: `ab / (a + b)`.
    n: f64,
    degrees: f64,
    /// The standard error of the difference.
    error: f64,
    change: f64,
}

fn shape(pair: &Pair) -> Option<Shape> {
    let Pair { a, b } = pair;
    if a.n == 0 || b.n == 0 || a.n.saturating_add(b.n) < 3 {
        return None;
    }
    let (of_a, of_b) = (f64::from(a.n), f64::from(b.n));
    let (n, degrees) = (of_a * of_b / (of_a + of_b), of_a + of_b - 2.0);
    let error = ((a.m2 + b.m2) / degrees / n).sqrt();
    (error.is_finite() && error > 0.0).then_some(Shape { n, degrees, error, change: b.mean - a.mean })
}
