//! Experiments: planning one, taking it in, its documents signed elsewhere, and how it goes; of two releases, or of one beside what
//! runs.
//!
//! As with rollouts, no key comes here: the hub takes only documents that follow from the plan and that nodes would believe.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use wire::world::WallMs;

use crate::access::who::Who;
use crate::api::approved::{keep_indexes, problems_of};
use crate::api::intake;
use crate::api::plans::{
    DocumentList, MemberPage, MembersAsked, ORDER_MAX_BYTES, OrderAsked, SignedDocuments, WhyView, busy,
    list_of, nobody, number_of, page_of_members, signed, unreadable, wished,
};
use crate::api::refusal::{Asked, ErrorBody, Refusal, page_size};
use crate::api::rollouts::RolloutsAsked;
use crate::experiment::documents;
use crate::experiment::execute::{Granted, NotDone, Wish};
use crate::experiment::plan::{Arm, Plan, What};
use crate::experiment::sequence::Interval;
use crate::experiment::shadow::{Count, Sum};
use crate::experiment::step::{Experiment, Order, Split, told};
use crate::experiment::text;
use crate::rollout::execute::{Granted as Done, Wish as Wanted};
use crate::rollout::fields::BYTES_MAX;
use crate::rollout::member::STANDINGS;
use crate::rollout::plan::{PlanId, RING, Target};
use crate::state::HubState;
use crate::store::rollouts::{self as store, Of, RolloutRow};

pub mod draft;
pub mod shadow;

const MAKE: &str = "make the plan with `selvedge experiment new`";
const SIGN: &str = "sign with `selvedge experiment sign`, after the targets that name the role are published";
const LOOK: &str = "all experiments are at /api/v1/experiments";

/// A page of experiments, the newest plan first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExperimentPage {
    /// The experiments.
    pub experiments: Vec<ExperimentItem>,
    /// Where the next page begins; absent on the last.
    pub next_after: Option<String>,
}

/// Where an experiment stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ExperimentItem {
    /// Its id.
    pub id: String,
    /// Grows with everything that happens to it.
    pub revision: u64,
    /// `draft`, `ready`, `running`, `returning`, `ended`.
    pub phase: String,
    /// `arms`: two releases, each on a part of the group; `shadow`: one that answers beside what runs.
    pub kind: &'static str,
    /// Its arms, a and b; or the release that answers beside what runs.
    pub arms: Vec<ArmItem>,
    /// Which nodes take part.
    pub group: String,
    /// What nodes go back to; absent if what they run never changes.
    pub base: Option<String>,
    /// The figure that decides; `disagreement`: the share of answers that part.
    pub metric: String,
    /// Who made the plan.
    pub created_by: String,
    /// When.
    pub created_ms: WallMs,
    /// When it last changed.
    pub changed_ms: WallMs,
    /// When it ends at the latest; absent until it has begun.
    pub until_ms: Option<WallMs>,
    /// What it waits for, in words; empty at the end.
    pub needs: Vec<String>,
    /// Why it stands where it stands, in words.
    pub why: String,
    /// What came of it, in words; absent until it is over.
    pub verdict: Option<String>,
    /// By how much arm b lies above arm a, or where the share of answers that part lies, as far as is known.
    pub interval: Option<IntervalItem>,
    /// What was compared of a release that answers beside what runs; absent if there is none.
    pub compared: Option<ComparedItem>,
    /// What is to be thought of before the figures are believed.
    pub warnings: Vec<String>,
}

/// A part of the group that runs one release.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ArmItem {
    /// `a`, `b` or `shadow`.
    pub name: String,
    /// What it runs: `smollm2:7`.
    pub release: String,
    /// Its part of all places, 0 to 1.
    pub share: f64,
    /// How many members stand where, as in a rollout.
    pub members: BTreeMap<String, u32>,
    /// How many figures were taken; how many nodes told what they compared.
    pub figures: u32,
    /// Their mean, on the scale on which they are compared, or the share that parts; absent while there is none.
    pub mean: Option<f64>,
}

