//! How nodes come in, keep their certificates, and learn the time: what the nodes' door alone answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use package::trust::canonical::Value;
use serde::de::DeserializeOwned;
use wire::base32;
use wire::checkin::HubLabels;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::identity::{
    BODY_MAX_BYTES, Code, EnrolAnswer, EnrolAsk, PROOF_HEADER, RenewAnswer, RenewAsk, TicketAnswer,
    TimeAnswer, TimeAsk,
};

use crate::access::who::Who;
use crate::api::intake;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::fleet::labels;
use crate::identity::ca::{Ca, CaError, Issued, Request as Csr};
use crate::identity::enrol::{self, Before, Decision, Offer, Refused, Standing};
use crate::identity::peer::Peer;
use crate::identity::time;
use crate::state::HubState;
use crate::store::audit::{self, Entry};
use crate::store::connection::Writer;
use crate::store::identity::{self, KeyOwner};
use crate::store::tickets::{self, TicketRow};
use crate::store::{facts, nodes};

/// How soon a node that has just come in is expected, in milliseconds.
const FIRST_MS: u64 = 60_000;

/// How long a waiting node waits before it asks again, in seconds: less while a person may stand beside it.
const RETRY_MIN_S: i64 = 2;
const RETRY_MAX_S: i64 = 60;

/// The most who may wait at once, over all tokens.
const WAITING_MAX: i64 = 1000;

/// How long a ticket is known, in milliseconds: a month.
const TICKET_LIFE_MS: i64 = 31 * 86_400_000;

/// The most bytes of what a node says of itself, as JSON.
const FACTS_MAX_BYTES: usize = 8 << 10;

/// Takes a node in, by a code or token that an admin made for it, or by its maker's certificate.
///
/// From the request for a certificate only the key counts; names come from the code or the maker, and else from the node.
/// Whoever has both the code and the key may ask again: an answer that was lost is given again.
#[utoipa::path(
    post, path = "/api/v1/enrol", tag = "nodes",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 201, description = "`node`, `certificate`, `authority`, `time_key`", body = Object),
        (status = 202, description = "A person looks first: `ticket`, `retry_s`", body = Object),
        (status = 400, body = ErrorBody),
        (status = 403, description = "Not with this code, or not at this door", body = ErrorBody),
    )
)]
pub async fn enrol(
    State(state): State<Arc<HubState>>,
    peer: Option<Extension<Peer>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    authority(&state, peer.is_some())?;
    let ask: EnrolAsk = body(&state, request).await?;
    let der = decoded(&ask.csr)?;
    let csr = read_csr(&der)?;
    let comer = Comer { state: state.clone(), key: csr.id(), csr, now_ms: state.now_ms() };
    let came = match &ask.code {
        Some(code) => {
            let code = Code::parse(code).map_err(|error| {
                Refusal::bad_request("bad-code", error.to_string(), "type it as it was given to you")
            })?;
            by_code(comer.clone(), code, ask, der).await?
        }
        None => by_maker(comer.clone(), peer.map(|Extension(peer)| peer)).await?,
    };
    answer(&comer, came).await
}

/// Says what became of a ticket. The node shows its request for a certificate again, which only its key can sign.
#[utoipa::path(
    get, path = "/api/v1/enrol/{ticket}", tag = "nodes",
    params(
        ("ticket" = String, Path, description = "As the node got it"),
        ("selvedge-request" = String, Header, description = "The request for a certificate, DER in base64"),
    ),
    responses(
        (status = 201, description = "`node`, `certificate`, `authority`, `time_key`", body = Object),
        (status = 202, description = "Nobody has looked yet: `ticket`, `retry_s`", body = Object),
        (status = 400, body = ErrorBody),
        (status = 403, description = "Refused, or not at this door", body = ErrorBody),
        (status = 404, description = "No such ticket of this key", body = ErrorBody),
    )
)]
pub async fn ticket(
    State(state): State<Arc<HubState>>,
    peer: Option<Extension<Peer>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    authority(&state, peer.is_some())?;
    let shown = headers.get(PROOF_HEADER).and_then(|shown| shown.to_str().ok()).unwrap_or_default();
    let csr = read_csr(&decoded(shown)?)?;
    let comer = Comer { state: state.clone(), key: csr.id(), csr, now_ms: state.now_ms() };
    let to_take = comer.clone();
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let found = tickets::find(writer, &id).await?.filter(|row| row.key == to_take.key);
            match found {
                Some(row) => after_waiting(writer, &to_take, row).await,
                None => Ok(Err(NotIn::NoTicket)),
            }
        })
    });
    answer(&comer, done.await?.map_err(NotIn::refusal)?).await
}

