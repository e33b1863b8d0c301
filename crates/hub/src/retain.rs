//! What is too old to keep. Pure; [`run`] carries it out.
//!
//! What is cut is a whole bucket of records (see [`crate::store::buckets`]), never sooner than the settings say and later by its
//! period at most, with all that was made of it.

pub mod run;

use std::ops::Range;

use wire::class::Class;
use wire::world::WallMs;

use crate::config::keep::KeepConfig;
use crate::rollout::figures::BEFORE_DAYS;
use crate::store::buckets::{self, DAY_MS, day_of};

/// A clock that has moved by more than this since the last look is not believed by itself.
pub const JUMP_MS: i64 = DAY_MS;

/// For how long after its end a code, or a wish to come in, can still be looked at.
const ENDED_MS: i64 = 30 * DAY_MS;

/// What may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuts {
    /// Buckets of each class.
    pub buckets: [(Class, Range<i64>); 4],
    /// Alerts without a record that were cleared before this.
    pub alerts_before_ms: WallMs,
    /// Days of samples before this.
    pub samples_before: i64,
    /// Days of samples before this need no hours any more, if no rollout is older.
    pub hours_before: i64,
    /// Refusals of releases before this.
    pub refused_before_ms: WallMs,
    /// Answers to requests that may be repeated until then.
    pub answers_before_ms: WallMs,
    /// Codes that counted until then, and wishes to come in from before.
    pub ended_before_ms: WallMs,
}

/// What may go now.
pub fn cut(keep: &KeepConfig, now_ms: WallMs) -> Cuts {
    let today = day_of(now_ms);
    let kept = |class| match class {
        Class::Audit => keep.audit,
        Class::Event => keep.event,
        Class::Metric => keep.metric,
        Class::Raw => keep.raw,
    };
    let before_ms = |days: i64| now_ms.saturating_sub(days.saturating_mul(DAY_MS));
    Cuts {
        buckets: Class::ALL.map(|class| (class, buckets::before(class, today - kept(class).get()))),
        alerts_before_ms: before_ms(keep.audit.get()),
        samples_before: today - keep.samples.get(),
        hours_before: today - 2 * BEFORE_DAYS,
        refused_before_ms: before_ms(keep.audit.get()),
        answers_before_ms: now_ms,
        ended_before_ms: now_ms.saturating_sub(ENDED_MS),
    }
}

/// Whether a clock that now says `now_ms` can be believed, the last look having been at `last_ms`. `agree` of `heard` nodes that
/// were heard of lately have about the same time. A hub that was off for long is believed if most of its nodes agree.
pub fn is_believed(last_ms: Option<WallMs>, now_ms: WallMs, agree: i64, heard: i64) -> bool {
    let Some(last_ms) = last_ms else { return true };
    now_ms.saturating_sub(last_ms).unsigned_abs() <= JUMP_MS.unsigned_abs() || agree * 2 > heard
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keep::Days;
    use crate::store::buckets::{bucket, first_day, period_days};

    /// Day by day, for two years: what is younger than asked is never cut, what is older by a period always.
    #[test]
    fn everything_goes_in_its_time_and_nothing_before() {
        let keep = KeepConfig { raw: Days::of(1), ..KeepConfig::default() };
        for today in 20_000..20_730 {
            let cuts = cut(&keep, today * DAY_MS + 5);
            for (class, range) in &cuts.buckets {
                let kept = [keep.audit, keep.event, keep.metric, keep.raw][*class as usize].get();
                for age in 0..kept + 2 * period_days(*class) {
                    let held = bucket(*class, today - age);
                    let gone = range.contains(&held);
                    assert!(!gone || age >= kept, "{class} of {age} days on {today}");
                    assert!(gone || age < kept + period_days(*class), "{class} of {age} days on {today}");
                    assert!(first_day(held) <= today - age);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_jumped_is_believed_if_nodes_agree() {
        assert!(is_believed(None, 5, 0, 0));
        assert!(is_believed(Some(0), JUMP_MS, 0, 0));
        assert!(!is_believed(Some(0), JUMP_MS + 1, 0, 0));
        assert!(!is_believed(Some(0), JUMP_MS + 1, 1, 2));
        assert!(is_believed(Some(0), JUMP_MS + 1, 2, 3));
        assert!(!is_believed(Some(JUMP_MS * 3), 0, 0, 0), "also back");
    }
}
