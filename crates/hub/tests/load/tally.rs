//! What the nodes saw: how long calls took, and how they ended.

use std::fmt::Write as _;
use std::slice::SliceIndex;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Times of one kind of call, in microseconds.
#[derive(Default)]
pub struct Times(Mutex<Vec<u32>>);

impl Times {
    pub fn add(&self, took: Duration) {
        self.0.lock().unwrap().push(took.as_micros() as u32);
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Of those of these places: how many, and half, 99 of 100 and all of them took at most so many milliseconds.
    pub fn since(&self, places: impl SliceIndex<[u32], Output = [u32]>) -> (usize, [f64; 3]) {
        let mut times = self.0.lock().unwrap()[places].to_vec();
        times.sort_unstable();
        let at = |share: f64| {
            times.get(((times.len() as f64 - 1.0) * share) as usize).map_or(0.0, |us| f64::from(*us) / 1e3)
        };
        (times.len(), [at(0.5), at(0.99), at(1.0)])
    }
}

/// All of it.
#[derive(Default)]
pub struct Tally {
    pub connects: Times,
    pub check_ins: Times,
    pub batches: Times,
    pub records: AtomicU64,
    /// Requests sent away with 503 and Retry-After.
    pub busy: AtomicU64,
    /// Any other answer that was no success.
    pub odd: AtomicU64,
    /// Connections that were not made, or broke.
    pub broken: AtomicU64,
    pub installs: AtomicU64,
    pub renewals: AtomicU64,
    /// Held calls that were rung.
    pub rung: AtomicU64,
    /// When each node's audit records were all in, from the beginning on.
    pub audits: Times,
    /// The same, from when it came.
    pub own_audits: Times,
}

impl Tally {
    /// One line for each kind of call between these places.
    pub fn table(&self, from: [usize; 3], to: [usize; 3], seconds: f64) -> String {
        let mut text = format!(
            "{:<12}{:>9}{:>9}{:>10}{:>10}{:>10}\n",
            "", "count", "per s", "p50 ms", "p99 ms", "max ms"
        );
        let kinds =
            [("connections", &self.connects), ("check-ins", &self.check_ins), ("batches", &self.batches)];
        for ((what, times), (from, to)) in kinds.into_iter().zip(from.into_iter().zip(to)) {
            let (count, [half, most, all]) = times.since(from..to);
            let rate = count as f64 / seconds;
            let _ = writeln!(text, "{what:<12}{count:>9}{rate:>9.0}{half:>10.1}{most:>10.1}{all:>10.1}");
        }
        text
    }

    pub fn places(&self) -> [usize; 3] {
        [self.connects.len(), self.check_ins.len(), self.batches.len()]
    }

    pub fn get(&self, counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }
}