/// Somebody who asks to come in with a key that it has.
#[derive(Clone)]
struct Comer {
    state: Arc<HubState>,
    csr: Csr,
    key: Hash,
    now_ms: i64,
}

/// What came of it.
enum Came {
    /// It is in.
    In { name: NodeId, node: i64, issued: Issued },
    /// A person looks first.
    Waits(TicketRow),
}

async fn answer(comer: &Comer, came: Came) -> Result<Response, Refusal> {
    let state = &comer.state;
    let (name, node, issued) = match came {
        Came::Waits(row) => {
            let age_s = (comer.now_ms - row.made_ms) / 1000;
            let retry_s = (age_s / 4).clamp(RETRY_MIN_S, RETRY_MAX_S).unsigned_abs() as u32;
            let waits = TicketAnswer { ticket: row.id, retry_s, extra: serde_json::Map::new() };
            return Ok((StatusCode::ACCEPTED, Json(waits)).into_response());
        }
        Came::In { name, node, issued } => (name, node, issued),
    };
    state.peers.refresh().await?;
    let owner = KeyOwner { node, name: name.to_string(), not_after_ms: issued.not_after_ms };
    state.peers.learn(comer.key, owner);
    tracing::info!(node = %name, "a node came in");
    let ca = authority(state, true)?;
    let answer = EnrolAnswer {
        node: name,
        certificate: BASE64_STANDARD.encode(&issued.certificate),
        not_before_ms: issued.not_before_ms,
        not_after_ms: issued.not_after_ms,
        authority: BASE64_STANDARD.encode(ca.certificate()),
        time_key: time::public(ca.time()),
        extra: serde_json::Map::new(),
    };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// By a code or token.
async fn by_code(comer: Comer, code: Code, ask: EnrolAsk, der: Vec<u8>) -> Result<Came, Refusal> {
    let facts = serde_json::to_string(&ask.facts).unwrap_or_default();
    let facts = if facts.len() > FACTS_MAX_BYTES { "{}".to_owned() } else { facts };
    let state = comer.state.clone();
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let found = identity::find_enrolment(writer, &code.hash()).await?;
            let Some(row) = found.filter(|row| row.is_token == code.is_token()) else {
                return Ok(Err(Refused::Unknown.into()));
            };
            let offer = &row.offer;
            let name = match enrol::name(Some(offer), ask.name.as_ref()) {
                Ok(name) => name.clone(),
                Err(refused) => return Ok(Err(refused.into())),
            };
            let node = nodes::find(writer, &name).await?;
            let before = before(writer, node, &comer.key, comer.now_ms).await?;
            let waits = tickets::of_key(writer, &offer.id, &comer.key).await?;
            let standing = waits.as_ref().map(|row| row.standing);
            let decision = match enrol::admit(offer, before, standing, comer.now_ms) {
                Ok(decision) => decision,
                Err(refused) => return Ok(Err(refused.into())),
            };
            match (decision, waits) {
                (Decision::Wait, Some(row)) => Ok(Ok(Came::Waits(row))),
                (Decision::Wait, None) => wait(writer, &comer, offer, name, facts, &der).await,
                // Under the name that was admitted.
                (Decision::Again, Some(row)) => after_waiting(writer, &comer, row).await,
                (Decision::Again, None) => take_in(writer, &comer, &name, node, before).await,
                (Decision::In, _) => {
                    let came = take_in(writer, &comer, &name, node, before).await?;
                    if let Ok(Came::In { node, issued, .. }) = &came {
                        identity::use_enrolment(writer, &offer.id).await?;
                        give_labels(writer, *node, &offer.labels).await?;
                        let about = ("enrolment", offer.id.as_str());
                        tell(writer, &comer, row.made_by.clone(), &name, about, issued).await?;
                    }
                    Ok(came)
                }
            }
        })
    });
    done.await?.map_err(NotIn::refusal)
}

