//! The fleet in one answer: how many nodes, what fires, how much comes in, what was found last.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::nodes::row;
use crate::api::refusal::Refusal;
use crate::api::series::{self, EpisodeItem, SeriesAsked};
use crate::downsample::ChannelPoints;
use crate::state::HubState;
use crate::store::{alerts, nodes, records, recovery, series as store};

/// How many anomalies an overview shows, the latest of so many that arrived last: a node that was cut off brings old
/// ones late.
const ANOMALIES: usize = 6;
const ARRIVED: u32 = 24;

/// How many points the line beside each of them has.
const LINE_POINTS: u32 = 80;

/// The longest stretch of such a line.
const LINE_MAX_MS: i64 = 6 * 3_600_000;

/// The fleet in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct Overview {
    /// How many nodes the hub knows.
    pub nodes: i64,
    /// How many of them are silent.
    pub nodes_silent: i64,
    /// How many of them know more than this hub: they get no documents until somebody has looked at `/api/v1/recovery`.
    pub nodes_conflict: i64,
    /// How many of them follow a rollout or an experiment that this hub does not know.
    pub nodes_strange: i64,
    /// How many alerts fire.
    pub alerts_firing: i64,
    /// How many of them are critical.
    pub alerts_critical: i64,
    /// Records stored in the last minute.
    pub records_last_minute: u64,
    /// Records in the store.
    pub records: i64,
    /// The last anomalies, newest first.
    pub anomalies: Vec<Anomaly>,
}

/// An anomaly and the line of the channel that drove it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Anomaly {
    /// The anomaly.
    #[serde(flatten)]
    pub episode: EpisodeItem,
    /// The beginning of the line.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
    /// The times of its points.
    pub t_ms: Vec<i64>,
    /// The channel that drove the anomaly most, or the source's first.
    pub line: Option<ChannelPoints>,
}

/// The fleet in short.
#[utoipa::path(get, path = "/api/v1/overview", tag = "fleet", responses((status = 200, body = Overview)))]
pub async fn overview(State(state): State<Arc<HubState>>) -> Result<Json<Overview>, Refusal> {
    read(&state).await.map(Json)
}

/// What [`overview`] answers.
pub async fn read(state: &HubState) -> Result<Overview, Refusal> {
    let (nodes, nodes_silent) = nodes::tally(&state.readers).await?;
    let firing = alerts::firing(&state.readers).await?;
    let mut arrived = store::latest_episodes(&state.readers, ARRIVED).await?;
    arrived.sort_by_key(|episode| std::cmp::Reverse((episode.ended_ms.is_none(), episode.since_ms)));
    let mut anomalies = Vec::new();
    for episode in arrived.into_iter().take(ANOMALIES) {
        anomalies.push(anomaly(state, episode.into()).await?);
    }
    Ok(Overview {
        nodes,
        nodes_silent,
        nodes_conflict: recovery::count_ahead(&state.readers).await?,
        nodes_strange: recovery::count_strange(&state.readers).await?,
        alerts_firing: firing.iter().map(|(_, count)| count).sum(),
        alerts_critical: firing
            .iter()
            .filter(|(severity, _)| severity == "critical")
            .map(|(_, count)| count)
            .sum(),
        records_last_minute: state.metrics.records_last_minute(state.mono_s()),
        records: records::total(&state.readers).await?,
        anomalies,
    })
}

/// Draws the line around an anomaly: as much before and after it as it is long, and at least four minutes; until now
/// if it goes on.
async fn anomaly(state: &HubState, episode: EpisodeItem) -> Result<Anomaly, Refusal> {
    let node = row(state, &episode.node).await?;
    let node_now_ms = state.now_ms().saturating_add(node.clock_offset_ms.unwrap_or(0));
    let until_ms = episode.ended_ms.unwrap_or(node_now_ms).max(episode.since_ms.saturating_add(1000));
    let margin_ms = until_ms.saturating_sub(episode.since_ms).clamp(240_000, LINE_MAX_MS / 3);
    let from_ms = episode.since_ms.saturating_sub(margin_ms);
    let after_ms = if episode.ended_ms.is_some() { margin_ms } else { 0 };
    let to_ms = until_ms.saturating_add(after_ms).min(from_ms.saturating_add(LINE_MAX_MS));
    let asked = SeriesAsked {
        source: Some(episode.source.clone()),
        from_ms: Some(from_ms),
        to_ms: Some(to_ms),
        points: Some(LINE_POINTS),
        span_ms: None,
    };
    let points = match series::read(state, &node, &asked).await {
        Ok(series) => series.points,
        // An anomaly at the end of the calendar is shown without a line.
        Err(refusal) if refusal.status().is_client_error() => Default::default(),
        Err(refusal) => return Err(refusal),
    };
    let leading = episode.channels.first().map(|share| share.channel.as_str());
    let mut channels = points.channels;
    let at = channels.iter().position(|channel| Some(channel.channel.as_str()) == leading).unwrap_or(0);
    let line = (at < channels.len()).then(|| channels.swap_remove(at));
    Ok(Anomaly { episode, from_ms, to_ms, t_ms: points.t_ms, line })
}