/// What nodes compared of a release that answers beside what runs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ComparedItem {
    /// How many answers were compared.
    pub compared: u64,
    /// How many of them were the same.
    pub agreed: u64,
    /// How many were chosen and not compared: the budget was spent, or the one before was not answered yet.
    pub skipped: u64,
    /// What it took of a core, in milliseconds.
    pub busy_ms: u64,
    /// What machines used meanwhile, in joules; absent if none measures it.
    pub joules: Option<u64>,
    /// In which share of answers it may say something else.
    pub bearable: f64,
    /// How many answers are enough.
    pub enough: u32,
    /// How many nodes told of an answer that was compared.
    pub nodes: u32,
    /// How many must before anything is decided, in words with what one of them may tell.
    pub rests_on: String,
    /// Of the nodes that told lately, those with the largest share that parts.
    pub worst: Vec<ComparedNode>,
}

/// What one node compared.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ComparedNode {
    /// Its name.
    pub node: String,
    /// How many answers were compared.
    pub compared: u64,
    /// How many of them were the same.
    pub agreed: u64,
    /// How many were chosen and not compared.
    pub skipped: u64,
}

/// By how much arm b lies above arm a; or where the share of answers that part lies.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct IntervalItem {
    /// The difference of the means: of sizes the logarithm of a ratio; or the share.
    pub change: f64,
    /// Not less than this.
    pub low: f64,
    /// Not more than this.
    pub high: f64,
    /// In words.
    pub text: String,
}

/// An experiment, whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExperimentView {
    /// Where it stands.
    #[serde(flatten)]
    pub item: ExperimentItem,
    /// The plan, in words.
    pub text: String,
    /// The plan, byte for byte as it is hashed.
    #[schema(value_type = Object)]
    pub plan: Box<RawValue>,
    /// All that the hub remembers of it.
    #[schema(value_type = Object)]
    pub state: Box<RawValue>,
}

/// A refusal, and how the experiment stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExperimentMovedOn {
    /// Why not.
    #[serde(flatten)]
    pub refusal: ErrorBody,
    /// The experiment as it stands now.
    pub experiment: ExperimentItem,
}

/// Takes in a plan: its experiment is a draft until its documents are signed. Told twice it is taken once.
#[utoipa::path(
    post, path = "/api/v1/experiments", tag = "experiments",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 201, description = "It is here, as it stands", body = ExperimentItem),
        (status = 400, description = "Not a plan, or of releases that nobody has approved", body = ErrorBody),
        (status = 413, description = "Larger than 256 KiB", body = ErrorBody),
    )
)]
pub async fn create(
    State(state): State<Arc<HubState>>,
    who: Who,
    request: Request<Body>,
) -> Result<(StatusCode, Json<ExperimentItem>), Refusal> {
    let bytes = intake::read(&state, request, BYTES_MAX).await?;
    let plan = text::read(&bytes).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        Refusal::bad_request("bad-plan", format!("{error}{}", source.unwrap_or_default()), MAKE)
    })?;
    if plan.created_by != who.name() {
        let message = format!("the plan says that {:?} made it, and {} asks", plan.created_by, who.name());
        return Err(Refusal::bad_request("not-yours", message, MAKE));
    }
    if let Some(problem) = problems(&state, &plan).await?.into_iter().next() {
        return Err(Refusal::bad_request("bad-plan", problem, MAKE));
    }
    let releases: Vec<Target> = plan.arms().iter().map(|arm| arm.target.clone()).collect();
    keep_indexes(&state, &releases).await?;
    let wish = Wish::Create { plan: Box::new(plan.clone()), who: who.name() };
    let it = granted(&state, wish).await?;
    Ok((StatusCode::CREATED, Json(item(&plan, &it, state.now_ms()))))
}

