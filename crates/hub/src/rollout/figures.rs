//! How models behave, as test C needs it: of each node the change of a figure against itself, of those that have the
//! release and of those that were not offered it yet, over the same hours.
//!
//! *Before*: the last day that ended before the wave opened; of a node that has the release the last on which another
//! manifest answered. *After*: whole hours since then, of the manifest that the node runs now. An hour is the grain, so
//! that both arms see the same part of a day.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use wire::body::Behaviour;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::rollout::sequential::{Arms, Figures};
use crate::rollout::step::NodeNo;

/// An hour, the grain of all figures.
pub const HOUR_MS: i64 = 3_600_000;
/// How far back a day before may lie, in days.
pub const BEFORE_DAYS: i64 = 14;
/// How often the arms are reckoned.
const EVERY_MS: i64 = 60_000;
/// The most manifests that are remembered of one model on one node; a node that has more at once is no sample.
const MANIFESTS_MAX: usize = 16;

/// The figures that nodes tell.
pub const METRICS: [&str; 7] =
    ["p50_ms", "p95_ms", "rss_bytes", "joules", "drift", "failed_share", "abstained_share"];

/// A figure's values so far, weighed by how many answers each stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum(f64, f64);

impl Sum {
    fn of(value: f64, weight: u64) -> Option<Sum> {
        let total = value * weight as f64;
        (total.is_finite() && weight > 0).then_some(Sum(weight as f64, total))
    }

    fn add(&mut self, other: Sum) {
        let sum = Sum(self.0 + other.0, self.1 + other.1);
        // JSON has no infinity: what would be one is left out.
        if sum.0.is_finite() && sum.1.is_finite() {
            *self = sum;
        }
    }
}

/// What was told of an hour, by metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hour(BTreeMap<String, Sum>);

impl Hour {
    /// What one record tells. Sizes as logarithms: a change is then a ratio.
    pub fn of(told: &Behaviour) -> Hour {
        let ln = |value: f64, weight| (value > 0.0).then(|| Sum::of(value.ln(), weight)).flatten();
        let asked = told.answered.saturating_add(told.failed);
        let share = |part: u64, of: u64| (of > 0).then_some(Sum(of as f64, part as f64));
        let took = told.latency_ms;
        // What took less than a millisecond is told as 0.
        let ms = |ms: u32| f64::from(ms.max(1));
        let figures = [
            ("p50_ms", took.and_then(|took| ln(ms(took.p50), took.n))),
            ("p95_ms", took.and_then(|took| ln(ms(took.p95), took.n))),
            ("rss_bytes", told.rss_bytes.and_then(|bytes| ln(bytes as f64, 1))),
            ("joules", told.joules.and_then(|joules| ln(joules, told.answered))),
            ("drift", told.drift.and_then(|drift| Sum::of(drift, told.answered))),
            ("failed_share", share(told.failed, asked)),
            ("abstained_share", told.abstained.and_then(|part| share(part, told.answered))),
        ];
        let told = figures.into_iter().filter_map(|(name, sum)| Some((name.to_owned(), sum?)));
        Hour(told.collect())
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Hour) {
        for (name, sum) in &other.0 {
            self.0.entry(name.clone()).or_default().add(*sum);
        }
    }

    /// A figure on the scale that its changes are compared on: sizes as logarithms, shares as arcsines of their roots.
    pub fn figure(&self, metric: &str) -> Option<f64> {
        let Sum(weight, total) = *self.0.get(metric)?;
        let mean = total / weight;
        let value = if metric.ends_with("_share") { mean.clamp(0.0, 1.0).sqrt().asin() } else { mean };
        value.is_finite().then_some(value)
    }

    /// A figure in its own unit: of sizes the geometric mean, of shares and drift the mean.
    pub fn mean(&self, metric: &str) -> Option<f64> {
        let Sum(weight, total) = *self.0.get(metric)?;
        let mean = total / weight;
        let is_size = metric != "drift" && !metric.ends_with("_share");
        let value = if is_size { mean.exp() } else { mean };
        value.is_finite().then_some(value)
    }
}

/// A day of one manifest of a model on a node, by its hours, 0 to 23. Stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(BTreeMap<u8, Hour>);

