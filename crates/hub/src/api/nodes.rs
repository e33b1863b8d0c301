//! The nodes of the fleet, as the API shows them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::checkin::{CheckIn, SlotState, TrustFacts};
use wire::id::NodeId;
use wire::select::Selector;
use wire::world::WallMs;

use crate::api::refusal::{Asked, ErrorBody, Refusal, page_size};
use crate::fleet::view::{self, Known, Search};
use crate::state::HubState;
use crate::store::nodes::NodeRow;
use crate::store::recovery::strange;
use crate::store::{alerts, nodes, series};

/// Which nodes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NodesAsked {
    /// Only those that this expression means: `site == "oslo" && ram >= 2GiB`.
    #[serde(rename = "where")]
    pub selector: Option<String>,
    /// In which order; by name unless told.
    pub sort: Option<NodeOrder>,
    /// Only those that come behind this one: the `next_after` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 1000; 100 unless told.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// An order of nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeOrder {
    /// By name.
    #[default]
    Name,
    /// Those first that were not heard of for longest.
    Seen,
    /// Those first that are worst.
    Health,
}

/// A page of nodes.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodePage {
    /// The nodes.
    pub nodes: Vec<NodeItem>,
    /// How many there are on all pages.
    pub matched: u64,
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
    /// `bad`: an alert fires; `unknown`: it is silent; `warn`: a source does not run; `good`.
    pub health: &'static str,
    /// Its labels, with those that were set here and have not arrived.
    pub labels: BTreeMap<String, String>,
    /// The releases that it runs, by model.
    pub releases: BTreeMap<String, u64>,
    /// The releases that are on trial on it, by model.
    pub trials: BTreeMap<String, u64>,
    /// In which ways it knows more than this hub; it gets no documents until somebody has looked. Absent: it does not.
    pub conflict: Option<String>,
    /// Rollouts and experiments that it follows and that this hub does not know: most likely they were made after the backup that it was
    /// restored from. Made anew from their plans they are known again.
    pub strange: Vec<String>,
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
    /// The smaller variant that stands by for the time when memory is short, or will.
    pub spare: Option<String>,
    /// How far that is: `staging`, `staged`, `proving` or `ready`.
    pub spare_phase: Option<String>,
    /// Whether it answers now, instead of `variant`.
    pub spare_answers: bool,
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

/// The nodes of the fleet, or those that an expression means.
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
    let limit = page_size(asked.limit, 100, 1000)? as usize;
    let found = search(state, asked.selector.as_deref()).await?;
    let firing = alerts::firing_by_node(&state.readers).await?;
    let firing: HashMap<&str, i64> = firing.iter().map(|(node, count)| (node.as_str(), *count)).collect();
    let alerts = |node: &Known| firing.get(node.row.name.as_str()).copied().unwrap_or(0);
    let mut found: Vec<&Known> = found.iter().collect();
    match asked.sort.unwrap_or_default() {
        NodeOrder::Name => {}
        NodeOrder::Seen => found.sort_by_key(|node| node.row.last_seen_ms),
        NodeOrder::Health => found.sort_by_key(|node| rank(health(&node.row, alerts(node)))),
    }
    let behind = |name: &str| match asked.sort.unwrap_or_default() {
        NodeOrder::Name => found.partition_point(|node| node.row.name.as_str() <= name),
        _ => found.iter().position(|node| node.row.name == name).map_or(0, |at| at + 1),
    };
    let from = asked.after.as_deref().map_or(0, behind);
    let nodes: Vec<NodeItem> =
        found.iter().skip(from).take(limit).map(|node| item(node, alerts(node))).collect();
    let last = from + nodes.len() == found.len();
    let next_after = nodes.last().filter(|_| !last).map(|node| node.node.clone());
    Ok(NodePage { matched: found.len() as u64, nodes, next_after })
}

/// The nodes that an expression means, by name; all without one.
pub async fn search(state: &HubState, expression: Option<&str>) -> Result<Vec<Known>, Refusal> {
    let mut nodes = state.fleet.look(&state.readers).await?;
    if let Some(text) = expression.filter(|text| !text.trim().is_empty()) {
        let (search, now_ms) = (ready(state, text).await?, state.now_ms());
        nodes.retain(|node| search.has(node, now_ms));
    }
    Ok(nodes)
}

/// An expression, read and with its groups written out.
pub async fn ready(state: &HubState, text: &str) -> Result<Search, Refusal> {
    let selector = Selector::parse(text).map_err(|bad| Refusal::bad_selector(&bad))?;
    let groups = view::saved(&state.readers).await?;
    Search::new(&selector, &groups)
        .map_err(|error| Refusal::bad_request("no-group", error.to_string(), "groups are listed at /groups"))
}

fn health(row: &NodeRow, alerts_firing: i64) -> &'static str {
    match () {
        () if row.silent => "unknown",
        () if alerts_firing > 0 => "bad",
        () if row.sources_running < row.sources => "warn",
        () => "good",
    }
}

/// The worst first.
fn rank(health: &str) -> usize {
    ["bad", "unknown", "warn"].iter().position(|word| *word == health).unwrap_or(3)
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
    let known = state.fleet.one(&state.readers, row.clone()).await?;
    Ok(NodeDetail {
        item: item(&known, firing),
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
        spare: slot.spare.as_ref().map(|spare| spare.variant.clone()),
        spare_phase: slot.spare.as_ref().map(|spare| spare.phase.clone()),
        spare_answers: slot.spare.as_ref().is_some_and(|spare| spare.answers),
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

fn item(node: &Known, alerts_firing: i64) -> NodeItem {
    let row = &node.row;
    NodeItem {
        node: row.name.clone(),
        state: node.state(),
        first_seen_ms: row.first_seen_ms,
        last_seen_ms: row.last_seen_ms,
        version: row.version.clone(),
        clock: row.clock.clone(),
        clock_offset_ms: row.clock_offset_ms,
        sources: row.sources,
        sources_running: row.sources_running,
        alerts_firing,
        health: health(row, alerts_firing),
        labels: node.labels(),
        releases: node.releases(),
        trials: node.trials(),
        conflict: row.conflict.clone(),
        strange: row
            .strange
            .as_deref()
            .map(strange)
            .unwrap_or_default()
            .into_iter()
            .map(|one| one.id)
            .collect(),
    }
}
