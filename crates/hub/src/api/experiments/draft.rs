//! From what somebody wants of an experiment to a plan, with what only the hub knows: which releases are approved, who is
//! meant today, and what runs there.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use wire::world::WallMs;

use crate::access::who::Who;
use crate::api::drafts::{Meant, bad, raw, read, target};
use crate::api::refusal::{ErrorBody, Refusal};
use crate::experiment::draft::{self, Draft, sizes};
use crate::experiment::plan::{Against, Arms, AtEnd, Better, Harm, Measure, What};
use crate::experiment::split::rings;
use crate::experiment::text;
use crate::fleet::view::Known;
use crate::rollout::plan::Rate;
use crate::state::HubState;

pub(super) const DAY_S: u32 = 86_400;

/// What somebody wants of an experiment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentAsked {
    /// The release of arm a: `smollm2:7`.
    pub a: String,
    /// The release of arm b.
    pub b: String,
    /// What nodes go back to; absent: what most of them run now.
    #[serde(default)]
    pub base: Option<String>,
    /// Which nodes take part, in the language of selectors; a saved group is `group.<name>`.
    pub group: String,
    /// How many per cent of them; all unless told.
    #[serde(default)]
    pub percent: Option<u8>,
    /// The figure that decides; `p95_ms` unless told.
    #[serde(default)]
    pub metric: Option<String>,
    /// Which way it is better: `up` or `down`; `down` unless told.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub better: Option<Better>,
    /// The least difference that matters, in parts of a million; 50 000 unless told.
    #[serde(default)]
    pub min_effect_ppm: Option<u32>,
    /// How often it may decide wrongly, in parts of a million; 50 000 unless told.
    #[serde(default)]
    pub alpha_ppm: Option<u32>,
    /// After how many requests a node's figure is taken; 1000 unless told.
    #[serde(default)]
    pub answers: Option<u32>,
    /// `itself`: each node against its last day before; `others`: as it is. `itself` unless told.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub against: Option<Against>,
    /// What nodes run once it is decided: `back` or `stay`; `back` unless told.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub at_end: Option<AtEnd>,
    /// How long it takes at most, in seconds; 14 days unless told.
    #[serde(default)]
    pub for_s: Option<u32>,
    /// One failing node more than this in an arm stops it; 2 unless told.
    #[serde(default)]
    pub max_failed: Option<u32>,
    /// How many nodes get a release in a minute; 0: as they come.
    #[serde(default)]
    pub nodes_per_min: u32,
    /// How many bytes go out in a second; 0: as they can.
    #[serde(default)]
    pub bytes_per_s: u64,
    /// Whether the releases may be older than what nodes have.
    #[serde(default)]
    pub allow_rollback: bool,
    /// How long its documents hold, in seconds; a week longer than it takes unless told.
    #[serde(default)]
    pub valid_s: Option<u32>,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// A plan of an experiment, and whom it means.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExperimentDrafted {
    /// The experiment's id: the first half of the plan's hash.
    pub id: String,
    /// The plan, in words.
    pub text: String,
    /// How many nodes the group has.
    pub nodes: usize,
    /// How many of them each arm has.
    pub arms: Vec<usize>,
    /// Why it cannot go about as it is; empty if it can.
    pub problems: Vec<String>,
    /// What is to be thought of before it is begun with the nodes that there are.
    pub warnings: Vec<String>,
    /// The plan, to be sent to `/api/v1/experiments`.
    #[schema(value_type = Object)]
    pub plan: Box<RawValue>,
}

/// Makes a plan of an experiment for the nodes that there are. Nothing is kept.
#[utoipa::path(
    post, path = "/api/v1/experiments/draft", tag = "experiments",
    request_body(content = ExperimentAsked, content_type = "application/json"),
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
    let asked: ExperimentAsked = read(&state, request).await?;
    let now_ms = state.now_ms();
    let meant = Meant::of(&state, &asked.group).await?;
    let release = |word: &String| target(&state, &meant.trusted, word);
    let for_s = asked.for_s.unwrap_or(14 * DAY_S);
    let (a, b) = (release(&asked.a)?, release(&asked.b)?);
    let base = match &asked.base {
        Some(word) => release(word)?,
        None => meant.most(&state, &a.model, None, now_ms).ok_or_else(|| {
            let why = format!("none of them runs a release of {} that is approved", a.model);
            bad("no-base", why, "say what nodes go back to")
        })?,
    };
    let [a_to, b_to] = rings(percent(asked.percent)?);
    let arms = Arms {
        a_to,
        b_to,
        base,
        measure: Measure {
            metric: asked.metric.unwrap_or_else(|| "p95_ms".to_owned()),
            better: asked.better.unwrap_or(Better::Down),
            min_effect_ppm: asked.min_effect_ppm.unwrap_or(50_000),
            answers: asked.answers.unwrap_or(1000),
            alpha_ppm: asked.alpha_ppm.unwrap_or(50_000),
            against: asked.against.unwrap_or(Against::Itself),
        },
        at_end: asked.at_end.unwrap_or(AtEnd::Back),
        a,
        b,
    };
    let wanted = Draft {
        what: What::Arms(arms),
        group: meant.search.selector().to_string(),
        for_s,
        harm: harm(asked.max_failed),
        rate: Rate { bytes_per_s: asked.bytes_per_s, nodes_per_min: asked.nodes_per_min },
        allow_rollback: asked.allow_rollback,
        valid_s: asked.valid_s.unwrap_or_else(|| for_s.saturating_add(7 * DAY_S)),
        created_by: who.name(),
        note: asked.note,
    };
    drafted(&state, wanted, &meant, now_ms).await
}

/// How many per cent of the group take part.
pub(super) fn percent(asked: Option<u8>) -> Result<u8, Refusal> {
    let percent = asked.unwrap_or(100);
    if (1..=100).contains(&percent) {
        return Ok(percent);
    }
    let message = format!("{percent} of 100 nodes of the group cannot take part");
    Err(bad("bad-plan", message, "say 1 to 100"))
}

/// When an experiment is stopped for its harm.
pub(super) fn harm(max_failed: Option<u32>) -> Harm {
    Harm { max_failed: max_failed.unwrap_or(2), p0_ppm: 5000, alpha_ppm: 10_000 }
}

/// The plan of a draft, and whom it means.
pub(super) async fn drafted(
    state: &HubState,
    wanted: Draft,
    meant: &Meant,
    now_ms: WallMs,
) -> Result<Json<ExperimentDrafted>, Refusal> {
    let plan = draft::plan(wanted, meant.version(), now_ms)
        .map_err(|error| bad("bad-plan", error.to_string(), "the fields are listed at /api"))?;
    let raw = raw(&text::write(&plan))?;
    let members: Vec<&Known> = meant.members(now_ms).collect();
    let arms = sizes(&plan, members.iter().map(|node| node.row.name.as_str()));
    let mut warnings = Vec::new();
    if let Some(shadow) = plan.shadow()
        && arms.iter().all(|nodes| *nodes < shadow.bound.nodes as usize)
    {
        let (nodes, rests_on) = (arms.iter().sum::<usize>(), shadow.bound.spread());
        let word = if nodes == 1 { "node takes" } else { "nodes take" };
        warnings.push(format!(
            "{nodes} {word} part today, and a verdict rests on {rests_on}: it decides nothing"
        ));
    }
    Ok(Json(ExperimentDrafted {
        id: text::id(&plan).to_string(),
        text: plan.to_string(),
        nodes: members.len(),
        arms,
        problems: super::problems(state, &plan).await?,
        warnings,
        plan: raw,
    }))
}
