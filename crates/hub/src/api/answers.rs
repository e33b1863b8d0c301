//! A write that is asked for twice is done once: whoever names it with `Idempotency-Key` and loses the answer asks again, and
//! gets the same answer.
//!
//! Only what was done is remembered, for a day; a refusal changed nothing, so the same words may be tried again. Answers lie in
//! the store sealed with the name itself, of which the store has a digest: some of them hold a token that is shown once.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use package::seal::content::ContentKey;
use package::seal::stream::{HEADER_BYTES, Opener, SealError, Sealer};
use package::trust::Limits;
use wire::hash::Hash;
use zeroize::Zeroizing;

use crate::access::who::Who;
use crate::api::intake;
use crate::api::refusal::Refusal;
use crate::state::HubState;
use crate::store::answers::{self, Found, Named};

/// How a write names itself.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that nothing was done: this is the answer from before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The most bytes of an answer that is kept.
const ANSWER_MAX_BYTES: usize = 4 << 20;

/// How long a write can be under way; one that began before ended in a way that nobody saw.
const UNDER_WAY_MS: i64 = 60_000;

/// Does a write that names itself, unless it was done.
pub async fn once(State(state): State<Arc<HubState>>, who: Who, request: Request, next: Next) -> Response {
    let is_write = matches!(*request.method(), Method::POST | Method::PUT | Method::DELETE);
    let is_of_people = matches!(who, Who::Operator { .. });
    match request.headers().get(IDEMPOTENCY_KEY).cloned() {
        Some(name) if is_write && is_of_people => match tried(&state, &who, &name, request, next).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        },
        _ => next.run(request).await,
    }
}

async fn tried(
    state: &Arc<HubState>,
    who: &Who,
    name: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let name = name.as_bytes();
    if !(16..=64).contains(&name.len()) || !name.iter().all(u8::is_ascii_graphic) {
        let message = "an Idempotency-Key has 16 to 64 visible characters".to_owned();
        return Err(Refusal::bad_request("bad-key", message, "draw one by chance for each write"));
    }
    let (request, body) = whole(state, request).await?;
    let named = named(who, name, &request, &body);
    let (key, now_ms) = (named.key.clone(), state.now_ms());
    let found = state
        .writer
        .within(move |writer| Box::pin(async move { answers::begin(writer, &named, now_ms).await }));
    match found.await? {
        Found::New => {}
        Found::Done { status, body } => return again(name, status, &body),
        found => return Err(not_again(&found, now_ms)),
    }
    let (state, secret) = (state.clone(), secret(name));
    // In a task of its own: whoever hangs up can ask what became of it.
    let done = tokio::spawn(async move {
        let response = next.run(request).await;
        remember(&state, key, &secret, response).await
    });
    done.await.map_err(|_| Refusal::later("stopping", "the hub is stopping".to_owned(), 5))?
}

/// The request with its body read.
async fn whole(state: &HubState, request: Request) -> Result<(Request, Bytes), Refusal> {
    let (parts, body) = request.into_parts();
    // A copy, so that what reads the body can look at what was announced.
    let mut announced = Request::new(body);
    announced
        .headers_mut()
        .extend(parts.headers.get(header::CONTENT_LENGTH).map(|it| (header::CONTENT_LENGTH, it.clone())));
    let bytes = intake::read(state, announced, Limits::default().targets_bytes as usize).await?;
    Ok((Request::from_parts(parts, Body::from(bytes.clone())), bytes))
}

/// What the store knows it by.
fn named(who: &Who, name: &[u8], request: &Request, body: &[u8]) -> Named {
    let who = who.name();
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| request.uri().path(), MatchedPath::as_str);
    let route = format!("{} {route}", request.method());
    let address = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let asked = [request.method().as_str(), &address].map(|word| Hash::of(word.as_bytes()));
    let asked = Hash::of(&[asked[0].as_bytes(), asked[1].as_bytes(), body].map(<[u8]>::to_vec).concat());
    let key = Hash::of(&[who.as_bytes(), b"\n", name].concat()).to_string();
    Named { key, who, route, asked }
}

/// What the answer is sealed with.
fn secret(name: &[u8]) -> ContentKey {
    let hash = Hash::of(&[b"selvedge answer\n", name].concat());
    ContentKey::from_bytes(Zeroizing::new(*hash.as_bytes()))
}

/// Keeps an answer to what was done, and forgets a refusal.
async fn remember(
    state: &HubState,
    key: String,
    secret: &ContentKey,
    response: Response,
) -> Result<Response, Refusal> {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, ANSWER_MAX_BYTES).await.map_err(|error| {
        tracing::error!(%error, "an answer is too large to be kept");
        Refusal::later("answer", "it is done, but the answer is too large".to_owned(), 60)
    })?;
    let sealed = parts.status.is_success().then(|| sealed(state, secret, &bytes)).transpose();
    let sealed = sealed.map_err(|error| {
        tracing::error!(%error, "an answer could not be sealed");
        Refusal::later("answer", "it is done, but the answer could not be kept".to_owned(), 60)
    })?;
    let status = i64::from(parts.status.as_u16());
    let kept = state.writer.within(move |writer| {
        Box::pin(async move {
            match sealed {
                Some(body) => answers::keep(writer, &key, status, &body).await,
                None => answers::forget(writer, &key).await,
            }
        })
    });
    if let Err(error) = kept.await {
        // Whoever asks again hears that nobody knows; whoever asked now is told.
        tracing::warn!(%error, "what became of a write could not be kept");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn sealed(state: &HubState, secret: &ContentKey, plain: &[u8]) -> Result<String, SealError> {
    let sealer = Sealer::new(secret, plain.len() as u64, &mut **state.entropy())?;
    let mut sealed = Vec::new();
    sealer.seal(&mut &*plain, &mut sealed)?;
    Ok(BASE64_STANDARD.encode(sealed))
}

fn opened(secret: &ContentKey, text: &str) -> Option<Vec<u8>> {
    let sealed = BASE64_STANDARD.decode(text).ok()?;
    let (head, rest) = sealed.split_first_chunk::<HEADER_BYTES>()?;
    let opener = Opener::new(secret, head, sealed.len() as u64).ok()?;
    let mut plain = Vec::new();
    opener.open_all(&mut &*rest, &mut plain).ok()?;
    Some(plain)
}

/// The answer from before.
fn again(name: &[u8], status: i64, body: &str) -> Result<Response, Refusal> {
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let (Some(status), Some(body)) = (status, opened(&secret(name), body)) else {
        return Err(Refusal::later("store", "the answer from before cannot be read".to_owned(), 60));
    };
    let mut response = (status, [(REPLAYED, "true")]).into_response();
    if !body.is_empty() {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        *response.body_mut() = Body::from(body);
    }
    Ok(response)
}

/// Why it is not done again.
fn not_again(found: &Found, now_ms: i64) -> Refusal {
    match found {
        Found::UnderWay { since_ms } if now_ms.saturating_sub(*since_ms) < UNDER_WAY_MS => Refusal::new(
            StatusCode::CONFLICT,
            "under-way",
            "this was asked for already, and is under way".to_owned(),
            "ask again after the time in Retry-After: then it is answered",
        )
        .passing(1),
        Found::UnderWay { .. } => Refusal::new(
            StatusCode::CONFLICT,
            "nobody-knows",
            "this was asked for already, and the hub stopped before it could tell how it ended".to_owned(),
            "look whether it was done; if not, ask with another Idempotency-Key",
        ),
        _ => Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key-reused",
            "something else was asked for with this Idempotency-Key".to_owned(),
            "draw another one for each write",
        ),
    }
}
