//! What fires and what has fired, as the API shows it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use package::trust::canonical::Value;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::world::WallMs;

use crate::access::who::Who;
use crate::api::intake::Told;
use crate::api::records::RecordRef;
use crate::api::refusal::{Asked, ErrorBody, Refusal, page_size};
use crate::state::HubState;
use crate::store::alerts::{self as store, Acked, AlertFilter, AlertRow};
use crate::store::audit::{self, Entry};

/// The most characters of a note.
const NOTE_MAX: usize = 2000;

/// Which alerts.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertsAsked {
    /// `firing` or `cleared`; both unless told.
    pub state: Option<AlertState>,
    /// Of this node.
    pub node: Option<String>,
    /// Older than this `id`: the `next_before` of the page before.
    pub before: Option<i64>,
    /// How many at most, 1 to 1000; 100 unless told.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// Whether an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// It stands.
    Firing,
    /// It is over.
    Cleared,
}

/// A page of alerts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<AlertItem>,
    /// Where the next page begins; absent on the last.
    pub next_before: Option<i64>,
}

/// An alert.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlertItem {
    /// Its number in the hub.
    pub id: i64,
    /// The node.
    pub node: String,
    /// Who says so: a rule on the `node`, or the `hub`'s own watch.
    pub origin: String,
    /// The rule; the hub's own are `node-silent`, `journal-forked` and `records-lost`.
    pub rule: String,
    /// About what: a source, or for the hub's own rules a stream, a journal or nothing.
    pub source: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// Whether it stands.
    pub state: AlertState,
    /// When the condition began to hold.
    pub since_ms: WallMs,
    /// When it had held for long enough.
    pub fired_ms: WallMs,
    /// When it was over; absent while it stands.
    pub cleared_ms: Option<WallMs>,
    /// The condition, as written.
    pub condition: String,
    /// Why, in words.
    pub why: String,
    /// The value it was judged on.
    pub value: Option<f64>,
    /// The calibrated probability that it is right.
    pub confidence: Option<f64>,
    /// The model behind it.
    pub model: Option<String>,
    /// How often it was raised; for `records-lost`, how many records.
    pub count: i64,
    /// The record that explains it; the hub's own alerts have none.
    pub record: Option<RecordRef>,
    /// That somebody has seen it; absent until somebody has.
    pub acked: Option<AckItem>,
}

/// That somebody has seen an alert.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AckItem {
    /// Who.
    pub by: String,
    /// When.
    pub at_ms: WallMs,
    /// What they say.
    pub note: String,
}

/// What whoever has seen an alert says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckAsk {
    /// For those who come after, at most 2000 characters: what it was, who looks after it.
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub note: String,
}

/// Says that somebody has seen an alert. It goes on firing until its condition is over.
#[utoipa::path(
    post, path = "/api/v1/alerts/{id}/ack", tag = "fleet", request_body = AckAsk,
    params(("id" = i64, Path, description = "The alert's `id`")),
    responses((status = 200, body = AlertItem))
)]
pub async fn ack(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    Told(AckAsk { note }): Told<AckAsk>,
) -> Result<Json<AlertItem>, Refusal> {
    acked(&state, &who, &id, note).await.map(Json)
}

/// What [`ack`] does, for the page too.
pub async fn acked(state: &HubState, who: &Who, id: &str, note: String) -> Result<AlertItem, Refusal> {
    let nothing = || Refusal::not_found("there is no such alert".to_owned(), "all are at /api/v1/alerts");
    let id: i64 = id.parse().map_err(|_| nothing())?;
    if note.chars().count() > NOTE_MAX {
        let message = format!("a note has at most {NOTE_MAX} characters");
        return Err(Refusal::bad_request("too-long", message, "say it in fewer words"));
    }
    let acked = Acked { by: who.name(), at_ms: state.now_ms(), note };
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let Some(node) = store::ack(writer, id, &acked).await? else { return Ok(false) };
            let after = Value::object([("alert", Value::Integer(id))]);
            let Acked { by: who, at_ms, note: why } = acked;
            let entry = Entry::new(at_ms, who, "alert.ack", node);
            audit::append(writer, &Entry { why, after: Some(after), ..entry }).await?;
            Ok(true)
        })
    });
    let row = if done.await? { store::one(&state.readers, id).await? } else { None };
    row.map(AlertItem::from).ok_or_else(nothing)
}

/// Alerts, newest first.
#[utoipa::path(
    get, path = "/api/v1/alerts", tag = "fleet", params(AlertsAsked),
    responses((status = 200, body = AlertPage), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<AlertsAsked>,
) -> Result<Json<AlertPage>, Refusal> {
    page(&state, &asked).await.map(Json)
}

/// The page that [`list`] answers.
pub async fn page(state: &HubState, asked: &AlertsAsked) -> Result<AlertPage, Refusal> {
    let limit = page_size(asked.limit, 100, 1000)?;
    let firing = asked.state.map(|state| state == AlertState::Firing);
    let filter = AlertFilter { node: asked.node.clone(), firing, before: asked.before };
    let rows = store::list(&state.readers, &filter, limit).await?;
    let next_before = (rows.len() == limit as usize).then(|| rows.last().map(|row| row.id)).flatten();
    Ok(AlertPage { alerts: rows.into_iter().map(AlertItem::from).collect(), next_before })
}

impl From<AlertRow> for AlertItem {
    fn from(row: AlertRow) -> AlertItem {
        let node = row.node.clone();
        AlertItem {
            id: row.id,
            node: row.node,
            origin: row.origin,
            rule: row.rule,
            source: row.source,
            severity: row.severity,
            state: if row.cleared_ms.is_none() { AlertState::Firing } else { AlertState::Cleared },
            since_ms: row.since_ms,
            fired_ms: row.fired_ms,
            cleared_ms: row.cleared_ms,
            condition: row.condition,
            why: row.why,
            value: row.value,
            confidence: row.confidence,
            model: row.model,
            count: row.count,
            acked: row.acked.map(|Acked { by, at_ms, note }| AckItem { by, at_ms, note }),
            record: row.record.map(|(journal, stream, seq)| RecordRef { node, journal, stream, seq }),
        }
    }
}