/// Why a plan cannot go about.
async fn problems(state: &HubState, plan: &Plan) -> Result<Vec<String>, Refusal> {
    problems_of(state, plan.targets_version, plan.created_ms, plan.expires_ms(), &plan.targets()).await
}

/// Experiments, the newest plan first.
#[utoipa::path(
    get, path = "/api/v1/experiments", tag = "experiments", params(RolloutsAsked),
    responses((status = 200, body = ExperimentPage), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<RolloutsAsked>,
) -> Result<Json<ExperimentPage>, Refusal> {
    let limit = page_size(asked.limit, 50, 200)?;
    let (phase, after) = (asked.phase.as_deref(), asked.after.as_deref());
    let rows = store::list_of(&state.readers, Of::Experiment, phase, after, i64::from(limit)).await?;
    let next_after = (rows.len() == limit as usize).then(|| rows.last().map(|row| row.id.clone())).flatten();
    let items = rows.iter().map(|row| read_row(row).map(|(plan, it)| item(&plan, &it, row.changed_ms)));
    Ok(Json(ExperimentPage { experiments: items.collect::<Result<_, _>>()?, next_after }))
}

/// An experiment: its plan, and where it stands.
#[utoipa::path(
    get, path = "/api/v1/experiments/{id}", tag = "experiments",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    responses((status = 200, body = ExperimentView), (status = 404, body = ErrorBody))
)]
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
) -> Result<Json<ExperimentView>, Refusal> {
    let (row, plan, it) = find(&state, &id).await?;
    let raw =
        |text: String| RawValue::from_string(text).map_err(|error| unreadable("experiment", &row.id, &error));
    Ok(Json(ExperimentView {
        item: item(&plan, &it, row.changed_ms),
        text: plan.to_string(),
        plan: raw(row.plan.clone())?,
        state: raw(row.state.clone())?,
    }))
}

/// Nodes that take part, by name; a member's `wave` is its arm, from 0.
#[utoipa::path(
    get, path = "/api/v1/experiments/{id}/members", tag = "experiments",
    params(("id" = String, Path, description = "32 hexadecimal digits"), MembersAsked),
    responses((status = 200, body = MemberPage), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub async fn members(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
    Asked(asked): Asked<MembersAsked>,
) -> Result<Json<MemberPage>, Refusal> {
    let (row, _, _) = find(&state, &id).await?;
    page_of_members(&state, &row.id, &asked).await.map(Json)
}

/// All documents that follow from an experiment's plan, unsigned, and whether each lies here signed.
#[utoipa::path(
    get, path = "/api/v1/experiments/{id}/documents", tag = "experiments",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    responses((status = 200, body = DocumentList), (status = 404, body = ErrorBody))
)]
pub async fn list_documents(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
) -> Result<Json<DocumentList>, Refusal> {
    let (row, plan, _) = find(&state, &id).await?;
    list_of(&state, "experiment", &row.id, documents::of(&plan)).await.map(Json)
}

/// Takes documents that were signed, some or all of them.
#[utoipa::path(
    put, path = "/api/v1/experiments/{id}/documents", tag = "experiments",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    request_body(content = SignedDocuments, content_type = "application/json"),
    responses(
        (status = 200, description = "They lie here", body = ExperimentItem),
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
) -> Result<Json<ExperimentItem>, Refusal> {
    let (_, plan, it) = find(&state, &id).await?;
    let taken = signed(&state, request, &documents::of(&plan), SIGN).await?;
    let it = granted(&state, Wish::Sign { id: it.id, documents: taken, who: who.name() }).await?;
    Ok(Json(item(&plan, &it, state.now_ms())))
}

