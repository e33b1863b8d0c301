//! Who may come in, and who is out: codes for nodes, their keys, and the list of the denied.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use package::trust::canonical::Value;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::base32;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::identity::Code;

use crate::access::who::Who;
use crate::api::intake::Told;
use crate::api::refusal::{Asked, ErrorBody, Refusal};
use crate::fleet::labels;
use crate::identity::enrol::{Offer, Pattern};
use crate::state::HubState;
use crate::store::audit::{self, Entry};
use crate::store::identity::{self, EnrolmentRow, KeyRow};
use crate::store::{nodes, tickets};

/// How long a code counts unless told, in minutes.
const MINUTES: u32 = 60;
/// The longest that one may count: a month.
const MINUTES_MAX: u32 = 31 * 24 * 60;
/// The most nodes of one token.
const USES_MAX: u32 = 10_000;
/// The most keys of one answer.
const KEYS_MAX: i64 = 1000;

/// Which code shall be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentAsk {
    /// What the node will be called; absent: what it asks for.
    #[schema(value_type = Option<String>)]
    pub name: Option<NodeId>,
    /// For how many nodes; more than one makes a token.
    pub uses: Option<u32>,
    /// What the nodes of a token may be called: a name with at most one `*` in it, such as `pump-*`.
    pub pattern: Option<String>,
    /// Labels that each node gets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether somebody at the hub admits each node; unless told, for tokens and not for codes.
    pub approve: Option<bool>,
    /// For how many minutes; an hour unless told.
    pub minutes: Option<u32>,
    /// Whether a node of that name may be replaced: its keys are denied then.
    #[serde(default)]
    pub replace: bool,
}

/// A code that was just made. It is shown here, once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewEnrolment {
    /// By which it is taken back.
    pub id: String,
    /// What whoever sets up the node types.
    pub code: String,
    /// Until when.
    pub until_ms: i64,
    /// Whether somebody at the hub admits each node.
    pub approve: bool,
}

/// Makes a code for a node, or a token for several. It also tells the node which hub is the true one.
#[utoipa::path(
    post, path = "/api/v1/enrolments", tag = "identity",
    request_body = EnrolmentAsk,
    responses(
        (status = 201, body = NewEnrolment),
        (status = 400, body = ErrorBody),
        (status = 409, description = "This hub has no door for nodes", body = ErrorBody),
    )
)]
pub async fn make(
    State(state): State<Arc<HubState>>,
    who: Who,
    Told(ask): Told<EnrolmentAsk>,
) -> Result<(StatusCode, Json<NewEnrolment>), Refusal> {
    Ok((StatusCode::CREATED, Json(make_one(&state, &who, ask).await?)))
}

