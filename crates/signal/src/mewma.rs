//! Whether the plant is still in the state that was learnt: its averages, and how restless each channel is.
//!
//! *Averages*: the channels are decorrelated by the principal components of the learning part, all of them, each scaled to
//! variance 1; an exponential average runs over each coordinate, and the one furthest from zero, in its own usual spread,
//! counts. That is a MEWMA chart (Lowry, Woodall, Champ and Rigdon, "A multivariate exponentially weighted moving average
//! control chart", 1992) that takes the maximum for the sum: most faults move along one direction. What is small beside the
//! noise but stays is seen, because what is averaged are the deviations and not their squares.
//!
//! A channel that *wanders* in the learning part, as a temperature does that has not settled, is told by its distance from
//! its own slow average: its level is no reference, and how it came to be where it is after a fault is no fault. The others
//! are told by their distance from their mean.
//!
//! *Restlessness*: the average square of how a channel's steps differ, in the log. A sensor that is stuck falls out of its usual range
//! as one falls out that shakes.
//!
//! While all is normal the mean follows, and so does the usual spread of each average: 400 samples know little of how far
//! a slow plant wanders, the days after know more.
//!
//! Learning streams: co-moments are kept, not the samples, except the newest [`KEPT`], on which the limits are measured.
//!
//! Measured: see [`crate::detector`].

use nalgebra::{DMatrix, SymmetricEigen};
use serde::{Deserialize, Serialize};

/// Newest samples of the learning part that are kept for measuring the limits.
pub const KEPT: usize = 400;
/// A standardised value beyond this says no more.
const LARGEST: f64 = 1e4;
/// A channel wanders if so much of its variance lies between the quarters of the learning part, and so much between its
/// halves; the latter keeps rhythms out. From 0.05 to 0.2 the second moves the plant's F1 by 0.006.
const BETWEEN_QUARTERS: f64 = 0.4;
const BETWEEN_HALVES: f64 = 0.1;
/// How often the averages' span that of the slow average is; 1 to 4 serve alike.
const SLOW: f64 = 3.0;
/// How often the averages' span it takes until the slow average has settled.
const SETTLING: usize = 4;
/// Added to the variance along each component: a relation is not trusted to better than a tenth of the channels' spread.
const NOISE: f64 = 0.01;
/// An average is given at most so many spreads of an average of white noise, so that it is back soon when a fault is over;
/// and not less than so often its own limit.
const CLIP: f64 = 17.5;
const CLIP_LIMITS: f64 = 2.0;
/// A step's square is at most so often the usual: one jump alone makes no channel restless.
const CLIP_STEP: f64 = 30.0;
/// No limit lies below this many usual spreads.
const LEAST_LIMIT: f64 = 2.0;
/// The least usual spread of the log of restlessness, and what is added to restlessness: a step of a thousandth.
const LEAST_SPREAD: f64 = 0.2;
const LEAST_RESTLESS: f64 = 1e-6;
/// How much slower usual spreads follow than means.
const SPREAD_SLOWNESS: f64 = 0.25;
/// Rounds of guessing what is missing, at each sample.
const GUESS_ROUNDS: usize = 3;

/// Streams the learning part into co-moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    channels: usize,
    /// Samples over which the averages run.
    span: usize,
    /// Samples of the learning part.
    learn: u64,
    /// Samples taken.
    samples: u64,
    /// Vectors in the co-moments.
    count: u64,
    /// Slow averages. Shape: `[channels]`.
    slow: Vec<f64>,
    /// Of the samples and of their distances from the slow averages. Shape: `[2 × channels]`.
    mean: Vec<f64>,
    /// Lower triangle of the co-moments of the same, row after row.
    moments: Vec<f64>,
    /// Sums of the quarters of the learning part. Shape: `[4, channels]`.
    quarters: Vec<f64>,
    /// Sums of squares of all of it. Shape: `[channels]`.
    squares: Vec<f64>,
    /// The first sample; quarters and kept ones are told by their distance from it, which `f32` holds precisely.
    origin: Vec<f64>,
    /// The newest samples less `origin`, a ring. Shape: `[KEPT, channels]`.
    kept: Vec<f32>,
}

