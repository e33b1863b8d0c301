//! Three tests that may be looked at after every node, and still stop a good release no more often than was said.
//!
//! Each keeps a number that grows only if the release is worse, and that a good release brings above 1/α with a
//! probability of at most α, whenever one looks (Ville 1939). *A*: the share of nodes that fail. *B*: troubles, against
//! nodes that were not offered yet. *C*: figures, against the same. Everything is a logarithm: E-values overflow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rollout::plan::Worse;

/// Alternatives of test A, spread evenly by their logarithm from p0 to 0.9.
const SHARES: u32 = 16;
/// Alternatives of test B: so many times more trouble.
const TIMES: [f64; 7] = [1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0];
/// Test C judges from so many nodes an arm on: below it the variance is not known.
pub const ARM_MIN: u32 = 30;

/// Test A: ln E after `failed` of `answered` nodes failed, against a share of at most `p0`.
///
/// `E = mean_j (p_j/p0)^s ((1-p_j)/(1-p0))^(n-s)`; each factor is a supermartingale for every share up to `p0`.
pub fn share(failed: u32, answered: u32, p0: f64) -> f64 {
    let (bad, good) = (f64::from(failed), f64::from(answered.saturating_sub(failed)));
    let ratio = (0.9 / p0).ln();
    let alternative = |j: u32| {
        let p = p0 * (ratio * f64::from(j) / f64::from(SHARES - 1)).exp();
        bad * (p / p0).ln() + good * ((1.0 - p) / (1.0 - p0)).ln()
    };
    ln_mean_exp((0..SHARES).map(alternative))
}

/// Test B: restarts that nobody asked for, silence, safe mode, alerts; each a coin that shows treated or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// ln of the product of each alternative in [`TIMES`].
    ln_e: [f64; 7],
    /// Of nodes that were offered.
    pub treated: u32,
    /// Of nodes that were not.
    pub held_out: u32,
}

impl Trouble {
    /// Something happened to a node, while `treated` nodes had been offered and `held_out` had not. Under equal hazard it
    /// shows "treated" with the share that they have of all.
    pub fn observe(&mut self, is_treated: bool, treated: u32, held_out: u32) {
        if treated == 0 || held_out == 0 {
            return;
        }
        let (t, h) = (f64::from(treated), f64::from(held_out));
        for (ln_e, times) in self.ln_e.iter_mut().zip(TIMES) {
            let under = times * t + h;
            // q/q0 = (θt/(θt+h)) / (t/(t+h)), and (1-q)/(1-q0) = (h/(θt+h)) / (h/(t+h)).
            *ln_e += ((t + h) / under).ln() + if is_treated { times.ln() } else { 0.0 };
        }
        let count = if is_treated { &mut self.treated } else { &mut self.held_out };
        *count = count.saturating_add(1);
    }

    /// ln E of all alternatives together.
    pub fn ln_e(&self) -> f64 {
        ln_mean_exp(self.ln_e.iter().copied())
    }
}

/// Count, mean and sum of squared deviations (Welford 1962).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// How many.
    pub n: u32,
    /// Their mean.
    pub mean: f64,
    /// The sum of squared deviations from it.
    pub m2: f64,
}

impl Moments {
    /// Takes one more value.
    pub fn add(&mut self, value: f64) {
        self.n = self.n.saturating_add(1);
        let from_mean = value - self.mean;
        self.mean += from_mean / f64::from(self.n);
        self.m2 += from_mean * (value - self.mean);
    }
}

/// A figure of nodes that were offered, and of nodes that were not: each node's change against itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Arms {
    /// Offered, and changed.
    pub treated: Moments,
    /// Not offered yet.
    pub held_out: Moments,
}

/// By metric.
pub type Figures = BTreeMap<String, Arms>;

/// What test C says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// By how much the mean change of treated nodes is larger than that of the others.
    pub change: f64,
    /// ln Λ.
    pub ln_e: f64,
    /// Whether the change is for the worse, and at least half of what matters.
    pub is_worse: bool,
}

/// Test C: mixture sequential probability ratio with a normal mixture of width `effect` (Johari, Pekelis, Walsh 2019).
/// `None`: too few nodes in an arm, or no variance to judge by.
pub fn difference(arms: &Arms, effect: f64, worse: Worse) -> Option<Difference> {
    let Arms { treated, held_out } = arms;
    if treated.n < ARM_MIN || held_out.n < ARM_MIN {
        return None;
    }
    let (t, h) = (f64::from(treated.n), f64::from(held_out.n));
    let variance = (treated.m2 + held_out.m2) / (t + h - 2.0);
    if !(variance.is_finite() && variance > 0.0) {
        return None;
    }
    let n = t * h / (t + h);
    let change = treated.mean - held_out.mean;
    let spread = variance + n * effect * effect;
    let ln_e = 0.5 * (variance / spread).ln()
        + n * n * effect * effect * change * change / (2.0 * variance * spread);
    let toward = if worse == Worse::Up { change } else { -change };
    Some(Difference { change, ln_e, is_worse: toward >= effect / 2.0 })
}

