//! How long readings take to become decisions on disk: a histogram of fixed size.

use serde::Serialize;
use wire::world::MonoNs;

/// Buckets per doubling: a quantile is at most 19 % above what it was.
const PER_DOUBLING: f64 = 4.0;
/// From 1 µs to 2³² µs, a bit more than an hour.
const BUCKETS: usize = 32 * PER_DOUBLING as usize;

/// Times noted so far.
#[derive(Debug, Clone)]
pub struct Latency {
    buckets: Box<[u64; BUCKETS]>,
    max_us: u64,
}

/// What they come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LatencySummary {
    /// How many.
    pub count: u64,
    /// Half were at most this.
    pub p50_us: u64,
    /// 99 of 100 were at most this.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { buckets: Box::new([0; BUCKETS]), max_us: 0 }
    }
}

impl Latency {
    /// Notes one.
    pub fn note(&mut self, ns: MonoNs) {
        let us = ns / 1_000;
        self.max_us = self.max_us.max(us);
        let bucket = ((us.max(1) as f64).log2() * PER_DOUBLING).ceil() as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
    }

    /// What they come to so far.
    pub fn summary(&self) -> LatencySummary {
        let (p50_us, p99_us) = (self.quantile_us(0.5), self.quantile_us(0.99));
        LatencySummary { count: self.buckets.iter().sum(), p50_us, p99_us, max_us: self.max_us }
    }

    /// This share of them took at most so long; 0 before the first.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let count: u64 = self.buckets.iter().sum();
        let wanted = (count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, many) in self.buckets.iter().enumerate() {
            seen += many;
            if seen >= wanted {
                let bound_us = (bucket as f64 / PER_DOUBLING).exp2().ceil() as u64;
                return bound_us.min(self.max_us);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_a_little_above_what_they_were() {
        let mut latency = Latency::default();
        assert_eq!(latency.summary(), LatencySummary::default());
        for us in 1..=1_000 {
            latency.note(us * 1_000);
        }
        latency.note(u64::MAX);
        let LatencySummary { count, p50_us, p99_us, max_us } = latency.summary();
        assert_eq!((count, max_us), (1_001, u64::MAX / 1_000));
        assert!((501..=501 * 119 / 100).contains(&p50_us), "{p50_us}");
        assert!((991..=991 * 119 / 100).contains(&p99_us), "{p99_us}");
    }
}
