//! The nodes of the fleet, as the API shows them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::checkin::{CheckIn, SlotState, TrustFacts};
use wire::id::NodeId;
use wire::world::WallMs;

use crate::api::refusal::{Asked, ErrorBody, Refusal};
use crate::state::HubState;
use crate::store::nodes::NodeRow;
use crate::store::{alerts, nodes, series};

/// Which nodes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NodesAsked {
    /// Only those whose names come after this one: the `next_after` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 1000; 100 unless told.
    pub limit: Option<u32>,
}

/// A page of nodes, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodePage {
    /// The nodes.
    pub nodes: Vec<NodeItem>,
    /// Where the next page begins; absent on the last.
    pub next_after: Option<String>,
}

/// A node in short.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeItem {
    /// Its name.
    pub node: String,
    /// `up` or `silent`.
    pub state: &'static str,
    /// When the hub first heard of it, milliseconds since 1970 UTC, like every time here.
    pub first_seen_ms: WallMs,
    /// When the hub last heard of it.
    pub last_seen_ms: WallMs,
    /// The program's version; absent until it checks in.
    pub version: Option<String>,
    /// How far it trusts its clock: `unchecked`, `checked` or `off`.
    pub clock: Option<String>,
    /// Its wall clock less the hub's, at its last check-in.
    pub clock_offset_ms: Option<i64>,
    /// How many sources it has.
    pub sources: i64,
    /// How many of them run.
    pub sources_running: i64,
    /// How many alerts fire.
    pub alerts_firing: i64,
}

/// A node in full.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeDetail {
    /// In short.
    #[serde(flatten)]
    pub item: NodeItem,
    /// When it was told to come again, from its last check-in on.
    pub next_ms: i64,
    /// The life of its journal.
    pub journal: Option<String>,
    /// How long its process had run at its last check-in.
    pub uptime_ms: Option<u64>,
    /// Memory of its process.
    pub rss_bytes: Option<u64>,
    /// Bytes in its journal.
    pub journal_bytes: Option<u64>,
    /// Its sources.
    pub sources_now: Vec<SourceNow>,
    /// Its streams.
    pub streams: Vec<StreamNow>,
    /// Its language models that come as packages, by its last check-in.
    pub slots: Vec<ModelNow>,
    /// Whom it believes about them; absent if it takes none.
    pub trust: Option<TrustNow>,
    /// Its last check-in, word for word.
    #[schema(value_type = Object)]
    pub checkin: Option<Box<serde_json::value::RawValue>>,
}

/// How a source is.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SourceNow {
    /// Its name.
    pub source: String,
    /// `running`, `waiting`, `failed` or `ended` by the last check-in; absent if it was not named there.
    pub state: Option<String>,
    /// Why, when it is not running.
    pub reason: Option<String>,
    /// Readings taken since the process began.
    pub readings: Option<u64>,
    /// Readings or cells refused since the process began.
    pub refused: Option<u64>,
    /// The time of the last reading in a summary that the hub has, by the source's clock.
    pub latest_ms: Option<WallMs>,
}

/// How far a stream is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StreamNow {
    /// From which life of the journal.
    pub journal: String,
    /// Its name.
    pub stream: String,
    /// Its class: `audit`, `event`, `metric` or `raw`.
    pub class: String,
    /// The last sequence number written on the node, by its last check-in; absent for a former journal.
    pub written: Option<u64>,
    /// The last sequence number that the hub has, or knows to be lost.
    pub settled: u64,
}

/// What stands in the slots of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelNow {
    /// The model.
    pub model: String,
    /// The release that serves.
    pub release: Option<u64>,
    /// Its variant.
    pub variant: Option<String>,
    /// The SHA-256 of the variant's manifest.
    pub manifest: Option<String>,
    /// The release that served before.
    pub previous: Option<u64>,
    /// The release that is on its way.
    pub candidate: Option<u64>,
    /// How far it is: `staging`, `staged`, `proving`, `shadow` or `trial`.
    pub phase: Option<String>,
    /// How often it stopped without a result; the second time refuses it.
    pub misses: Option<u32>,
    /// Why no model is loaded, if that is so.
    pub safe: Option<String>,
}

/// What a node trusts, by the versions of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TrustNow {
    /// Of root.
    pub root: Option<u64>,
    /// Of the timestamp.
    pub timestamp: Option<u64>,
    /// Of the top-level targets.
    pub targets: Option<u64>,
    /// How far past its expiry the oldest of it is; 0: all is fresh.
    pub stale_ms: i64,
    /// Why nothing new is accepted, if the trust is lost.
    pub lost: Option<String>,
}

/// The nodes of the fleet, by name.
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "fleet", params(NodesAsked),
    responses((status = 200, body = NodePage), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<NodesAsked>,
) -> Result<Json<NodePage>, Refusal> {
    page(&state, &asked).await.map(Json)
}

/// The page that [`list`] answers.
pub async fn page(state: &HubState, asked: &NodesAsked) -> Result<NodePage, Refusal> {
    let limit = asked.limit.unwrap_or(100).clamp(1, 1000);
    let rows = nodes::list(&state.readers, asked.after.as_deref().unwrap_or_default(), limit).await?;
    let firing: HashMap<String, i64> = alerts::firing_by_node(&state.readers).await?.into_iter().collect();
    let next_after =
        (rows.len() == limit as usize).then(|| rows.last().map(|row| row.name.clone())).flatten();
    let nodes = rows.into_iter().map(|row| item(&row, firing.get(&row.name).copied().unwrap_or(0))).collect();
    Ok(NodePage { nodes, next_after })
}

