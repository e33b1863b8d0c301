//! What nodes told of a release that answers beside the current one, and how often it says something else: a bound that may be
//! looked at after every report.
//!
//! Nodes differ, and so do questions: each answer has a chance of its own to part. Of the mean of those chances the interval
//! holds at all times, over the whole experiment, in all but α of experiments, whatever the chances are and come to be. With
//! λ fixed, `E exp(λX) = 1 + p (e^λ - 1)`, and the logarithm of that is concave in p; so `exp(λS - n ln(1 + p̄ (e^λ - 1)))`
//! is never above a martingale (Ville 1939, as [`crate::rollout::sequential`]). Mixed over λ on a grid: above 0 for the
//! lower end, below for the upper, half of α each.
//!
//! It says nothing of nodes that told nothing. So a verdict also wants a least number of nodes, none of which told most of it
//! ([`Sum::is_spread`]). That only keeps it from deciding, so it is wrong no more often than before.

use serde::{Deserialize, Serialize};
use wire::body::Shadow as Told;

use crate::experiment::plan::Bound;
use crate::experiment::sequence::Interval;

/// The sizes of λ, spread evenly by their logarithm: odds that are a hundredth more, up to some two million times as much.
const STEPS: i32 = 24;
const FIRST: f64 = 0.01;
const TIMES: f64 = 1.37;

/// How many nodes with the most disagreements are remembered.
const WORST: usize = 8;

/// Answers that were chosen to be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many were compared.
    pub compared: u64,
    /// How many of them said the same.
    pub agreed: u64,
    /// How many were not compared: the budget was spent, or the one before was not answered yet.
    pub skipped: u64,
    /// What it took of a core, in milliseconds.
    pub busy_ms: u64,
    /// What machines used meanwhile, in joules, of nodes that measure it.
    pub joules: Option<u64>,
}

impl Count {
    /// What a record tells; `None` if that cannot be. `at_most`: no node tells of more answers at once.
    pub fn of(told: &Told, at_most: u64) -> Option<Count> {
        let Told { compared, agreed, skipped, busy_ms, joules, .. } = *told;
        let can_be = agreed <= compared && compared <= at_most;
        can_be.then_some(Count { compared, agreed, skipped, busy_ms, joules })
    }

    /// Adds others.
    pub fn add(&mut self, other: &Count) {
        self.compared = self.compared.saturating_add(other.compared);
        self.agreed = self.agreed.saturating_add(other.agreed);
        self.skipped = self.skipped.saturating_add(other.skipped);
        self.busy_ms = self.busy_ms.saturating_add(other.busy_ms);
        self.joules = match (self.joules, other.joules) {
            (Some(ours), Some(theirs)) => Some(ours.saturating_add(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
    }

    /// How many of those that were compared said something else.
    pub fn parted(&self) -> u64 {
        self.compared.saturating_sub(self.agreed)
    }

    /// The share of them; `None`: none was compared.
    pub fn share(&self) -> Option<f64> {
        (self.compared > 0).then(|| self.parted() as f64 / self.compared as f64)
    }
}

/// What all nodes told. Stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// All of them together.
    pub all: Count,
    /// How many nodes told of an answer that was compared.
    pub nodes: u32,
    /// How many answers the node compared that compared the most.
    #[serde(default)]
    pub most: u64,
    /// Of those that told lately, those with the largest share that parts, the largest first.
    pub worst: Vec<OfNode>,
}

/// What one node told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfNode {
    /// Its name.
    pub node: String,
    /// What it told.
    pub count: Count,
}

impl Sum {
    /// A node told `more`, which makes `whole` of it.
    pub fn hear(&mut self, node: &str, more: &Count, whole: &Count) {
        self.all.add(more);
        if more.compared > 0 && more.compared == whole.compared {
            self.nodes = self.nodes.saturating_add(1);
        }
        self.most = self.most.max(whole.compared);
        self.worst.retain(|known| known.node != node);
        self.worst.push(OfNode { node: node.to_owned(), count: *whole });
        let share = |of: &OfNode| of.count.share().unwrap_or(0.0);
        self.worst.sort_by(|a, b| share(b).total_cmp(&share(a)));
        self.worst.truncate(WORST);
    }

