//! Lag-embedded PCA: is the plant still in the state that was learnt.
//!
//! The last `lag` samples of all channels form one vector of `lag × channels` numbers, standardised. Principal
//! components of the learning part that explain a share of its variance span the normal behaviour, dynamics and
//! correlations together (Ku, Storer and Georgakis, "Disturbance detection and isolation by dynamic principal
//! component analysis", 1995). Two statistics watch a new vector: Hotelling's T² inside the subspace, and Q, the
//! squared distance from it. Each is divided by its own limit in the learning part, and the two are added, the
//! combined index of Yue and Qin ("Reconstruction-based fault identification using a combined index", 2001).
//!
//! Learning streams: a co-moment matrix is kept, not the samples, except the newest [`KEPT`], on which the limits are
//! measured. The step that ends learning decomposes the matrix once: a few milliseconds at 80 × 80.

use nalgebra::{DMatrix, SymmetricEigen};
use serde::{Deserialize, Serialize};

/// Newest samples of the learning part that are kept for measuring the limits.
pub const KEPT: usize = 400;
/// A standardised value beyond this says no more.
const LARGEST: f64 = 1e4;
/// Rounds of guessing what is missing, at each sample.
const IMPUTE_ROUNDS: usize = 3;

/// Streams the learning part into a co-moment matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    channels: usize,
    lag: usize,
    /// Vectors taken.
    count: u64,
    /// Shape: `[lag × channels]`.
    mean: Vec<f64>,
    /// Lower triangle of the co-moments, row after row.
    moments: Vec<f64>,
    /// The first sample; the kept ones are told by their distance from it, which `f32` holds precisely.
    origin: Vec<f64>,
    /// The newest samples less `origin`, a ring. Shape: `[KEPT, channels]`.
    kept: Vec<f32>,
    /// Samples taken.
    samples: u64,
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subspace {
    /// Shape: `[lag × channels]`.
    mean: Vec<f64>,
    /// Shape: `[lag × channels]`, above 0.
    deviation: Vec<f64>,
    /// Shape: `[components, lag × channels]`, row-major, orthonormal rows.
    components: Vec<f32>,
    /// Variance along each component, above 0.
    variances: Vec<f64>,
    t2_limit: f64,
    q_limit: f64,
    /// The last standardised vector. Shape: `[lag × channels]`.
    standardised: Vec<f32>,
    /// Its coordinates. Shape: `[components]`.
    coordinates: Vec<f32>,
}

impl Learner {
    /// Nothing seen.
    pub fn new(channels: usize, lag: usize) -> Learner {
        let size = channels * lag;
        Learner {
            channels,
            lag,
            count: 0,
            mean: vec![0.0; size],
            moments: vec![0.0; size * (size + 1) / 2],
            origin: vec![0.0; channels],
            kept: vec![0.0; KEPT * channels],
            samples: 0,
        }
    }

    /// Takes one sample as the last row of `x`: `[lag, channels]`, oldest first. The rows before the first sample
    /// are not looked at.
    pub fn push(&mut self, x: &[f64]) {
        let sample = &x[x.len() - self.channels..];
        if self.samples == 0 {
            self.origin.copy_from_slice(sample);
        }
        let at = (self.samples % KEPT as u64) as usize * self.channels;
        for ((kept, value), origin) in self.kept[at..].iter_mut().zip(sample).zip(&self.origin) {
            *kept = (value - origin).clamp(-1e30, 1e30) as f32;
        }
        self.samples += 1;
        if self.samples < self.lag as u64 {
            return;
        }
        self.count += 1;
        let gain = 1.0 / self.count as f64;
        let mut row_start = 0;
        for i in 0..x.len() {
            let ahead = (x[i] - self.mean[i]) * (1.0 - gain);
            let row = &mut self.moments[row_start..=row_start + i];
            for ((moment, x), mean) in row.iter_mut().zip(x).zip(&self.mean) {
                *moment += ahead * (x - mean);
            }
            row_start += i + 1;
        }
        for (mean, x) in self.mean.iter_mut().zip(x) {
            *mean += gain * (x - *mean);
        }
    }

