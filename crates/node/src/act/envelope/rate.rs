//! Counts what may happen so often in so long.

use std::collections::VecDeque;

use wire::world::MonoNs;

/// Times within a window that moves.
#[derive(Debug)]
pub(super) struct Starts {
    most: usize,
    per_ns: MonoNs,
    /// The latest, at most `most` of them, oldest first.
    times_ns: VecDeque<MonoNs>,
}

impl Starts {
    /// Nothing has happened.
    pub(super) fn new(most: u32, per_ns: MonoNs) -> Starts {
        Starts { most: most as usize, per_ns, times_ns: VecDeque::new() }
    }

    /// All that may happen has happened just now.
    pub(super) fn used_up(most: u32, per_ns: MonoNs, now_ns: MonoNs) -> Starts {
        let times_ns = std::iter::repeat_n(now_ns, most as usize).collect();
        Starts { most: most as usize, per_ns, times_ns }
    }

    /// Whether it may happen once more.
    pub(super) fn may(&self, now_ns: MonoNs) -> bool {
        match self.times_ns.front() {
            Some(oldest_ns) if self.times_ns.len() >= self.most => {
                now_ns.saturating_sub(*oldest_ns) >= self.per_ns
            }
            _ => true,
        }
    }

    /// It happens.
    pub(super) fn begin(&mut self, now_ns: MonoNs) {
        if self.times_ns.len() >= self.most {
            self.times_ns.pop_front();
        }
        self.times_ns.push_back(now_ns);
    }

    /// The latest may have reached the device as late as now.
    pub(super) fn late(&mut self, now_ns: MonoNs) {
        if let Some(last_ns) = self.times_ns.back_mut() {
            *last_ns = now_ns;
        }
    }
}