impl Day {
    /// Takes what a record tells of a while that began at `at_ms`.
    pub fn add(&mut self, at_ms: WallMs, told: &Hour) {
        let hour = u8::try_from(at_ms.div_euclid(HOUR_MS).rem_euclid(24)).unwrap_or(0);
        self.0.entry(hour).or_default().add(told);
    }

    /// Its hours, 0 to 23; all of it stands in the first once it was [folded](Day::fold).
    pub fn hours(&self) -> impl Iterator<Item = (i64, &Hour)> {
        self.0.iter().map(|(hour, told)| (i64::from(*hour), told))
    }

    /// Makes one of its hours; false if it is one already.
    pub fn fold(&mut self) -> bool {
        if self.0.len() < 2 {
            return false;
        }
        self.0 = BTreeMap::from([(0, self.whole())]);
        true
    }

    /// All of it together.
    pub fn whole(&self) -> Hour {
        let mut whole = Hour::default();
        self.0.values().for_each(|told| whole.add(told));
        whole
    }
}

/// The day of a time.
pub fn day_of(at_ms: WallMs) -> i64 {
    at_ms.div_euclid(24 * HOUR_MS)
}

/// One manifest of a model on a node.
#[derive(Debug, Clone, Default)]
struct Tale {
    /// The last day before the wave opened of which something was told, and what.
    before: (i64, Hour),
    /// Since then.
    after: Hour,
}

/// What a node told of one model, by manifest.
type Tales = HashMap<Hash, Tale>;

/// A node in the comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Whether it was offered the release, and runs it.
    pub treated: bool,
    /// The manifest that it runs of each of the plan's models; `None`: none, or, if it is treated, not yet the release's.
    pub runs: Vec<Option<Hash>>,
}

/// What nodes told of a plan's models around the opening of one wave.
#[derive(Debug)]
pub struct Told {
    /// When the wave opened.
    since_ms: WallMs,
    /// When the arms were last reckoned.
    reckoned_ms: WallMs,
    /// By node and the model's place in the plan.
    tales: BTreeMap<(NodeNo, usize), Tales>,
}

impl Told {
    /// Nothing yet, of a wave that opened then.
    pub fn new(since_ms: WallMs) -> Told {
        Told { since_ms, reckoned_ms: WallMs::MIN, tales: BTreeMap::new() }
    }

    /// When the wave opened.
    pub fn since_ms(&self) -> WallMs {
        self.since_ms
    }

    /// Takes in a day as it is stored.
    pub fn recall(&mut self, node: NodeNo, at: usize, manifest: Hash, day: i64, told: &Day) {
        for (hour, told) in &told.0 {
            let at_ms = day.saturating_mul(24).saturating_add(i64::from(*hour)).saturating_mul(HOUR_MS);
            self.hear(node, at, manifest, at_ms, told);
        }
    }

    /// Takes in what was told of a while that began at `at_ms`. `at`: the model's place in the plan.
    pub fn hear(&mut self, node: NodeNo, at: usize, manifest: Hash, at_ms: WallMs, told: &Hour) {
        let tales = self.tales.entry((node, at)).or_default();
        if tales.len() >= MANIFESTS_MAX && !tales.contains_key(&manifest) {
            return;
        }
        let Tale { before, after } = tales.entry(manifest).or_default();
        let (day, opened) = (day_of(at_ms), day_of(self.since_ms));
        if at_ms.div_euclid(HOUR_MS) * HOUR_MS >= self.since_ms {
            after.add(told);
        } else if day < opened && day >= before.0 && day >= opened - BEFORE_DAYS {
            if day > before.0 {
                *before = (day, Hour::default());
            }
            before.1.add(told);
        }
    }

    /// Whether the arms may be reckoned again.
    pub fn is_due(&self, now_ms: WallMs) -> bool {
        now_ms >= self.reckoned_ms.saturating_add(EVERY_MS)
    }