/// What was learnt, and where the averages are now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mewma {
    span: usize,
    /// Shape: `[channels]`.
    channels: Vec<Channel>,
    /// From standardised deviations to coordinates. Shape: `[channels, channels]`, row-major.
    whitening: Vec<f32>,
    /// Shape: `[channels]`, one a row of `whitening`.
    averages: Vec<Average>,
    /// In usual spreads of the averages.
    limit: f64,
    /// In usual spreads of the log of restlessness.
    restless_limit: f64,
    /// Standardised deviations of the last sample. Shape: `[channels]`.
    standardised: Vec<f32>,
    /// Coordinates of the last sample. Shape: `[channels]`.
    coordinates: Vec<f32>,
    /// Whether the last score was that of restlessness.
    restless_leads: bool,
}

/// What is known of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Channel {
    mean: f64,
    /// Above 0.
    deviation: f64,
    wanders: bool,
    slow: f64,
    last: f64,
    /// Its last step, standardised.
    step: f64,
    /// Whether it was silent at the last sample.
    silent: bool,
    /// Average square of the differences of its standardised steps.
    restless: f64,
    /// Of the log of `restless`.
    usual: Usual,
}

/// The average along one coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Average {
    value: f64,
    /// Mean square while all is normal.
    variance: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Usual {
    mean: f64,
    variance: f64,
}

impl Learner {
    /// Nothing seen. `span`: samples over which the averages run, at least 1; `learn`: samples of the learning part.
    pub fn new(channels: usize, span: usize, learn: u64) -> Learner {
        let size = 2 * channels;
        Learner {
            channels,
            span,
            learn,
            samples: 0,
            count: 0,
            slow: vec![0.0; channels],
            mean: vec![0.0; size],
            moments: vec![0.0; size * (size + 1) / 2],
            quarters: vec![0.0; 4 * channels],
            squares: vec![0.0; channels],
            origin: vec![0.0; channels],
            kept: vec![0.0; KEPT * channels],
        }
    }

    /// Takes one sample. `x`: `[channels]`.
    pub fn push(&mut self, x: &[f64]) {
        if self.samples == 0 {
            self.origin.copy_from_slice(x);
            self.slow.copy_from_slice(x);
        }
        let at = (self.samples % KEPT as u64) as usize * self.channels;
        let quarter = (self.samples % self.learn * 4 / self.learn) as usize * self.channels;
        let sums = &mut self.quarters[quarter..];
        let sums = sums.iter_mut().zip(&mut self.squares);
        for (((kept, (sum, square)), value), origin) in
            self.kept[at..].iter_mut().zip(sums).zip(x).zip(&self.origin)
        {
            *kept = (value - origin).clamp(-1e30, 1e30) as f32;
            *sum += value - origin;
            *square += (value - origin).powi(2);
        }
        self.samples += 1;
        if self.samples > settling(self.span, self.learn) {
            self.count += 1;
            self.add(x);
        }
        let gain = slow_gain(self.span);
        for (slow, x) in self.slow.iter_mut().zip(x) {
            *slow += gain * (x - *slow);
        }
    }

    fn add(&mut self, x: &[f64]) {
        let Learner { channels, slow, mean, moments, .. } = self;
        let both = |i: usize| if i < *channels { x[i] } else { x[i - *channels] - slow[i - *channels] };
        let gain = 1.0 / self.count as f64;
        let mut row_start = 0;
        for i in 0..mean.len() {
            let ahead = (both(i) - mean[i]) * (1.0 - gain);
            for (j, moment) in moments[row_start..=row_start + i].iter_mut().enumerate() {
                *moment += ahead * (both(j) - mean[j]);
            }
            row_start += i + 1;
        }
        for (i, mean) in mean.iter_mut().enumerate() {
            *mean += gain * (both(i) - *mean);
        }
    }

