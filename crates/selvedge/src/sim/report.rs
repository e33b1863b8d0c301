//! What many runs say together, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::sim::setup::{End, Night};

/// Many runs together.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) runs: usize,
    /// The seed of the first run; the others follow.
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) members: usize,
    /// How runs ended, most often first.
    pub(crate) ends: Vec<(String, usize)>,
    /// Runs that were stopped in the first wave or its canaries, with the 95 % interval of their share.
    pub(crate) stopped_first: Share,
    /// Runs that went through.
    pub(crate) done: Share,
    /// Nodes that the release ever served on: median, and 99 of 100 runs at most.
    pub(crate) exposed: (u32, u32),
    /// Hours until it ended: the same.
    pub(crate) hours: (f64, f64),
    /// The most nodes that got it in a minute.
    pub(crate) most_a_minute: u32,
}

/// A share of runs.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Share {
    pub(crate) runs: usize,
    pub(crate) share: f64,
    /// Wilson's interval, 95 %.
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Share {
    pub(crate) fn new(runs: usize, of: usize) -> Share {
        let (n, z) = (of.max(1) as f64, 1.96);
        let p = runs as f64 / n;
        let middle = p + z * z / (2.0 * n);
        let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        let under = 1.0 + z * z / n;
        Share {
            runs,
            share: p,
            from: ((middle - half) / under).max(0.0),
            to: ((middle + half) / under).min(1.0),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        let Share { runs, share, from, to } = *self;
        write!(f, "{runs} runs, {:.2} % ({:.2} to {:.2})", percent(share), percent(from), percent(to))
    }
}

impl Report {
    /// Sums up.
    pub(crate) fn new(nights: &[Night], nodes: usize, members: usize) -> Report {
        let mut ends: BTreeMap<String, usize> = BTreeMap::new();
        for night in nights {
            let end = match &night.end {
                End::Done => "done".to_owned(),
                End::Stopped { wave } => format!("stopped in wave {wave}"),
                End::Asked { about } => format!("asked a person about {about}"),
                End::Aborted => "given up".to_owned(),
                End::Late => "not over in time".to_owned(),
            };
            *ends.entry(end).or_insert(0) += 1;
        }
        let mut ends: Vec<(String, usize)> = ends.into_iter().collect();
        ends.sort_by_key(|(end, runs)| (std::cmp::Reverse(*runs), end.clone()));
        let first = nights.iter().filter(|night| matches!(night.end, End::Stopped { wave: 0 | 1 })).count();
        let done = nights.iter().filter(|night| night.end == End::Done).count();
        let hours = |night: &Night| night.took_ms as f64 / 3_600_000.0;
        Report {
            runs: nights.len(),
            seed: nights.first().map_or(0, |night| night.seed),
            nodes,
            members,
            ends,
            stopped_first: Share::new(first, nights.len()),
            done: Share::new(done, nights.len()),
            exposed: spread(nights.iter().map(|night| night.exposed).collect()),
            hours: spread(nights.iter().map(hours).collect()),
            most_a_minute: nights.iter().map(|night| night.most_a_minute).max().unwrap_or(0),
        }
    }
}

/// Median, and what 99 of 100 do not pass.
pub(crate) fn spread<T: PartialOrd + Copy + Default>(mut values: Vec<T>) -> (T, T) {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let at = |percent: usize| {
        let place = (values.len().saturating_sub(1) * percent).div_ceil(100);
        values.get(place).copied().unwrap_or_default()
    };
    (at(50), at(99))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs from seed {}; {} nodes, {} meant",
            self.runs, self.seed, self.nodes, self.members
        )?;
        for (end, runs) in &self.ends {
            writeln!(f, "  {runs:>6}  {end}")?;
        }
        writeln!(f, "stopped before the second wave: {}", self.stopped_first)?;
        writeln!(f, "went through: {}", self.done)?;
        writeln!(f, "nodes that it ever served on: {} (median), {} (99 %)", self.exposed.0, self.exposed.1)?;
        writeln!(f, "hours until the end: {:.1} (median), {:.1} (99 %)", self.hours.0, self.hours.1)?;
        write!(f, "most nodes that got it in one minute: {}", self.most_a_minute)
    }
}
