//! `[model.x]`: what watches a source, and judges its readings.

use std::ops::Range;

use signal::detector::Config;
use wire::id::PartName;

use super::part::{Named, inputs};
use crate::board::Kind;
use crate::config::part::{Part, Placed};
use crate::config::problem::did_you_mean;

/// What a detector gives.
pub(super) const GIVES: [(&str, Kind); 2] = [("p", Kind::Number), ("score", Kind::Number)];

/// A detector that watches one source.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Its name.
    pub name: PartName,
    /// The source it watches: its place in the flow's sources.
    pub source: usize,
    /// Readings it looks at together.
    pub lag: usize,
    /// Readings it learns from before it judges.
    pub learn: u64,
    /// Readings after the begin of an anomaly before another can begin.
    pub refractory: u64,
    /// Readings in a row without anomaly that end one.
    pub calm: u64,
    /// Where its lag stands in the file.
    pub(super) lag_span: Range<usize>,
}

impl ModelConfig {
    /// The detector's settings for a source of so many channels.
    pub fn detector(&self, channels: usize) -> Config {
        Config { lag: self.lag, learn: self.learn, refractory: self.refractory, ..Config::new(channels) }
    }

    /// Which build of the model this is, for records.
    pub fn variant(&self) -> String {
        format!("subspace lag={} learn={}", self.lag, self.learn)
    }
}

/// A model before it is known what it watches.
pub(super) struct ModelDraft {
    pub(super) inputs: Vec<Placed<String>>,
    pub(super) lag: usize,
    pub(super) learn: u64,
    pub(super) refractory: u64,
    pub(super) calm: u64,
    pub(super) lag_span: Range<usize>,
}

/// Reads one.
pub(super) fn read(name: PartName, mut part: Part<'_, '_>) -> Option<Named<ModelDraft>> {
    let kind = part.require::<String>("type", "\"subspace\"")?;
    let span = part.span.clone();
    if kind.value != "subspace" {
        let help = did_you_mean(&kind.value, ["subspace"]);
        part.problem(kind.span, format!("there is no model of type {:?}", kind.value), help);
        return None;
    }
    let inputs = inputs(&mut part);
    let defaults = signal::detector::Config::new(1);
    let lag = part.take_or("lag", defaults.lag, &defaults.lag.to_string());
    let learn = part.take_or("learn", defaults.learn, &defaults.learn.to_string());
    let refractory = part.take_or("refractory", defaults.refractory, &defaults.refractory.to_string());
    let calm = part.take_or("calm", 20, "20");
    if lag.value == 0 {
        part.problem(lag.span.clone(), "`lag` must be at least 1", "write `lag = 10`");
    }
    if learn.value < (2 * lag.value as u64).max(defaults.warm_up) {
        let help = format!("write `learn = {}`", defaults.learn.max(2 * lag.value as u64));
        let message = format!("`learn` must be at least twice the lag, and at least {}", defaults.warm_up);
        part.problem(learn.span, message, help);
    }
    if calm.value == 0 {
        part.problem(calm.span, "`calm` must be at least 1", "write `calm = 20`");
    }
    part.finish();
    let draft = ModelDraft {
        inputs,
        lag: lag.value,
        learn: learn.value,
        refractory: refractory.value,
        calm: calm.value,
        lag_span: lag.span,
    };
    Some(Named { part: draft, name, span })
}