/// By its maker's certificate.
async fn by_maker(comer: Comer, peer: Option<Peer>) -> Result<Came, Refusal> {
    let refused = |refused: Refused| NotIn::from(refused).refusal();
    let peer = peer.filter(|peer| peer.key.is_some_and(|key| key != comer.key));
    let peer = peer.ok_or_else(|| refused(Refused::Maker))?;
    let (state, now_ms) = (comer.state.clone(), comer.now_ms);
    let factories = state.factories.clone();
    let device = tokio::task::spawn_blocking(move || factories.device(&peer.chain, now_ms)).await;
    let device = device
        .map_err(|_| Refusal::later("maker", "the device could not be looked at".to_owned(), 5))?
        .map_err(refused)?;
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let held = tickets::device(writer, &device.maker, &device.serial).await?;
            if held.as_ref().is_some_and(|held| held != comer.key.as_bytes().as_slice()) {
                return Ok(Err(Refused::SerialUsed.into()));
            }
            let node = nodes::find(writer, &device.name).await?;
            let before = before(writer, node, &comer.key, comer.now_ms).await?;
            match before {
                Before::OtherKey => return Ok(Err(Refused::Key.into())),
                Before::Living => return Ok(Err(Refused::Living.into())),
                Before::Nothing | Before::SameKey => {}
            }
            let came = take_in(writer, &comer, &device.name, node, before).await?;
            if let (Ok(Came::In { issued, .. }), None) = (&came, held) {
                tickets::add_device(writer, &device.maker, &device.serial, &comer.key, comer.now_ms).await?;
                let (maker, about) = (format!("maker:{}", device.maker), ("device", device.serial.as_str()));
                tell(writer, &comer, maker, &device.name, about, issued).await?;
            }
            Ok(came)
        })
    });
    done.await?.map_err(NotIn::refusal)
}

/// Gives somebody a ticket.
async fn wait(
    writer: &mut Writer,
    comer: &Comer,
    offer: &Offer,
    name: NodeId,
    facts: String,
    der: &[u8],
) -> Result<Result<Came, NotIn>, sqlx::Error> {
    tickets::forget_before(writer, comer.now_ms - TICKET_LIFE_MS).await?;
    if tickets::waiting(writer).await? >= WAITING_MAX {
        return Ok(Err(NotIn::Crowd));
    }
    let row = TicketRow {
        id: base32::draw(&mut **comer.state.entropy(), 20),
        enrolment: offer.id.clone(),
        key: comer.key,
        name,
        facts,
        labels: offer.labels.clone(),
        standing: Standing::Waiting,
        made_ms: comer.now_ms,
    };
    tickets::add(writer, &row, der).await?;
    tracing::info!(node = %row.name, key = %row.key, "a node waits to be admitted");
    Ok(Ok(Came::Waits(row)))
}

/// What becomes of somebody with a ticket.
async fn after_waiting(
    writer: &mut Writer,
    comer: &Comer,
    row: TicketRow,
) -> Result<Result<Came, NotIn>, sqlx::Error> {
    match row.standing {
        Standing::Waiting => return Ok(Ok(Came::Waits(row))),
        Standing::Refused => return Ok(Err(Refused::Person.into())),
        Standing::Admitted => {}
    }
    let node = nodes::find(writer, &row.name).await?;
    let before = before(writer, node, &comer.key, comer.now_ms).await?;
    match before {
        Before::OtherKey => return Ok(Err(Refused::Key.into())),
        Before::Living => return Ok(Err(Refused::Living.into())),
        Before::Nothing | Before::SameKey => {}
    }
    let came = take_in(writer, comer, &row.name, node, before).await?;
    if let (Ok(Came::In { node, issued, .. }), Before::Nothing) = (&came, before) {
        give_labels(writer, *node, &row.labels).await?;
        let by = format!("node:{}", row.name);
        tell(writer, comer, by, &row.name, ("ticket", row.id.as_str()), issued).await?;
    }
    Ok(came)
}

/// Adds the node if it is new, makes its certificate, and knows its key from then on.
async fn take_in(
    writer: &mut Writer,
    comer: &Comer,
    name: &NodeId,
    node: Option<i64>,
    before: Before,
) -> Result<Result<Came, NotIn>, sqlx::Error> {
    let (state, now_ms) = (&comer.state, comer.now_ms);
    let node = match node {
        Some(node) => node,
        None if nodes::count(writer).await? as u64 >= state.config.nodes_max => return Ok(Err(NotIn::Full)),
        None => nodes::add(writer, name, now_ms, FIRST_MS).await?,
    };
    let issued = match issue(state, &comer.csr, name, life_ms(state), now_ms) {
        Ok(issued) => issued,
        Err(error) => return Ok(Err(NotIn::Ca(error))),
    };
    if before == Before::Living {
        identity::deny_node(writer, node, Some(&comer.key), "replaced by another device", now_ms).await?;
    }
    identity::put_key(writer, &comer.key, node, &issued, now_ms).await?;
    Ok(Ok(Came::In { name: name.clone(), node, issued }))
}