    /// Whether what was told rests on as many nodes as the bound asks for, and on none of them more than it may.
    pub fn is_spread(&self, bound: &Bound) -> bool {
        let most = self.all.compared as f64 * bound.of_one();
        self.nodes >= bound.nodes && self.most as f64 <= most
    }
}

/// What the interval says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It parts less often than it may.
    Agrees,
    /// It parts more often.
    Parts,
    /// Enough was compared, and neither is known.
    Enough,
}

/// The share of answers that part, and where it lies; `None` while nothing was compared.
pub fn interval(count: &Count, alpha: f64) -> Option<Interval> {
    let change = count.share()?;
    let (n, parted) = (count.compared as f64, count.parted() as f64);
    let bound = (2.0 / alpha).ln();
    // The factor of the lower end falls as p grows, that of the upper end rises: each crosses the bound once.
    let low = crossing(|p| ln_e(n, parted, p, 1.0) >= bound);
    let high = 1.0 - crossing(|rest| ln_e(n, parted, 1.0 - rest, -1.0) >= bound);
    Some(Interval { change, low: low.min(change), high: high.max(change) })
}

/// What an interval says of a bound, if it says something.
pub fn finding(bound: &Bound, told: &Sum, found: Option<&Interval>) -> Option<Finding> {
    match found.filter(|_| told.is_spread(bound)) {
        Some(found) if found.high < bound.max() => Some(Finding::Agrees),
        Some(found) if found.low > bound.max() => Some(Finding::Parts),
        _ => (told.all.compared >= u64::from(bound.answers)).then_some(Finding::Enough),
    }
}

/// ln of the mixed factor against a mean chance of `p`; `way` is 1 for too small a `p`, -1 for too large a one.
fn ln_e(n: f64, parted: f64, p: f64, way: f64) -> f64 {
    let one = |step: i32| {
        let lambda = way * FIRST * TIMES.powi(step);
        lambda * parted - n * (p * lambda.exp_m1()).ln_1p()
    };
    let most = (0..STEPS).map(one).fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return most;
    }
    let sum: f64 = (0..STEPS).map(|step| (one(step) - most).exp()).sum();
    most + (sum / f64::from(STEPS)).ln()
}