    /// Samples taken.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Decomposes what was seen. `explained`: share of the variance that the components span; `quantile`: of the
    /// learning part, at which T² and Q have their limits. `None` if nothing varied.
    pub fn learn(&self, explained: f64, quantile: f64) -> Option<Subspace> {
        let size = self.mean.len();
        let entry = |i: usize, j: usize| self.moments[i.max(j) * (i.max(j) + 1) / 2 + i.min(j)];
        let n = self.count.max(1) as f64;
        let deviation: Vec<f64> =
            (0..size).map(|i| (entry(i, i) / n).sqrt().max(1e-3 * self.mean[i].abs()).max(1e-9)).collect();
        let correlation =
            DMatrix::from_fn(size, size, |i, j| entry(i, j) / n / (deviation[i] * deviation[j]));
        if correlation.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let eigen = SymmetricEigen::try_new(correlation, 1e-10, 10_000)?;
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let total: f64 = eigen.eigenvalues.iter().map(|value| value.max(0.0)).sum();
        let (mut sum, mut variances, mut components) = (0.0, Vec::new(), Vec::new());
        for index in order {
            let variance = eigen.eigenvalues[index];
            if variance <= 1e-9 * total || sum >= explained * total {
                break;
            }
            sum += variance;
            variances.push(variance);
            components.extend(eigen.eigenvectors.column(index).iter().map(|&x| x as f32));
        }
        if variances.is_empty() {
            return None;
        }
        let coordinates = vec![0.0; variances.len()];
        let mut subspace = Subspace {
            mean: self.mean.clone(),
            deviation,
            components,
            variances,
            t2_limit: 1.0,
            q_limit: 1.0,
            standardised: vec![0.0; size],
            coordinates,
        };
        let (mut t2, mut q): (Vec<f64>, Vec<f64>) = self.kept_vectors().map(|x| subspace.measure(&x)).unzip();
        subspace.t2_limit = upper(&mut t2, quantile);
        subspace.q_limit = upper(&mut q, quantile);
        Some(subspace)
    }

    /// The kept samples again as vectors, oldest first.
    fn kept_vectors(&self) -> impl Iterator<Item = Vec<f64>> + '_ {
        let len = self.samples.min(KEPT as u64);
        let first = self.samples - len;
        (first + self.lag as u64 - 1..self.samples).map(move |last| {
            (last + 1 - self.lag as u64..=last)
                .flat_map(|sample| {
                    let at = (sample % KEPT as u64) as usize * self.channels;
                    self.kept[at..].iter().zip(&self.origin).map(|(&kept, origin)| f64::from(kept) + origin)
                })
                .collect()
        })
    }

    /// The scores of the kept samples under `subspace`, oldest first.
    pub fn replay(&self, subspace: &mut Subspace) -> Vec<f64> {
        self.kept_vectors().map(|x| subspace.score(&x)).collect()
    }

    pub(crate) fn is_sound(&self, channels: usize, lag: usize) -> bool {
        let size = channels * lag;
        self.channels == channels
            && self.lag == lag
            && self.count <= self.samples
            && self.samples < 1 << 60
            && self.mean.len() == size
            && self.moments.len() == size * (size + 1) / 2
            && self.origin.len() == channels
            && self.kept.len() == KEPT * channels
            && [&self.mean, &self.origin].iter().all(|list| list.iter().all(|x| x.abs() <= 1e130))
            && self.moments.iter().all(|x| x.is_finite())
            && self.kept.iter().all(|x| x.is_finite())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.mean.capacity() + self.moments.capacity() + self.origin.capacity()) * size_of::<f64>()
            + self.kept.capacity() * size_of::<f32>()
    }
}

