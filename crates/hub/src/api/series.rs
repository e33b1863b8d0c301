//! What a chart draws: the points of a source, the anomalies its models found, the alerts its rules raised.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::body::Summary;
use wire::world::WallMs;

use crate::api::alerts::AlertItem;
use crate::api::nodes::row;
use crate::api::records::RecordRef;
use crate::api::refusal::{Asked, ErrorBody, Refusal, page_size};
use crate::downsample::{Downsample, Points};
use crate::state::HubState;
use crate::store::nodes::NodeRow;
use crate::store::series::EpisodeRow;
use crate::store::{alerts, series as store};
use crate::watch::TIME_MAX_MS;

/// How many summaries are read for one answer: a day of one a second. Beyond it the oldest are shown, and said so.
const SUMMARIES_MAX: u32 = 90_000;

/// How many anomalies and alerts one answer shows.
const MARKS_MAX: u32 = 200;

/// The longest stretch.
const SPAN_MAX_MS: i64 = 400 * 86_400_000;

const SPAN_MS: i64 = 30 * 60_000;

/// Which stretch of which source.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesAsked {
    /// The source; the node's first unless told.
    pub source: Option<String>,
    /// The beginning, by the source's clock; `span_ms` before the end unless told.
    pub from_ms: Option<WallMs>,
    /// The end. Unless told: now by the node's clock, or the last reading when that is longer ago than the stretch
    /// is long.
    pub to_ms: Option<WallMs>,
    /// The length when `from_ms` is not told; 30 minutes unless told.
    pub span_ms: Option<i64>,
    /// How many points at most, 1 to 2000; 300 unless told.
    #[param(minimum = 1, maximum = 2000)]
    pub points: Option<u32>,
}

/// A stretch of a source.
#[derive(Debug, Serialize, ToSchema)]
pub struct Series {
    /// The node.
    pub node: String,
    /// The source; absent if the node has sent none.
    pub source: Option<String>,
    /// All its sources.
    pub sources: Vec<String>,
    /// The beginning of the stretch.
    pub from_ms: WallMs,
    /// Its end.
    pub to_ms: WallMs,
    /// The time now by the node's clock.
    pub now_ms: WallMs,
    /// The time of the source's last reading in a summary.
    pub latest_ms: Option<WallMs>,
    /// The points.
    #[serde(flatten)]
    pub points: Points,
    /// The anomalies that touch the stretch, oldest first.
    pub episodes: Vec<EpisodeItem>,
    /// The alerts that touch it, oldest first.
    pub alerts: Vec<AlertItem>,
    /// True if there was more than one answer may read; ask for a shorter stretch.
    pub cut: bool,
}

/// An anomaly.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EpisodeItem {
    /// Its number in the hub.
    pub id: i64,
    /// The node.
    pub node: String,
    /// The source.
    pub source: String,
    /// The model that found it.
    pub model: String,
    /// When it began.
    pub since_ms: WallMs,
    /// When it ended; absent while it lasts.
    pub ended_ms: Option<WallMs>,
    /// The highest score; 1 is the model's threshold.
    pub score: f64,
    /// The probability that goes with it.
    pub probability: Option<f64>,
    /// Which channels drove it: shares that sum to 1, the largest first.
    pub channels: Vec<ChannelShare>,
    /// The record that says so.
    pub record: RecordRef,
}

/// A channel's part in an anomaly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelShare {
    /// The channel.
    pub channel: String,
    /// Its share.
    pub share: f64,
}

impl From<EpisodeRow> for EpisodeItem {
    fn from(row: EpisodeRow) -> EpisodeItem {
        let (journal, stream, seq) = row.record;
        EpisodeItem {
            id: row.id,
            record: RecordRef { node: row.node.clone(), journal, stream, seq },
            node: row.node,
            source: row.source,
            model: row.model,
            since_ms: row.since_ms,
            ended_ms: row.ended_ms,
            score: row.score,
            probability: row.probability,
            channels: serde_json::from_str(&row.channels).unwrap_or_default(),
        }
    }
}

