//! How the node is, as the agent's thread tells it: the status that the local API, the doctor and the check-ins show.

use std::sync::atomic::Ordering::Relaxed;

use super::{Looper, OneSource, Round};
use crate::agent::shared::VERSION;
use crate::config::Config;
use crate::latency::LatencySummary;
use crate::source::queue::SourceState;
use crate::status::{
    Health, JournalStatus, ModelStatus, RuleStatus, SourceStatus, Status, UplinkStatus, rss_bytes,
};

impl Looper {
    /// Renews the status: how each source, model and rule is, and the journal. What other threads tell of themselves stays.
    pub(in crate::agent) fn tell_status(&self, round: &Round) {
        let ended = self.states.0.iter().all(|source| source.state == SourceState::Ended);
        let sources =
            self.states.0.iter().enumerate().map(|(at, source)| self.source_status(at, source)).collect();
        let models = self.pipeline.models().iter().map(|model| {
            let verdict = model.verdict();
            let source = model.config().source;
            let part = format!("model.{}", model.config().name);
            let state = match () {
                () if round.failed.contains(&part) => "failed",
                () if model.ready() => "ready",
                () if self.pipeline.channels(source).is_some() => "learning",
                () => "waiting",
            };
            ModelStatus {
                model: model.config().name.clone(),
                source: self.states.0[source].config.name.clone(),
                state,
                readings: model.samples(),
                learn: model.config().learn,
                score: verdict.score,
                probability: verdict.probability,
                anomaly_since_ms: model.anomaly_since_ms(),
            }
        });
        let models = models.collect();
        let rules = self.pipeline.rules().iter().enumerate().map(|(at, rule)| RuleStatus {
            rule: rule.config().name.clone(),
            when: rule.config().when.text().to_owned(),
            state: rule.standing().as_str(),
            since_ms: rule.since_ms(),
            value: self.pipeline.rule_value(at),
            severity: rule.config().severity.as_str(),
        });
        let rules = rules.collect();
        let counts = self.journal.counts();
        let bytes = self.journal.used_bytes().unwrap_or(0);
        let mut status = self.shared.status();
        status.uptime_ms = self.clock.mono_ns() / 1_000_000;
        status.clock = self.shared.clock_quality();
        status.rss_bytes = rss_bytes();
        status.sources = sources;
        status.models = models;
        status.rules = rules;
        status.decided = round.decided.summary();
        let streams = std::mem::take(&mut status.journal.streams);
        status.journal = JournalStatus {
            bytes,
            records: counts.records,
            refused: counts.refused,
            lost: counts.evicted_unsent,
            trouble: round.trouble.clone(),
            streams,
        };
        drop(status);
        self.shared.ended.store(ended, Relaxed);
    }

    fn source_status(&self, at: usize, source: &OneSource) -> SourceStatus {
        let (readings, late) = self.pipeline.counts(at);
        let mut values = serde_json::Map::new();
        let mut last_ms = None;
        if let Some(((t_ms, row), channels)) = self.pipeline.latest(at).zip(self.pipeline.channels(at)) {
            last_ms = Some(t_ms);
            values = channels.iter().zip(row).map(|(name, value)| (name.clone(), (*value).into())).collect();
        }
        SourceStatus {
            source: source.config.name.clone(),
            state: source.state.as_str(),
            reason: source.reason.clone(),
            readings,
            refused: source.refused + late,
            last_ms,
            values,
        }
    }
}

/// How the node is before anything of it stands.
pub(in crate::agent) fn first_status(config: &Config) -> Status {
    Status {
        node: config.name.clone(),
        version: VERSION,
        uptime_ms: 0,
        flow: config.flow.digest,
        flow_problem: None,
        clock: wire::world::ClockQuality::Unchecked,
        rss_bytes: None,
        sources: Vec::new(),
        models: Vec::new(),
        rules: Vec::new(),
        sinks: Vec::new(),
        slots: Vec::new(),
        trust: None,
        journal: JournalStatus::default(),
        decided: LatencySummary::default(),
        uplink: config
            .hub
            .as_ref()
            .map(|hub| UplinkStatus { hub: hub.url.clone(), ..UplinkStatus::default() }),
        relay: None,
        health: Health::default(),
    }
}
