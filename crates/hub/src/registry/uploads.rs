//! Blobs on their way in: in one request or in many, each beginning where the one before ended.
//!
//! What came of a cut request counts: whoever comes back asks how far it is, and goes on from there. A blob enters the depot
//! when all of it has the digest that was said, and not before.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use package::digest::Digest;
use package::disk::room::Room;
use package::form::decimal;
use package::registry::{Code, RepoName, WordError, upload_range};
use serde::Deserialize;
use tokio::time::timeout;

use crate::depot::{Key, off_the_loop};
use crate::inflow::{Broken, Inflow};
use crate::registry::blobs::DIGEST;
use crate::registry::refusal::Refused;
use crate::registry::sessions::{Held, Session};
use crate::state::{HubState, TURN};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// What may stand behind `?`. Other words are other registries'.
#[derive(Debug, Default, Deserialize)]
struct Words {
    /// The blob that came, or that comes in one piece.
    digest: Option<String>,
    /// A blob that is in another repository.
    mount: Option<String>,
}

impl Words {
    fn read(uri: &Uri) -> Result<Words, Refused> {
        let read = Query::try_from_uri(uri);
        let Query(words) = read.map_err(|error| Refused::bad(Code::BlobUploadInvalid, error.body_text()))?;
        Ok(words)
    }

    fn digest(&self) -> Result<Option<Digest>, Refused> {
        let digest = self.digest.as_deref().map(Digest::parse).transpose();
        Ok(digest.map_err(WordError::Digest)?)
    }
}

/// POST: takes over a blob that is here, takes one in one piece, or begins a session.
pub async fn begin(
    state: &HubState,
    name: RepoName,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let words = Words::read(uri)?;
    if let Some(mount) = &words.mount {
        let digest = Digest::parse(mount).map_err(WordError::Digest)?;
        if state.depot.size(&Key::blob(&digest)).await?.is_some() {
            return Ok(done(&name, &digest));
        }
    }
    let digest = words.digest()?;
    let session = state.sessions.begin(name, state.mono_s()).ok_or_else(|| {
        state.metrics.busy();
        Refused::later("too many blobs are on their way in", 10)
    })?;
    let Some(digest) = digest else { return Ok(told(StatusCode::ACCEPTED, &session, 0)) };
    let came = take(state, &session, headers, body).await;
    let finished = match came {
        Ok(held) => finish(state, &session, held, &digest).await,
        Err(refused) => Err(refused),
    };
    // Nobody was told its name.
    state.sessions.end(&session);
    finished
}

/// PATCH: the next piece.
pub async fn go_on(
    state: &HubState,
    session: &Session,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let held = take(state, session, headers, body).await?;
    Ok(told(StatusCode::ACCEPTED, session, held.bytes()))
}

/// PUT: the last piece, if there is one, and the name of the whole.
pub async fn end(
    state: &HubState,
    session: &Session,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let digest = Words::read(uri)?.digest()?;
    let digest =
        digest.ok_or_else(|| Refused::bad(Code::DigestInvalid, "say ?digest=sha256:… of the blob"))?;
    let held = take(state, session, headers, body).await?;
    finish(state, session, held, &digest).await
}

/// GET: how far it is.
pub async fn show(session: &Session) -> Result<Response, Refused> {
    let held = hold(session).await?;
    Ok(told(StatusCode::NO_CONTENT, session, held.bytes()))
}

/// DELETE: forgets it.
pub fn forget(state: &HubState, session: &Session) -> Response {
    state.sessions.end(session);
    StatusCode::NO_CONTENT.into_response()
}

/// The session of a request.
pub fn find(state: &HubState, name: &RepoName, id: &str) -> Result<Arc<Session>, Refused> {
    state.sessions.find(name, id, state.mono_s()).ok_or_else(|| {
        let message = "there is no such upload in this repository: begin again with POST";
        Refused::unknown(Code::BlobUploadUnknown, message)
    })
}

/// Its turn; two requests of one session are one too many, unless the first was cut and does not know yet.
async fn hold(session: &Session) -> Result<Held, Refused> {
    let turn = timeout(TURN, session.hold()).await;
    turn.map_err(|_| Refused::later("another request of this upload is under way", 2))
}

