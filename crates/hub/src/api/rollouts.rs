//! Rollouts: what a plan would do, taking it in, its documents signed elsewhere, orders, and how it goes.
//!
//! No key comes here: whoever signs does so with `selvedge rollout sign`, and the hub takes only documents that follow from
//! the plan, byte for byte, and that nodes would believe.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use wire::world::WallMs;

use crate::access::who::{Role, Who};
use crate::api::approved::{keep_indexes, problems_of, release};
use crate::api::assignments;
use crate::api::intake;
use crate::api::plans::{
    DocumentList, MemberPage, MembersAsked, ORDER_MAX_BYTES, OrderAsked, SignedDocuments, WhyView, busy,
    list_of, nobody, number_of, page_of_members, signed, unreadable, wished,
};
use crate::api::refusal::{Asked, ErrorBody, Refusal, page_size};
use crate::api::wellformed::has_nul;
use crate::rollout::coverage::Preview;
use crate::rollout::documents;
use crate::rollout::execute::{Granted, NotDone, Wish};
use crate::rollout::fields::BYTES_MAX;
use crate::rollout::gate::{self, Evidence, Verdict};
use crate::rollout::member::STANDINGS;
use crate::rollout::plan::{Plan, PlanId, Target};
use crate::rollout::step::{Order, Rollout, judged};
use crate::rollout::text;
use crate::state::HubState;
use crate::store::rollouts::{self as store, RolloutRow};

const MAKE: &str = "make the plan with `selvedge rollout new`";
const SIGN: &str = "sign with `selvedge rollout sign`, after the targets that name the role are published";
const LOOK: &str = "all rollouts are at /api/v1/rollouts";

/// What a plan would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanPreview {
    /// The rollout's id: the first half of the plan's hash.
    pub id: String,
    /// The plan, in words.
    pub text: String,
    /// What it would do to the fleet as it is now, in words.
    pub preview: String,
    /// How many nodes the group has.
    pub nodes: usize,
    /// How many of them change with each wave.
    pub waves: Vec<usize>,
    /// How many documents must be signed.
    pub documents: usize,
    /// Why it cannot go about as it is; empty if it can.
    pub problems: Vec<String>,
}

/// Which rollouts.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RolloutsAsked {
    /// In this phase: `draft`, `ready`, `running`, `soaking`, `held`, `paused`, `reverting`, `done`, `aborted`, `reverted`.
    pub phase: Option<String>,
    /// Behind this `id`: the `next_after` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 200; 50 unless told.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
}

/// A page of rollouts, the newest plan first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RolloutPage {
    /// The rollouts.
    pub rollouts: Vec<RolloutItem>,
    /// Where the next page begins; absent on the last.
    pub next_after: Option<String>,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RolloutItem {
    /// Its id.
    pub id: String,
    /// Grows with everything that happens to it.
    pub revision: u64,
    /// `draft`, `ready`, `running`, `soaking`, `held`, `paused`, `reverting`, `done`, `aborted`, `reverted`.
    pub phase: String,
    /// The open wave; 0: the canaries.
    pub wave: u32,
    /// How many waves there are.
    pub waves: u32,
    /// What goes about: `smollm2:7`.
    pub what: Vec<String>,
    /// Which nodes are meant.
    pub group: String,
    /// Who made the plan.
    pub created_by: String,
    /// When.
    pub created_ms: WallMs,
    /// When it last changed.
    pub changed_ms: WallMs,
    /// What it waits for, in words; empty at an end.
    pub needs: Vec<String>,
    /// Why it stands where it stands, in words.
    pub why: String,
    /// How many members stand where: `offered`, `taken`, `trying`, `succeeded`, `failed`, `unable`, `unknown`, `back`,
    /// `superseded`.
    pub members: BTreeMap<String, u32>,
}

/// A rollout, whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct RolloutView {
    /// Where it stands.
    #[serde(flatten)]
    pub item: RolloutItem,
    /// The plan, in words.
    pub text: String,
    /// The plan, byte for byte as it is hashed.
    #[schema(value_type = Object)]
    pub plan: Box<RawValue>,
    /// All that the hub remembers of it.
    #[schema(value_type = Object)]
    pub state: Box<RawValue>,
}