/// ln of the mean of exponentials, without overflow.
fn ln_mean_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return most;
    }
    let (count, sum) =
        values.fold((0.0, 0.0), |(count, sum): (f64, f64), value| (count + 1.0, sum + (value - most).exp()));
    most + (sum / count).ln()
}

#[cfg(test)]
mod tests {
    use wire::world::{Entropy as _, Simulated};

    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} {expected}");
    }

    fn moments(values: &serde_json::Value) -> Moments {
        let mut moments = Moments::default();
        values.as_array().unwrap().iter().for_each(|value| moments.add(value.as_f64().unwrap()));
        moments
    }

    /// `tests/peers/sequential.py` made them with numpy.
    #[test]
    fn others_reckon_the_same() {
        let golden = include_str!("../../tests/golden/sequential.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let rows = |name: &str| golden[name].as_array().unwrap().clone();
        let count = |value: &serde_json::Value| u32::try_from(value.as_u64().unwrap()).unwrap();
        let real = |value: &serde_json::Value| value.as_f64().unwrap();
        for row in rows("share") {
            let ln_e = share(count(&row["failed"]), count(&row["answered"]), real(&row["p0"]));
            near(ln_e, real(&row["ln_e"]));
        }
        for row in rows("trouble") {
            let mut trouble = Trouble::default();
            for event in row["events"].as_array().unwrap() {
                trouble.observe(event[0].as_bool().unwrap(), count(&event[1]), count(&event[2]));
            }
            near(trouble.ln_e(), real(&row["ln_e"]));
        }
        for row in rows("difference") {
            let arms = Arms { treated: moments(&row["treated"]), held_out: moments(&row["held_out"]) };
            let found = difference(&arms, real(&row["effect"]), Worse::Up).unwrap();
            near(found.change, real(&row["change"]));
            near(found.ln_e, real(&row["ln_e"]));
        }
        assert_eq!(rows("share").len() + rows("trouble").len() + rows("difference").len(), 40);
    }

    /// Looked at after every node, each stops a good release in at most α of all runs.
    #[test]
    fn looking_often_does_not_stop_what_is_good() {
        const RUNS: u64 = 2000;
        let most = (1.0 / 0.01f64).ln();
        let (mut a, mut b, mut c) = (0, 0, 0);
        for seed in 0..RUNS {
            let mut world = Simulated::new(seed);
            let (mut failed, mut stops) = (0, [false; 3]);
            for answered in 1..=300 {
                failed += u32::from(world.unit() < 0.005);
                stops[0] |= share(failed, answered, 0.005) >= most;
            }
            let mut trouble = Trouble::default();
            for _ in 0..60 {
                trouble.observe(world.unit() < 0.1, 100, 900);
                stops[1] |= trouble.ln_e() >= most;
            }
            let mut arms = Arms::default();
            // The sum of twelve is near enough to a normal value, with a deviation of 0.2.
            let mut draw = || ((0..12).map(|_| world.unit()).sum::<f64>() - 6.0) * 0.2;
            for node in 0..300 {
                arms.held_out.add(draw());
                if node % 3 == 0 {
                    arms.treated.add(draw());
                    let found = difference(&arms, 0.1, Worse::Up);
                    stops[2] |= found.is_some_and(|it| it.is_worse && it.ln_e >= most);
                }
            }
            let [in_a, in_b, in_c] = stops.map(u64::from);
            (a, b, c) = (a + in_a, b + in_b, c + in_c);
        }
        let most = RUNS / 100;
        assert!(a <= most && b <= most && c <= most, "{a} {b} {c} of {RUNS}");
    }

    #[test]
    fn what_is_bad_is_found() {
        let most = (1.0 / 0.01f64).ln();
        assert!(share(5, 72, 0.005) >= most, "5 of 72 is not half a per cent");
        assert!(share(1, 100, 0.005) < most, "1 of 100 may be");
        let mut trouble = Trouble::default();
        (0..4).for_each(|_| trouble.observe(true, 100, 9900));
        assert!(trouble.ln_e() >= most, "four of four on one node in a hundred");
        let arm = |mean| Moments { n: 60, mean, m2: 60.0 * 0.04 };
        let arms = |change| Arms { treated: arm(change), held_out: Moments { n: 600, ..arm(0.0) } };
        let found = |change, worse| difference(&arms(change), 0.1, worse).unwrap();
        assert!(found(0.2, Worse::Up).ln_e >= most && found(0.2, Worse::Up).is_worse);
        assert!(!found(0.2, Worse::Down).is_worse, "larger is not worse there");
        assert!(!found(0.02, Worse::Up).is_worse, "a fifth of what matters is not");
        let few = Arms { treated: Moments { n: 29, ..arm(0.2) }, held_out: arm(0.0) };
        assert_eq!(difference(&few, 0.1, Worse::Up), None);
    }
}
