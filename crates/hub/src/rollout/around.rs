//! How a model behaved on one node before its last change, and since: what a person looks at beside a gate's arms. Pure.
//!
//! *Before*: the manifest that answered last before the change. *Since*: the one that runs now, from the first hour on in
//! which the other did not answer any more. Of each the last week in which it told anything, so that both have all hours of
//! a day in them.

use wire::hash::Hash;
use wire::world::WallMs;

use crate::rollout::figures::{Day, HOUR_MS, Hour};

/// The longest stretch of either side, in hours.
const STRETCH_HOURS: i64 = 7 * 24;

/// One side of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// What answered.
    pub manifest: Hash,
    /// The beginning of its first hour.
    pub from_ms: WallMs,
    /// The end of its last.
    pub to_ms: WallMs,
    /// All that it told.
    pub told: Hour,
}

/// Both sides, as far as anything was told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Around {
    /// What answered before.
    pub before: Option<Side>,
    /// What runs now.
    pub since: Option<Side>,
}

/// The sides of the change to `current`, which was done at `turned_ms`; `None`: nobody knows when. `days`: what was told of a
/// model on a node, by day since 1970 and manifest.
pub fn around<'a>(
    days: impl IntoIterator<Item = (i64, Hash, &'a Day)>,
    current: Hash,
    turned_ms: Option<WallMs>,
) -> Around {
    let mut hours: Vec<(i64, Hash, &Hour)> = Vec::new();
    for (day, manifest, told) in days {
        hours.extend(told.hours().map(|(hour, told)| (day.saturating_mul(24) + hour, manifest, told)));
    }
    let turned = turned_ms.map_or(i64::MAX, |ms| ms.div_euclid(HOUR_MS));
    let others = hours.iter().filter(|(hour, manifest, _)| *manifest != current && *hour <= turned);
    let last = others.max_by_key(|(hour, ..)| *hour).map(|(hour, manifest, _)| (*hour, *manifest));
    let first = last.map_or(i64::MIN, |(hour, _)| hour.saturating_add(1));
    Around {
        before: last.and_then(|(hour, manifest)| side(&hours, manifest, i64::MIN, hour)),
        since: side(&hours, current, first, i64::MAX),
    }
}

/// The last stretch of a manifest's hours from `first` up to `last`.
fn side(hours: &[(i64, Hash, &Hour)], manifest: Hash, first: i64, last: i64) -> Option<Side> {
    let own = || hours.iter().filter(|(hour, of, _)| *of == manifest && (first..=last).contains(hour));
    let end = own().map(|(hour, ..)| *hour).max()?;
    let (mut told, mut begin) = (Hour::default(), end);
    for (hour, _, more) in own().filter(|(hour, ..)| *hour > end - STRETCH_HOURS) {
        told.add(more);
        begin = begin.min(*hour);
    }
    Some(Side {
        manifest,
        from_ms: begin.saturating_mul(HOUR_MS),
        to_ms: end.saturating_add(1).saturating_mul(HOUR_MS),
        told,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Days of manifests by what they told: `(hour since 1970, manifest, failed of a hundred)`.
    fn days(told: &[(i64, Hash, u64)]) -> HashMap<(i64, Hash), Day> {
        let mut days: HashMap<(i64, Hash), Day> = HashMap::new();
        for (hour, manifest, failed) in told {
            let text = format!(
                r#"{{"id":"x","model":"m","manifest":"{manifest}","from_ms":0,"to_ms":1,"answered":{},"failed":{failed}}}"#,
                100 - failed
            );
            let told = Hour::of(&serde_json::from_str(&text).unwrap());
            days.entry((hour.div_euclid(24), *manifest)).or_default().add(hour * HOUR_MS, &told);
        }
        days
    }

    #[test]
    fn each_side_is_the_last_week_of_what_answered() {
        let (old, new, tried) = (Hash::of(b"old"), Hash::of(b"new"), Hash::of(b"tried"));
        // The hours and the share of failures of either side.
        type Found = Option<(i64, i64, f64)>;
        #[track_caller]
        fn check(told: &[(i64, Hash, u64)], current: Hash, turned: Option<i64>, before: Found, since: Found) {
            let days = days(told);
            let all = days.iter().map(|((day, manifest), told)| (*day, *manifest, told));
            let found = around(all, current, turned.map(|hour| hour * HOUR_MS));
            let brief = |side: Option<Side>| {
                side.map(|side| {
                    let share = side.told.mean("failed_share").unwrap();
                    (side.from_ms / HOUR_MS, side.to_ms / HOUR_MS, (share * 1e6).round() / 1e6)
                })
            };
            assert_eq!((brief(found.before), brief(found.since)), (before, since));
        }
        // The last hour of the old one, which both were in, is no hour of the new one alone.
        let usual = [(10, old, 50), (1000, old, 2), (1001, old, 4), (1001, new, 90), (1002, new, 1)];
        check(&usual, new, Some(1001), Some((1000, 1002, 0.03)), Some((1002, 1003, 0.01)));
        check(&usual, new, None, Some((1000, 1002, 0.03)), Some((1002, 1003, 0.01)));
        // It went back: what was tried last answered before.
        let back = [(1000, old, 2), (1001, tried, 80), (1002, old, 3)];
        check(&back, old, Some(1002), Some((1001, 1002, 0.8)), Some((1002, 1003, 0.03)));
        // A candidate beside it, later, is no side of the last change.
        let beside = [(1000, old, 2), (1001, new, 3), (1002, new, 3), (1002, tried, 80)];
        check(&beside, new, Some(1001), Some((1000, 1001, 0.02)), Some((1001, 1003, 0.03)));
        check(&[(1000, new, 2)], new, Some(990), None, Some((1000, 1001, 0.02)));
        check(&[(1000, old, 2)], new, Some(1001), Some((1000, 1001, 0.02)), None);
        check(&[], new, None, None, None);
    }

    #[test]
    fn a_figure_has_its_own_unit_again() {
        let text = format!(
            r#"{{"id":"x","model":"m","manifest":"{}","from_ms":0,"to_ms":1,"answered":30,"failed":0,
                "latency_ms":{{"p50":4,"p95":9,"n":30}},"rss_bytes":4096,"joules":0.5}}"#,
            Hash::GENESIS
        );
        let hour = Hour::of(&serde_json::from_str(&text).unwrap());
        for (metric, expected) in
            [("p95_ms", 9.0), ("rss_bytes", 4096.0), ("joules", 0.5), ("failed_share", 0.0)]
        {
            let found = hour.mean(metric).unwrap();
            assert!((found - expected).abs() < 1e-9 * expected.max(1.0), "{metric}: {found}");
        }
        assert_eq!(hour.mean("drift"), None, "what nobody measured is absent");
    }
}