/// Why a rollout went on or stopped.
#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceView {
    /// What gates found that passed or stopped, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub gates: Vec<Evidence>,
    /// What the open wave's gate says now: `waits`, `passes`, `stops`; absent while no wave is open.
    pub now: Option<&'static str>,
    /// What it found, or what it waits for.
    pub why: Vec<String>,
}

/// A refusal, and how the rollout stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct MovedOn {
    /// Why not.
    #[serde(flatten)]
    pub refusal: ErrorBody,
    /// The rollout as it stands now.
    pub rollout: RolloutItem,
}

/// Checks a plan and tells what it would do. Nothing is kept.
#[utoipa::path(
    post, path = "/api/v1/plans", tag = "rollouts",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, body = PlanPreview),
        (status = 400, description = "Not a plan", body = ErrorBody),
        (status = 413, description = "Larger than 256 KiB", body = ErrorBody),
    )
)]
pub async fn preview(
    State(state): State<Arc<HubState>>,
    request: Request<Body>,
) -> Result<Json<PlanPreview>, Refusal> {
    let plan = read_plan(&state, request).await?;
    look(&state, &plan).await.map(Json)
}

/// What a plan would do to the fleet as it is now.
pub(super) async fn look(state: &HubState, plan: &Plan) -> Result<PlanPreview, Refusal> {
    let (preview, problems) = foresee(state, plan).await?;
    Ok(PlanPreview {
        id: text::id(plan).to_string(),
        text: plan.to_string(),
        preview: preview.to_string(),
        nodes: preview.members,
        waves: preview.waves.iter().map(|wave| wave.members).collect(),
        documents: documents::of(plan).len(),
        problems,
    })
}

/// What a plan would do to the fleet as it is now, and why it cannot go about, for the API and the page.
pub async fn foresee(state: &HubState, plan: &Plan) -> Result<(Preview, Vec<String>), Refusal> {
    let problems = problems(state, plan).await?;
    let release = release(state, plan).await?.map(Box::new);
    let pinned = assignments::pinned(state, plan).await?;
    let wish = Wish::Preview { plan: Box::new(plan.clone()), release, pinned };
    match wished(state, wish).await?.map_err(|error| not_done(&error))? {
        Granted::Preview(preview) => Ok((*preview, problems)),
        _ => Err(Refusal::later("busy", "the hub answered something else".to_owned(), 1)),
    }
}

/// Takes in a plan: its rollout is a draft until its documents are signed. Told twice it is taken once.
#[utoipa::path(
    post, path = "/api/v1/rollouts", tag = "rollouts",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 201, description = "It is here, as it stands", body = RolloutItem),
        (status = 400, description = "Not a plan, or of releases that nobody has approved", body = ErrorBody),
        (status = 413, description = "Larger than 256 KiB", body = ErrorBody),
    )
)]
pub async fn create(
    State(state): State<Arc<HubState>>,
    who: Who,
    request: Request<Body>,
) -> Result<(StatusCode, Json<RolloutItem>), Refusal> {
    let plan = read_plan(&state, request).await?;
    let rollout = take_in(&state, &who, &plan).await?;
    Ok((StatusCode::CREATED, Json(item(&plan, &rollout, state.now_ms()))))
}

/// Takes in a plan that `who` made, for the API and the page.
pub async fn take_in(state: &HubState, who: &Who, plan: &Plan) -> Result<Rollout, Refusal> {
    if plan.created_by != who.name() {
        let message = format!("the plan says that {:?} made it, and {} asks", plan.created_by, who.name());
        return Err(Refusal::bad_request("not-yours", message, MAKE));
    }
    if let Some(problem) = problems(state, plan).await?.into_iter().next() {
        return Err(Refusal::bad_request("bad-plan", problem, MAKE));
    }
    keep_indexes(state, &plan.what).await?;
    granted(state, Wish::Create { plan: Box::new(plan.clone()), who: who.name() }).await
}

