//! The records themselves, as nodes wrote them, and whether each still fits its chain: the auditor's view.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use wire::hash::Hash;
use wire::world::WallMs;

use crate::api::refusal::{Asked, ErrorBody, Refusal, page_size};
use crate::state::HubState;
use crate::store::records::{self as store, GapRow, Neighbour, RecordFilter, RecordRow};

/// The most bytes of bodies in one page.
const PAGE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordRef {
    /// The node.
    pub node: String,
    /// The life of its journal.
    pub journal: String,
    /// The stream.
    pub stream: String,
    /// The sequence number.
    pub seq: i64,
}

/// Which records.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecordsAsked {
    /// Of this node.
    pub node: Option<String>,
    /// Of streams of this name.
    pub stream: Option<String>,
    /// Of this kind: `summary`, `inference`, `decision`, `start`, `source`, …
    pub kind: Option<String>,
    /// Older than this `id`: the `next_before` of the page before.
    pub before: Option<i64>,
    /// How many at most, 1 to 200; 50 unless told.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
}

/// A page of records, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<RecordItem>,
    /// Where the next page begins; absent on the last. A page may be short and still have a next one.
    pub next_before: Option<i64>,
}

/// A record.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RecordItem {
    /// Its number in the hub; grows with arrival.
    pub id: i64,
    /// Where it stands.
    #[serde(flatten)]
    pub place: RecordRef,
    /// The class of its stream.
    pub class: String,
    /// What the body is.
    pub kind: String,
    /// The run of the node process that wrote it.
    pub boot: String,
    /// Nanoseconds since that run began.
    pub mono_ns: i64,
    /// The node's wall time.
    pub wall_ms: WallMs,
    /// How far that can be trusted: `unchecked`, `checked` or `off`.
    pub clock: String,
    /// Its hash, 64 hexadecimal digits.
    pub hash: String,
    /// The body as written.
    #[schema(value_type = Object)]
    pub body: Box<RawValue>,
}

/// A record and its place in the chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordProof {
    /// The record.
    pub record: RecordItem,
    /// What stands before it; absent for the first record of a stream.
    pub before: Option<ChainNeighbour>,
    /// What stands after it; absent for the newest.
    pub after: Option<ChainNeighbour>,
    /// Whether hashing it again, after what stands before it, gives the stored hash. `null` if what stands before it
    /// is not in the store.
    pub verified: Option<bool>,
    /// The text whose SHA-256 the hash is, up to the body, which follows it without a break.
    pub hashed_header: Option<String>,
}

/// What stands beside a record in its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChainNeighbour {
    /// `record`, `gap`, or `cut`: what was too old to keep, of which only this hash is left.
    pub what: String,
    /// Its first sequence number.
    pub first: i64,
    /// Its last sequence number.
    pub last: i64,
    /// The chain's hash at its end.
    pub hash: String,
}

/// Which losses.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GapsAsked {
    /// Of this node.
    pub node: Option<String>,
    /// Older than this `id`: the `next_before` of the page before.
    pub before: Option<i64>,
    /// How many at most, 1 to 200; 50 unless told.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
}

/// A page of losses, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct GapPage {
    /// The losses.
    pub gaps: Vec<GapItem>,
    /// Where the next page begins; absent on the last.
    pub next_before: Option<i64>,
}

/// Records that a node dropped before the hub had them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GapItem {
    /// Its number in the hub.
    pub id: i64,
    /// The node.
    pub node: String,
    /// The life of its journal.
    pub journal: String,
    /// The stream.
    pub stream: String,
    /// The first lost sequence number.
    pub first: i64,
    /// The last lost sequence number.
    pub last: i64,
    /// `byte-cap`, `disk-full`, `retired` or `other`.
    pub reason: String,
    /// When the hub learnt of it.
    pub noted_ms: WallMs,
}

/// Records, newest first.
#[utoipa::path(
    get, path = "/api/v1/records", tag = "records", params(RecordsAsked),
    responses((status = 200, body = RecordPage), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<RecordsAsked>,
) -> Result<Json<RecordPage>, Refusal> {
    page(&state, asked).await.map(Json)
}

/// The page that [`list`] answers.
pub async fn page(state: &HubState, asked: RecordsAsked) -> Result<RecordPage, Refusal> {
    let limit = page_size(asked.limit, 50, 200)?;
    let given = |word: Option<String>| word.filter(|word| !word.is_empty());
    let filter = RecordFilter {
        node: given(asked.node),
        stream: given(asked.stream),
        kind: given(asked.kind),
        before: asked.before,
    };
    let (rows, next_before) = store::list(&state.readers, &filter, limit, PAGE_MAX_BYTES).await?;
    Ok(RecordPage { records: rows.into_iter().map(RecordItem::from).collect(), next_before })
}

