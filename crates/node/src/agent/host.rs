//! What the uplink asks of the agent, and what it tells it.

use std::sync::Arc;

use serde_json::Map;
use wire::PROTOCOL;
use wire::body::PartChange;
use wire::hash::Hash;
use wire::checkin::{CheckIn, CheckInAnswer, SourceState, StreamState};
use wire::id::{BootId, JournalId, NodeId};
use wire::world::{Clock, ClockQuality, MonoNs};

use super::shared::{Shared, VERSION};
use crate::config::Config;
use crate::source::queue::Messenger;
use crate::status::{StreamStatus, rss_bytes};
use crate::uplink::{Host, Notice};

/// Clocks that differ by less agree.
const AGREE_MS: i64 = 5_000;

/// The agent, as the uplink sees it.
pub(super) struct AgentHost {
    node: NodeId,
    flow: Hash,
    shared: Arc<Shared>,
    messenger: Messenger,
    boot: BootId,
    clock: Box<dyn Clock>,
}

impl AgentHost {
    pub(super) fn new(
        config: &Config,
        shared: Arc<Shared>,
        messenger: Messenger,
        boot: BootId,
        clock: Box<dyn Clock>,
    ) -> AgentHost {
        AgentHost { node: config.name.clone(), flow: config.flow.digest, shared, messenger, boot, clock }
    }
}

impl Host for AgentHost {
    fn check_in(&mut self, journal: JournalId, streams: Vec<StreamState>) -> CheckIn {
        let mut status = self.shared.status();
        status.journal.streams = streams
            .iter()
            .map(|StreamState { stream, class, last, acked, .. }| StreamStatus {
                stream: stream.clone(),
                class: *class,
                last: *last,
                acked: *acked,
            })
            .collect();
        let sources = status.sources.iter().map(|source| SourceState {
            source: source.source.clone(),
            state: source.state.to_owned(),
            reason: (source.state != "running").then(|| source.reason.clone()),
            readings: source.readings,
            refused: source.refused,
            extra: Map::new(),
        });
        CheckIn {
            v: PROTOCOL,
            node: self.node.clone(),
            journal,
            boot: self.boot,
            version: VERSION.to_owned(),
            uptime_ms: self.clock.mono_ns() / 1_000_000,
            wall_ms: self.clock.wall_ms(),
            clock: self.shared.clock_quality(),
            flow: Some(self.flow),
            sources: sources.collect(),
            streams,
            rss_bytes: rss_bytes(),
            journal_bytes: Some(status.journal.bytes),
            extra: Map::new(),
        }
    }

    fn answered(&mut self, answer: &CheckInAnswer, round_trip_ns: MonoNs) {
        let wall_ms = self.clock.wall_ms();
        // The hub looked at its clock somewhere within the round trip.
        let slack_ms = AGREE_MS.saturating_add((round_trip_ns / 1_000_000) as i64);
        let agree = wall_ms.saturating_sub(answer.hub_ms).saturating_abs() <= slack_ms;
        self.shared.set_clock_quality(if agree { ClockQuality::Checked } else { ClockQuality::Off });
        if let Some(uplink) = &mut self.shared.status().uplink {
            uplink.answered_ms = Some(wall_ms);
            uplink.trouble = None;
        }
    }

    fn notice(&mut self, notice: Notice) {
        let (state, reason) =
            (if notice == Notice::Recovered { "ready" } else { "failed" }, notice.to_string());
        tracing::info!(reason, "uplink");
        if let Some(uplink) = &mut self.shared.status().uplink {
            uplink.trouble = (state == "failed").then(|| reason.clone());
        }
        self.messenger.tell(PartChange { part: "uplink".to_owned(), state: state.to_owned(), reason });
    }
}