impl Subspace {
    /// T² and Q, each by its limit, added: above 2 is outside what was learnt. `x`: `[lag, channels]`.
    pub fn score(&mut self, x: &[f64]) -> f64 {
        let (t2, q) = self.measure(x);
        t2 / self.t2_limit + q / self.q_limit
    }

    /// Sets what `silent` channels would be if the others are as they are and the plant is as it was learnt, so that the
    /// silent have no say in the score. `x`: `[lag, channels]`; `silent`: `[channels]`.
    ///
    /// A few rounds of projecting onto the subspace and back, of which what is silent keeps the result (Nelson, Taylor and
    /// MacGregor, "Missing data methods in PCA and PLS", 1996). They go on from sample to sample, where `x` moves on by one
    /// row and the guess with it.
    pub fn impute(&mut self, x: &mut [f64], silent: &[bool]) {
        for _ in 0..IMPUTE_ROUNDS {
            self.measure(x);
            let size = x.len();
            for (i, x) in x.iter_mut().enumerate() {
                if !silent[i % silent.len()] {
                    continue;
                }
                let parts = self.coordinates.iter().enumerate();
                let z: f32 = parts.map(|(k, coordinate)| coordinate * self.components[k * size + i]).sum();
                *x = self.mean[i] + self.deviation[i] * f64::from(z);
            }
        }
    }

    /// Draws the mean towards `x`: `[lag, channels]`, so that slow wander stays normal.
    pub fn track(&mut self, x: &[f64], gain: f64) {
        for (mean, x) in self.mean.iter_mut().zip(x) {
            *mean += gain * (x - *mean);
        }
    }

    /// T² and Q.
    fn measure(&mut self, x: &[f64]) -> (f64, f64) {
        let scales = self.mean.iter().zip(&self.deviation);
        for ((z, x), (mean, deviation)) in self.standardised.iter_mut().zip(x).zip(scales) {
            *z = ((x - mean) / deviation).clamp(-LARGEST, LARGEST) as f32;
        }
        let length: f64 = self.standardised.iter().map(|&z| f64::from(z).powi(2)).sum();
        let (mut inside, mut t2) = (0.0, 0.0);
        let rows = self.components.chunks_exact(self.standardised.len());
        for ((row, variance), coordinate) in rows.zip(&self.variances).zip(&mut self.coordinates) {
            *coordinate = dot(row, &self.standardised);
            let square = f64::from(*coordinate).powi(2);
            inside += square;
            t2 += square / variance;
        }
        (t2, (length - inside).max(0.0))
    }

    /// How much each channel had to do with the last score. Adds to `out`: `[channels]`, at least 0.
    ///
    /// Of Q, a channel's share is the squared residual of its lags; of T², the complete decomposition
    /// `z_i · (P Λ⁻¹ Pᵀ z)_i` (Nomikos and MacGregor 1995), negative parts left out.
    pub fn contributions(&self, out: &mut [f64]) {
        let size = self.standardised.len();
        let channels = out.len();
        for i in 0..size {
            let z = f64::from(self.standardised[i]);
            let (mut inside, mut weighted) = (0.0, 0.0);
            for (k, (&coordinate, variance)) in self.coordinates.iter().zip(&self.variances).enumerate() {
                let part = f64::from(coordinate) * f64::from(self.components[k * size + i]);
                inside += part;
                weighted += part / variance;
            }
            out[i % channels] +=
                (z - inside).powi(2) / self.q_limit + (z * weighted).max(0.0) / self.t2_limit;
        }
    }

