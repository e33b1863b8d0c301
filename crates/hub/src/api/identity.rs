//! How nodes come in, keep their certificates, and learn the time: what the nodes' door alone answers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::{Extension, Json};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use package::trust::canonical::Value;
use serde::de::DeserializeOwned;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::identity::{
    BODY_MAX_BYTES, Code, EnrolAnswer, EnrolAsk, RenewAnswer, RenewAsk, TimeAnswer, TimeAsk,
};

use crate::access::who::Who;
use crate::api::intake;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::identity::ca::{Ca, CaError, Issued, Request as Csr};
use crate::identity::enrol::{self, Before, Refused};
use crate::identity::peer::Peer;
use crate::identity::time;
use crate::state::HubState;
use crate::store::audit::{self, Entry};
use crate::store::connection::Writer;
use crate::store::identity::{self, KeyOwner};
use crate::store::nodes;

/// How soon a node that has just come in is expected, in milliseconds.
const FIRST_MS: u64 = 60_000;

/// Takes a node in, by a code that an admin made for it.
///
/// From the request for a certificate only the key counts; names come from the code, and else from the node. Whoever has both
/// the code and the key may ask again: an answer that was lost is given again.
#[utoipa::path(
    post, path = "/api/v1/enrol", tag = "nodes",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 201, description = "`node`, `certificate`, `authority`, `time_key`", body = Object),
        (status = 400, body = ErrorBody),
        (status = 403, description = "Not with this code, or not at this door", body = ErrorBody),
    )
)]
pub async fn enrol(
    State(state): State<Arc<HubState>>,
    peer: Option<Extension<Peer>>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<EnrolAnswer>), Refusal> {
    let ca = authority(&state, peer.is_some())?;
    let ask: EnrolAsk = body(&state, request).await?;
    let code = Code::parse(&ask.code).map_err(|error| {
        Refusal::bad_request("bad-code", error.to_string(), "type it as it was given to you")
    })?;
    let csr = csr(&ask.csr)?;
    let (hash, key, now_ms) = (code.hash(), csr.id(), state.now_ms());
    let nodes_max = state.config.nodes_max;
    let (to_issue, life_ms) = (state.clone(), life_ms(&state));
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let found =
                identity::find_enrolment(writer, &hash).await?.filter(|row| row.is_token == code.is_token());
            let offer = found.as_ref().map(|row| &row.offer);
            let name = match enrol::name(offer, ask.name.as_ref()) {
                Ok(name) => name.clone(),
                Err(refused) => return Ok(Err(refused.into())),
            };
            let Some(offer) = offer else { return Ok(Err(Refused::Unknown.into())) };
            let node = nodes::find(writer, &name).await?;
            let before = before(writer, node, &key, now_ms).await?;
            let is_first = match enrol::admit(offer, before, now_ms) {
                Ok(is_first) => is_first,
                Err(refused) => return Ok(Err(refused.into())),
            };
            let node = match node {
                Some(node) => node,
                None if nodes::count(writer).await? as u64 >= nodes_max => return Ok(Err(NotIn::Full)),
                None => nodes::add(writer, &name, now_ms, FIRST_MS).await?,
            };
            let issued = match issue(&to_issue, &csr, &name, life_ms, now_ms) {
                Ok(issued) => issued,
                Err(error) => return Ok(Err(NotIn::Ca(error))),
            };
            if before == Before::Living {
                identity::deny_node(writer, node, Some(&key), "replaced by another device", now_ms).await?;
            }
            identity::put_key(writer, &key, node, &issued, now_ms).await?;
            if is_first {
                identity::use_enrolment(writer, &offer.id).await?;
                let after = Value::object([
                    ("key", key.to_string().into()),
                    ("enrolment", offer.id.as_str().into()),
                    ("serial", issued.serial.as_str().into()),
                ]);
                let made_by = found.as_ref().map_or_else(String::new, |row| row.made_by.clone());
                audit::append(writer, &entry(now_ms, made_by, "enrol", &name, after)).await?;
            }
            Ok(Ok((name, node, issued)))
        })
    });
    let (name, node, issued) = done.await?.map_err(NotIn::refusal)?;
    state.peers.refresh().await?;
    let owner = KeyOwner { node, name: name.to_string(), not_after_ms: issued.not_after_ms };
    state.peers.learn(key, owner);
    tracing::info!(node = %name, "a node came in");
    let answer = EnrolAnswer {
        node: name,
        certificate: BASE64_STANDARD.encode(&issued.certificate),
        not_before_ms: issued.not_before_ms,
        not_after_ms: issued.not_after_ms,
        authority: BASE64_STANDARD.encode(ca.certificate()),
        time_key: time::public(ca.time()),
        extra: serde_json::Map::new(),
    };
    Ok((StatusCode::CREATED, Json(answer)))
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
    let csr = csr(&ask.csr)?;
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

fn csr(text: &str) -> Result<Csr, Refusal> {
    let bad = |message: String| {
        Refusal::bad_request("bad-csr", message, "send PKCS#10 of a P-256 key, as DER in base64")
    };
    let der = BASE64_STANDARD.decode(text).map_err(|error| bad(error.to_string()))?;
    Csr::read(&der).map_err(|error| bad(error.to_string()))
}

fn entry(at_ms: i64, who: String, act: &str, node: &NodeId, after: Value) -> Entry {
    let (act, about, why) = (act.to_owned(), node.to_string(), String::new());
    Entry { at_ms, who, act, about, why, before: None, after: Some(after) }
}

/// Why a node does not come in.
enum NotIn {
    Refused(Refused),
    Full,
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
            NotIn::Ca(error) => failed(error),
        }
    }
}

fn failed(error: CaError) -> Refusal {
    tracing::error!(%error, "a certificate could not be made");
    Refusal::later("authority", "the certificate could not be made; the hub's log says why".to_owned(), 60)
}
