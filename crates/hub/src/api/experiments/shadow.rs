//! From what somebody wants of a release that shall answer beside what runs to a plan.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use package::trust::shadow::Limits;
use serde::Deserialize;
use utoipa::ToSchema;

use super::draft::{DAY_S, ExperimentDrafted, drafted, harm, percent};
use crate::access::who::Who;
use crate::api::drafts::{Meant, read, target};
use crate::api::refusal::{ErrorBody, Refusal};
use crate::experiment::draft::Draft;
use crate::experiment::plan::{Bound, Shadow, What};
use crate::experiment::split::ring;
use crate::rollout::plan::Rate;
use crate::state::HubState;

/// With fewer than three nodes nobody can say which of them is the odd one.
const NODES: u32 = 3;

/// What somebody wants of a release that shall answer beside what runs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowAsked {
    /// The release: `smollm2:8`.
    pub release: String,
    /// Which nodes take part, in the language of selectors; a saved group is `group.<name>`.
    pub group: String,
    /// How many per cent of them; all unless told.
    #[serde(default)]
    pub percent: Option<u8>,
    /// Of all answers that can be compared, so many in a million are; 100 000 unless told.
    #[serde(default)]
    pub share_ppm: Option<u32>,
    /// In a minute it may keep one core busy for so many millionths of it; 50 000 unless told.
    #[serde(default)]
    pub core_ppm: Option<u32>,
    /// Joules that a machine may use in a minute while it answers, where that is measured; any unless told.
    #[serde(default)]
    pub joules: Option<u32>,
    /// Bytes of memory that it may take; what package and node say unless told.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// So many answers are enough of one node; 1000 unless told.
    #[serde(default)]
    pub answers: Option<u32>,
    /// In so many of a million answers it may say something else; 50 000 unless told.
    #[serde(default)]
    pub max_ppm: Option<u32>,
    /// So many answers of all nodes are enough; 100 000 unless told.
    #[serde(default)]
    pub enough: Option<u32>,
    /// So many nodes must have told before anything is decided, none of them of more than 2 / (nodes + 1) of all answers; 3 unless told.
    #[serde(default)]
    pub nodes: Option<u32>,
    /// How often it may decide wrongly, in parts of a million; 50 000 unless told.
    #[serde(default)]
    pub alpha_ppm: Option<u32>,
    /// How long it takes at most, in seconds; 14 days unless told.
    #[serde(default)]
    pub for_s: Option<u32>,
    /// One failing node more than this stops it; 2 unless told.
    #[serde(default)]
    pub max_failed: Option<u32>,
    /// How many nodes get the release in a minute; 0: as they come.
    #[serde(default)]
    pub nodes_per_min: u32,
    /// How many bytes go out in a second; 0: as they can.
    #[serde(default)]
    pub bytes_per_s: u64,
    /// Whether the release may be older than what nodes have.
    #[serde(default)]
    pub allow_rollback: bool,
    /// How long its documents hold, in seconds; a week longer than it takes unless told.
    #[serde(default)]
    pub valid_s: Option<u32>,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// Makes a plan of an experiment in which a release answers beside what runs. Nothing is kept.
#[utoipa::path(
    post, path = "/api/v1/experiments/draft/shadow", tag = "experiments",
    request_body(content = ShadowAsked, content_type = "application/json"),
    responses(
        (status = 200, body = ExperimentDrafted),
        (status = 400, description = "Nobody can be meant by that, or nobody approved it", body = ErrorBody),
        (status = 413, description = "Larger than 64 KiB", body = ErrorBody),
    )
)]
pub async fn make(
    State(state): State<Arc<HubState>>,
    who: Who,
    request: Request<Body>,
) -> Result<Json<ExperimentDrafted>, Refusal> {
    let asked: ShadowAsked = read(&state, request).await?;
    let meant = Meant::of(&state, &asked.group).await?;
    let for_s = asked.for_s.unwrap_or(14 * DAY_S);
    let shadow = Shadow {
        release: target(&state, &meant.trusted, &asked.release)?,
        to: ring(percent(asked.percent)?),
        limits: Limits {
            share_ppm: asked.share_ppm.unwrap_or(100_000),
            core_ppm: asked.core_ppm.unwrap_or(50_000),
            joules: asked.joules,
            memory_bytes: asked.memory_bytes,
            answers: asked.answers.unwrap_or(1000),
        },
        bound: Bound {
            max_ppm: asked.max_ppm.unwrap_or(50_000),
            answers: asked.enough.unwrap_or(100_000),
            nodes: asked.nodes.unwrap_or(NODES),
            alpha_ppm: asked.alpha_ppm.unwrap_or(50_000),
        },
    };
    let wanted = Draft {
        what: What::Shadow(shadow),
        group: meant.search.selector().to_string(),
        for_s,
        harm: harm(asked.max_failed),
        rate: Rate { bytes_per_s: asked.bytes_per_s, nodes_per_min: asked.nodes_per_min },
        allow_rollback: asked.allow_rollback,
        valid_s: asked.valid_s.unwrap_or_else(|| for_s.saturating_add(7 * DAY_S)),
        created_by: who.name(),
        note: asked.note,
    };
    drafted(&state, wanted, &meant, state.now_ms()).await
}