    pub(crate) fn is_sound(&self, size: usize) -> bool {
        let above_0 = |x: &f64| *x > 0.0 && x.is_finite();
        let components = self.variances.len();
        self.mean.len() == size
            && self.deviation.len() == size
            && self.standardised.len() == size
            && (1..=size).contains(&components)
            && self.components.len() == components * size
            && self.coordinates.len() == components
            && self.mean.iter().all(|x| x.abs() <= 1e130)
            && self.deviation.iter().chain(&self.variances).all(above_0)
            && [&self.components, &self.standardised, &self.coordinates]
                .iter()
                .all(|list| list.iter().all(|x| x.is_finite()))
            && self.components.iter().all(|x| x.abs() <= 1.01)
            && above_0(&self.t2_limit)
            && above_0(&self.q_limit)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.mean.capacity() + self.deviation.capacity() + self.variances.capacity()) * size_of::<f64>()
            + (self.components.capacity() + self.standardised.capacity() + self.coordinates.capacity())
                * size_of::<f32>()
    }
}

/// Eight sums side by side, so that the compiler can use vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, b_blocks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0f32; 8];
    for (a, b) in a_blocks.zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The value below which a share `q` lies, at least a tiny one so that it can divide.
fn upper(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * q).round() as usize).copied().unwrap_or(1.0).max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number from 0 to 1 that looks like chance.
    fn noise(i: u32) -> f64 {
        f64::from(
            i.wrapping_add(1).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8,
        ) / f64::from(1 << 24)
    }

    /// Three channels: a wave, its double, and a constant.
    fn plant(i: u32) -> [f64; 3] {
        let wave = (f64::from(i) * 0.3).sin();
        [wave + 0.05 * noise(2 * i), 2.0 * wave + 0.05 * noise(2 * i + 1), 7.0]
    }

    fn embedded(last: u32, lag: u32, change: impl Fn(&mut [f64; 3])) -> Vec<f64> {
        (last + 1 - lag..=last)
            .flat_map(|i| {
                let mut sample = plant(i);
                change(&mut sample);
                sample
            })
            .collect()
    }

    fn learnt() -> Subspace {
        let mut learner = Learner::new(3, 4);
        for i in 3..400 {
            learner.push(&embedded(i, 4, |_| ()));
        }
        learner.learn(0.9, 0.99).unwrap()
    }

    #[test]
    fn knows_the_state_it_learnt_and_names_the_channel_that_left_it() {
        let mut subspace = learnt();
        let unlike = (400..800).filter(|&i| subspace.score(&embedded(i, 4, |_| ())) > 2.0).count();
        assert!(unlike < 40, "{unlike} of 400 usual samples");
        for (what, channel, change) in [
            ("a stuck channel, correlation broken", 1, (|x| x[1] = 2.0) as fn(&mut [f64; 3])),
            ("an offset", 0, |x| x[0] += 3.0),
            ("a constant that moved", 2, |x| x[2] = 8.0),
        ] {
            let score = subspace.score(&embedded(410, 4, change));
            let mut parts = [0.0; 3];
            subspace.contributions(&mut parts);
            let largest = (0..3).max_by(|&a, &b| parts[a].total_cmp(&parts[b]));
            assert!(score > 4.0 && largest == Some(channel), "{what}: {score}, {parts:?}");
        }
    }

    #[test]
    fn nothing_that_varies_is_nothing_to_learn() {
        let mut learner = Learner::new(1, 2);
        for _ in 0..50 {
            learner.push(&[3.0, 3.0]);
        }
        assert_eq!(learner.learn(0.9, 0.99), None);
    }

    #[test]
    fn streaming_moments_are_the_moments() {
        let mut learner = Learner::new(3, 1);
        for i in 0..100 {
            learner.push(&plant(i));
        }
        let mean = |c: usize| (0..100).map(|i| plant(i)[c]).sum::<f64>() / 100.0;
        let moment = |a: usize, b: usize| {
            (0..100).map(|i| (plant(i)[a] - mean(a)) * (plant(i)[b] - mean(b))).sum::<f64>()
        };
        for (at, expected) in [(0, moment(0, 0)), (1, moment(1, 0)), (2, moment(1, 1)), (5, moment(2, 2))] {
            assert!(
                (learner.moments[at] - expected).abs() < 1e-9,
                "{at}: {} {expected}",
                learner.moments[at]
            );
        }
    }
}
