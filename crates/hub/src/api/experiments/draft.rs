//! From what somebody wants of an experiment to a plan, with what only the hub knows: which releases are approved, who is
//! meant today, and what runs there.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use package::trust::trusted::Trusted;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use wire::select::Selector;
use wire::world::WallMs;

use crate::access::who::Who;
use crate::api::approved::listed;
use crate::api::drafts::{bad, target, unapproved};
use crate::api::intake;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::experiment::draft::{self, Draft, sizes};
use crate::experiment::plan::{Against, Arms, AtEnd, Better, Harm, Measure, What};
use crate::experiment::split::rings;
use crate::experiment::text;
use crate::fleet::view::{Known, Search, saved};
use crate::rollout::plan::{Rate, Target};
use crate::state::HubState;
use crate::tuf::publish;

/// The most bytes of a draft.
const DRAFT_MAX_BYTES: usize = 64 << 10;
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
    let members: Vec<&Known> = meant.members(now_ms).collect();
    let release = |word: &String| target(&state, &meant.trusted, word);
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
                most.and_then(|(release, _)| listed(&state, &meant.trusted, &a.model, release));
            found.ok_or_else(|| {
                let why = format!("none of them runs a release of {} that is approved", a.model);
                bad("no-base", why, "say what nodes go back to")
            })?
        }
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

/// Reads what somebody wants.
pub(super) async fn read<T: serde::de::DeserializeOwned>(
    state: &HubState,
    request: Request<Body>,
) -> Result<T, Refusal> {
    let bytes = intake::read(state, request, DRAFT_MAX_BYTES).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| bad("bad-json", error.to_string(), "the fields are listed at /api"))
}

/// Who is meant today, and what is approved.
pub(super) struct Meant {
    pub(super) trusted: Trusted,
    pub(super) search: Search,
    fleet: Vec<Known>,
}

impl Meant {
    /// Those whom a group means.
    pub(super) async fn of(state: &HubState, group: &str) -> Result<Meant, Refusal> {
        let group = Selector::parse(group).map_err(|error| Refusal::bad_selector(&error))?;
        let Some(trusted) = publish::published(state).await? else {
            return Err(unapproved("no targets are published: nobody has approved a release".to_owned()));
        };
        let search = Search::new(&group, &saved(&state.readers).await?).map_err(|error| {
            bad("bad-group", error.to_string(), "saved groups are listed at /api/v1/groups")
        })?;
        let fleet = state.fleet.look(&state.readers).await?;
        Ok(Meant { trusted, search, fleet })
    }

    fn members(&self, now_ms: WallMs) -> impl Iterator<Item = &Known> {
        self.fleet.iter().filter(move |node| self.search.has(node, now_ms))
    }
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
    let version = meant.trusted.targets.as_ref().map_or(0, |targets| targets.body.head.version);
    let plan = draft::plan(wanted, version, now_ms)
        .map_err(|error| bad("bad-plan", error.to_string(), "the fields are listed at /api"))?;
    let raw = RawValue::from_string(String::from_utf8_lossy(&text::write(&plan)).into_owned())
        .map_err(|error| bad("bad-plan", error.to_string(), "ask for less"))?;
    let members: Vec<&Known> = meant.members(now_ms).collect();
    Ok(Json(ExperimentDrafted {
        id: text::id(&plan).to_string(),
        text: plan.to_string(),
        nodes: members.len(),
        arms: sizes(&plan, members.iter().map(|node| node.row.name.as_str())),
        problems: super::problems(state, &plan).await?,
        plan: raw,
    }))
}