/// Makes a code or a token, for the API and the page.
pub async fn make_one(state: &HubState, who: &Who, ask: EnrolmentAsk) -> Result<NewEnrolment, Refusal> {
    let Some(ca) = &state.ca else {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "no-nodes-door",
            "this hub has no door for nodes with certificates".to_owned(),
            "add [nodes] and listen to the hub's config",
        ));
    };
    let (uses, minutes) = (ask.uses.unwrap_or(1), ask.minutes.unwrap_or(MINUTES));
    if !(1..=USES_MAX).contains(&uses) || !(1..=MINUTES_MAX).contains(&minutes) {
        let message = format!("uses is 1 to {USES_MAX}, minutes is 1 to {MINUTES_MAX}");
        return Err(Refusal::bad_request("out-of-range", message, "choose others"));
    }
    let is_token = uses > 1;
    if is_token && (ask.name.is_some() || ask.replace) {
        let message = "a token is for several nodes: it has no name and replaces none".to_owned();
        return Err(Refusal::bad_request("token-with-name", message, "make a code for each node"));
    }
    if ask.replace && ask.approve == Some(true) {
        let message = "a code that replaces a node is one person's decision already".to_owned();
        return Err(Refusal::bad_request("replace-with-approve", message, "leave approve out"));
    }
    let pattern = match &ask.pattern {
        Some(text) => Some(Pattern::new(text).filter(|_| is_token).ok_or_else(|| {
            let message = "a token has a pattern of names: a name, with at most one * in it".to_owned();
            Refusal::bad_request("bad-pattern", message, "write it such as pump-*")
        })?),
        None => None,
    };
    labels::set(None, ask.labels.clone()).map_err(|bad| {
        Refusal::bad_request("bad-labels", bad.to_string(), "labels are names and short texts")
    })?;
    let (code, id) = {
        let mut entropy = state.entropy();
        (Code::draw(&mut **entropy, is_token, ca.public()), base32::draw(&mut **entropy, 10))
    };
    let now_ms = state.now_ms();
    let until_ms = now_ms + i64::from(minutes) * 60_000;
    let approve = ask.approve.unwrap_or(is_token);
    let offer = Offer {
        id: id.clone(),
        replaces: ask.replace,
        name: ask.name,
        pattern,
        labels: ask.labels,
        approve,
        uses: i64::from(uses),
        used: 0,
        until_ms,
    };
    let (row, hash) = (EnrolmentRow { offer, is_token, made_by: who.name() }, code.hash());
    let who = who.clone();
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            identity::add_enrolment(writer, &row, &hash).await?;
            let text = |text: &String| Value::Text(text.clone());
            let labels = row.offer.labels.iter().map(|(name, value)| (name.clone(), text(value)));
            let after = Value::object([
                ("uses", Value::Integer(row.offer.uses)),
                ("until_ms", Value::Integer(until_ms)),
                ("replaces", Value::Bool(row.offer.replaces)),
                ("approve", Value::Bool(approve)),
                ("labels", Value::Object(labels.collect())),
                ("name", row.offer.name.as_ref().map_or("", NodeId::as_str).into()),
                ("pattern", row.offer.pattern.as_ref().map_or("", Pattern::as_str).into()),
            ]);
            let entry = Entry::new(now_ms, who.name(), "enrolment.make", row.offer.id);
            audit::append(writer, &Entry { after: Some(after), ..entry }).await
        })
    });
    done.await?;
    Ok(NewEnrolment { id, code: code.to_string(), until_ms, approve })
}

/// A code, without what it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Enrolment {
    /// By which it is taken back.
    pub id: String,
    /// Of the node, if it is bound to one.
    pub name: Option<String>,
    /// What the nodes of a token may be called, if that is bound.
    pub pattern: Option<String>,
    /// Labels that each node gets.
    pub labels: BTreeMap<String, String>,
    /// Whether it is good for several nodes.
    pub token: bool,
    /// Whether somebody at the hub admits each node.
    pub approve: bool,
    /// Whether a node of that name may be replaced.
    pub replace: bool,
    /// For how many nodes.
    pub uses: i64,
    /// How many came in.
    pub used: i64,
    /// Until when.
    pub until_ms: i64,
    /// Who made it.
    pub made_by: String,
}

/// Which codes there are, the newest first; also those that have run out.
#[utoipa::path(get, path = "/api/v1/enrolments", tag = "identity", responses((status = 200, body = Vec<Enrolment>)))]
pub async fn list(State(state): State<Arc<HubState>>) -> Result<Json<Vec<Enrolment>>, Refusal> {
    all(&state).await.map(Json)
}

/// All codes, for the API and the page.
pub async fn all(state: &HubState) -> Result<Vec<Enrolment>, Refusal> {
    let rows = identity::enrolments(&state.readers).await?;
    let shown = |EnrolmentRow { offer, is_token, made_by }| Enrolment {
        id: offer.id,
        name: offer.name.map(|name| name.to_string()),
        pattern: offer.pattern.map(|pattern| pattern.as_str().to_owned()),
        labels: offer.labels,
        token: is_token,
        approve: offer.approve,
        replace: offer.replaces,
        uses: offer.uses,
        used: offer.used,
        until_ms: offer.until_ms,
        made_by,
    };
    Ok(rows.into_iter().map(shown).collect())
}

/// Takes a code back. Nodes that came in by it stay, those who wait by it are forgotten.
#[utoipa::path(
    delete, path = "/api/v1/enrolments/{id}", tag = "identity",
    params(("id" = String, Path, description = "As its maker got it")),
    responses((status = 204, description = "It counts no more"), (status = 404, body = ErrorBody))
)]
pub async fn remove(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let now_ms = state.now_ms();
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let was = identity::remove_enrolment(writer, &id).await?;
            if was {
                tickets::forget_waiting(writer, &id).await?;
                audit::append(writer, &Entry::new(now_ms, who.name(), "enrolment.remove", id)).await?;
            }
            Ok(was)
        })
    });
    match done.await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::not_found(
            "there is no such code".to_owned(),
            "GET /api/v1/enrolments lists those there are",
        )),
    }
}

