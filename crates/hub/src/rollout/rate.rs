//! How much went out in the last minute. Never more than allowed in any minute, wherever it begins; whole bursts may go.
//!
//! Thirteen parts of five seconds each: the last twelve whole ones and the one that runs. What they sum up to covers at
//! least the last minute, so a limit on the sum is a limit on every minute.

use serde::{Deserialize, Serialize};
use wire::world::WallMs;

use crate::rollout::plan::Rate;

const PART_MS: i64 = 5000;
const PARTS: usize = 13;

/// What went out lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// The part that runs.
    part: i64,
    /// Nodes that were offered, the running part first.
    nodes: [u32; PARTS],
    /// Bytes that they fetch.
    bytes: [u64; PARTS],
}

impl Recent {
    /// Counts a node that was offered, and the bytes it fetches.
    pub fn add(&mut self, bytes: u64, now_ms: WallMs) {
        self.turn(now_ms);
        self.nodes[0] = self.nodes[0].saturating_add(1);
        self.bytes[0] = self.bytes[0].saturating_add(bytes);
    }

    /// Whether one more may go now. One node alone may always go, however large its release is.
    pub fn allows(&self, rate: Rate, bytes: u64, now_ms: WallMs) -> bool {
        let mut lately = self.clone();
        lately.turn(now_ms);
        let nodes: u32 = lately.nodes.iter().fold(0, |sum, nodes| sum.saturating_add(*nodes));
        let sent: u64 = lately.bytes.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes));
        let nodes_fit = rate.nodes_per_min == 0 || nodes < rate.nodes_per_min;
        let most = rate.bytes_per_s.saturating_mul(60);
        let bytes_fit = rate.bytes_per_s == 0 || nodes == 0 || sent.saturating_add(bytes) <= most;
        nodes_fit && bytes_fit
    }

    /// Lets time pass. A clock that went back changes nothing.
    fn turn(&mut self, now_ms: WallMs) {
        let part = now_ms.div_euclid(PART_MS);
        let by = usize::try_from(part.saturating_sub(self.part)).unwrap_or(0).min(PARTS);
        if by > 0 {
            self.nodes.rotate_right(by % PARTS);
            self.bytes.rotate_right(by % PARTS);
            self.nodes[..by].fill(0);
            self.bytes[..by].fill(0);
            self.part = part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_than_allowed() {
        let rate = Rate { nodes_per_min: 7, bytes_per_s: 10 };
        let (mut recent, mut sent) = (Recent::default(), Vec::new());
        for now_ms in (0..600_000).step_by(700) {
            if recent.allows(rate, 100, now_ms) {
                recent.add(100, now_ms);
                sent.push(now_ms);
            }
        }
        let most =
            sent.iter().map(|from| sent.iter().filter(|at| (*from..*from + 60_000).contains(at)).count());
        assert_eq!(most.max(), Some(6), "600 bytes a minute are fewer than 7 nodes");
        assert!(sent.len() >= 54, "and 12 seconds in 65 are lost at most: {}", sent.len());
        assert!(recent.allows(Rate::default(), u64::MAX, 600_000), "no rate, no limit");
    }

    #[test]
    fn what_is_larger_than_a_minute_goes_alone() {
        let rate = Rate { nodes_per_min: 0, bytes_per_s: 1 };
        let mut recent = Recent::default();
        assert!(recent.allows(rate, 1 << 30, 0));
        recent.add(1 << 30, 0);
        assert!(!recent.allows(rate, 1, 64_999), "not in the same minute");
        assert!(recent.allows(rate, 1, 65_000));
    }
}
