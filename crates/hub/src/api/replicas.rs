//! The hubs that share a database: which are there, and what each of them does for all.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use wire::world::WallMs;

use crate::api::refusal::Refusal;
use crate::state::HubState;
use crate::store::replicas::{GONE_MS, ReplicaRow};

/// A hub.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReplicaItem {
    /// What it drew when it started.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// Its program's version.
    pub version: String,
    /// When it started, by the database's time.
    pub began_ms: WallMs,
    /// When it was last there, by the database's time.
    pub seen_ms: WallMs,
    /// Whether it was there within 15 s.
    pub alive: bool,
    /// What it does for all: `tick`, `audit`, `archive`, `retain`.
    pub leases: Vec<String>,
    /// Whether it is the one that answers.
    pub here: bool,
}

/// The hubs on this database that were there today.
#[utoipa::path(get, path = "/api/v1/replicas", tag = "hub", responses((status = 200, body = Vec<ReplicaItem>)))]
pub async fn list(State(state): State<Arc<HubState>>) -> Result<Json<Vec<ReplicaItem>>, Refusal> {
    read(&state).await.map(Json)
}

/// What [`list`] answers.
pub async fn read(state: &HubState) -> Result<Vec<ReplicaItem>, Refusal> {
    let (rows, now_ms) = state.replica.all(&state.readers).await?;
    let item = |row: ReplicaRow| ReplicaItem {
        alive: now_ms.saturating_sub(row.seen_ms) < GONE_MS,
        here: row.id == state.replica.id(),
        id: row.id,
        address: row.address,
        version: row.version,
        began_ms: row.began_ms,
        seen_ms: row.seen_ms,
        leases: row.leases,
    };
    Ok(rows.into_iter().map(item).collect())
}
