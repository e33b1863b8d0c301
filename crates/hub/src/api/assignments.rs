//! Who shall run what: signed elsewhere, kept and handed out here. Nodes judge for themselves; the hub takes only what the
//! published targets' own assigner has signed.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use package::name::ModelName;
use package::trust::assignment::{Assignment, BYTES_MAX, ROLE, Subject};
use package::trust::envelope::Envelope;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::access::who::Who;
use crate::api::intake;
use crate::api::refusal::{Asked, ErrorBody, Refusal};
use crate::cache;
use crate::depot::Key;
use crate::rollout::plan::Plan;
use crate::state::HubState;
use crate::tuf::publish;

/// How many stand on a page, each of at most [`BYTES_MAX`].
const PAGE: usize = 32;

/// How many are looked through for nodes that have one of their own.
const PINNED_MAX: usize = 4096;

const MEND: &str = "sign it with `selvedge trust assign`, after the targets that name the role are published";

/// Which assignments.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AssignmentsAsked {
    /// Those that can mean this node: its own, and all that select nodes by label and lot, which it judges itself.
    pub node: Option<String>,
    /// Behind this `id`: the `next_after` of the page before.
    pub after: Option<String>,
}

/// A page of assignments, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignmentPage {
    /// As they were signed.
    #[schema(value_type = Vec<Object>)]
    pub assignments: Vec<Box<RawValue>>,
    /// Where the next page begins; absent on the last.
    pub next_after: Option<String>,
}

/// What was taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignmentTaken {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u64,
}

/// Takes a signed assignment in the place of older versions of it.
#[utoipa::path(
    put, path = "/api/v1/assignments", tag = "packages",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, description = "It holds from now on, or did already", body = AssignmentTaken),
        (status = 400, description = "Not signed by the assigner of the published targets", body = ErrorBody),
        (status = 409, description = "A newer one is here", body = ErrorBody),
        (status = 413, description = "Larger than 256 KiB", body = ErrorBody),
    )
)]
pub async fn put(
    State(state): State<Arc<HubState>>,
    request: Request<Body>,
) -> Result<Json<AssignmentTaken>, Refusal> {
    let bytes = intake::read(&state, request, BYTES_MAX).await?;
    let refuse = |why: String| Refusal::bad_request("bad-assignment", why, MEND);
    let (signed, assignment) = read(&bytes).map_err(refuse)?;
    let _turn = state.publishing.lock().await;
    check_signed(&state, std::slice::from_ref(&signed)).await?.map_err(refuse)?;
    let (id, version) = (assignment.id.to_ascii_lowercase(), assignment.head.version);
    let key = Key::assignment(&id);
    let there = state.depot.read(&key, BYTES_MAX as u64).await?;
    let newest = there.as_ref().and_then(|there| read(there).ok()).map_or(0, |(_, old)| old.head.version);
    if there.as_ref() != Some(&bytes) {
        if version <= newest {
            let message = format!("version {newest} of {id} is here already, this is version {version}");
            return Err(Refusal::new(StatusCode::CONFLICT, "not-newer", message, MEND));
        }
        state.depot.put(&key, bytes.clone()).await?;
    }
    // Also if it was here already: whoever put it may have died before it was told.
    state.revision.change(&state.depot, &bytes, state.mono_s()).await?;
    state.waits.ring_all();
    Ok(Json(AssignmentTaken { id, version }))
}

