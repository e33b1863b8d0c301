//! From what somebody wants to a plan, with what only the hub knows: which releases are approved, who is meant today, and what
//! runs there.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use package::name::ModelName;
use package::trust::trusted::Trusted;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use wire::id::NodeId;
use wire::select::Selector;
use wire::world::WallMs;

use crate::access::who::Who;
use crate::api::approved::listed;
use crate::api::intake;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::api::rollouts::{PlanPreview, look};
use crate::fleet::view::{Known, Search, saved};
use crate::rollout::draft::{self, Draft};
use crate::rollout::plan::{Disruption, Plan, Rate, Target};
use crate::rollout::policy::Preset;
use crate::rollout::text;
use crate::state::HubState;
use crate::tuf::publish;

/// The most bytes of a draft.
const DRAFT_MAX_BYTES: usize = 64 << 10;
/// Thirty days.
const VALID_S: u32 = 30 * 86_400;

/// What somebody wants.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftAsked {
    /// The releases that go about: `smollm2:7`.
    pub what: Vec<String>,
    /// Which nodes are meant, in the language of selectors; a saved group is `group.<name>`.
    pub group: String,
    /// `usual`, `careful` or `emergency`.
    #[serde(default)]
    pub policy: Option<String>,
    /// Nodes that go first, by name.
    #[serde(default)]
    pub canary: Vec<String>,
    /// What nodes go back to; absent: what most of them run now; empty: nobody goes back.
    #[serde(default)]
    pub revert: Option<Vec<String>>,
    /// When nodes may change, by their own time: `mon-fri 22:00-05:00`.
    #[serde(default)]
    pub when: Option<String>,
    /// The share of nodes that changes last, in per cent; 5 unless told.
    #[serde(default)]
    pub hold_out_percent: Option<u8>,
    /// How many nodes with the same value of a label may be away at once.
    #[serde(default)]
    pub budget: Vec<BudgetAsked>,
    /// How many nodes get it in a minute; 0: as they come.
    #[serde(default)]
    pub nodes_per_min: u32,
    /// How many bytes go out in a second; 0: as they can.
    #[serde(default)]
    pub bytes_per_s: u64,
    /// How long each gate looks, in seconds; absent: as the policy says.
    #[serde(default)]
    pub soak_s: Option<u32>,
    /// How many others must approve it.
    #[serde(default)]
    pub approvals: u8,
    /// Whether the releases may be older than what nodes have.
    #[serde(default)]
    pub allow_rollback: bool,
    /// How long its documents hold, in seconds; 30 days unless told.
    #[serde(default)]
    pub valid_s: Option<u32>,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// How many nodes may be away at once.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetAsked {
    /// The label whose value they share.
    pub by: String,
    /// So many.
    pub max_unavailable: u32,
}

/// A plan, and what it would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct Drafted {
    /// The plan, to be kept as it is or edited, and sent to `/api/v1/rollouts`.
    #[schema(value_type = Object)]
    pub plan: Box<RawValue>,
    /// What it would do.
    #[serde(flatten)]
    pub preview: PlanPreview,
}

/// Makes a plan for the nodes that there are. Nothing is kept.
#[utoipa::path(
    post, path = "/api/v1/plans/draft", tag = "rollouts",
    request_body(content = DraftAsked, content_type = "application/json"),
    responses(
        (status = 200, body = Drafted),
        (status = 400, description = "Nobody can be meant by that, or nobody approved it", body = ErrorBody),
        (status = 413, description = "Larger than 64 KiB", body = ErrorBody),
    )
)]
pub async fn make(
    State(state): State<Arc<HubState>>,
    who: Who,
    request: Request<Body>,
) -> Result<Json<Drafted>, Refusal> {
    let plan = plan(&state, read(&state, request).await?, &who.name()).await?;
    Ok(Json(Drafted { plan: raw(&text::write(&plan))?, preview: look(&state, &plan).await? }))
}

/// Reads what somebody wants.
pub(super) async fn read<T: DeserializeOwned>(
    state: &HubState,
    request: Request<Body>,
) -> Result<T, Refusal> {
    intake::json(&intake::read(state, request, DRAFT_MAX_BYTES).await?)
}