    /// Samples taken.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Ends learning. `quantile`: of the learning part, at which the limits are. `None` if nothing varied.
    pub fn learn(&self, quantile: f64) -> Option<Mewma> {
        let entry = |i: usize, j: usize| self.moments[i.max(j) * (i.max(j) + 1) / 2 + i.min(j)];
        let n = self.count.max(1) as f64;
        if (0..self.channels).all(|c| entry(c, c) / n <= least_deviation(self.mean[c]).powi(2)) {
            return None;
        }
        let mean: Vec<f64> = (0..self.channels).map(|c| self.origin[c] + self.overall(c)).collect();
        let wanders: Vec<bool> = (0..self.channels).map(|c| self.wanders(c)).collect();
        // A wanderer's distance from its slow average is 0 if all is well, whatever it was on average.
        let moment = |a: usize, b: usize| {
            let at = |c: usize| {
                if wanders[c] {
                    (self.channels + c, self.mean[self.channels + c])
                } else {
                    (c, self.mean[c] - mean[c])
                }
            };
            let ((i, mean_i), (j, mean_j)) = (at(a), at(b));
            entry(i, j) / n + mean_i * mean_j
        };
        let spread: Vec<f64> = (0..self.channels).map(|c| moment(c, c).max(0.0).sqrt()).collect();
        let deviation: Vec<f64> =
            spread.iter().zip(&mean).map(|(spread, mean)| spread.max(least_deviation(*mean))).collect();
        let correlation = DMatrix::from_fn(self.channels, self.channels, |i, j| {
            if i == j { 1.0 } else { moment(i, j) / (deviation[i] * deviation[j]) }
        });
        if correlation.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let eigen = SymmetricEigen::try_new(correlation, 1e-10, 10_000)?;
        let mut order: Vec<usize> = (0..self.channels).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let whitening = order.iter().flat_map(|&k| {
            let scale = (eigen.eigenvalues[k].max(0.0) + NOISE).sqrt();
            eigen.eigenvectors.column(k).iter().map(|x| (x / scale) as f32).collect::<Vec<f32>>()
        });
        let mut mewma = Mewma {
            span: self.span,
            channels: (0..self.channels)
                .map(|c| Channel {
                    mean: mean[c],
                    deviation: deviation[c],
                    wanders: wanders[c],
                    slow: self.origin[c],
                    last: self.origin[c],
                    step: 0.0,
                    silent: true,
                    restless: 0.0,
                    usual: Usual { mean: 0.0, variance: 1.0 },
                })
                .collect(),
            whitening: whitening.collect(),
            averages: vec![Average { value: 0.0, variance: 1.0 }; self.channels],
            limit: f64::MAX,
            restless_limit: f64::MAX,
            standardised: vec![0.0; self.channels],
            coordinates: vec![0.0; self.channels],
            restless_leads: false,
        };
        self.replay(&mut mewma, quantile);
        Some(mewma)
    }

    /// The mean of all samples less `origin`.
    fn overall(&self, channel: usize) -> f64 {
        (0..4).map(|k| self.quarters[k * self.channels + channel]).sum::<f64>() / self.samples.max(1) as f64
    }

    /// Whether a channel's level is no reference.
    fn wanders(&self, channel: usize) -> bool {
        let each = self.samples.max(4) as f64 / 4.0;
        let quarter = |k: usize| self.quarters[k * self.channels + channel] / each;
        let mean = self.overall(channel);
        let variance = self.squares[channel] / (4.0 * each) - mean * mean;
        let quarters = (0..4).map(|k| (quarter(k) - mean).powi(2)).sum::<f64>() / 4.0;
        let halves = ((quarter(0) + quarter(1) - quarter(2) - quarter(3)) / 4.0).powi(2);
        quarters > BETWEEN_QUARTERS * variance && halves > BETWEEN_HALVES * variance
    }

    /// Lets the kept samples pass twice: for the usual spreads, then for the limits in them. The averages are then where
    /// they are now.
    fn replay(&self, mewma: &mut Mewma, quantile: f64) {
        let len = self.samples.min(KEPT as u64);
        let settled = settling(self.span, self.learn).min(len / 4);
        let silent = vec![false; self.channels];
        let mut sums = vec![[0.0f64; 3]; self.channels];
        let mut sample = vec![0.0; self.channels];
        let (mut averages, mut restless) = (Vec::new(), Vec::new());
        for limits in [false, true] {
            for index in 0..len {
                let at = ((self.samples - len + index) % KEPT as u64) as usize * self.channels;
                for ((x, kept), origin) in sample.iter_mut().zip(&self.kept[at..]).zip(&self.origin) {
                    *x = f64::from(*kept) + origin;
                }
                if index == 0 {
                    mewma.begin(&sample);
                }
                mewma.take(&sample, &silent);
                if index < settled {
                    continue;
                }
                if limits {
                    averages.push(mewma.furthest());
                    restless.push(mewma.most_restless());
                    continue;
                }
                for ((sums, channel), average) in sums.iter_mut().zip(&mewma.channels).zip(&mewma.averages) {
                    let log = channel.log_restless();
                    *sums = [sums[0] + average.value.powi(2), sums[1] + log, sums[2] + log * log];
                }
            }
            if limits {
                continue;
            }
            let n = (len - settled).max(1) as f64;
            let least = least_variance(self.span);
            for ((sums, channel), average) in sums.iter().zip(&mut mewma.channels).zip(&mut mewma.averages) {
                average.variance = (sums[0] / n).max(least);
                let mean = sums[1] / n;
                channel.usual =
                    Usual { mean, variance: (sums[2] / n - mean * mean).max(LEAST_SPREAD.powi(2)) };
            }
        }
        mewma.limit = upper(&mut averages, quantile);
        mewma.restless_limit = upper(&mut restless, quantile);
    }