/// What an experiment has for a node now, and if nothing, why not.
#[utoipa::path(
    get, path = "/api/v1/experiments/{id}/why/{node}", tag = "experiments",
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
    let (_, _, it) = find(&state, &id).await?;
    let node = number_of(&state, &node).await?;
    match ask(&state, Wish::Why { id: it.id, node }).await? {
        Ok(Granted::Why(Some(why))) => Ok(Json(WhyView { why })),
        Ok(_) => Err(nobody()),
        Err(error) => Err(not_done(&error)),
    }
}

/// Tells an experiment what to do: `start` or `stop`.
#[utoipa::path(
    post, path = "/api/v1/experiments/{id}/order", tag = "experiments",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    request_body(content = OrderAsked, content_type = "application/json"),
    responses(
        (status = 200, description = "It is done", body = ExperimentItem),
        (status = 400, description = "Not an order", body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "Not now, or the experiment has moved on; `experiment` says where to", body = ExperimentMovedOn),
        (status = 413, description = "Larger than 16 KiB", body = ErrorBody),
    )
)]
pub async fn order(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let (_, plan, it) = find(&state, &id).await?;
    let bytes = intake::read(&state, request, ORDER_MAX_BYTES).await?;
    let OrderAsked { order, why, revision } = intake::json(&bytes)?;
    let order = Order::parse(&order).ok_or_else(|| {
        let message = format!("an experiment does not {:?}", order.chars().take(40).collect::<String>());
        Refusal::bad_request("bad-order", message, "start or stop")
    })?;
    let refused = match ask(&state, Wish::Order { id: it.id, order, who: who.name(), why, revision }).await? {
        Ok(Granted::Experiment(it)) => return Ok(Json(item(&plan, &it, state.now_ms())).into_response()),
        Ok(Granted::Why(_)) => return Err(busy()),
        Err(refused) => refused,
    };
    let refusal = not_done(&refused);
    let experiment = match refused {
        NotDone::Stale(it) => item(&plan, &it, state.now_ms()),
        NotDone::NotNow(_) => {
            let (row, plan, it) = find(&state, &id).await?;
            item(&plan, &it, row.changed_ms)
        }
        NotDone::Unknown(_) => return Err(refusal),
    };
    let status = refusal.status();
    Ok((status, Json(ExperimentMovedOn { refusal: refusal.into_body(), experiment })).into_response())
}

/// An experiment's row, its plan, and where it stands.
pub async fn find(state: &HubState, id: &str) -> Result<(RolloutRow, Plan, Experiment), Refusal> {
    let nothing = || Refusal::not_found("there is no such experiment".to_owned(), LOOK);
    let id = PlanId::parse(id).ok_or_else(nothing)?.to_string();
    let row = store::get_of(&state.readers, Of::Experiment, &id).await?.ok_or_else(nothing)?;
    let (plan, it) = read_row(&row)?;
    Ok((row, plan, it))
}

/// The plan of a row, and where it stands.
pub fn read_row(row: &RolloutRow) -> Result<(Plan, Experiment), Refusal> {
    let plan = text::read(row.plan.as_bytes()).map_err(|error| unreadable("experiment", &row.id, &error))?;
    let it = serde_json::from_str(&row.state).map_err(|error| unreadable("experiment", &row.id, &error))?;
    Ok((plan, it))
}

/// Asks the writer.
pub async fn ask(state: &HubState, wish: Wish) -> Result<Result<Granted, NotDone>, Refusal> {
    match wished(state, Wanted::Experiment(wish)).await? {
        Ok(Done::Experiment(done)) => Ok(done),
        _ => Err(busy()),
    }
}

async fn granted(state: &HubState, wish: Wish) -> Result<Experiment, Refusal> {
    match ask(state, wish).await? {
        Ok(Granted::Experiment(it)) => Ok(*it),
        Ok(Granted::Why(_)) => Err(busy()),
        Err(error) => Err(not_done(&error)),
    }
}

