//! What one model's thread tells of itself: counters and the last look at its batch, read by anybody at any time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use wire::world::MonoNs;

/// Upper bounds of the histograms, in milliseconds.
pub(super) const BOUNDS_MS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000, 60_000];

/// How often something took how long.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Each counts what was at most its bound; the last counts all.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    fn add(&self, ns: MonoNs) {
        let at = BOUNDS_MS.iter().position(|bound| ns <= bound * 1_000_000).unwrap_or(BOUNDS_MS.len());
        self.buckets[at].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// How many were at most each bound, and how many there were; and their sum in seconds.
    pub(super) fn read(&self) -> ([u64; BOUNDS_MS.len() + 1], f64) {
        let mut total = 0;
        let counts = std::array::from_fn(|at| {
            total += self.buckets[at].load(Relaxed);
            total
        });
        (counts, self.sum_ns.load(Relaxed) as f64 / 1e9)
    }
}

/// Counters since the server began, and gauges as of the last step.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) running: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    /// Bytes of pages that sequences under way hold, and that are kept for the next.
    pub(super) cache_used: AtomicUsize,
    pub(super) cache_kept: AtomicUsize,
    pub(super) written_tokens: AtomicU64,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) reused_tokens: AtomicU64,
    pub(super) guessed_tokens: AtomicU64,
    pub(super) accepted_tokens: AtomicU64,
    pub(super) embedded_tokens: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) busy_ns: AtomicU64,
    pub(super) queue: Histogram,
    pub(super) first_token: Histogram,
    /// Tokens and time of the stretch that the speed is measured over.
    stretch_tokens: AtomicU64,
    stretch_ns: AtomicU64,
    /// As the bits of an `f64`; 0 before it was measured.
    speed: AtomicU64,
}

/// The speed is told of stretches of so much work.
const STRETCH_NS: u64 = 500_000_000;

impl Gauges {
    pub(super) fn load(&self, running: usize, waiting: usize, cache_used: usize, cache_kept: usize) {
        self.running.store(running, Relaxed);
        self.waiting.store(waiting, Relaxed);
        self.cache_used.store(cache_used, Relaxed);
        self.cache_kept.store(cache_kept, Relaxed);
    }

    /// A step wrote so many tokens in so much time.
    pub(super) fn stepped(&self, written: usize, ns: MonoNs) {
        self.written_tokens.fetch_add(written as u64, Relaxed);
        self.busy_ns.fetch_add(ns, Relaxed);
        if written == 0 {
            return;
        }
        let tokens = self.stretch_tokens.fetch_add(written as u64, Relaxed) + written as u64;
        let ns = self.stretch_ns.fetch_add(ns, Relaxed) + ns;
        if ns >= STRETCH_NS {
            self.speed.store((tokens as f64 / (ns as f64 / 1e9)).to_bits(), Relaxed);
            self.stretch_tokens.store(0, Relaxed);
            self.stretch_ns.store(0, Relaxed);
        }
    }

    /// Tokens a second, all answers together, over the last half second of work; before that over what there was.
    pub(super) fn tokens_per_s(&self) -> Option<f64> {
        let measured = f64::from_bits(self.speed.load(Relaxed));
        if measured > 0.0 {
            return Some(measured);
        }
        let (tokens, ns) = (self.stretch_tokens.load(Relaxed), self.stretch_ns.load(Relaxed));
        (tokens > 0 && ns > 0).then(|| tokens as f64 / (ns as f64 / 1e9))
    }

    pub(super) fn began(&self, waited_ns: MonoNs, prompt: usize, reused: usize) {
        self.queue.add(waited_ns);
        self.prompt_tokens.fetch_add(prompt as u64, Relaxed);
        self.reused_tokens.fetch_add(reused as u64, Relaxed);
    }

    pub(super) fn first_token(&self, after_ns: MonoNs) {
        self.first_token.add(after_ns);
    }

    pub(super) fn guessed(&self, guessed: usize, accepted: usize) {
        self.guessed_tokens.fetch_add(guessed as u64, Relaxed);
        self.accepted_tokens.fetch_add(accepted as u64, Relaxed);
    }

    pub(super) fn embedded(&self, tokens: usize, ns: MonoNs) {
        self.embedded_tokens.fetch_add(tokens as u64, Relaxed);
        self.busy_ns.fetch_add(ns, Relaxed);
    }

    pub(super) fn ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    pub(super) fn cancelled(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_is_counted_beyond_what_was_quick() {
        let histogram = Histogram::default();
        for ms in [1, 5, 6, 100_000] {
            histogram.add(ms * 1_000_000);
        }
        let (counts, sum_s) = histogram.read();
        assert_eq!((counts[0], counts[1], counts[11], counts[12]), (2, 3, 3, 4));
        assert!((sum_s - 100.012).abs() < 1e-9);
    }

    #[test]
    fn the_speed_is_that_of_the_last_stretch_of_work() {
        let gauges = Gauges::default();
        assert_eq!(gauges.tokens_per_s(), None);
        gauges.stepped(10, 100_000_000);
        assert_eq!(gauges.tokens_per_s(), Some(100.0));
        gauges.stepped(0, 900_000_000);
        gauges.stepped(10, 400_000_000);
        assert_eq!(gauges.tokens_per_s(), Some(40.0));
        gauges.stepped(1, 1_000_000_000);
        assert_eq!(gauges.tokens_per_s(), Some(1.0));
    }
}