/// Labels of whatever it came in by, beside those that it has.
async fn give_labels(
    writer: &mut Writer,
    node: i64,
    labels: &BTreeMap<String, String>,
) -> Result<(), sqlx::Error> {
    if labels.is_empty() {
        return Ok(());
    }
    let held = facts::held(writer, node).await?.labels;
    let held: Option<HubLabels> = held.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let mut all = held.as_ref().map(|held| held.set.clone()).unwrap_or_default();
    all.extend(labels.clone());
    match labels::set(held.as_ref(), all) {
        Ok(now) => {
            let text = serde_json::to_string(&now).map_err(|error| sqlx::Error::Encode(error.into()))?;
            facts::label(writer, node, &text).await
        }
        Err(bad) => {
            tracing::warn!(%bad, "a node did not get the labels of its token");
            Ok(())
        }
    }
}

/// The audit log hears of a node that came in.
async fn tell(
    writer: &mut Writer,
    comer: &Comer,
    by: String,
    name: &NodeId,
    (what, id): (&str, &str),
    issued: &Issued,
) -> Result<(), sqlx::Error> {
    let after = Value::object([
        ("key", comer.key.to_string().into()),
        (what, id.into()),
        ("serial", issued.serial.as_str().into()),
    ]);
    audit::append(writer, &entry(comer.now_ms, by, "enrol", name, after)).await.map(drop)
}

/// What there is of the key and the name already.
async fn before(
    writer: &mut Writer,
    node: Option<i64>,
    key: &Hash,
    now_ms: i64,
) -> Result<Before, sqlx::Error> {
    if let Some(row) = identity::find_key(writer, key).await? {
        let same = row.denied_ms.is_none() && Some(row.owner.node) == node;
        return Ok(if same { Before::SameKey } else { Before::OtherKey });
    }
    let Some(node) = node else { return Ok(Before::Nothing) };
    let is_living = identity::is_living(writer, node, now_ms).await?;
    Ok(if is_living { Before::Living } else { Before::Nothing })
}

/// Gives a node its next certificate, for the key it has or for a new one. Also where the last one has run out.
#[utoipa::path(
    post, path = "/api/v1/identity/renew", tag = "nodes",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, description = "`certificate`", body = Object),
        (status = 400, body = ErrorBody),
        (status = 403, description = "Not a node, or one that is out", body = ErrorBody),
    )
)]
pub async fn renew(
    State(state): State<Arc<HubState>>,
    who: Who,
    request: Request<Body>,
) -> Result<Json<RenewAnswer>, Refusal> {
    authority(&state, true)?;
    let Who::Node { no: node, name, .. } = who else {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "only-nodes",
            "only a node renews".to_owned(),
            "enrol it",
        ));
    };
    let ask: RenewAsk = body(&state, request).await?;
    let csr = read_csr(&decoded(&ask.csr)?)?;
    let (key, now_ms) = (csr.id(), state.now_ms());
    let issued = issue(&state, &csr, &name, life_ms(&state), now_ms).map_err(failed)?;
    let (to_keep, to_tell) = (issued.clone(), name.clone());
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            if before(writer, Some(node), &key, now_ms).await? == Before::OtherKey {
                return Ok(false);
            }
            identity::put_key(writer, &key, node, &to_keep, now_ms).await?;
            let after = Value::object([("key", key.to_string().into()), ("serial", to_keep.serial.into())]);
            let who = format!("node:{to_tell}");
            audit::append(writer, &entry(now_ms, who, "identity.renew", &to_tell, after)).await?;
            Ok(true)
        })
    });
    if !done.await? {
        return Err(NotIn::from(Refused::Key).refusal());
    }
    let owner = KeyOwner { node, name: name.to_string(), not_after_ms: issued.not_after_ms };
    state.peers.learn(key, owner);
    Ok(Json(RenewAnswer {
        certificate: BASE64_STANDARD.encode(&issued.certificate),
        not_before_ms: issued.not_before_ms,
        not_after_ms: issued.not_after_ms,
        extra: serde_json::Map::new(),
    }))
}

