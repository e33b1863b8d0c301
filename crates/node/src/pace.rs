//! Keeps a rate: a bucket that fills with so many bytes a second, and that what comes empties. Pure.
//!
//! What came is paid for afterwards, since nobody knows before how large a piece is; over any time the rate is kept but
//! for one bucket.

use wire::world::MonoNs;

const SECOND_NS: u128 = 1_000_000_000;

/// The time that a full bucket lasts.
const FULL_NS: u128 = SECOND_NS / 4;

/// A rate.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_s: u64,
    /// When all that came will be paid for.
    paid_ns: u128,
}

impl Pace {
    /// At most so many bytes a second; `None` or 0: as they come.
    pub fn new(bytes_per_s: Option<u64>) -> Pace {
        Pace { bytes_per_s: bytes_per_s.unwrap_or(0), paid_ns: 0 }
    }

    /// So many bytes came; gives how long to wait before taking more.
    pub fn wait_ns(&mut self, bytes: u64, now: MonoNs) -> MonoNs {
        if self.bytes_per_s == 0 {
            return 0;
        }
        let now = u128::from(now);
        let costs_ns = u128::from(bytes) * SECOND_NS / u128::from(self.bytes_per_s);
        self.paid_ns = self.paid_ns.max(now.saturating_sub(FULL_NS)) + costs_ns;
        u64::try_from(self.paid_ns.saturating_sub(now)).unwrap_or(MonoNs::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_any_time() {
        let mut pace = Pace::new(Some(1_000_000));
        let (mut now, mut came) = (5_000_000_000, 0);
        for piece in [1, 64 << 10, 1 << 20, 3, 700_000, 16 << 10].into_iter().cycle().take(600) {
            came += piece;
            now += pace.wait_ns(piece, now);
            let fair_ns = came * 1000;
            assert!(now - 5_000_000_000 + 250_000_000 >= fair_ns, "{came} bytes at {now}");
            assert!(now - 5_000_000_000 <= fair_ns, "waits no longer than it must");
        }
        // Time in which nothing came does not add up.
        now += 3_600_000_000_000;
        assert_eq!(pace.wait_ns(250_000, now), 0);
        assert_eq!(pace.wait_ns(1_000_000, now), 1_000_000_000);
        assert_eq!(Pace::new(None).wait_ns(u64::MAX, 7), 0);
        assert!(Pace::new(Some(1)).wait_ns(u64::MAX, 7) == MonoNs::MAX, "never overflows");
    }
}