    /// Each metric's arms now. `who`: what a node is; `None` if it is in neither arm.
    pub fn arms(
        &mut self,
        metrics: &[&str],
        mut who: impl FnMut(NodeNo) -> Option<Sampled>,
        now_ms: WallMs,
    ) -> Figures {
        self.reckoned_ms = now_ms;
        let mut by_node: BTreeMap<NodeNo, Vec<(usize, &Tales)>> = BTreeMap::new();
        for ((node, at), tales) in &self.tales {
            by_node.entry(*node).or_default().push((*at, tales));
        }
        let mut figures = Figures::new();
        for (node, models) in by_node {
            let Some(sampled) = who(node) else { continue };
            for metric in metrics {
                // Of two models that a plan changes together a node has one figure: their mean. The unit is the node.
                let change = |(at, tales): &(usize, &Tales)| {
                    let runs = (*sampled.runs.get(*at)?)?;
                    change(tales, &runs, sampled.treated, metric)
                };
                let changes: Vec<f64> = models.iter().filter_map(change).collect();
                if changes.is_empty() {
                    continue;
                }
                let mean = changes.iter().sum::<f64>() / changes.len() as f64;
                let Arms { treated, held_out } = figures.entry((*metric).to_owned()).or_default();
                if sampled.treated { treated.add(mean) } else { held_out.add(mean) }
            }
        }
        figures
    }
}

/// After minus before.
fn change(tales: &Tales, runs: &Hash, treated: bool, metric: &str) -> Option<f64> {
    let after = tales.get(runs)?.after.figure(metric)?;
    let of_before = tales.iter().filter(|(manifest, _)| (*manifest == runs) != treated);
    let told = of_before.filter_map(|(_, tale)| Some((tale.before.0, tale.before.1.figure(metric)?)));
    let (_, before) = told.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))?;
    Some(after - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * HOUR_MS;

    fn told(answered: u64, failed: u64, drift: f64) -> Hour {
        let text = format!(
            r#"{{"id":"x","model":"m","manifest":"{}","from_ms":0,"to_ms":1,"answered":{answered},"failed":{failed},"drift":{drift}}}"#,
            Hash::GENESIS
        );
        Hour::of(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_day_is_kept_whole_whatever_is_told() {
        let mut day = Day::default();
        for hour in 0..30 {
            day.add(hour * HOUR_MS, &told(7, 1, 1e308));
            day.add(hour * HOUR_MS, &told(u64::MAX, u64::MAX, 1.5));
        }
        let text = serde_json::to_string(&day).unwrap();
        assert_eq!(serde_json::from_str::<Day>(&text).unwrap(), day);
        assert_eq!(day.0.len(), 24);
    }

    /// The wave opens at 12:30 on day 20.
    #[test]
    fn before_is_the_last_whole_day_and_after_begins_with_the_next_hour() {
        let opened = 20 * DAY_MS + 25 * HOUR_MS / 2;
        let (old, new) = (Hash::of(b"old"), Hash::of(b"new"));
        let mut all = Told::new(opened);
        let mut hear =
            |node, manifest, at_ms, failed| all.hear(node, 0, manifest, at_ms, &told(100, failed, 0.0));
        for node in [1, 2] {
            hear(node, old, 5 * DAY_MS, 50); // longer ago than two weeks
            hear(node, old, 18 * DAY_MS, 40);
            hear(node, old, 19 * DAY_MS, 0);
            hear(node, old, 20 * DAY_MS + 12 * HOUR_MS, 90); // neither before nor after
        }
        hear(1, new, 20 * DAY_MS + 13 * HOUR_MS, 300);
        hear(2, old, 20 * DAY_MS + 13 * HOUR_MS, 100);
        hear(3, new, 20 * DAY_MS + 13 * HOUR_MS, 100); // has no before
        let who = |node| {
            let treated = node != 2;
            Some(Sampled { treated, runs: vec![Some(if treated { new } else { old })] })
        };
        assert!(all.is_due(0));
        let figures = all.arms(&["failed_share", "joules"], who, 1000);
        assert!(!all.is_due(60_999) && all.is_due(61_000));
        assert_eq!(figures.len(), 1, "nobody told of energy");
        let Arms { treated, held_out } = figures["failed_share"];
        assert_eq!((treated.n, held_out.n), (1, 1));
        // arcsin √¾ and arcsin √½, from nothing.
        assert!((treated.mean - std::f64::consts::FRAC_PI_3).abs() < 1e-9, "{treated:?}");
        assert!((held_out.mean - std::f64::consts::FRAC_PI_4).abs() < 1e-9, "{held_out:?}");
    }
}
