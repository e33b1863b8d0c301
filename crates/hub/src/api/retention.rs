//! How long the hub keeps what, what was cut, and what the archive has.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use wire::world::WallMs;

use crate::access::who::Who;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::retain::run;
use crate::state::HubState;
use crate::store::{archives, retention as store};

/// How long the hub keeps what nodes sent, in days after it came, and how that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Retention {
    /// Records of class `audit`.
    pub audit_days: i64,
    /// Records of class `event`.
    pub event_days: i64,
    /// Records of class `metric`.
    pub metric_days: i64,
    /// Records of class `raw`.
    pub raw_days: i64,
    /// How models behaved, by day.
    pub samples_days: i64,
    /// When old records were last looked for, by the database's time.
    pub ran_ms: Option<WallMs>,
    /// How many records were ever cut.
    pub cut: i64,
    /// Why old records stay; absent if nothing stands in the way.
    pub waits: Option<String>,
    /// Whether nothing is cut that is not in the archive.
    pub archive: bool,
    /// How many files the archive has.
    pub archive_files: i64,
    /// How many bytes these have.
    pub archive_bytes: i64,
}

/// How long the hub keeps what.
#[utoipa::path(get, path = "/api/v1/retention", tag = "hub", responses((status = 200, body = Retention)))]
pub async fn one(State(state): State<Arc<HubState>>) -> Result<Json<Retention>, Refusal> {
    read(&state).await.map(Json)
}

/// What [`one`] answers.
pub async fn read(state: &HubState) -> Result<Retention, Refusal> {
    let (keep, keeping) = (&state.config.keep, store::keeping(&state.readers).await?);
    let (archive_files, archive_bytes) = archives::size(&state.readers).await?;
    Ok(Retention {
        audit_days: keep.audit.get(),
        event_days: keep.event.get(),
        metric_days: keep.metric.get(),
        raw_days: keep.raw.get(),
        samples_days: keep.samples.get(),
        ran_ms: keeping.ran_ms,
        cut: keeping.cut,
        waits: Some(keeping.waits).filter(|why| !why.is_empty()),
        archive: state.config.archive.on,
        archive_files,
        archive_bytes,
    })
}

/// Says that the hub's clock is right although it jumped, so that old records may go.
#[utoipa::path(
    post, path = "/api/v1/retention/confirm", tag = "hub",
    responses((status = 204, description = "Old records go at the next look"), (status = 403, body = ErrorBody))
)]
pub async fn confirm(State(state): State<Arc<HubState>>, who: Who) -> Result<StatusCode, Refusal> {
    run::confirm(&state.writer, who.name(), state.now_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}