/// Takes a piece to the end of what came.
async fn take(state: &HubState, session: &Session, headers: &HeaderMap, body: Body) -> Result<Held, Refused> {
    let mut held = hold(session).await?;
    let before = held.bytes();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let announced = text(header::CONTENT_LENGTH).and_then(decimal);
    let range = match text(header::CONTENT_RANGE) {
        Some(range) => {
            let wrong = || Refused::bad(Code::BlobUploadInvalid, "Content-Range is written <first>-<last>");
            Some(upload_range(range).ok_or_else(wrong)?)
        }
        None => None,
    };
    if let Some(range) = range.as_ref().filter(|range| range.start != before) {
        let message = format!("the next piece begins at byte {before}, not at {}", range.start);
        return Err(out_of_order(session, before, message));
    }
    let ranged = range.map(|range| range.end - range.start);
    if let (Some(announced), Some(ranged)) = (announced, ranged)
        && announced != ranged
    {
        let message = format!("Content-Range speaks of {ranged} bytes, Content-Length of {announced}");
        return Err(Refused::bad(Code::SizeInvalid, message));
    }
    let room = state.config.registry.blob_max_bytes.saturating_sub(before);
    let expected = ranged.or(announced);
    if let Some(expected) = expected {
        if expected > room {
            return Err(Broken::TooLong { max_bytes: room }.into());
        }
        let free = Room::of_the_disk().need(state.sessions.folder(), expected);
        free.map_err(|full| Refused::new(StatusCode::INSUFFICIENT_STORAGE, Code::Denied, full.to_string()))?;
    }
    let mut inflow = Inflow::new(body, ranged.unwrap_or(room));
    loop {
        let mut pieces = Vec::new();
        let came = inflow.gather(&mut pieces).await;
        let appended = off_the_loop(move || {
            let appended = held.append(&pieces);
            Ok((held, appended))
        });
        let appended = appended.await.map_err(|error| Refused::disk(&error))?;
        held = appended.0;
        appended.1.map_err(|error| Refused::disk(&error))?;
        match came {
            Ok(true) => {}
            Ok(false) => break,
            Err(broken) => {
                if matches!(broken, Broken::TooLong { .. }) {
                    state.sessions.end(session);
                }
                return Err(broken.into());
            }
        }
    }
    let came = held.bytes() - before;
    if expected.is_some_and(|expected| expected != came) {
        let message = format!("{came} bytes came, {} were announced", expected.unwrap_or_default());
        return Err(Refused::bad(Code::SizeInvalid, message));
    }
    Ok(held)
}

/// Brings what came into the depot, if it is what it is said to be. The session is over, either way.
async fn finish(
    state: &HubState,
    session: &Session,
    mut held: Held,
    digest: &Digest,
) -> Result<Response, Refused> {
    let (found, bytes) = (held.digest(), held.bytes());
    if found != *digest {
        state.sessions.end(session);
        let message = format!("{bytes} bytes came, and they are {found}, not {digest}: send them again");
        return Err(Refused::bad(Code::DigestInvalid, message));
    }
    let key = Key::blob(digest);
    if state.depot.size(&key).await? != Some(bytes) {
        let reader = held.reader().map_err(|error| Refused::disk(&error))?;
        state.depot.put_file(&key, reader, bytes).await?;
    }
    state.sessions.end(session);
    Ok(done(&session.name, digest))
}

/// 201: the blob is here.
fn done(name: &RepoName, digest: &Digest) -> Response {
    let facts = [(header::LOCATION, name.blob(digest)), (DIGEST, digest.to_string())];
    (StatusCode::CREATED, facts).into_response()
}

/// Where to go on, and from which byte. Without a byte there is no range: `0-0` would be one.
fn told(status: StatusCode, session: &Session, bytes: u64) -> Response {
    let facts = [(header::LOCATION, location(session)), (UPLOAD_ID, session.id.clone())];
    let range = bytes.checked_sub(1).map(|last| [(header::RANGE, format!("0-{last}"))]);
    (status, range, facts).into_response()
}

fn location(session: &Session) -> String {
    format!("{}{}", session.name.uploads(), session.id)
}

fn out_of_order(session: &Session, bytes: u64, message: String) -> Refused {
    let refused = Refused::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, message);
    let range = bytes.checked_sub(1).map(|last| (header::RANGE, format!("0-{last}")));
    let facts = [(header::LOCATION, location(session))].into_iter().chain(range);
    facts.fold(refused, |refused, (name, text)| match HeaderValue::from_str(&text) {
        Ok(value) => refused.with(name, value),
        Err(_) => refused,
    })
}