/// Which keys.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct KeysAsked {
    /// Of this node; absent: the newest thousand of all.
    pub(crate) node: Option<String>,
}

/// The key of a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// SHA-256 of its public half.
    pub(crate) id: String,
    pub(crate) node: String,
    /// Its newest certificate's number.
    pub(crate) serial: String,
    /// Until when that counts.
    pub(crate) not_after_ms: i64,
    /// When it last had one from here.
    pub(crate) renewed_ms: i64,
    /// Since when it is out.
    pub(crate) denied_ms: Option<i64>,
    /// Why.
    pub(crate) why: Option<String>,
}

/// The keys by which nodes come.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "identity", params(KeysAsked),
    responses((status = 200, body = Vec<Key>), (status = 400, body = ErrorBody))
)]
pub async fn keys(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<KeysAsked>,
) -> Result<Json<Vec<Key>>, Refusal> {
    let rows = identity::keys(&state.readers, asked.node.as_deref(), KEYS_MAX).await?;
    let shown = |KeyRow { id, owner, serial, seen_ms, denied_ms, why }| Key {
        id: id.to_string(),
        node: owner.name,
        serial,
        not_after_ms: owner.not_after_ms,
        renewed_ms: seen_ms,
        denied_ms,
        why,
    };
    Ok(Json(rows.into_iter().map(shown).collect()))
}

/// Who shall be out: all keys of a node, or one key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyAsk {
    /// The node.
    #[schema(value_type = Option<String>)]
    pub(crate) node: Option<NodeId>,
    /// Or the key, 64 hex digits.
    #[schema(value_type = Option<String>)]
    pub(crate) key: Option<Hash>,
    /// For those who read the log.
    #[serde(default)]
    pub(crate) why: String,
}

/// How many keys are out now that were not before.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeniedCount {
    keys: u64,
}

/// Keeps a node or a key out, from its next request on. What runs on the node goes on.
#[utoipa::path(
    post, path = "/api/v1/denied", tag = "identity",
    request_body = DenyAsk,
    responses((status = 200, body = DeniedCount), (status = 400, body = ErrorBody))
)]
pub async fn deny(
    State(state): State<Arc<HubState>>,
    who: Who,
    Told(ask): Told<DenyAsk>,
) -> Result<Json<DeniedCount>, Refusal> {
    if ask.node.is_some() == ask.key.is_some() {
        let mend = "say either `node` or `key`, and `why`";
        return Err(Refusal::bad_request("one-of-two", "this names no one thing".to_owned(), mend));
    }
    let now_ms = state.now_ms();
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let (count, about) = match (&ask.node, &ask.key) {
                (Some(name), _) => {
                    let node = nodes::find(writer, name).await?;
                    let count = match node {
                        Some(node) => identity::deny_node(writer, node, None, &ask.why, now_ms).await?,
                        None => 0,
                    };
                    (count, name.to_string())
                }
                (None, Some(key)) => {
                    (u64::from(identity::deny_key(writer, key, &ask.why, now_ms).await?), key.to_string())
                }
                (None, None) => (0, String::new()),
            };
            if count > 0 {
                let entry = Entry::new(now_ms, who.name(), "deny", about);
                audit::append(writer, &Entry { why: ask.why, ..entry }).await?;
            }
            Ok(count)
        })
    });
    let keys = done.await?;
    state.peers.refresh().await?;
    Ok(Json(DeniedCount { keys }))
}

/// Lets a key in again.
#[utoipa::path(
    delete, path = "/api/v1/denied/{key}", tag = "identity",
    params(("key" = String, Path, description = "64 hex digits")),
    responses((status = 204, description = "It counts again"), (status = 404, body = ErrorBody))
)]
pub async fn pardon(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(key): Path<String>,
) -> Result<StatusCode, Refusal> {
    let nothing =
        || Refusal::not_found("this key is not denied".to_owned(), "GET /api/v1/keys says which are");
    let key = Hash::parse(&key).ok_or_else(nothing)?;
    let now_ms = state.now_ms();
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let was = identity::pardon(writer, &key).await?;
            if was {
                let entry = Entry::new(now_ms, who.name(), "pardon", key.to_string());
                audit::append(writer, &entry).await?;
            }
            Ok(was)
        })
    });
    if !done.await? {
        return Err(nothing());
    }
    state.peers.refresh().await?;
    Ok(StatusCode::NO_CONTENT)
}