    pub(crate) fn is_sound(&self, channels: usize, span: usize, learn: u64) -> bool {
        let size = 2 * channels;
        self.channels == channels
            && self.span == span
            && self.learn == learn
            && self.count <= self.samples
            && self.samples < 1 << 60
            && self.mean.len() == size
            && self.moments.len() == size * (size + 1) / 2
            && self.slow.len() == channels
            && self.origin.len() == channels
            && self.quarters.len() == 4 * channels
            && self.squares.len() == channels
            && self.kept.len() == KEPT * channels
            && [&self.mean, &self.origin, &self.slow, &self.quarters, &self.squares]
                .iter()
                .all(|list| list.iter().all(|x| x.abs() <= 1e130))
            && self.moments.iter().all(|x| x.is_finite())
            && self.kept.iter().all(|x| x.is_finite())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let lists = [&self.mean, &self.moments, &self.slow, &self.quarters, &self.squares, &self.origin];
        lists.iter().map(|list| list.capacity()).sum::<usize>() * size_of::<f64>()
            + self.kept.capacity() * size_of::<f32>()
    }
}

impl Mewma {
    /// Takes one sample and gives the larger of the furthest average and the greatest change of restlessness, each by its
    /// limit: above 1 is outside what was learnt. `x`: `[channels]`; `silent`: the same, channels whose value is unknown.
    ///
    /// What is silent is taken to be what the others make most likely: the deviations that leave the whitened vector
    /// shortest (Nelson, Taylor and MacGregor, "Missing data methods in PCA and PLS", 1996, by conditional mean).
    pub fn step(&mut self, x: &[f64], silent: &[bool]) -> f64 {
        self.take(x, silent);
        let (averages, restless) = (self.furthest() / self.limit, self.most_restless() / self.restless_limit);
        self.restless_leads = restless > averages;
        averages.max(restless)
    }

    /// Draws means and usual spreads towards what they are now, so that slow wander stays normal. `x`: `[channels]`, as
    /// it was given last.
    pub fn follow(&mut self, x: &[f64], gain: f64) {
        let least = least_variance(self.span);
        for ((channel, x), &z) in self.channels.iter_mut().zip(x).zip(&self.standardised) {
            if channel.silent {
                // It moves with the others, or it would no longer fit them when it speaks again.
                channel.mean += gain * channel.deviation * f64::from(z);
                continue;
            }
            channel.mean += gain * (x - channel.mean);
            let off = channel.log_restless() - channel.usual.mean;
            channel.usual.mean += gain * off;
            let variance = &mut channel.usual.variance;
            *variance =
                (*variance + SPREAD_SLOWNESS * gain * (off * off - *variance)).max(LEAST_SPREAD.powi(2));
        }
        for Average { value, variance } in &mut self.averages {
            *variance = (*variance + SPREAD_SLOWNESS * gain * (*value * *value - *variance)).max(least);
        }
    }

