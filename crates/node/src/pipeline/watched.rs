//! A feature in a running flow, and who listens to it.

use wire::id::PartName;
use wire::world::WallMs;

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
    /// Its numbers that somebody speaks of: which, and where they stand on the board.
    columns: Vec<(usize, Slot)>,
    row: Vec<f64>,
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
        Watched { name, recent: Recent::new(lag), models, columns, row, names, feature }
    }

    /// Its source says what its channels are: what it held is forgotten, on the board too.
    pub(super) fn open(&mut self, source: &PartName, channels: &[String], board: &mut Board) -> Product {
        self.columns.iter().for_each(|(_, slot)| board.forget(*slot));
        self.recent.clear();
        let (state, reason) = match self.feature.bind(source, channels) {
            Err(error) => ("failed", why(&error)),
            Ok(()) if self.feature.running() => ("ready", "its rate is written in the flow".to_owned()),
            Ok(()) => ("learning", "it measures the rate of its source".to_owned()),
        };
        self.tell(state, reason)
    }

    /// Takes a reading of its source; true if a row is due, which then stands on the board too.
    pub(super) fn step(
        &mut self,
        source: usize,
        t_ms: WallMs,
        values: &[f64],
        board: &mut Board,
        out: &mut Vec<Product>,
    ) -> bool {
        let Some(step) = self.feature.step(t_ms, values) else { return false };
        let told = match step {
            Step::Numbers(numbers) => {
                self.row.copy_from_slice(numbers);
                None
            }
            Step::Ready { rate_hz } => Some(("ready", format!("{rate_hz:.3} samples a second were measured"))),
            Step::Failed(error) => Some(("failed", why(&error))),
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

    /// The row that was given last.
    pub(super) fn row(&self) -> &[f64] {
        &self.row
    }

    fn tell(&self, state: &str, reason: String) -> Product {
        Product::part(&format!("feature.{}", self.name), state, reason)
    }
}