/// Takes documents that were signed, some or all of them.
#[utoipa::path(
    put, path = "/api/v1/rollouts/{id}/documents", tag = "rollouts",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    request_body(content = SignedDocuments, content_type = "application/json"),
    responses(
        (status = 200, description = "They lie here", body = RolloutItem),
        (status = 400, description = "Not what follows from the plan, or not signed by the assigner of the published targets", body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 413, description = "Larger than 4 MiB", body = ErrorBody),
    )
)]
pub async fn put_documents(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Json<RolloutItem>, Refusal> {
    let (id, row, plan) = find_rollout(&state, &id).await?;
    let taken = signed(&state, request, &documents::of(&plan), SIGN).await?;
    let wish = Wish::Sign { id, documents: taken, who: who.name() };
    let rollout = granted(&state, wish).await?;
    Ok(Json(item(&plan, &rollout, row.changed_ms.max(state.now_ms()))))
}

/// Rollouts, the newest plan first.
#[utoipa::path(
    get, path = "/api/v1/rollouts", tag = "rollouts", params(RolloutsAsked),
    responses((status = 200, body = RolloutPage), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<RolloutsAsked>,
) -> Result<Json<RolloutPage>, Refusal> {
    page(&state, &asked).await.map(Json)
}

/// The page that [`list`] answers.
pub async fn page(state: &HubState, asked: &RolloutsAsked) -> Result<RolloutPage, Refusal> {
    let limit = page_size(asked.limit, 50, 200)?;
    let (phase, after) = (asked.phase.as_deref(), asked.after.as_deref());
    let rows = store::list(&state.readers, phase, after, i64::from(limit)).await?;
    let next_after = (rows.len() == limit as usize).then(|| rows.last().map(|row| row.id.clone())).flatten();
    let items = rows.iter().map(|row| read_row(row).map(|(plan, it)| item(&plan, &it, row.changed_ms)));
    Ok(RolloutPage { rollouts: items.collect::<Result<_, _>>()?, next_after })
}

/// A rollout: its plan, and where it stands.
#[utoipa::path(
    get, path = "/api/v1/rollouts/{id}", tag = "rollouts",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    responses((status = 200, body = RolloutView), (status = 404, body = ErrorBody))
)]
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
) -> Result<Json<RolloutView>, Refusal> {
    view(&state, &id).await.map(Json)
}

/// What [`one`] answers.
pub async fn view(state: &HubState, id: &str) -> Result<RolloutView, Refusal> {
    let (_, row, _) = find_rollout(state, id).await?;
    let (plan, rollout) = read_row(&row)?;
    let raw =
        |text: String| RawValue::from_string(text).map_err(|error| unreadable("rollout", &row.id, &error));
    Ok(RolloutView {
        item: item(&plan, &rollout, row.changed_ms),
        text: plan.to_string(),
        plan: raw(row.plan.clone())?,
        state: raw(row.state.clone())?,
    })
}

/// Nodes that were offered a rollout, by name.
#[utoipa::path(
    get, path = "/api/v1/rollouts/{id}/members", tag = "rollouts",
    params(("id" = String, Path, description = "32 hexadecimal digits"), MembersAsked),
    responses((status = 200, body = MemberPage), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub async fn members(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
    Asked(asked): Asked<MembersAsked>,
) -> Result<Json<MemberPage>, Refusal> {
    let (_, row, _) = find_rollout(&state, &id).await?;
    page_of_members(&state, &row.id, &asked).await.map(Json)
}

/// All documents that follow from a rollout's plan, unsigned, and whether each lies here signed.
#[utoipa::path(
    get, path = "/api/v1/rollouts/{id}/documents", tag = "rollouts",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    responses((status = 200, body = DocumentList), (status = 404, body = ErrorBody))
)]
pub async fn list_documents(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
) -> Result<Json<DocumentList>, Refusal> {
    let (_, row, plan) = find_rollout(&state, &id).await?;
    list_of(&state, "rollout", &row.id, documents::of(&plan)).await.map(Json)
}