/// One node.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}", tag = "fleet",
    params(("node" = String, Path, description = "The node's name")),
    responses((status = 200, body = NodeDetail), (status = 404, body = ErrorBody))
)]
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path(node): Path<String>,
) -> Result<Json<NodeDetail>, Refusal> {
    detail(&state, &node).await.map(Json)
}

/// The row of a node, or a refusal that says it is not there.
pub async fn row(state: &HubState, node: &str) -> Result<NodeRow, Refusal> {
    let missing = || {
        let node: String = node.chars().take(64).collect();
        Refusal::not_found(
            format!("no node {node:?} has ever checked in here"),
            "the nodes are listed at /nodes",
        )
    };
    let name = NodeId::new(node).map_err(|_| missing())?;
    nodes::get(&state.readers, &name).await?.ok_or_else(missing)
}

/// What [`one`] answers.
pub async fn detail(state: &HubState, node: &str) -> Result<NodeDetail, Refusal> {
    let row = row(state, node).await?;
    let checkin: Option<CheckIn> = row.checkin.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let firing = alerts::count_firing(&state.readers, row.id).await?;
    let latest = series::sources(&state.readers, row.id).await?;
    let streams = nodes::streams_of(&state.readers, row.id).await?;
    Ok(NodeDetail {
        item: item(&row, firing),
        next_ms: row.next_ms,
        uptime_ms: checkin.as_ref().map(|checkin| checkin.uptime_ms),
        rss_bytes: checkin.as_ref().and_then(|checkin| checkin.rss_bytes),
        journal_bytes: checkin.as_ref().and_then(|checkin| checkin.journal_bytes),
        sources_now: sources_now(checkin.as_ref(), latest),
        streams: streams.into_iter().map(|stream| stream_now(checkin.as_ref(), stream)).collect(),
        slots: checkin.iter().flat_map(|checkin| &checkin.slots).map(model_now).collect(),
        trust: checkin.as_ref().and_then(|checkin| checkin.trust.as_ref()).map(trust_now),
        checkin: row.checkin.and_then(|text| serde_json::value::RawValue::from_string(text).ok()),
        journal: row.journal,
    })
}

/// The sources that the node named, then those that only its records name.
fn sources_now(checkin: Option<&CheckIn>, latest: Vec<(String, Option<WallMs>)>) -> Vec<SourceNow> {
    let mut latest: HashMap<String, Option<WallMs>> = latest.into_iter().collect();
    let named = checkin.map(|checkin| checkin.sources.as_slice()).unwrap_or_default();
    let mut now: Vec<SourceNow> = named
        .iter()
        .map(|source| SourceNow {
            source: source.source.as_str().to_owned(),
            state: Some(source.state.clone()),
            reason: source.reason.clone(),
            readings: Some(source.readings),
            refused: Some(source.refused),
            latest_ms: latest.remove(source.source.as_str()).flatten(),
        })
        .collect();
    let mut rest: Vec<_> = latest.into_iter().collect();
    rest.sort();
    let unnamed = |(source, latest_ms)| SourceNow {
        source,
        state: None,
        reason: None,
        readings: None,
        refused: None,
        latest_ms,
    };
    now.extend(rest.into_iter().map(unnamed));
    now
}

fn stream_now(checkin: Option<&CheckIn>, stream: nodes::StreamView) -> StreamNow {
    let of_now = checkin.filter(|checkin| checkin.journal.to_string() == stream.journal);
    let named =
        of_now.and_then(|now| now.streams.iter().find(|state| state.stream.as_str() == stream.stream));
    StreamNow {
        written: named.map(|state| state.last),
        settled: stream.seq.max(0) as u64,
        journal: stream.journal,
        stream: stream.stream,
        class: stream.class,
    }
}

fn model_now(slot: &SlotState) -> ModelNow {
    let (current, candidate) = (slot.current.as_ref(), slot.candidate.as_ref());
    ModelNow {
        model: slot.model.clone(),
        release: current.map(|current| current.release),
        variant: current.map(|current| current.variant.clone()),
        manifest: current.map(|current| current.manifest.to_string()),
        previous: slot.previous,
        candidate: candidate.map(|candidate| candidate.release),
        phase: candidate.map(|candidate| candidate.phase.clone()),
        misses: candidate.map(|candidate| candidate.misses),
        safe: slot.safe.clone(),
    }
}

fn trust_now(trust: &TrustFacts) -> TrustNow {
    TrustNow {
        root: trust.root,
        timestamp: trust.timestamp,
        targets: trust.targets,
        stale_ms: trust.stale_ms,
        lost: trust.lost.clone(),
    }
}

fn item(row: &NodeRow, alerts_firing: i64) -> NodeItem {
    NodeItem {
        node: row.name.clone(),
        state: if row.silent { "silent" } else { "up" },
        first_seen_ms: row.first_seen_ms,
        last_seen_ms: row.last_seen_ms,
        version: row.version.clone(),
        clock: row.clock.clone(),
        clock_offset_ms: row.clock_offset_ms,
        sources: row.sources,
        sources_running: row.sources_running,
        alerts_firing,
    }
}
