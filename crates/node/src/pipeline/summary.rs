//! Summarises a source's readings: per channel the smallest, mean and largest value, per model the highest score.
//!
//! Stretches are cut at multiples of `summary` of the source's clock, so that nodes with the same setting cut alike.

use wire::body::{ChannelSummary, ModelSummary, Summary};
use wire::id::PartName;
use wire::world::WallMs;

use super::products::Product;
use crate::flow::source::SourceConfig;
use crate::model::Verdict;

/// A stretch being summarised.
pub(super) struct Tracker {
    from_ms: WallMs,
    to_ms: WallMs,
    count: u64,
    channels: Vec<Channel>,
    models: Vec<ModelSummary>,
}

#[derive(Clone, Copy)]
struct Channel {
    min: f64,
    sum: f64,
    max: f64,
    present: u64,
}

impl Channel {
    const EMPTY: Channel = Channel { min: f64::INFINITY, sum: 0.0, max: f64::NEG_INFINITY, present: 0 };
}

impl Tracker {
    pub(super) fn new(channels: usize) -> Tracker {
        Tracker {
            from_ms: 0,
            to_ms: 0,
            count: 0,
            channels: vec![Channel::EMPTY; channels],
            models: Vec::new(),
        }
    }

    /// Closes the stretch if a reading at `t_ms` does not belong to it.
    pub(super) fn begin(
        &mut self,
        t_ms: WallMs,
        source: &SourceConfig,
        channels: &[String],
        out: &mut Vec<Product>,
    ) {
        let stretch = |t_ms: WallMs| t_ms.div_euclid(source.summary_ms);
        if self.count > 0 && stretch(t_ms) != stretch(self.from_ms) {
            self.close(source, channels, out);
        }
        if self.count == 0 {
            self.from_ms = t_ms;
        }
    }

    /// Takes a model's verdict on the reading. `place`: which of the source's models.
    pub(super) fn judge(&mut self, place: usize, model: &PartName, verdict: Verdict) {
        if verdict.score.is_nan() {
            return;
        }
        let at = match self.models.get(place) {
            Some(known) if known.model == *model => place,
            _ => match self.models.iter().position(|known| known.model == *model) {
                Some(at) => at,
                None => {
                    self.models.push(ModelSummary { model: model.clone(), score: 0.0, probability: None });
                    self.models.len() - 1
                }
            },
        };
        let summary = &mut self.models[at];
        summary.score = summary.score.max(verdict.score);
        if verdict.probability > summary.probability.unwrap_or(-1.0) {
            summary.probability = Some(verdict.probability);
        }
    }

    /// Takes the reading itself.
    pub(super) fn take(&mut self, t_ms: WallMs, values: &[f64]) {
        self.to_ms = t_ms;
        self.count += 1;
        for (channel, value) in self.channels.iter_mut().zip(values) {
            if value.is_nan() {
                continue;
            }
            channel.min = channel.min.min(*value);
            channel.max = channel.max.max(*value);
            channel.sum += value;
            channel.present += 1;
        }
    }

    /// Gives the stretch, if it has a reading.
    pub(super) fn close(&mut self, source: &SourceConfig, channels: &[String], out: &mut Vec<Product>) {
        if self.count == 0 {
            return;
        }
        let summarise = |(name, channel): (&String, &mut Channel)| {
            let Channel { min, sum, max, present } = std::mem::replace(channel, Channel::EMPTY);
            // Without a value all three are missing: infinities and 0/0 are written as null.
            let mean = sum / present as f64;
            ChannelSummary { channel: name.clone(), min, mean, max, missing: self.count - present }
        };
        let summaries = channels.iter().zip(&mut self.channels).map(summarise).collect();
        out.push(Product::Summary(Summary {
            source: source.name.clone(),
            from_ms: self.from_ms,
            to_ms: self.to_ms,
            count: self.count,
            channels: summaries,
            models: std::mem::take(&mut self.models),
        }));
        self.count = 0;
    }
}
