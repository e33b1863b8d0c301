//! From what somebody wants of an experiment to a plan, with what only the hub knows: which releases are approved, who is
//! meant today, and what runs there.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use wire::select::Selector;

use crate::access::who::Who;
use crate::api::approved::listed;
use crate::api::drafts::{bad, target, unapproved};
use crate::api::intake;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::experiment::draft::{self, Draft, sizes};
use crate::experiment::plan::{Against, AtEnd, Better, Harm, Measure};
use crate::experiment::text;
use crate::fleet::view::{Known, Search, saved};
use crate::rollout::plan::{Rate, Target};
use crate::state::HubState;
use crate::tuf::publish;

/// The most bytes of a draft.
const DRAFT_MAX_BYTES: usize = 64 << 10;
const DAY_S: u32 = 86_400;

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
    #[schema(value_type = Vec<usize>)]
    pub arms: [usize; 2],
    /// Why it cannot go about as it is; empty if it can.
    pub problems: Vec<String>,
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
    let bytes = intake::read(&state, request, DRAFT_MAX_BYTES).await?;
    let asked: ExperimentAsked = serde_json::from_slice(&bytes)
        .map_err(|error| bad("bad-json", error.to_string(), "the fields are listed at /api"))?;
    let group = Selector::parse(&asked.group).map_err(|error| Refusal::bad_selector(&error))?;
    let Some(trusted) = publish::published(&state).await? else {
        return Err(unapproved("no targets are published: nobody has approved a release".to_owned()));
    };
    let now_ms = state.now_ms();
    let version = trusted.targets.as_ref().map_or(0, |targets| targets.body.head.version);
    let search = Search::new(&group, &saved(&state.readers).await?)
        .map_err(|error| bad("bad-group", error.to_string(), "saved groups are listed at /api/v1/groups"))?;
    let fleet = state.fleet.look(&state.readers).await?;
    let members: Vec<&Known> = fleet.iter().filter(|node| search.has(node, now_ms)).collect();
    let release = |word: &String| target(&state, &trusted, word);
    let for_s = asked.for_s.unwrap_or(14 * DAY_S);
    let (a, b) = (release(&asked.a)?, release(&asked.b)?);
    let base = match &asked.base {
        Some(word) => release(word)?,
        None => {
            let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
            for release in members.iter().filter_map(|node| node.releases().get(a.model.as_str()).copied()) {
                *counts.entry(release).or_insert(0) += 1;
            }
            let most = counts.into_iter().max_by_key(|(release, nodes)| (*nodes, *release));
            let found: Option<Target> =
                most.and_then(|(release, _)| listed(&state, &trusted, &a.model, release));
            found.ok_or_else(|| {
                let why = format!("none of them runs a release of {} that is approved", a.model);
                bad("no-base", why, "say what nodes go back to")
            })?
        }
    };
    let percent = asked.percent.unwrap_or(100);
    if !(1..=100).contains(&percent) {
        let message = format!("{percent} of 100 nodes of the group cannot take part");
        return Err(bad("bad-plan", message, "say 1 to 100"));
    }
    let wanted = Draft {
        base,
        percent,
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
        group: search.selector().to_string(),
        for_s,
        harm: Harm { max_failed: asked.max_failed.unwrap_or(2), p0_ppm: 5000, alpha_ppm: 10_000 },
        rate: Rate { bytes_per_s: asked.bytes_per_s, nodes_per_min: asked.nodes_per_min },
        allow_rollback: asked.allow_rollback,
        valid_s: asked.valid_s.unwrap_or_else(|| for_s.saturating_add(7 * DAY_S)),
        created_by: who.name(),
        note: asked.note,
    };
    let plan = draft::plan(wanted, version, now_ms)
        .map_err(|error| bad("bad-plan", error.to_string(), "the fields are listed at /api"))?;
    let raw = RawValue::from_string(String::from_utf8_lossy(&text::write(&plan)).into_owned())
        .map_err(|error| bad("bad-plan", error.to_string(), "ask for less"))?;
    Ok(Json(ExperimentDrafted {
        id: text::id(&plan).to_string(),
        text: plan.to_string(),
        nodes: members.len(),
        arms: sizes(&plan, members.iter().map(|node| node.row.name.as_str())),
        problems: super::problems(&state, &plan).await?,
        plan: raw,
    }))
}