/// Where between 0 and 1 something that holds for small values ends to hold.
fn crossing(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    if !holds(low) {
        return 0.0;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use wire::world::{Entropy as _, Simulated};

    use super::*;

    fn count(compared: u64, parted: u64) -> Count {
        Count { compared, agreed: compared - parted, ..Count::default() }
    }

    #[test]
    fn more_answers_say_more() {
        let check = |compared, parted, low: f64, high: f64| {
            let found = interval(&count(compared, parted), 0.05).unwrap();
            let near = |found: f64, expected: f64| (found - expected).abs() < 0.0006;
            assert!(near(found.low, low) && near(found.high, high), "{parted} of {compared}: {found:?}");
        };
        assert_eq!(interval(&count(0, 0), 0.05), None);
        // Reckoned once more in Python.
        check(20, 0, 0.0, 0.2185);
        check(100, 5, 0.0061, 0.1579);
        check(400, 0, 0.0, 0.0122);
        check(400, 80, 0.1373, 0.2740);
        check(2000, 40, 0.0110, 0.0326);
        check(6, 2, 0.0066, 0.9074);
        // Exact at the ends, and never past them.
        assert_eq!(interval(&count(10, 0), 0.05).unwrap().low, 0.0);
        assert_eq!(interval(&count(10, 10), 0.05).unwrap().high, 1.0);
        let wide = interval(&count(1 << 40, 1 << 39), 0.05).unwrap();
        assert!((wide.high - wide.low) < 0.02, "{wide:?}");
    }

    /// Nodes that differ, and change their minds: looked at after every answer, the interval misses the mean of the chances in
    /// at most α of all runs.
    #[test]
    fn looking_often_does_not_miss_whatever_the_chances_are() {
        let mut missed = 0;
        for seed in 0..400 {
            let mut world = Simulated::new(seed);
            let (mut seen, mut chances) = (count(0, 0), 0.0);
            let misses = (0..600u16).any(|at| {
                let chance =
                    [0.001, 0.2, 0.02, 0.9 * world.unit()][(usize::from(at) / 100 + seed as usize) % 4];
                chances += chance;
                seen.add(&count(1, u64::from(world.unit() < chance)));
                // Whether the interval has the mean, without looking for its ends.
                let (n, mean) = (f64::from(at + 1), chances / f64::from(at + 1));
                let out = |way| ln_e(n, seen.parted() as f64, mean, way) >= (2.0f64 / 0.05).ln();
                out(1.0) || out(-1.0)
            });
            missed += u32::from(misses);
        }
        println!("{missed} of 400 runs miss");
        assert!(missed <= 20, "{missed} of 400");
    }

    #[test]
    fn what_is_found_is_found_once_it_is_known() {
        let bound = Bound { max_ppm: 50_000, answers: 2000, nodes: 3, alpha_ppm: 50_000 };
        let finds = |told: &Sum| finding(&bound, told, interval(&told.all, bound.alpha()).as_ref());
        let check = |compared, parted, expected| {
            let told = Sum { all: count(compared, parted), nodes: 3, most: compared / 2, ..Sum::default() };
            assert_eq!(finds(&told), expected, "{parted} of {compared}");
        };
        check(0, 0, None);
        check(20, 0, None);
        check(400, 0, Some(Finding::Agrees));
        check(400, 80, Some(Finding::Parts));
        check(400, 20, None);
        check(2000, 100, Some(Finding::Enough));
        // The same figures, of fewer nodes or of one of them for the most part.
        let clear = Sum { all: count(400, 0), nodes: 3, most: 200, ..Sum::default() };
        assert_eq!(finds(&clear), Some(Finding::Agrees));
        assert_eq!(finds(&Sum { nodes: 2, ..clear.clone() }), None);
        assert_eq!(finds(&Sum { most: 201, ..clear.clone() }), None);
        let enough = Sum { all: count(2000, 0), nodes: 1, most: 2000, ..Sum::default() };
        assert_eq!(finds(&enough), Some(Finding::Enough), "enough, and nothing decided");
    }

    #[test]
    fn of_a_node_alone_all_may_be_and_of_many_nodes_little() {
        let check = |nodes, told: &[u64], expected| {
            let bound = Bound { max_ppm: 50_000, answers: 2000, nodes, alpha_ppm: 50_000 };
            let mut sum = Sum::default();
            for (at, compared) in told.iter().enumerate() {
                let count = count(*compared, 0);
                sum.hear(&format!("pump-{at}"), &count, &count);
            }
            assert_eq!(sum.is_spread(&bound), expected, "{nodes} nodes: {told:?}");
        };
        check(1, &[9], true);
        check(1, &[], false);
        check(2, &[2, 1], true);
        check(2, &[3, 1], false);
        check(3, &[10, 10], false);
        check(3, &[10, 9, 1], true);
        check(3, &[11, 9, 1], false);
        check(3, &[9, 0, 9], false);
        check(9, &[5; 9], true);
        check(9, &[5, 5, 5, 5, 5, 5, 5, 5, 11], false);
    }

    #[test]
    fn nodes_are_counted_once_and_the_worst_are_known() {
        let mut sum = Sum::default();
        for node in 0..20 {
            let more = count(100, node);
            sum.hear(&format!("pump-{node}"), &more, &more);
        }
        let mut whole = count(100, 19);
        let more = count(100, 0);
        whole.add(&more);
        sum.hear("pump-19", &more, &whole);
        assert_eq!((sum.nodes, sum.all.compared, sum.all.parted()), (20, 2100, 190));
        assert_eq!(sum.most, 200);
        // Who has compared nothing yet is counted when it has.
        let (mut whole, more) = (Count { skipped: 3, ..Count::default() }, count(5, 0));
        sum.hear("pump-x", &whole, &whole);
        assert_eq!(sum.nodes, 20);
        whole.add(&more);
        sum.hear("pump-x", &more, &whole);
        assert_eq!(sum.nodes, 21);
        let worst: Vec<&str> = sum.worst.iter().map(|of| of.node.as_str()).collect();
        assert_eq!(worst[..2], ["pump-18", "pump-17"]);
        assert_eq!(worst.len(), WORST);
    }

    #[test]
    fn what_cannot_be_is_not_counted() {
        let told = |compared, agreed| Told { compared, agreed, ..Told::default() };
        assert!(Count::of(&told(5, 5), 5).is_some());
        assert_eq!(Count::of(&told(5, 6), 10), None);
        assert_eq!(Count::of(&told(11, 6), 10), None);
    }
}
