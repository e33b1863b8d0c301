//! What a download tells while it runs, and how fast it is.

use wire::world::MonoNs;

use crate::shelf::name::ModelName;

/// The time over which the rate is averaged.
const RATE_NS: f64 = 3e9;

/// The least time between two reports of progress.
const REPORT_NS: MonoNs = 100_000_000;

/// News of a download, in the order they come.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The repository's files are asked for.
    Listing {
        /// `owner/name`.
        repository: String,
    },
    /// This file is it.
    Chosen {
        /// The model's name on the shelf.
        name: ModelName,
        /// The file, as the server calls it.
        file: String,
        /// Its size, if the repository says it.
        total_bytes: Option<u64>,
    },
    /// What an earlier download left is read again.
    Checking {
        /// What is read.
        done_bytes: u64,
        /// What is there.
        total_bytes: u64,
    },
    /// Bytes come. At most ten times a second, and once at the end.
    Loading {
        /// What is there, with what an earlier download left.
        done_bytes: u64,
        /// The whole, if anybody knows.
        total_bytes: Option<u64>,
        /// Over the last seconds; 0 at the beginning.
        bytes_per_s: f64,
    },
    /// An attempt failed; the next one is after this wait.
    Waiting {
        /// How long.
        wait_ms: u64,
        /// What failed.
        why: String,
    },
    /// What was there does not fit what the server has: all of it comes again.
    Restarting,
}

/// Measures a download's rate, and says when it is time to report.
#[derive(Debug)]
pub struct Meter {
    last_ns: MonoNs,
    last_bytes: u64,
    bytes_per_s: f64,
}

impl Meter {
    /// Begins with what is there.
    pub fn new(now: MonoNs, done_bytes: u64) -> Meter {
        Meter { last_ns: now, last_bytes: done_bytes, bytes_per_s: 0.0 }
    }

    /// Takes note of how much is there; gives the rate when it is time to report.
    pub fn step(&mut self, now: MonoNs, done_bytes: u64) -> Option<f64> {
        let passed = now.saturating_sub(self.last_ns);
        if passed < REPORT_NS {
            return None;
        }
        let rate = done_bytes.saturating_sub(self.last_bytes) as f64 * 1e9 / passed as f64;
        // The first measurement stands alone; each later one counts by the time that it covers.
        let weight = if self.bytes_per_s == 0.0 { 1.0 } else { 1.0 - (-(passed as f64) / RATE_NS).exp() };
        self.bytes_per_s += weight * (rate - self.bytes_per_s);
        (self.last_ns, self.last_bytes) = (now, done_bytes);
        Some(self.bytes_per_s)
    }

    /// The rate so far.
    pub fn bytes_per_s(&self) -> f64 {
        self.bytes_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows() {
        let mut meter = Meter::new(0, 1_000_000);
        assert_eq!(meter.step(50_000_000, 1_000_001), None);
        assert_eq!(meter.step(100_000_000, 1_100_000), Some(1e6));
        let mut done = 1_100_000;
        for turn in 2..102 {
            done += 200_000;
            meter.step(turn * 100_000_000, done).unwrap();
        }
        assert!((meter.bytes_per_s() - 2e6).abs() < 1e5, "{}", meter.bytes_per_s());
    }
}
