//! How long to wait after a failure: twice as long each time, with full jitter, so that a fleet that lost its hub does
//! not come back all at once.

use wire::world::{Entropy, MonoNs};

/// One second in nanoseconds.
pub const SECOND_NS: MonoNs = 1_000_000_000;

/// No wait is shorter than this: jitter must not make a tight loop.
const LEAST_NS: MonoNs = SECOND_NS / 10;

/// Waits between attempts at something that fails.
#[derive(Debug, Clone)]
pub struct Backoff {
    first_ns: MonoNs,
    most_ns: MonoNs,
    failures: u32,
}

impl Backoff {
    /// The first wait is up to `first_ns`, later ones up to `most_ns`.
    pub const fn new(first_ns: MonoNs, most_ns: MonoNs) -> Backoff {
        Backoff { first_ns, most_ns, failures: 0 }
    }

    /// Counts a failure and draws the wait that follows it.
    pub fn fail(&mut self, chance: &mut dyn Entropy) -> MonoNs {
        let doubled = self.first_ns.saturating_mul(1 << self.failures.min(40));
        self.failures = self.failures.saturating_add(1);
        let up_to = doubled.min(self.most_ns);
        ((up_to as f64 * chance.unit()) as MonoNs).max(LEAST_NS)
    }

    /// The same for a failure that haste will not mend: never less than half of what it could be.
    pub fn fail_slowly(&mut self, chance: &mut dyn Entropy) -> MonoNs {
        let doubled = self.first_ns.saturating_mul(1 << self.failures.min(40)).min(self.most_ns);
        self.fail(chance) / 2 + doubled / 2
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since it last worked.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::world::Simulated;

    #[test]
    fn waits_grow_to_the_limit_and_begin_again_after_a_success() {
        let mut chance = Simulated::new(1);
        let mut backoff = Backoff::new(SECOND_NS, 300 * SECOND_NS);
        for up_to_s in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let mut draws: Vec<MonoNs> = (0..200).map(|_| backoff.clone().fail(&mut chance)).collect();
            draws.sort_unstable();
            let (least, most) = (draws[0], draws[199]);
            assert!(most <= up_to_s * SECOND_NS && most > up_to_s * SECOND_NS * 9 / 10, "{up_to_s}: {most}");
            assert!((LEAST_NS..=up_to_s * SECOND_NS / 5).contains(&least), "{up_to_s}: {least}");
            assert!(backoff.clone().fail_slowly(&mut chance) >= up_to_s * SECOND_NS / 2);
            backoff.fail(&mut chance);
        }
        assert_eq!(backoff.failures(), 11);
        backoff.reset();
        assert!(backoff.fail(&mut chance) <= SECOND_NS);
    }
}