    /// How much each channel had to do with the last score. Adds to `out`: `[channels]`, at least 0.
    ///
    /// Of the averages, a channel has what changing it alone could take from their sum of squares (Alcala and Qin,
    /// "Reconstruction-based contribution for process monitoring", 2009); restlessness is the channel's own.
    pub fn contributions(&self, out: &mut [f64]) {
        let size = self.channels.len();
        for (c, (out, channel)) in out.iter_mut().zip(&self.channels).enumerate() {
            if self.restless_leads {
                *out += if channel.silent { 0.0 } else { channel.change().powi(2) };
                continue;
            }
            let (mut along, mut square) = (0.0, 1e-12);
            for (average, weight) in self.averages.iter().zip(self.whitening.iter().skip(c).step_by(size)) {
                let weight = f64::from(*weight);
                along += average.value * weight / average.variance;
                square += weight * weight / average.variance;
            }
            *out += along * along / square;
        }
    }

    /// Forgets where it is, not what it knows.
    fn begin(&mut self, x: &[f64]) {
        for (channel, &x) in self.channels.iter_mut().zip(x) {
            (channel.slow, channel.last, channel.silent) = (x, x, false);
            (channel.step, channel.restless) = (0.0, 0.0);
        }
        self.averages.iter_mut().for_each(|average| average.value = 0.0);
    }

    fn take(&mut self, x: &[f64], silent: &[bool]) {
        let (gain, slow_gain) = (1.0 / self.span as f64, slow_gain(self.span));
        let inputs = self.channels.iter_mut().zip(x).zip(silent).zip(&mut self.standardised);
        for (((channel, &x), &silent), z) in inputs {
            if silent {
                channel.silent = true;
                continue;
            }
            if channel.silent {
                // It speaks again: nothing is known of how it came to be where it is.
                (channel.slow, channel.last, channel.silent) = (x, x, false);
            }
            let reference = if channel.wanders { channel.slow } else { channel.mean };
            *z = channel.standardise(x - reference) as f32;
            channel.slow += slow_gain * (x - channel.slow);
            let step = channel.standardise(x - channel.last);
            channel.last = x;
            let turn = step - channel.step;
            channel.step = step;
            let square = (turn * turn).min(CLIP_STEP * channel.usual.mean.exp());
            channel.restless += gain * (square - channel.restless);
        }
        let size = self.channels.len();
        for (coordinate, row) in self.coordinates.iter_mut().zip(self.whitening.chunks_exact(size)) {
            *coordinate = dot(row, &self.standardised);
        }
        if silent.contains(&true) {
            self.guess(silent);
        }
        let least_reach = CLIP * least_variance(self.span).sqrt();
        for (average, &coordinate) in self.averages.iter_mut().zip(&self.coordinates) {
            let reach = least_reach.max(CLIP_LIMITS * self.limit * average.variance.sqrt());
            average.value += gain * (f64::from(coordinate).clamp(-reach, reach) - average.value);
        }
    }

    /// Sets the silent deviations one after the other to what leaves the coordinates shortest.
    fn guess(&mut self, silent: &[bool]) {
        let size = self.channels.len();
        for _ in 0..GUESS_ROUNDS {
            for c in (0..size).filter(|&c| silent[c]) {
                let column = self.whitening.iter().skip(c).step_by(size);
                let (mut along, mut square) = (0.0, 1e-6);
                for (weight, coordinate) in column.clone().zip(&self.coordinates) {
                    along += weight * coordinate;
                    square += weight * weight;
                }
                let largest = LARGEST as f32;
                let guess = (self.standardised[c] - along / square).clamp(-largest, largest);
                let step = guess - self.standardised[c];
                self.standardised[c] = guess;
                for (weight, coordinate) in column.zip(&mut self.coordinates) {
                    *coordinate += weight * step;
                }
            }
        }
    }

    /// The furthest average, in its usual spreads.
    fn furthest(&self) -> f64 {
        let squares = self.averages.iter().map(|average| average.value.powi(2) / average.variance);
        squares.fold(0.0, f64::max).sqrt()
    }

    /// The greatest change of restlessness, in usual spreads.
    fn most_restless(&self) -> f64 {
        let heard = self.channels.iter().filter(|channel| !channel.silent);
        heard.map(|channel| channel.change().abs()).fold(0.0, f64::max)
    }

