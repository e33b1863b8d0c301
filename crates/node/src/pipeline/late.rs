//! Tells readings that come late from those of a clock that was set back a little.
//!
//! Both are dated before what is known already. What is late was held up somewhere and comes among others or in a burst; a clock
//! that was set back goes on as fast as time passes, and nothing newer comes beside it. Without this, a source whose clock was
//! set back by less than `max_gap` would say nothing until the clock has caught up with itself.

use wire::world::{MonoNs, WallMs};

use super::bulkhead::sabotage;

/// So long readings must look late, and pass like time, to be time.
const LONG_MS: i64 = 5_000;

/// A run of readings that all look late, each newer than the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Late {
    run: Option<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    began_ms: WallMs,
    began_ns: MonoNs,
    last_ms: WallMs,
}

impl Late {
    /// Notes one more; whether the run is time that passes.
    pub(super) fn is_time(&mut self, t_ms: WallMs, arrived_ns: MonoNs) -> bool {
        if sabotage::is_set("late") {
            return false;
        }
        let anew = Run { began_ms: t_ms, began_ns: arrived_ns, last_ms: t_ms };
        let run = self.run.get_or_insert(anew);
        if t_ms < run.last_ms {
            *run = anew;
            return false;
        }
        run.last_ms = t_ms;
        let took_ms = (arrived_ns.saturating_sub(run.began_ns) / 1_000_000) as i64;
        let says_ms = t_ms.saturating_sub(run.began_ms);
        if took_ms < LONG_MS {
            return false;
        }
        let is_time = (took_ms / 2..=took_ms.saturating_mul(2)).contains(&says_ms);
        if !is_time {
            *run = anew;
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings as (arrival, time) in milliseconds; the place of the first that is time, if one is.
    fn first(readings: impl IntoIterator<Item = (u64, i64)>) -> Option<usize> {
        let mut late = Late::default();
        readings.into_iter().position(|(arrived_ms, t_ms)| late.is_time(t_ms, arrived_ms * 1_000_000))
    }

    #[test]
    fn what_passes_like_time_is_time_and_a_burst_is_not() {
        assert_eq!(first((0..20).map(|n| (n * 1_000, n as i64 * 1_000))), Some(5));
        assert_eq!(first((0..20).map(|n| (n * 30_000, n as i64 * 30_000))), Some(1));
        assert_eq!(first((0..500).map(|n| (n, n as i64 * 1_000))), None, "half a second of minutes");
        // Held up for a minute each, in no order.
        assert_eq!(first((0..20).map(|n| (n * 1_000, [5, 9, 2][n as usize % 3] * 1_000))), None);
        // A burst, and then the clock goes on.
        let burst = (0..100).map(|n| (n, n as i64 * 1_000));
        let goes_on = (1..20).map(|n| (100 + n * 1_000, 100_000 + n as i64 * 1_000));
        assert_eq!(first(burst.chain(goes_on)), Some(109));
    }
}
