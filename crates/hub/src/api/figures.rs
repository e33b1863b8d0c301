//! How the models of one node behave, before their last change and since: measured there, and told in its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;
use wire::body::Install;
use wire::checkin::{CheckIn, SlotState};
use wire::hash::Hash;
use wire::world::WallMs;

use crate::api::nodes;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::rollout::around::{Side, around};
use crate::rollout::figures::{METRICS, day_of};
use crate::state::HubState;
use crate::store::nodes::NodeRow;
use crate::store::records::{self, RecordFilter};
use crate::store::samples;

/// Among how many installations the last change of each model is looked for.
const INSTALLS: u32 = 100;
const INSTALLS_MAX_BYTES: usize = 1 << 20;

/// How many days before a change are looked at, and before today where nobody knows of a change.
const DAYS_BEFORE: i64 = 14;

/// The most days of one model that are read, the newest.
const DAYS_MAX: i64 = 1000;

/// The figures of a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeFigures {
    /// The node.
    pub node: String,
    /// Each model of which anything was told, by name.
    pub models: Vec<ModelFigures>,
}

/// A model on a node, before its last change and since.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ModelFigures {
    /// The model.
    pub model: String,
    /// When what runs now was committed, by the node's clock; absent: no record of it is kept.
    pub turned_ms: Option<WallMs>,
    /// What answered before; absent: nothing was told.
    pub before: Option<FiguresOf>,
    /// What runs now; absent: nothing was told yet that is not of both.
    pub since: Option<FiguresOf>,
}

/// How a manifest behaved for a while.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FiguresOf {
    /// Its release, as far as a record says it.
    pub release: Option<u64>,
    /// The SHA-256 of the variant's manifest.
    pub manifest: String,
    /// The beginning of the while, at most a week before its end.
    pub from_ms: WallMs,
    /// The end.
    pub to_ms: WallMs,
    /// What was measured: `p50_ms` and `p95_ms` of a token, `rss_bytes`, `joules` of an answer (each a geometric mean, by how
    /// many answers it stands for), `drift` (a mean), `failed_share`, `abstained_share` (0 to 1). What was not measured is
    /// absent.
    pub figures: BTreeMap<String, f64>,
}

/// How the models of a node behave, before their last change and since.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}/figures", tag = "fleet",
    params(("node" = String, Path, description = "The node's name")),
    responses((status = 200, body = NodeFigures), (status = 404, body = ErrorBody))
)]
pub async fn of_node(
    State(state): State<Arc<HubState>>,
    Path(node): Path<String>,
) -> Result<Json<NodeFigures>, Refusal> {
    let row = nodes::row(&state, &node).await?;
    Ok(Json(NodeFigures { models: read(&state, &row).await?, node: row.name }))
}

/// What [`of_node`] answers of each model.
pub async fn read(state: &HubState, row: &NodeRow) -> Result<Vec<ModelFigures>, Refusal> {
    let checkin: Option<CheckIn> = row.checkin.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let slots = checkin.map(|checkin| checkin.slots).unwrap_or_default();
    if slots.iter().all(|slot| slot.current.is_none()) {
        return Ok(Vec::new());
    }
    let filter = RecordFilter {
        node: Some(row.name.clone()),
        kind: Some("install".to_owned()),
        ..RecordFilter::default()
    };
    let (records, _) = records::list(&state.readers, &filter, INSTALLS, INSTALLS_MAX_BYTES).await?;
    let committed = records.iter().filter_map(|record| {
        let install: Install = serde_json::from_str(&record.body).ok()?;
        (install.outcome == "committed").then_some((record.wall_ms, install))
    });
    let committed: Vec<(WallMs, Install)> = committed.collect();
    let mut models = Vec::new();
    for slot in &slots {
        let found = model(state, row, slot, &committed).await?;
        models.extend(found.filter(|found| found.before.is_some() || found.since.is_some()));
    }
    models.sort_by(|a, b| a.model.cmp(&b.model));
    Ok(models)
}

async fn model(
    state: &HubState,
    row: &NodeRow,
    slot: &SlotState,
    committed: &[(WallMs, Install)],
) -> Result<Option<ModelFigures>, Refusal> {
    let Some(current) = &slot.current else { return Ok(None) };
    let of_model = || committed.iter().filter(|(_, install)| install.model == slot.model);
    let turned = of_model().find(|(_, install)| install.manifest == Some(current.manifest));
    let turned_ms = turned.map(|(at_ms, _)| *at_ms);
    let now_ms = state.now_ms();
    let from_day = day_of(turned_ms.unwrap_or(now_ms).min(now_ms)) - DAYS_BEFORE;
    let days = samples::of_node(&state.readers, &slot.model, row.id, from_day, DAYS_MAX).await?;
    let told = around(days.iter().map(|row| (row.day, row.manifest, &row.told)), current.manifest, turned_ms);
    let release = |manifest: Hash| {
        let known = of_model().find(|(_, install)| install.manifest == Some(manifest));
        known.map(|(_, install)| install.release)
    };
    let view = |side: Side| FiguresOf {
        release: match side.manifest == current.manifest {
            true => Some(current.release),
            false => release(side.manifest),
        },
        manifest: side.manifest.to_string(),
        from_ms: side.from_ms,
        to_ms: side.to_ms,
        figures: METRICS
            .iter()
            .filter_map(|metric| Some(((*metric).to_owned(), side.told.mean(metric)?)))
            .collect(),
    };
    let (before, since) = (told.before.map(view), told.since.map(view));
    Ok(Some(ModelFigures { model: slot.model.clone(), turned_ms, before, since }))
}