/// Assignments, as they were signed.
#[utoipa::path(
    get, path = "/api/v1/assignments", tag = "packages", params(AssignmentsAsked),
    responses((status = 200, body = AssignmentPage), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(state): State<Arc<HubState>>,
    who: Who,
    Asked(asked): Asked<AssignmentsAsked>,
) -> Result<Json<AssignmentPage>, Refusal> {
    // A node hears what is for it, whatever it asks for.
    let node = match &who {
        Who::Node { name, .. } => Some(name.to_string()),
        Who::Nobody | Who::Operator { .. } => asked.node,
    };
    let after = asked.after.map(|id| format!("{id}.json"));
    let found = state.depot.names(&Key::assignments(), after.as_deref(), PAGE).await?;
    let ids: Vec<&str> = found.names.iter().filter_map(|name| name.strip_suffix(".json")).collect();
    let next_after = ids.last().filter(|_| found.more).map(|id| (*id).to_owned());
    let mut assignments = Vec::new();
    for id in ids {
        let Some(bytes) = state.depot.read(&Key::assignment(id), BYTES_MAX as u64).await? else { continue };
        let Ok((_, assignment)) = read(&bytes) else { continue };
        let is_for = match (&assignment.subject, &node) {
            (Subject::Node(name), Some(node)) => name == node,
            _ => true,
        };
        let text = String::from_utf8(bytes.to_vec()).ok().filter(|_| is_for);
        assignments.extend(text.and_then(|text| RawValue::from_string(text).ok()));
    }
    Ok(Json(AssignmentPage { assignments, next_after }))
}

/// An assignment, as it was signed.
#[utoipa::path(
    get, path = "/api/v1/assignments/{id}", tag = "packages",
    params(("id" = String, Path, description = "32 hexadecimal digits")),
    responses((status = 200, body = Object), (status = 404, body = ErrorBody))
)]
pub async fn one(State(state): State<Arc<HubState>>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found = match is_id {
        true => state.depot.read(&Key::assignment(&id.to_ascii_lowercase()), BYTES_MAX as u64).await?,
        false => None,
    };
    let nothing =
        || Refusal::not_found("there is no such assignment".to_owned(), "all are at /api/v1/assignments");
    let bytes = found.ok_or_else(nothing)?;
    let facts = [(header::CACHE_CONTROL, cache::ASK)];
    Ok((facts, [(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// The nodes with an assignment of their own for a model of the plan, which goes before any rollout. At most
/// `PINNED_MAX` assignments are looked through.
pub async fn pinned(state: &HubState, plan: &Plan) -> Result<BTreeSet<String>, Refusal> {
    let found = state.depot.names(&Key::assignments(), None, PINNED_MAX).await?;
    let ids = found.names.iter().filter_map(|name| name.strip_suffix(".json"));
    let keys: Vec<Key> = ids.map(Key::assignment).collect();
    let read_one = |key: Key| {
        let depot = state.depot.clone();
        async move { depot.read(&key, BYTES_MAX as u64).await }
    };
    let mut files = stream::iter(keys).map(read_one).buffer_unordered(16);
    let (mut pinned, now_ms) = (BTreeSet::new(), state.now_ms());
    while let Some(bytes) = files.try_next().await? {
        let Some(Ok((_, assignment))) = bytes.as_deref().map(read) else { continue };
        let is_for = |model: &ModelName| plan.what.iter().any(|target| target.model == *model);
        let holds =
            assignment.head.expires_ms > now_ms && assignment.models.iter().any(|one| is_for(&one.model));
        if let (Subject::Node(name), true) = (assignment.subject, holds) {
            pinned.insert(name);
        }
    }
    Ok(pinned)
}

/// Whether the assigner of the published targets has signed all of these; if not, why not.
pub async fn check_signed(state: &HubState, all: &[Envelope]) -> Result<Result<(), String>, Refusal> {
    let trusted = publish::published(state).await?;
    let targets = trusted.and_then(|trusted| trusted.targets);
    let delegations = targets.as_ref().map(|targets| &targets.body.delegations);
    let role =
        delegations.and_then(|all| Some((all, all.roles.iter().find(|role| role.name.as_str() == ROLE)?)));
    let Some((delegations, role)) = role else {
        return Ok(Err(format!("the published targets delegate to no role {ROLE:?}")));
    };
    let kinds = state.config.tuf.kinds();
    let checked = all.iter().try_for_each(|one| one.check(&delegations.keys, &role.keys, &kinds));
    Ok(checked.map_err(|error| error.to_string()))
}

/// Reads what is signed, whoever signed it.
fn read(bytes: &[u8]) -> Result<(Envelope, Assignment), String> {
    let envelope = Envelope::read(bytes).map_err(|error| error.to_string())?;
    let assignment = Assignment::read(&envelope.signed).map_err(|error| error.to_string())?;
    Ok((envelope, assignment))
}