/// Why not, as an answer.
pub fn not_done(error: &NotDone) -> Refusal {
    let said = error.to_string();
    let conflict = |code, mend| Refusal::new(StatusCode::CONFLICT, code, said.clone(), mend);
    match error {
        NotDone::Unknown(_) => Refusal::not_found(said, LOOK),
        NotDone::Stale(_) => conflict("stale", "look at it again, and say so with its new revision"),
        NotDone::NotNow(_) => conflict("not-now", "what it waits for stands in its needs"),
    }
}

/// What is to be thought of before the figures are believed.
pub fn warnings(it: &Experiment) -> Vec<String> {
    let split = it.split.filter(Split::is_suspicious);
    let said = split.map(|split| {
        let p = [split.members, split.figures].into_iter().flatten().fold(1.0, f64::min);
        format!(
            "the arms are not as large as the lot makes them (p = {p:.1e}): something else chose, and figures mislead"
        )
    });
    said.into_iter().collect()
}

/// Where an experiment stands.
pub fn item(plan: &Plan, it: &Experiment, changed_ms: WallMs) -> ExperimentItem {
    let arm = |arm: Arm<'_>| {
        let tally = it.tally.get(arm.at).copied().unwrap_or_default();
        let moments = if arm.at == 0 { it.figures.a } else { it.figures.b };
        let (figures, mean) = match plan.two() {
            Some(_) => (moments.n, (moments.n > 0).then_some(moments.mean)),
            None => (it.shadow.nodes, it.shadow.all.share()),
        };
        let members = STANDINGS.iter().map(|standing| (standing.to_string(), tally.of(*standing)));
        ArmItem {
            name: plan.arm_name(arm.at).to_owned(),
            release: format!("{}:{}", arm.target.model, arm.target.release),
            share: f64::from(arm.to.saturating_sub(arm.from)) / f64::from(RING),
            members: members.filter(|(_, nodes)| *nodes > 0).collect(),
            figures,
            mean,
        }
    };
    let last = it.outcome.as_ref().map_or_else(|| it.interval(plan), |outcome| outcome.interval);
    let interval = last.map(|found| {
        let Interval { change, low, high } = found;
        IntervalItem { change, low, high, text: told(plan, &found) }
    });
    let has_begun = !it.released.is_empty();
    ExperimentItem {
        id: it.id.to_string(),
        revision: it.revision,
        phase: it.phase.as_str().to_owned(),
        kind: if plan.two().is_some() { "arms" } else { "shadow" },
        arms: plan.arms().into_iter().map(arm).collect(),
        group: plan.group.clone(),
        base: plan.two().map(|arms| format!("{}:{}", arms.base.model, arms.base.release)),
        metric: plan.two().map_or_else(|| "disagreement".to_owned(), |arms| arms.measure.metric.clone()),
        created_by: plan.created_by.clone(),
        created_ms: plan.created_ms,
        changed_ms,
        until_ms: has_begun.then(|| it.until_ms(plan)),
        needs: it.needs.iter().map(ToString::to_string).collect(),
        why: it.why.clone(),
        verdict: it.outcome.as_ref().map(|outcome| outcome.verdict.to_string()),
        interval,
        compared: compared(plan, &it.shadow),
        warnings: warnings(it),
    }
}

fn compared(plan: &Plan, sum: &Sum) -> Option<ComparedItem> {
    let What::Shadow(shadow) = &plan.what else { return None };
    let Count { compared, agreed, skipped, busy_ms, joules } = sum.all;
    let worst = sum.worst.iter().map(|of| ComparedNode {
        node: of.node.clone(),
        compared: of.count.compared,
        agreed: of.count.agreed,
        skipped: of.count.skipped,
    });
    Some(ComparedItem {
        compared,
        agreed,
        skipped,
        busy_ms,
        joules,
        bearable: shadow.bound.max(),
        enough: shadow.bound.answers,
        nodes: sum.nodes,
        rests_on: shadow.bound.spread(),
        worst: worst.collect(),
    })
}
