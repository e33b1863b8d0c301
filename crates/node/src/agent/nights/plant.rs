//! What the plant does, second by second, and what its sensors would say of it: the truth that the node is held to.

use wire::world::{Entropy, Simulated};

/// Seconds of a day.
pub(super) const DAY_S: u64 = 86_400;

/// What is measured, by three sensors each.
pub(super) const CHANNELS: [&str; 3] = ["pressure", "temperature", "vibration"];

/// What a channel is in good times, what it is in bad ones, and the limit between them.
const LEVELS: [(f64, f64, f64); 3] = [(5.0, 10.5, 8.0), (55.0, 97.0, 80.0), (1.2, 6.2, 3.5)];

/// A plant of one day.
pub(super) struct Plant {
    seed: u64,
    /// Per channel: how many seconds were bad before each.
    bad: [Vec<u32>; 3],
}

impl Plant {
    /// The same seed gives the same day.
    pub(super) fn new(seed: u64) -> Plant {
        let mut chance = Simulated::new(seed ^ 0x0070_6c61_6e74);
        let bad = [0; 3].map(|_: i32| {
            let mut is_bad = vec![false; DAY_S as usize + 1];
            let mut at_s = 300.0;
            while at_s < DAY_S as f64 {
                at_s += 240.0 + 1_300.0 * chance.unit();
                let until_s = at_s + 100.0 + 500.0 * chance.unit();
                is_bad
                    .iter_mut()
                    .skip(at_s as usize)
                    .take((until_s - at_s) as usize)
                    .for_each(|it| *it = true);
                at_s = until_s;
            }
            let sum = is_bad.iter().scan(0, |sum, is_bad| {
                let before = *sum;
                *sum += u32::from(*is_bad);
                Some(before)
            });
            sum.collect()
        });
        Plant { seed, bad }
    }

    /// Whether a channel is above its limit.
    fn is_bad(&self, channel: usize, at_s: u64) -> bool {
        self.bad_seconds(channel, at_s, at_s + 1) > 0
    }

    /// In how many seconds it is, of these.
    pub(super) fn bad_seconds(&self, channel: usize, from_s: u64, until_s: u64) -> u64 {
        let before = |at_s: u64| self.bad[channel][at_s.min(DAY_S) as usize];
        u64::from(before(until_s) - before(from_s))
    }

    /// The limit between good and bad.
    pub(super) fn limit(channel: usize) -> f64 {
        LEVELS[channel].2
    }

    /// What a healthy sensor says: each is a little off, and restless.
    pub(super) fn value(&self, source: usize, channel: usize, at_s: u64) -> f64 {
        let (good, bad, limit) = LEVELS[channel];
        let level = if self.is_bad(channel, at_s) { bad } else { good };
        let t = at_s as f64;
        let sway = 0.04 * limit * ((t * 0.013).sin() + 0.6 * (t * 0.0031).cos());
        let off = 0.004 * limit * (source as f64 - 1.0);
        level + sway + off + 0.02 * limit * self.noise(source, channel, at_s)
    }

    /// −1 to 1.
    fn noise(&self, source: usize, channel: usize, at_s: u64) -> f64 {
        let place = (source * CHANNELS.len() + channel) as u64;
        let mixed = (self.seed ^ (place << 40) ^ at_s).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}