/// A stretch of one source of a node, at most so many points, with the anomalies and alerts in it.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}/series", tag = "fleet",
    params(("node" = String, Path, description = "The node's name"), SeriesAsked),
    responses((status = 200, body = Series), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub async fn series(
    State(state): State<Arc<HubState>>,
    Path(node): Path<String>,
    Asked(asked): Asked<SeriesAsked>,
) -> Result<Json<Series>, Refusal> {
    let row = row(&state, &node).await?;
    read(&state, &row, &asked).await.map(Json)
}

/// What [`series`] answers.
pub async fn read(state: &HubState, node: &NodeRow, asked: &SeriesAsked) -> Result<Series, Refusal> {
    let sources = store::sources(&state.readers, node.id).await?;
    let chosen = match &asked.source {
        Some(name) => Some(sources.iter().find(|(known, _)| known == name).ok_or_else(|| {
            let name: String = name.chars().take(64).collect();
            let message = format!("node {} has sent nothing of a source {name:?}", node.name);
            Refusal::not_found(message, "its sources are in the answer without `source`")
        })?),
        None => sources.first(),
    };
    let latest_ms = chosen.and_then(|(_, latest_ms)| *latest_ms);
    let now_ms = state.now_ms().saturating_add(node.clock_offset_ms.unwrap_or(0));
    let (from_ms, to_ms) = stretch(asked, now_ms, latest_ms)?;
    let source = chosen.map(|(name, _)| name.clone());
    let mut down = Downsample::new(from_ms, to_ms, page_size(asked.points, 300, 2000)?);
    let mut read = 0;
    let (mut episodes, mut firing) = (Vec::new(), Vec::new());
    if let Some(source) = &source {
        let mut bodies = store::summaries(&state.readers, node.id, source, from_ms, to_ms, SUMMARIES_MAX);
        while let Some(body) = bodies.try_next().await? {
            read += 1;
            if let Ok(summary) = serde_json::from_str::<Summary>(&body) {
                down.add(&summary);
            }
        }
        drop(bodies);
        episodes = store::episodes(&state.readers, node.id, source, from_ms, to_ms, MARKS_MAX).await?;
        firing = alerts::within(&state.readers, node.id, source, from_ms, to_ms, MARKS_MAX).await?;
    }
    Ok(Series {
        node: node.name.clone(),
        source,
        sources: sources.iter().map(|(name, _)| name.clone()).collect(),
        from_ms,
        to_ms,
        now_ms,
        latest_ms,
        points: down.finish(),
        episodes: episodes.into_iter().map(EpisodeItem::from).collect(),
        alerts: firing.into_iter().map(AlertItem::from).collect(),
        cut: read >= SUMMARIES_MAX,
    })
}

/// From when to when.
fn stretch(
    asked: &SeriesAsked,
    now_ms: WallMs,
    latest_ms: Option<WallMs>,
) -> Result<(WallMs, WallMs), Refusal> {
    let refuse = |message: String| {
        Refusal::bad_request("bad-stretch", message, "give from_ms before to_ms, at most 400 days apart")
    };
    let span_ms = asked.span_ms.unwrap_or(SPAN_MS);
    if !(1000..=SPAN_MAX_MS).contains(&span_ms) {
        return Err(refuse(format!("span_ms is {span_ms}; it must be 1000 to {SPAN_MAX_MS}")));
    }
    // Small differences between clocks are no reason to leave the present.
    let is_now = |latest_ms: WallMs| {
        latest_ms > now_ms.saturating_sub(span_ms) && latest_ms < now_ms.saturating_add(120_000)
    };
    let edge_ms = match latest_ms {
        Some(latest_ms) if !is_now(latest_ms) => latest_ms,
        Some(latest_ms) => latest_ms.max(now_ms),
        None => now_ms,
    };
    let to_ms = asked
        .to_ms
        .unwrap_or_else(|| asked.from_ms.map_or(edge_ms, |from_ms| from_ms.saturating_add(span_ms)));
    let from_ms = asked.from_ms.unwrap_or_else(|| to_ms.saturating_sub(span_ms));
    let shown = -TIME_MAX_MS..=TIME_MAX_MS;
    if !shown.contains(&from_ms) || !shown.contains(&to_ms) {
        return Err(refuse(format!("{from_ms} to {to_ms} is beyond the calendar")));
    }
    if from_ms >= to_ms || to_ms - from_ms > SPAN_MAX_MS {
        return Err(refuse(format!("{from_ms} to {to_ms} is not a stretch of time that can be drawn")));
    }
    Ok((from_ms, to_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches() {
        #[track_caller]
        fn check(asked: SeriesAsked, latest_ms: Option<i64>, expected: Option<(i64, i64)>) {
            assert_eq!(stretch(&asked, 10_000_000, latest_ms).ok(), expected, "{asked:?}");
        }
        let asked =
            |from_ms, to_ms, span_ms| SeriesAsked { from_ms, to_ms, span_ms, ..SeriesAsked::default() };
        check(asked(None, None, Some(5000)), None, Some((9_995_000, 10_000_000)));
        check(asked(None, None, Some(5000)), Some(9_999_000), Some((9_995_000, 10_000_000)));
        check(asked(None, None, Some(5000)), Some(10_001_000), Some((9_996_000, 10_001_000)));
        check(asked(None, None, Some(5000)), Some(1_000_000), Some((995_000, 1_000_000)));
        check(asked(None, None, Some(5000)), Some(99_000_000), Some((98_995_000, 99_000_000)));
        check(asked(Some(5), Some(9), None), None, Some((5, 9)));
        check(asked(Some(5), None, Some(1000)), None, Some((5, 1005)));
        check(asked(Some(9), Some(9), None), None, None);
        check(asked(Some(i64::MIN), Some(i64::MAX), None), None, None);
        check(asked(None, Some(i64::MIN), None), None, None);
        check(asked(None, None, Some(-1)), None, None);
    }
}