/// Why a rollout went on or stopped, and what its open gate says now.
#[utoipa::path(
    get, path = "/api/v1/rollouts/{id}/evidence", tag = "rollouts",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    responses((status = 200, body = EvidenceView), (status = 404, body = ErrorBody))
)]
pub async fn evidence(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
) -> Result<Json<EvidenceView>, Refusal> {
    let (_, row, _) = find_rollout(&state, &id).await?;
    let (plan, rollout) = read_row(&row)?;
    let asked = |evidence: &Evidence| {
        let line = |one: &gate::Asked| format!("{}: {}, asked was {}", one.what, one.found, one.asked);
        evidence.asked.iter().map(line).collect()
    };
    let verdict = rollout.phase.is_open().then(|| judged(&plan, &rollout, state.now_ms()));
    let (now, why) = match &verdict {
        None => (None, Vec::new()),
        Some(Verdict::Wait(needs)) => (Some("waits"), needs.iter().map(ToString::to_string).collect()),
        Some(Verdict::Pass(evidence)) => (Some("passes"), asked(evidence)),
        Some(Verdict::Stop(evidence)) => (Some("stops"), asked(evidence)),
    };
    Ok(Json(EvidenceView { gates: rollout.evidence, now, why }))
}

/// What a rollout has for a node now, and if nothing, why not.
#[utoipa::path(
    get, path = "/api/v1/rollouts/{id}/why/{node}", tag = "rollouts",
    params(
        ("id" = String, Path, description = "32 hexadecimal digits"),
        ("node" = String, Path, description = "The node's name"),
    ),
    responses((status = 200, body = WhyView), (status = 404, body = ErrorBody))
)]
pub async fn why(
    State(state): State<Arc<HubState>>,
    Path((id, node)): Path<(String, String)>,
) -> Result<Json<WhyView>, Refusal> {
    let (id, _, _) = find_rollout(&state, &id).await?;
    let node = number_of(&state, &node).await?;
    match wished(&state, Wish::Why { id, node }).await? {
        Ok(Granted::Why(Some(why))) => Ok(Json(WhyView { why })),
        Ok(_) => Err(nobody()),
        Err(error) => Err(not_done(&error)),
    }
}

/// Whether somebody may order that. Approving is the approver's, everything else the operator's.
pub fn may(who: &Who, order: Order) -> Result<(), Refusal> {
    let needed = if order == Order::Approve { Role::Approver } else { Role::Operator };
    if who.has(needed) {
        return Ok(());
    }
    let message = format!("this takes the role {}", needed.as_str());
    let mend = "an admin gives roles; docs/identity.md says what each may do";
    Err(Refusal::new(StatusCode::FORBIDDEN, "role", message, mend))
}

/// Tells a rollout what to do.
#[utoipa::path(
    post, path = "/api/v1/rollouts/{id}/order", tag = "rollouts",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    request_body(content = OrderAsked, content_type = "application/json"),
    responses(
        (status = 200, description = "It is done", body = RolloutItem),
        (status = 400, description = "Not an order", body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "Not now, or the rollout has moved on; `rollout` says where to", body = MovedOn),
        (status = 413, description = "Larger than 16 KiB", body = ErrorBody),
    )
)]
pub async fn order(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let (id, _, plan) = find_rollout(&state, &id).await?;
    let bytes = intake::read(&state, request, ORDER_MAX_BYTES).await?;
    let OrderAsked { order, why, revision } = intake::json(&bytes)?;
    let order = order_of(&order).ok_or_else(|| {
        let message = format!("a rollout does not {:?}", order.chars().take(40).collect::<String>());
        Refusal::bad_request(
            "bad-order",
            message,
            "start, pause, resume, approve, abort, revert or skip_unknown",
        )
    })?;
    may(&who, order)?;
    let wish = Wish::Order { id, order, who: who.name(), why, revision };
    let refused = match wished(&state, wish).await? {
        Ok(Granted::Rollout(rollout)) => {
            return Ok(Json(item(&plan, &rollout, state.now_ms())).into_response());
        }
        Ok(_) => return Err(busy()),
        Err(refused) => refused,
    };
    let refusal = not_done(&refused);
    let rollout = match refused {
        NotDone::Stale(rollout) => item(&plan, &rollout, state.now_ms()),
        NotDone::NotNow(_) => view(&state, &id.to_string()).await?.item,
        _ => return Err(refusal),
    };
    Ok((refusal.status(), Json(MovedOn { refusal: refusal.into_body(), rollout })).into_response())
}

