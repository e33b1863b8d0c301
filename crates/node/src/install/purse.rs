//! What a model that answers beside the current one may use of the machine, minute by minute. Pure.
//!
//! An answer is begun while the minute's budget is not spent, and costs what it costs: what it takes beyond that is paid by the
//! minutes that follow. So in the long run no budget is exceeded, whatever a single answer takes.

use package::trust::shadow::Limits;
use wire::world::MonoNs;

const MINUTE_NS: u64 = 60_000_000_000;

/// The budget, and what was spent of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Purse {
    /// What a minute gives, in nanoseconds of a core.
    core_ns: u64,
    /// What a minute gives, in microjoules; absent: any.
    energy_uj: Option<u64>,
    /// When the minute began.
    began_ns: MonoNs,
    spent_ns: u64,
    spent_uj: u64,
}

impl Purse {
    /// A full one.
    pub fn new(limits: &Limits, now_ns: MonoNs) -> Purse {
        Purse {
            core_ns: MINUTE_NS / 1_000_000 * u64::from(limits.core_ppm),
            energy_uj: limits.joules.map(|joules| u64::from(joules) * 1_000_000),
            began_ns: now_ns,
            spent_ns: 0,
            spent_uj: 0,
        }
    }

    /// Whether one more answer may begin.
    pub fn may(&mut self, now_ns: MonoNs) -> bool {
        let minutes = now_ns.saturating_sub(self.began_ns) / MINUTE_NS;
        self.began_ns += minutes * MINUTE_NS;
        self.spent_ns = self.spent_ns.saturating_sub(self.core_ns.saturating_mul(minutes));
        let is_left = self.energy_uj.is_none_or(|energy_uj| {
            self.spent_uj = self.spent_uj.saturating_sub(energy_uj.saturating_mul(minutes));
            self.spent_uj < energy_uj
        });
        is_left && self.spent_ns < self.core_ns
    }

    /// An answer took so long, and so many microjoules, if they can be measured.
    pub fn spend(&mut self, took_ns: u64, used_uj: Option<u64>) {
        self.spent_ns = self.spent_ns.saturating_add(took_ns);
        self.spent_uj = self.spent_uj.saturating_add(used_uj.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn purse(joules: Option<u32>) -> Purse {
        // A twentieth of a core: 3 s of a minute.
        let limits =
            Limits { share_ppm: 1_000_000, core_ppm: 50_000, joules, memory_bytes: None, answers: 10 };
        Purse::new(&limits, 0)
    }

    #[test]
    fn a_minute_gives_so_much_and_debts_are_paid() {
        let mut purse = purse(None);
        assert!(purse.may(0));
        purse.spend(2 * SECOND_NS, Some(u64::MAX));
        assert!(purse.may(SECOND_NS), "not all is spent, and energy is not bounded");
        purse.spend(5 * SECOND_NS, None);
        assert!(!purse.may(59 * SECOND_NS));
        assert!(!purse.may(60 * SECOND_NS), "4 s are owed, a minute pays 3");
        assert!(!purse.may(119 * SECOND_NS));
        assert!(purse.may(120 * SECOND_NS));
        purse.spend(60 * SECOND_NS, None);
        assert!(!purse.may(600 * SECOND_NS));
        assert!(purse.may(3600 * SECOND_NS), "what was not used is not saved");
        purse.spend(3 * SECOND_NS, None);
        assert!(!purse.may(3600 * SECOND_NS));
    }

    #[test]
    fn energy_is_spent_where_it_is_measured() {
        let mut purse = purse(Some(60));
        purse.spend(1, None);
        assert!(purse.may(0));
        purse.spend(1, Some(60_000_000));
        assert!(!purse.may(0));
        assert!(purse.may(60 * SECOND_NS));
    }

    /// However long answers take, and whenever they come: over many minutes no more is spent than they give, but for the last.
    #[test]
    fn in_the_long_run_no_more_is_spent_than_there_is() {
        use wire::world::{Entropy as _, Simulated};
        for seed in 0..50 {
            let (mut world, mut purse) = (Simulated::new(seed), purse(None));
            let (mut now_ns, mut spent_ns, mut last_ns) = (0, 0, 0);
            for _ in 0..2000 {
                now_ns += (world.unit() * 10e9) as u64;
                if purse.may(now_ns) {
                    last_ns = (world.unit() * 20e9) as u64;
                    purse.spend(last_ns, None);
                    (spent_ns, now_ns) = (spent_ns + last_ns, now_ns + last_ns);
                }
            }
            let most = (now_ns / (60 * SECOND_NS) + 1) * 3 * SECOND_NS + last_ns;
            assert!(spent_ns <= most, "seed {seed}: {spent_ns} of {most}");
        }
    }
}