    pub(crate) fn is_sound(&self, channels: usize, span: usize) -> bool {
        let above_0 = |x: f64| x > 0.0 && x.is_finite();
        let small = |list: &[f32], most: f32| list.iter().all(|x| x.abs() <= most);
        self.span == span
            && self.channels.len() == channels
            && self.averages.len() == channels
            && self.whitening.len() == channels * channels
            && self.standardised.len() == channels
            && self.coordinates.len() == channels
            && self.channels.iter().all(Channel::is_sound)
            && self
                .averages
                .iter()
                .all(|x| x.value.abs() <= 1e12 && above_0(x.variance) && x.variance <= 1e24)
            && self.averages.iter().all(|x| x.variance >= 1e-12)
            && small(&self.whitening, 11.0)
            && small(&self.standardised, 1e4)
            && small(&self.coordinates, 1e9)
            && (above_0(self.limit) && self.limit >= 1e-3)
            && (above_0(self.restless_limit) && self.restless_limit >= 1e-3)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let floats = [&self.whitening, &self.standardised, &self.coordinates];
        self.channels.capacity() * size_of::<Channel>()
            + self.averages.capacity() * size_of::<Average>()
            + floats.iter().map(|list| list.capacity()).sum::<usize>() * size_of::<f32>()
    }
}

impl Channel {
    fn standardise(&self, distance: f64) -> f64 {
        (distance / self.deviation).clamp(-LARGEST, LARGEST)
    }

    fn log_restless(&self) -> f64 {
        (self.restless.max(0.0) + LEAST_RESTLESS).ln()
    }

    /// How much more or less restless than usual, in usual spreads.
    fn change(&self) -> f64 {
        (self.log_restless() - self.usual.mean) / self.usual.variance.sqrt()
    }

    fn is_sound(&self) -> bool {
        let Channel { mean, deviation, wanders: _, slow, last, step, silent: _, restless, usual } = self;
        [mean, slow, last].iter().all(|x| x.abs() <= 1e130)
            && *deviation > 0.0
            && deviation.is_finite()
            && step.abs() <= LARGEST
            && (0.0..=4.0 * LARGEST * LARGEST).contains(restless)
            && usual.mean.abs() <= 100.0
            && (1e-6..=1e6).contains(&usual.variance)
    }
}

/// What a channel counts as known to, that was constant: a ten-thousandth.
fn least_deviation(mean: f64) -> f64 {
    (1e-4 * mean.abs()).max(1e-9)
}

/// Mean square of an exponential average of white noise of variance 1: the least there is.
fn least_variance(span: usize) -> f64 {
    let gain = 1.0 / span as f64;
    gain / (2.0 - gain)
}

fn slow_gain(span: usize) -> f64 {
    1.0 / (SLOW * span as f64)
}

