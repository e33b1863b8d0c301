//! Who may say that a model is genuine: TUF's metadata and targets, as plain files that any cache may keep.
//!
//! Authors publish elsewhere, with keys that never come here, and put the files; the hub takes a file only if a client would
//! believe it, so what is served is of one piece. Timestamp and snapshot alone it may sign itself ([`online`]). A target is a
//! release's index and lies among the registry's blobs: its hash stands in its path.

pub mod keys;
pub mod online;
pub mod publish;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use package::digest::Digest;
use package::trust::Limits;
use tokio::runtime::Handle;
use wire::hash::Hash;

use crate::api::intake;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::cache;
use crate::depot::Key;
use crate::registry::blobs;
use crate::state::HubState;
use crate::tuf::publish::PublishError;

/// The longest name of a metadata file; a delegated role's may be percent-encoded.
const NAME_MAX: usize = 200;

/// The routes of clients.
pub fn router(state: Arc<HubState>) -> Router {
    Router::new()
        .route("/tuf/metadata/{file}", get(metadata))
        .route("/tuf/targets/{*path}", get(target))
        .with_state(state)
}

/// The last part of a path as it came, if it can be a metadata file: clients and authors encode a role's name alike.
fn file_of(uri: &Uri) -> Option<&str> {
    let file = uri.path().rsplit('/').next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.~%".contains(&byte);
    let fits = file.len() <= NAME_MAX && file.bytes().all(plain) && !file.starts_with('.');
    (fits && file.ends_with(".json")).then_some(file)
}

async fn metadata(
    State(state): State<Arc<HubState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let found = match file_of(&uri) {
        Some(file) => state.depot.read(&Key::tuf(file), Limits::default().targets_bytes).await?,
        None => None,
    };
    let Some(bytes) = found else {
        let refusal = Refusal::not_found(
            "there is no such metadata".to_owned(),
            "authors put it by PUT /api/v1/tuf/metadata/<file>; a client that looks for a new root ends here",
        );
        return Ok(([(header::CACHE_CONTROL, cache::ASK)], refusal).into_response());
    };
    // A file with its version in its name never changes.
    let is_versioned = file_of(&uri).is_some_and(|file| file.starts_with(|c: char| c.is_ascii_digit()));
    let keep = if is_versioned { cache::for_ever(&state.config) } else { cache::ASK };
    let etag = cache::etag(&Digest::of(&bytes));
    let is_known = cache::is_known(&headers, &etag);
    let facts = ([(header::ETAG, etag)], [(header::CACHE_CONTROL, keep)]);
    Ok(match is_known {
        true => (StatusCode::NOT_MODIFIED, facts).into_response(),
        false => (facts, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
    })
}

/// `models/<model>/<hash>.<release>`: consistent snapshots, so the hash is what is asked for.
async fn target(
    State(state): State<Arc<HubState>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some(hash) = name.split_once('.').and_then(|(hash, _)| Hash::parse(hash)) else {
        let message = "a target's name begins with its hash and a dot".to_owned();
        return Refusal::not_found(message, "is the repository's consistent_snapshot true?").into_response();
    };
    blobs::show(&state, &Digest::from(hash), &headers, method == Method::HEAD).await.into_response()
}

/// Takes a metadata file that was published elsewhere.
///
/// Roots and targets come first, then the snapshot, the timestamp last: with it all of them are looked at as a client
/// would, and only then does it replace the one before. A version that was published is never replaced. A hub that holds
/// the keys of snapshot and timestamp signs both itself: roots and targets are enough.
#[utoipa::path(
    put, path = "/api/v1/tuf/metadata/{file}", tag = "packages",
    params(("file" = String, Path, description = "`2.root.json`, `7.targets.json`, `9.snapshot.json`, `timestamp.json`")),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 201, description = "It is published, or waits for the timestamp that names it"),
        (status = 204, description = "It was here already"),
        (status = 400, description = "No client would believe it", body = ErrorBody),
        (status = 409, description = "Another one has this version", body = ErrorBody),
        (status = 413, description = "Larger than a client reads", body = ErrorBody),
    )
)]
pub async fn put(
    State(state): State<Arc<HubState>>,
    uri: Uri,
    request: Request<Body>,
) -> Result<StatusCode, Refusal> {
    let file = file_of(&uri).ok_or(PublishError::Name)?.to_owned();
    let bytes = intake::read(&state, request, Limits::default().targets_bytes as usize).await?;
    let handle = Handle::current();
    // Signatures and large documents: milliseconds that would stand in everybody's way.
    let published = tokio::task::spawn_blocking(move || {
        handle.block_on(async {
            let taken = publish::put(&state, &file, bytes).await;
            // With the keys at hand what was put is published at once; else the next look says until when it holds.
            if taken.is_ok() && state.online.is_some() {
                online::go(&state).await;
            }
            taken
        })
    });
    let is_new =
        published.await.map_err(|_| Refusal::later("stopping", "the hub is stopping".to_owned(), 5))??;
    Ok(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT })
}