/// A plan, as it is answered.
pub(super) fn raw(plan: &[u8]) -> Result<Box<RawValue>, Refusal> {
    RawValue::from_string(String::from_utf8_lossy(plan).into_owned())
        .map_err(|error| bad("bad-plan", error.to_string(), "ask for less"))
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

    pub(super) fn members(&self, now_ms: WallMs) -> impl Iterator<Item = &Known> {
        self.fleet.iter().filter(move |node| self.search.has(node, now_ms))
    }

    /// The version of the top-level targets that approve.
    pub(super) fn version(&self) -> u64 {
        self.trusted.targets.as_ref().map_or(0, |targets| targets.body.head.version)
    }

    /// The release of a model that most of them run now, but for one; `None`: that is not known, or not approved any more.
    pub(super) fn most(
        &self,
        state: &HubState,
        model: &ModelName,
        but: Option<u64>,
        now_ms: WallMs,
    ) -> Option<Target> {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for release in self.members(now_ms).filter_map(|node| node.releases().get(model.as_str()).copied()) {
            *counts.entry(release).or_insert(0) += 1;
        }
        let others = counts.into_iter().filter(|(release, _)| Some(*release) != but);
        let (release, _) = others.max_by_key(|(release, nodes)| (*nodes, *release))?;
        listed(state, &self.trusted, model, release)
    }
}

/// The plan of a draft that `who` asked for.
pub async fn plan(state: &HubState, asked: DraftAsked, who: &str) -> Result<Plan, Refusal> {
    let (meant, now_ms) = (Meant::of(state, &asked.group).await?, state.now_ms());
    let what: Vec<Target> =
        asked.what.iter().map(|word| target(state, &meant.trusted, word)).collect::<Result<_, _>>()?;
    let revert = match &asked.revert {
        Some(words) => {
            words.iter().map(|word| target(state, &meant.trusted, word)).collect::<Result<_, _>>()?
        }
        None => back(state, &meant, &what, now_ms),
    };
    let preset = asked.policy.as_deref().map_or(Some(Preset::Usual), Preset::parse);
    let preset = preset.ok_or_else(|| {
        bad("bad-policy", "there is no such policy".to_owned(), "usual, careful or emergency")
    })?;
    let when = asked.when.as_deref().map(|words| {
        let why = || format!("{:?} is no window", words.chars().take(60).collect::<String>());
        draft::when(words).ok_or_else(|| bad("bad-window", why(), "write it like: mon-fri 22:00-05:00"))
    });
    let name = |name: &String| {
        NodeId::new(name.as_str())
            .map_err(|error| bad("bad-node", error.to_string(), "nodes go by their names"))
    };
    let budget = |it: &BudgetAsked| Disruption { by: it.by.clone(), max_unavailable: it.max_unavailable };
    let wanted = Draft {
        what,
        revert,
        group: meant.search.selector().to_string(),
        canary: asked.canary.iter().map(name).collect::<Result<_, _>>()?,
        preset,
        soak_s: asked.soak_s,
        hold_out_percent: asked.hold_out_percent.unwrap_or(5),
        budget: asked.budget.iter().map(budget).collect(),
        rate: Rate { bytes_per_s: asked.bytes_per_s, nodes_per_min: asked.nodes_per_min },
        when: when.transpose()?,
        valid_s: asked.valid_s.unwrap_or(VALID_S),
        approvals: asked.approvals,
        allow_rollback: asked.allow_rollback,
        revert_on_stop: true,
        created_by: who.to_owned(),
        note: asked.note,
    };
    let names = meant.members(now_ms).map(|node| node.row.name.as_str());
    draft::plan(wanted, names, meant.version(), now_ms)
        .map_err(|error| bad("bad-plan", error.to_string(), "the fields are listed at /api"))
}

pub(super) fn bad(code: &'static str, message: String, mend: &'static str) -> Refusal {
    Refusal::bad_request(code, message, mend)
}

pub(super) fn unapproved(message: String) -> Refusal {
    bad(
        "not-approved",
        message,
        "approve it with `selvedge trust add`, and publish with `selvedge trust push`",
    )
}

/// A release, as published targets list it.
pub(super) fn target(state: &HubState, trusted: &Trusted, word: &str) -> Result<Target, Refusal> {
    let (model, release) = draft::release(word).ok_or_else(|| {
        let word: String = word.chars().take(60).collect();
        bad("bad-release", format!("{word:?} is no release"), "name it like smollm2:7")
    })?;
    listed(state, trusted, &model, release)
        .ok_or_else(|| unapproved(format!("no published targets list {model}:{release}")))
}

/// What most of the members run now, of the models that go about; nothing, if that is not known of all models or not
/// approved any more: then a stop stops, and nobody goes back.
fn back(state: &HubState, meant: &Meant, what: &[Target], now_ms: WallMs) -> Vec<Target> {
    let most = |target: &Target| meant.most(state, &target.model, Some(target.release), now_ms);
    what.iter().map(most).collect::<Option<_>>().unwrap_or_default()
}