fn order_of(word: &str) -> Option<Order> {
    use Order::{Abort, Approve, Pause, Resume, Revert, SkipUnknown, Start};
    let word = word.replace('_', "-");
    [Start, Pause, Resume, Approve, Abort, Revert, SkipUnknown].into_iter().find(|it| it.as_str() == word)
}

async fn read_plan(state: &HubState, request: Request<Body>) -> Result<Plan, Refusal> {
    let bytes = intake::read(state, request, BYTES_MAX).await?;
    if has_nul(&bytes) {
        return Err(Refusal::bad_request("bad-plan", "a text in it has a NUL character".to_owned(), MAKE));
    }
    text::read(&bytes).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        Refusal::bad_request("bad-plan", format!("{error}{}", source.unwrap_or_default()), MAKE)
    })
}

/// Why a plan cannot go about: what nodes would refuse, said before anybody signs it.
async fn problems(state: &HubState, plan: &Plan) -> Result<Vec<String>, Refusal> {
    let targets: Vec<&Target> = plan.what.iter().chain(&plan.revert).collect();
    problems_of(state, plan.targets_version, plan.created_ms, plan.expires_ms(), &targets).await
}

async fn find_rollout(state: &HubState, id: &str) -> Result<(PlanId, RolloutRow, Plan), Refusal> {
    let nothing = || Refusal::not_found("there is no such rollout".to_owned(), LOOK);
    let id = PlanId::parse(id).ok_or_else(nothing)?;
    let row = store::get(&state.readers, &id.to_string()).await?.ok_or_else(nothing)?;
    let plan = text::read(row.plan.as_bytes()).map_err(|error| unreadable("rollout", &row.id, &error))?;
    Ok((id, row, plan))
}

fn read_row(row: &RolloutRow) -> Result<(Plan, Rollout), Refusal> {
    let plan = text::read(row.plan.as_bytes()).map_err(|error| unreadable("rollout", &row.id, &error))?;
    let rollout = serde_json::from_str(&row.state).map_err(|error| unreadable("rollout", &row.id, &error))?;
    Ok((plan, rollout))
}

async fn granted(state: &HubState, wish: Wish) -> Result<Rollout, Refusal> {
    match wished(state, wish).await? {
        Ok(Granted::Rollout(rollout)) => Ok(*rollout),
        Ok(_) => Err(busy()),
        Err(error) => Err(not_done(&error)),
    }
}

fn not_done(error: &NotDone) -> Refusal {
    let said = error.to_string();
    match error {
        NotDone::Unknown(_) => Refusal::not_found(said, LOOK),
        NotDone::Stale(_) => Refusal::new(
            StatusCode::CONFLICT,
            "stale",
            said,
            "look at it again, and say so with its new revision",
        ),
        NotDone::NotNow(_) => {
            Refusal::new(StatusCode::CONFLICT, "not-now", said, "what it waits for stands in its needs")
        }
        NotDone::Plan(_) => Refusal::bad_request("bad-plan", said, MAKE),
    }
}

fn item(plan: &Plan, rollout: &Rollout, changed_ms: WallMs) -> RolloutItem {
    let all = rollout.members();
    let members = STANDINGS.iter().map(|standing| (standing.to_string(), all.of(*standing)));
    RolloutItem {
        id: rollout.id.to_string(),
        revision: rollout.revision,
        phase: rollout.phase.as_str().to_owned(),
        wave: rollout.wave,
        waves: plan.last_wave(),
        what: plan.what.iter().map(|target| format!("{}:{}", target.model, target.release)).collect(),
        group: plan.group.clone(),
        created_by: plan.created_by.clone(),
        created_ms: plan.created_ms,
        changed_ms,
        needs: rollout.needs.iter().map(ToString::to_string).collect(),
        why: rollout.why.clone(),
        members: members.filter(|(_, nodes)| *nodes > 0).collect(),
    }
}
