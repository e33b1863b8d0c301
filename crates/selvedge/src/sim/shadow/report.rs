//! What many watches say together, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::sim::report::{Share, spread};
use crate::sim::shadow::setup::Night;

/// Many runs together.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) runs: usize,
    /// The seed of the first run; the others follow.
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    /// How many of them the plan means.
    pub(crate) meant: usize,
    /// How runs ended, most often first.
    pub(crate) verdicts: Vec<(String, usize)>,
    /// Of the runs that say something: those that say the truth of the answers that were compared, with the 95 % interval.
    pub(crate) right: Share,
    /// How many say something.
    pub(crate) decided: usize,
    /// The same of all that is asked where the plan means.
    pub(crate) right_of_fleet: Share,
    /// How often answers part that were compared, and all that are asked: means over the runs.
    pub(crate) parts: Option<f64>,
    pub(crate) parts_of_fleet: f64,
    /// From here on median, and 99 of 100 runs at most. Hours until the verdict.
    pub(crate) hours: (f64, f64),
    /// Nodes that told.
    pub(crate) told: (u32, u32),
    pub(crate) compared: (u64, u64),
    pub(crate) skipped: (u64, u64),
    pub(crate) disagreements: (u64, u64),
    /// Hours of a core, on all nodes together.
    pub(crate) core_hours: (f64, f64),
    /// The share of a core that the busiest node gave.
    pub(crate) busiest: (f64, f64),
    /// Joules, of machines that measure them.
    pub(crate) joules: Option<(f64, f64)>,
    /// How often the release was fetched.
    pub(crate) fetched: (u32, u32),
    /// Nodes that refused it.
    pub(crate) failed: (u32, u32),
}

impl Report {
    /// Sums up.
    pub(crate) fn new(nights: &[Night], nodes: usize, meant: usize) -> Report {
        let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
        for night in nights {
            let verdict = night.verdict.clone().unwrap_or_else(|| "not over in time".to_owned());
            *verdicts.entry(verdict).or_insert(0) += 1;
        }
        let mut verdicts: Vec<(String, usize)> = verdicts.into_iter().collect();
        verdicts.sort_by_key(|(verdict, runs)| (std::cmp::Reverse(*runs), verdict.clone()));
        let right = |of: fn(&Night) -> Option<bool>| {
            let said: Vec<bool> = nights.iter().filter_map(of).collect();
            (Share::new(said.iter().filter(|right| **right).count(), said.len()), said.len())
        };
        let ((right, decided), (right_of_fleet, _)) =
            (right(|night| night.right), right(|night| night.right_of_fleet));
        let parts: Vec<f64> = nights.iter().filter_map(|night| night.truth).collect();
        let of_fleet: f64 = nights.iter().map(|night| night.truth_of_fleet).sum();
        let joules: Vec<f64> = nights.iter().filter_map(|night| night.joules).collect();
        Report {
            runs: nights.len(),
            seed: nights.first().map_or(0, |night| night.seed),
            nodes,
            meant,
            verdicts,
            right,
            decided,
            right_of_fleet,
            parts: (!parts.is_empty()).then(|| parts.iter().sum::<f64>() / parts.len() as f64),
            parts_of_fleet: of_fleet / nights.len().max(1) as f64,
            hours: spread(nights.iter().map(|night| night.took_ms as f64 / 3_600_000.0).collect()),
            told: spread(nights.iter().map(|night| night.nodes).collect()),
            compared: spread(nights.iter().map(|night| night.compared).collect()),
            skipped: spread(nights.iter().map(|night| night.skipped).collect()),
            disagreements: spread(nights.iter().map(|night| night.disagreements).collect()),
            core_hours: spread(nights.iter().map(|night| night.core_s / 3600.0).collect()),
            busiest: spread(nights.iter().map(|night| night.busiest).collect()),
            joules: (!joules.is_empty()).then(|| spread(joules)),
            fetched: spread(nights.iter().map(|night| night.fetched).collect()),
            failed: spread(nights.iter().map(|night| night.failed).collect()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { runs, seed, nodes, meant, decided, .. } = self;
        writeln!(f, "{runs} runs from seed {seed}; {nodes} nodes, {meant} meant")?;
        for (verdict, runs) in &self.verdicts {
            writeln!(f, "  {runs:>6}  {verdict}")?;
        }
        let percent = |share: f64| share * 100.0;
        let parts = self.parts.map_or_else(|| "none".to_owned(), |share| format!("{:.2} %", percent(share)));
        let of_fleet = percent(self.parts_of_fleet);
        writeln!(
            f,
            "answers that part, in truth: {parts} of those compared, {of_fleet:.2} % of all that is asked"
        )?;
        if *decided > 0 {
            writeln!(f, "right of the answers compared: {} of {decided} that say something", self.right)?;
            writeln!(f, "right of the whole fleet: {}", self.right_of_fleet)?;
        }
        let pair = |(median, most): (f64, f64)| format!("{median:.1} (median), {most:.1} (99 %)");
        writeln!(f, "hours until the verdict: {}", pair(self.hours))?;
        writeln!(f, "nodes that told: {} (median), {} (99 %)", self.told.0, self.told.1)?;
        writeln!(
            f,
            "answers compared: {} (median), {} (99 %); passed over: {}, {}",
            self.compared.0, self.compared.1, self.skipped.0, self.skipped.1
        )?;
        writeln!(
            f,
            "records of disagreements: {} (median), {} (99 %)",
            self.disagreements.0, self.disagreements.1
        )?;
        let busiest = (percent(self.busiest.0), percent(self.busiest.1));
        writeln!(f, "hours of a core, all nodes: {}", pair(self.core_hours))?;
        writeln!(f, "per cent of a core, the busiest node: {}", pair(busiest))?;
        if let Some((median, most)) = self.joules {
            writeln!(f, "kilojoules while it answered: {}", pair((median / 1e3, most / 1e3)))?;
        }
        writeln!(f, "fetched so often: {} (median), {} (99 %)", self.fetched.0, self.fetched.1)?;
        write!(f, "nodes that refused it: {} (median), {} (99 %)", self.failed.0, self.failed.1)
    }
}