/// Samples until the slow average has settled, at most a quarter of the learning part.
fn settling(span: usize, learn: u64) -> u64 {
    (SETTLING as u64).saturating_mul(span as u64).min(learn / 4)
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

/// The value below which a share `q` lies, at least [`LEAST_LIMIT`].
fn upper(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * q).round() as usize).copied().unwrap_or(LEAST_LIMIT).max(LEAST_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number from 0 to 1 that looks like chance.
    fn noise(i: u32) -> f64 {
        let mixed = (u64::from(i) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Four channels: a wave, its double, a constant, and a motor that warms up.
    fn plant(i: u32) -> [f64; 4] {
        let wave = (f64::from(i) * 0.3).sin();
        let warm = 60.0 - 30.0 * (-f64::from(i) / 300.0).exp();
        let noise = |k| 0.05 * noise(4 * i + k);
        [wave + noise(0), 2.0 * wave + noise(1), 7.0, warm + noise(2)]
    }

    fn learner(samples: u32) -> Learner {
        let mut learner = Learner::new(4, 10, 400);
        (0..samples).for_each(|i| learner.push(&plant(i)));
        learner
    }

    /// What `after` the learning part it makes of samples that `change` has changed.
    fn check(
        mewma: &Mewma,
        after: std::ops::Range<u32>,
        change: impl Fn(&mut [f64; 4]),
    ) -> (Vec<f64>, usize) {
        let mut mewma = mewma.clone();
        let scores = after.map(|i| {
            let mut sample = plant(i);
            change(&mut sample);
            mewma.step(&sample, &[false; 4])
        });
        let scores: Vec<f64> = scores.collect();
        let mut parts = [0.0; 4];
        mewma.contributions(&mut parts);
        let largest = (0..4).max_by(|&a, &b| parts[a].total_cmp(&parts[b])).unwrap();
        (scores, largest)
    }

    #[test]
    fn knows_the_state_it_learnt_and_names_the_channel_that_left_it() {
        let mewma = learner(400).learn(0.99).unwrap();
        let wanders: Vec<bool> = mewma.channels.iter().map(|channel| channel.wanders).collect();
        assert_eq!(wanders, [false, false, false, true]);
        let (usual, _) = check(&mewma, 400..800, |_| ());
        let unlike = usual.iter().filter(|score| **score > 1.5).count();
        assert!(unlike < 20, "{unlike} of 400 usual samples");
        for (what, channel, change) in [
            ("a stuck channel", Some(1), (|x| x[1] = 0.1) as fn(&mut [f64; 4])),
            // Of two that agreed, nothing says which is off.
            ("an offset that the wave hides", None, |x| x[0] += 0.2),
            ("a constant that moved", Some(2), |x| x[2] = 7.1),
            ("a channel that shakes", Some(3), |x| x[3] += (x[0] * 1e6).sin()),
        ] {
            let (scores, largest) = check(&mewma, 400..460, change);
            let found = scores[40..].iter().filter(|score| **score > 1.5).count();
            assert!(found >= 19, "{what}: {found} of 20: {scores:?}");
            assert!(channel.is_none_or(|channel| channel == largest), "{what}: channel {largest}");
        }
    }

    #[test]
    fn a_fault_that_is_over_is_soon_forgotten() {
        let mut mewma = learner(400).learn(0.99).unwrap();
        let mut step = |i: u32, fault: f64| {
            let mut sample = plant(i);
            sample[0] += fault;
            mewma.step(&sample, &[false; 4])
        };
        assert!((400..420).map(|i| step(i, 1e9)).last() > Some(1.5));
        assert!((420..480).map(|i| step(i, 0.0)).last() < Some(1.5));
    }

    #[test]
    fn what_was_silent_for_long_still_fits_the_others() {
        let sample = |i: u32| {
            let load = (f64::from(i) * 0.03).sin() + 0.4 * (f64::from(i) * 0.0071).cos();
            [load + 0.05 * noise(3 * i), load + 0.05 * noise(3 * i + 1), load + 0.05 * noise(3 * i + 2)]
        };
        let mut learner = Learner::new(3, 10, 400);
        (0..400).for_each(|i| learner.push(&sample(i)));
        let mut mewma = learner.learn(0.99).unwrap();
        let mut unlike = 0;
        for i in 400..2400 {
            let silent = [(1500..1800).contains(&i), false, false];
            let score = mewma.step(&sample(i), &silent);
            if score < 1.5 {
                mewma.follow(&sample(i), 1.0 / 400.0);
            } else if i >= 1500 {
                unlike += 1;
            }
        }
        assert!(unlike < 20, "{unlike} of 900");
    }

    #[test]
    fn a_rhythm_as_slow_as_half_the_learning_part_is_no_wandering() {
        for phase in 0..8 {
            let mut learner = Learner::new(2, 10, 400);
            for i in 0..400 {
                let turn = f64::from(i) / 200.0 + f64::from(phase) / 8.0;
                learner.push(&[(turn * std::f64::consts::TAU).sin(), noise(i)]);
            }
            assert!(learner.learn(0.99).unwrap().channels.iter().all(|channel| !channel.wanders), "{phase}");
        }
    }

    #[test]
    fn nothing_that_varies_is_nothing_to_learn() {
        let mut learner = Learner::new(1, 2, 50);
        for _ in 0..50 {
            learner.push(&[3.0]);
        }
        assert_eq!(learner.learn(0.99), None);
    }

    #[test]
    fn streaming_moments_are_the_moments() {
        let learner = learner(140);
        let of = |c: usize| (40..140).map(move |i| plant(i)[c]);
        let mean = |c: usize| of(c).sum::<f64>() / 100.0;
        let moment =
            |a: usize, b: usize| of(a).zip(of(b)).map(|(x, y)| (x - mean(a)) * (y - mean(b))).sum::<f64>();
        for (at, expected) in [(0, moment(0, 0)), (1, moment(1, 0)), (2, moment(1, 1)), (6, moment(3, 0))] {
            let found = learner.moments[at];
            assert!((found - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{at}: {found} {expected}");
        }
    }
}
