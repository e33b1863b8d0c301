//! A source says what its channels are: whatever watches it is joined to them, or fails alone and says so.
//!
//! The one place where parts of a flow meet the channels of a source; it is run again when a source comes back with other ones, and
//! when another flow goes on with a source that is open.

use super::Pipeline;
use super::lane::Open;
use super::look::bind;
use super::products::Product;
use crate::board::Slot;
use crate::flow::names::PartAt;
use crate::health::Health;
use crate::source::csv::MAX_COLUMNS;
use crate::why::why;

/// Bytes that all of a source's channel names may have together, written as JSON. They stand in each raw record, which stays below
/// `wire::record::BODY_MAX_BYTES`.
const NAMES_MAX_BYTES: usize = 48 * 1024;

/// A source that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No channel, or more than a record holds.
    #[error("a source has 1 to {max} channels, this one has {found}")]
    Channels {
        /// As found.
        found: usize,
        /// The most.
        max: usize,
    },
    /// The names alone would fill a record.
    #[error("the names of the channels have {found} bytes together, the most is {NAMES_MAX_BYTES}")]
    Names {
        /// As found.
        found: usize,
    },
}

impl Pipeline {
    /// A source says what its channels are. Models and rules that cannot work with them fail alone, and say so.
    pub fn open(
        &mut self,
        source: usize,
        channels: &[String],
        out: &mut Vec<Product>,
    ) -> Result<(), OpenError> {
        let lane = &mut self.lanes[source];
        if lane.open.as_ref().is_some_and(|open| open.channels == channels) {
            return Ok(());
        }
        if let Some(mut before) = lane.open.take() {
            before.close_block(&lane.config.name, out);
            before.summary.close(&lane.config, &before.channels, out);
        }
        if channels.is_empty() || channels.len() > MAX_COLUMNS {
            return Err(OpenError::Channels { found: channels.len(), max: MAX_COLUMNS });
        }
        // As they stand in each record.
        let found = serde_json::to_vec(channels).map_or(0, |names| names.len());
        if found > NAMES_MAX_BYTES {
            return Err(OpenError::Names { found });
        }

        let settings = lane.config.health.as_ref();
        let health = settings.map(|settings| Health::new(&lane.config.name, channels, settings));
        let part = || format!("source.{}.health", lane.config.name);
        let mut health = health.transpose().unwrap_or_else(|error| {
            out.push(Product::part(&part(), "failed", why(&error)));
            None
        });
        if let Some((health, stored)) = health.as_mut().zip(lane.habits.take())
            && let Err(error) = health.recall(&stored)
        {
            out.push(Product::part(&part(), "learning", why(&error)));
        }
        for at in &lane.features {
            self.features[*at].forget();
        }
        let open = Open::new(&lane.config, channels, health);
        for (field, slot) in self.fields.iter().zip((0..).map(Slot)) {
            let is_of = match field.part {
                PartAt::Source(at) => at == source,
                PartAt::Feature(at) => lane.features.contains(&at),
                PartAt::Model(at) => {
                    let of_feature = |feature: &usize| self.features[*feature].models.contains(&at);
                    lane.models.contains(&at) || lane.features.iter().any(of_feature)
                }
                PartAt::Network(at) => self.networks.get(at).config().source == source,
                PartAt::Rule(_) => false,
            };
            if is_of {
                self.board.forget(slot);
            }
        }
        self.networks.close(source);
        self.go_on(source, open, out);
        Ok(())
    }

    /// Joins an open source to the models that watch it and the conditions that speak of it.
    pub(super) fn go_on(&mut self, source: usize, mut open: Open, out: &mut Vec<Product>) {
        let lane = &mut self.lanes[source];
        let channels = &open.channels;
        for at in &lane.models {
            if !self.models[*at].knows(channels) {
                let stored = self.stored[*at].take();
                out.push(bind(&mut self.models[*at], channels, stored.as_deref()));
            }
        }
        for at in &lane.features {
            let watched = &mut self.features[*at];
            out.extend(watched.open(&lane.config.name, channels, &mut self.board));
            for at in &watched.models {
                if !self.models[*at].knows(&watched.names) {
                    let stored = self.stored[*at].take();
                    out.push(bind(&mut self.models[*at], &watched.names, stored.as_deref()));
                }
            }
        }
        self.networks.open(source, channels.len(), &self.crumb, out);
        let mut columns = Vec::new();
        for (field, slot) in self.fields.iter().zip((0..).map(Slot)) {
            if field.part != PartAt::Source(source) {
                continue;
            }
            let channel = &field.name;
            if let Some(at) = channels.iter().position(|name| name == channel) {
                columns.push((at, slot));
                continue;
            }
            // Whatever else such a rule speaks of it still hears: to it the value is missing.
            for rule in self.rules.iter().filter(|rule| rule.config().slots().any(|read| read == slot)) {
                let part = format!("rule.{}", rule.config().name);
                let reason = format!("`source.{}` has no channel `{channel}`", lane.config.name);
                out.push(Product::part(&part, "failed", reason));
            }
        }
        let lags = lane.models.iter().map(|model| self.models[*model].config().lag);
        open.recent.resize(lags.max().unwrap_or(1).max(self.networks.keep(source)));
        open.columns = columns;
        lane.open = Some(open);
    }
}
