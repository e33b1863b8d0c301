//! The audit log, as the API shows it: who did what, newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use wire::world::WallMs;

use crate::api::refusal::{Asked, ErrorBody, Refusal, page_size};
use crate::state::HubState;
use crate::store::audit::{self as store, AuditFilter, AuditRow};

/// Which entries.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditAsked {
    /// By this one: `hub`, `operator:<name>`.
    pub who: Option<String>,
    /// That did this: `rollout.start`.
    pub act: Option<String>,
    /// About this: a rollout's id, a node's name.
    pub about: Option<String>,
    /// Older than this `id`: the `next_before` of the page before.
    pub before: Option<i64>,
    /// How many at most, 1 to 1000; 100 unless told.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// A page of entries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditItem>,
    /// Where the next page begins; absent on the last.
    pub next_before: Option<i64>,
}

/// An entry.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditItem {
    /// Its number: the first is 1, and none is missing.
    pub id: i64,
    /// When, by the hub's clock.
    pub at_ms: WallMs,
    /// Who: `hub` by itself, `operator:<name>`.
    pub who: String,
    /// What.
    pub act: String,
    /// About what.
    pub about: String,
    /// All of it, byte for byte as it is hashed: `why`, and `before` and `after` where they say something.
    #[schema(value_type = Object)]
    pub entry: Box<RawValue>,
}

/// Who did what, newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "rollouts", params(AuditAsked),
    responses((status = 200, body = AuditPage), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<AuditAsked>,
) -> Result<Json<AuditPage>, Refusal> {
    page(&state, &asked).await.map(Json)
}

/// The page that [`list`] answers.
pub async fn page(state: &HubState, asked: &AuditAsked) -> Result<AuditPage, Refusal> {
    let limit = page_size(asked.limit, 100, 1000)?;
    let AuditAsked { who, act, about, before, .. } = asked.clone();
    let filter = AuditFilter { who, act, about, before };
    let rows = store::list(&state.readers, &filter, i64::from(limit)).await?;
    let next_before = (rows.len() == limit as usize).then(|| rows.last().map(|row| row.id)).flatten();
    Ok(AuditPage { entries: rows.into_iter().filter_map(item).collect(), next_before })
}

fn item(row: AuditRow) -> Option<AuditItem> {
    let AuditRow { id, at_ms, who, act, about, body } = row;
    Some(AuditItem { id, at_ms, who, act, about, entry: RawValue::from_string(body).ok()? })
}
