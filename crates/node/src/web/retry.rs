//! How long to wait before the next attempt, and when to give up. Pure but for the dice.

use wire::world::Entropy;

/// The patience of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How many failures in a row, without progress between them, end it.
    pub failures_max: u32,
    /// The first wait; each next one is twice as long.
    pub first_ms: u64,
    /// The longest wait of our own choice.
    pub longest_ms: u64,
    /// The longest wait that a server may ask for.
    pub asked_longest_ms: u64,
}

impl Default for Patience {
    /// Six attempts within about half a minute; a server may ask for two minutes.
    fn default() -> Patience {
        Patience { failures_max: 6, first_ms: 500, longest_ms: 30_000, asked_longest_ms: 120_000 }
    }
}

impl Patience {
    /// The wait after so many failures in a row (from 1); `None`: give up. `asked_ms` is what the server wants. Between a half
    /// and the whole of the step, by chance: machines that failed together should not come back together.
    pub fn wait_ms(&self, failures: u32, asked_ms: Option<u64>, entropy: &mut impl Entropy) -> Option<u64> {
        let asked_ms = asked_ms.unwrap_or(0);
        if failures >= self.failures_max || asked_ms > self.asked_longest_ms {
            return None;
        }
        let doubled = self.first_ms.saturating_mul(1 << failures.saturating_sub(1).min(32));
        let step = doubled.min(self.longest_ms) as f64;
        let chosen = (step / 2.0 + step / 2.0 * entropy.unit()) as u64;
        Some(chosen.max(asked_ms))
    }
}

#[cfg(test)]
mod tests {
    use wire::world::Simulated;

    use super::*;

    #[test]
    fn waits_double_and_end() {
        let patience = Patience::default();
        let mut world = Simulated::new(1);
        for (failures, longest) in [(1, 500), (2, 1000), (3, 2000), (4, 4000), (5, 8000)] {
            for _ in 0..100 {
                let wait = patience.wait_ms(failures, None, &mut world).unwrap();
                assert!((longest / 2..=longest).contains(&wait), "{failures}: {wait}");
            }
        }
        assert_eq!(patience.wait_ms(6, None, &mut world), None);
        assert_eq!(patience.wait_ms(1, Some(90_000), &mut world), Some(90_000));
        assert_eq!(patience.wait_ms(1, Some(121_000), &mut world), None);
        let endless = Patience { failures_max: u32::MAX, ..patience };
        assert!(endless.wait_ms(u32::MAX - 1, None, &mut world).unwrap() <= 30_000);
    }
}
