//! A feature in a running flow, and who listens to it.

use wire::id::PartName;
use wire::world::{MonoNs, WallMs};

use super::bulkhead::{Bulkhead, Part};
use super::products::Product;
use super::recent::Recent;
use crate::board::{Board, Slot};
use crate::feature::{Feature, FeatureConfig, Step};
use crate::why::why;

/// One feature with what belongs to it.
pub(super) struct Watched {
    pub(super) name: PartName,
    pub(super) names: Vec<String>,
    /// Its last rows, for digests.
    pub(super) recent: Recent,
    /// Models that look at it.
    pub(super) models: Vec<usize>,
    feature: Feature,
    /// Whether it knows its source's channels.
    bound: bool,
    /// Its numbers that somebody speaks of: which, and where they stand on the board.
    columns: Vec<(usize, Slot)>,
    row: Vec<f64>,
    /// Whether the row was put there by a rehearsal, and stays.
    pretended: bool,
    bulkhead: Bulkhead,
}

/// A reading on its way to a feature.
pub(super) struct Reached<'a> {
    pub(super) source: usize,
    pub(super) source_name: &'a PartName,
    pub(super) channels: &'a [String],
    pub(super) t_ms: WallMs,
    pub(super) values: &'a [f64],
    pub(super) now_ns: MonoNs,
}

impl Part for Watched {
    fn name(&self) -> &PartName {
        &self.name
    }
}

impl Watched {
    /// `slots`: its fields that somebody speaks of. `models`: those that look at it, the most of whose lags is `lag`.
    pub(super) fn new<'a>(
        config: &FeatureConfig,
        slots: impl Iterator<Item = (&'a str, Slot)>,
        models: Vec<usize>,
        lag: usize,
    ) -> Watched {
        let feature = Feature::new(config.clone());
        let names = feature.names().to_vec();
        let column = |name: &str| names.iter().position(|known| known == name);
        let columns = slots.filter_map(|(name, slot)| Some((column(name)?, slot))).collect();
        let (name, row) = (config.name.clone(), vec![f64::NAN; names.len()]);
        Watched {
            name,
            recent: Recent::new(lag),
            models,
            columns,
            row,
            names,
            feature,
            bound: false,
            pretended: false,
            bulkhead: Bulkhead::default(),
        }
    }

    /// Its source has other channels now: what it held is forgotten.
    pub(super) fn forget(&mut self) {
        self.bound = false;
        self.recent.clear();
    }

    /// Goes on where the same feature of another flow stands.
    pub(super) fn take_over(&mut self, other: Watched) {
        (self.feature, self.bound, self.row) = (other.feature, other.bound, other.row);
        self.bulkhead = other.bulkhead;
        self.recent.take_over(other.recent);
    }

    /// Its source says what its channels are; nothing comes of it if that is known.
    pub(super) fn open(
        &mut self,
        source: &PartName,
        channels: &[String],
        board: &mut Board,
    ) -> Option<Product> {
        if std::mem::replace(&mut self.bound, true) {
            return None;
        }
        self.columns.iter().for_each(|(_, slot)| board.forget(*slot));
        let (state, reason) = match self.feature.bind(source, channels) {
            Err(error) => ("failed", why(&error)),
            Ok(()) if self.feature.running() => ("ready", "its rate is written in the flow".to_owned()),
            Ok(()) => ("learning", "it measures the rate of its source".to_owned()),
        };
        Some(self.tell(state, reason))
    }

    /// Takes a reading of its source; true if a row is due, which then stands on the board too. If it panics it rests, and
    /// begins anew afterwards.
    pub(super) fn step(&mut self, reached: &Reached<'_>, board: &mut Board, out: &mut Vec<Product>) -> bool {
        let Reached { source, source_name, channels, t_ms, values, now_ns } = *reached;
        if self.bulkhead.rests(now_ns) {
            return false;
        }
        if self.bulkhead.is_down() {
            self.bulkhead.rise();
            self.forget();
            out.extend(self.open(source_name, channels, board));
        }
        let mut bulkhead = std::mem::take(&mut self.bulkhead);
        let stepped = bulkhead.run(self, now_ns, |own| own.look(source, t_ms, values, board, out));
        self.bulkhead = bulkhead;
        stepped.unwrap_or_else(|reason| {
            self.feature = Feature::new(self.feature.config().clone());
            self.row.fill(f64::NAN);
            self.columns.iter().for_each(|(_, slot)| board.number(*slot, source, t_ms, f64::NAN));
            out.push(self.tell("failed", reason));
            false
        })
    }

    fn look(
        &mut self,
        source: usize,
        t_ms: WallMs,
        values: &[f64],
        board: &mut Board,
        out: &mut Vec<Product>,
    ) -> bool {
        let told = match self.feature.step(t_ms, values) {
            _ if self.pretended => None,
            None => return false,
            Some(Step::Numbers(numbers)) => {
                self.row.copy_from_slice(numbers);
                None
            }
            Some(Step::Ready { rate_hz }) => {
                Some(("ready", format!("{rate_hz:.3} samples a second were measured")))
            }
            Some(Step::Failed(error)) => Some(("failed", why(&error))),
        };
        if let Some((state, reason)) = told {
            out.push(self.tell(state, reason));
            return false;
        }
        for (column, slot) in &self.columns {
            board.number(*slot, source, t_ms, self.row[*column]);
        }
        self.recent.remember(t_ms, &self.row);
        true
    }

    /// Gives these numbers from now on, whatever comes; what is not named is missing.
    pub(super) fn pretend(&mut self, values: &[(String, f64)]) {
        self.pretended = true;
        self.row.fill(f64::NAN);
        for (name, value) in values {
            if let Some(at) = self.names.iter().position(|known| known == name) {
                self.row[at] = *value;
            }
        }
    }

    /// The row that was given last.
    pub(super) fn row(&self) -> &[f64] {
        &self.row
    }

    fn tell(&self, state: &str, reason: String) -> Product {
        Product::part(&format!("feature.{}", self.name), state, reason)
    }
}