/// Says what time it is, signed, to whoever's clock is wrong.
#[utoipa::path(
    post, path = "/api/v1/time", tag = "nodes",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, description = "`hub_ms`, `signature`: Ed25519 by the key that enrolment gave", body = Object),
        (status = 400, body = ErrorBody),
        (status = 403, description = "Not at this door", body = ErrorBody),
    )
)]
pub async fn now(
    State(state): State<Arc<HubState>>,
    peer: Option<Extension<Peer>>,
    request: Request<Body>,
) -> Result<Json<TimeAnswer>, Refusal> {
    let ca = authority(&state, peer.is_some())?;
    let ask: TimeAsk = body(&state, request).await?;
    let answer = time::answer(ca.time(), state.now_ms(), ask.nonce);
    answer.map(Json).ok_or_else(|| Refusal::later("time", "the time could not be signed".to_owned(), 60))
}

/// The authority, where there is one and the door is the right one.
fn authority(state: &HubState, is_nodes_door: bool) -> Result<&Ca, Refusal> {
    state.ca.as_deref().filter(|_| is_nodes_door).ok_or_else(|| {
        Refusal::new(
            StatusCode::FORBIDDEN,
            "nodes-door",
            "this is done at the nodes' door only, over TLS".to_owned(),
            "use the address of [nodes] in the hub's config, with https://",
        )
    })
}

fn life_ms(state: &HubState) -> i64 {
    i64::from(state.config.identity.node_days) * 86_400_000
}

fn issue(state: &HubState, csr: &Csr, name: &NodeId, life_ms: i64, now_ms: i64) -> Result<Issued, CaError> {
    let Some(ca) = &state.ca else { return Err(rcgen::Error::RemoteKeyError.into()) };
    ca.issue(csr, name, life_ms, now_ms, &mut **state.entropy())
}

async fn body<T: DeserializeOwned>(state: &HubState, request: Request<Body>) -> Result<T, Refusal> {
    let bytes = intake::read(state, request, BODY_MAX_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::bad_request("bad-body", error.to_string(), "the node and the hub are of different versions")
    })
}

fn decoded(text: &str) -> Result<Vec<u8>, Refusal> {
    BASE64_STANDARD.decode(text).map_err(|error| bad_csr(error.to_string()))
}

fn read_csr(der: &[u8]) -> Result<Csr, Refusal> {
    Csr::read(der).map_err(|error| bad_csr(error.to_string()))
}

fn bad_csr(message: String) -> Refusal {
    Refusal::bad_request("bad-csr", message, "send PKCS#10 of a P-256 key, as DER in base64")
}

fn entry(at_ms: i64, who: String, act: &str, node: &NodeId, after: Value) -> Entry {
    Entry { after: Some(after), ..Entry::new(at_ms, who, act, node.to_string()) }
}

/// Why a node does not come in.
enum NotIn {
    Refused(Refused),
    Full,
    Crowd,
    NoTicket,
    Ca(CaError),
}

impl From<Refused> for NotIn {
    fn from(refused: Refused) -> NotIn {
        NotIn::Refused(refused)
    }
}

impl NotIn {
    fn refusal(self) -> Refusal {
        match self {
            NotIn::Refused(why) => {
                Refusal::new(StatusCode::FORBIDDEN, why.code(), why.to_string(), why.mend())
            }
            NotIn::Full => Refusal::new(
                StatusCode::FORBIDDEN,
                "full",
                "the hub has all the nodes that it takes".to_owned(),
                "raise nodes_max in the hub's config",
            ),
            NotIn::Crowd => {
                let message = format!("{WAITING_MAX} wait to be admitted already");
                Refusal::later("crowd", message, 60)
            }
            NotIn::NoTicket => Refusal::not_found(
                "there is no such ticket of this key".to_owned(),
                "ask again at /api/v1/enrol, with the code or token",
            ),
            NotIn::Ca(error) => failed(error),
        }
    }
}

fn failed(error: CaError) -> Refusal {
    tracing::error!(%error, "a certificate could not be made");
    Refusal::later("authority", "the certificate could not be made; the hub's log says why".to_owned(), 60)
}