/// One record, hashed again and compared with its chain.
#[utoipa::path(
    get, path = "/api/v1/records/{node}/{journal}/{stream}/{seq}", tag = "records",
    params(
        ("node" = String, Path, description = "The node's name"),
        ("journal" = String, Path, description = "The life of its journal"),
        ("stream" = String, Path, description = "The stream"),
        ("seq" = i64, Path, description = "The sequence number"),
    ),
    responses((status = 200, body = RecordProof), (status = 404, body = ErrorBody))
)]
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path((node, journal, stream, seq)): Path<(String, String, String, String)>,
) -> Result<Json<RecordProof>, Refusal> {
    let seq = seq.parse().unwrap_or(0);
    prove(&state, &RecordRef { node, journal, stream, seq }).await.map(Json)
}

/// What [`one`] answers.
pub async fn prove(state: &HubState, place: &RecordRef) -> Result<RecordProof, Refusal> {
    let RecordRef { node, journal, stream, seq } = place;
    let row = store::get(&state.readers, node, journal, stream, *seq).await?.ok_or_else(|| {
        let place: String = format!("{node}/{journal}/{stream}/{seq}").chars().take(300).collect();
        Refusal::not_found(
            format!("there is no record {place}"),
            "it may be lost (see gaps), too old to be kept, or not here yet",
        )
    })?;
    let (before, after) = store::neighbours(&state.readers, row.id).await?;
    let previous = match &before {
        _ if row.seq == 1 => Some(Hash::GENESIS),
        Some(neighbour) => Hash::from_slice(&neighbour.hash),
        None => None,
    };
    let again = previous.and_then(|previous| row.hash_again(previous));
    Ok(RecordProof {
        verified: again.as_ref().map(|(hash, _)| hash.as_bytes().as_slice() == row.hash),
        hashed_header: again.map(|(_, header)| header),
        before: before.map(ChainNeighbour::from),
        after: after.map(ChainNeighbour::from),
        record: row.into(),
    })
}

/// Losses, newest first.
#[utoipa::path(
    get, path = "/api/v1/gaps", tag = "records", params(GapsAsked),
    responses((status = 200, body = GapPage), (status = 400, body = ErrorBody))
)]
pub async fn gaps(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<GapsAsked>,
) -> Result<Json<GapPage>, Refusal> {
    gap_page(&state, &asked).await.map(Json)
}

/// The page that [`gaps`] answers.
pub async fn gap_page(state: &HubState, asked: &GapsAsked) -> Result<GapPage, Refusal> {
    let limit = page_size(asked.limit, 50, 200)?;
    let rows = store::gaps(&state.readers, asked.node.as_deref(), asked.before, limit).await?;
    let next_before = (rows.len() == limit as usize).then(|| rows.last().map(|row| row.id)).flatten();
    Ok(GapPage { gaps: rows.into_iter().map(GapItem::from).collect(), next_before })
}

impl From<RecordRow> for RecordItem {
    fn from(row: RecordRow) -> RecordItem {
        // What was stored was read as JSON before; if the file was tampered with, it is shown as a string.
        let body = RawValue::from_string(row.body.clone())
            .or_else(|_| serde_json::value::to_raw_value(&row.body))
            .unwrap_or_else(|_| RawValue::NULL.to_owned());
        RecordItem {
            id: row.id,
            place: RecordRef { node: row.node, journal: row.journal, stream: row.stream, seq: row.seq },
            class: row.class,
            kind: row.kind,
            boot: row.boot,
            mono_ns: row.mono_ns,
            wall_ms: row.wall_ms,
            clock: row.clock,
            hash: hex(&row.hash),
            body,
        }
    }
}

impl From<Neighbour> for ChainNeighbour {
    fn from(neighbour: Neighbour) -> ChainNeighbour {
        let Neighbour { what, first, last, hash } = neighbour;
        ChainNeighbour { what, first, last, hash: hex(&hash) }
    }
}

impl From<GapRow> for GapItem {
    fn from(row: GapRow) -> GapItem {
        let GapRow { id, node, journal, stream, first, last, reason, noted_ms } = row;
        GapItem { id, node, journal, stream, first, last, reason, noted_ms }
    }
}

fn hex(bytes: &[u8]) -> String {
    Hash::from_slice(bytes).map(|hash| hash.to_string()).unwrap_or_default()
}
