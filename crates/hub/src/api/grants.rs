//! Who may open sealed weights: grants, made elsewhere, kept and handed out here.
//!
//! A grant is of use to the one node whose key it is for, and the hub can open none. Nodes try each before they keep it, so a
//! false one costs a look; whoever may write here may replace it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use package::digest::Digest;
use package::seal::wrap::{GRANT_MAX_BYTES, Grant};
use package::trust::key::KeyId;

use crate::api::intake;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::cache;
use crate::depot::Key;
use crate::state::HubState;

const MEND: &str = "make it with `selvedge grant`, which sends it to its place with -o hub:";

/// Takes a grant, in the place of one for the same blob and key.
#[utoipa::path(
    put, path = "/api/v1/grants/{sealed}/{to}", tag = "packages",
    params(
        ("sealed" = String, Path, description = "The digest of the sealed blob: `sha256:` and 64 hexadecimal digits"),
        ("to" = String, Path, description = "The id of the node's key: 64 hexadecimal digits"),
    ),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 204, description = "It is here"),
        (status = 400, description = "No grant, or one for another blob or key", body = ErrorBody),
        (status = 413, description = "Larger than 4 KiB", body = ErrorBody),
    )
)]
pub async fn put(
    State(state): State<Arc<HubState>>,
    Path((sealed, to)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<StatusCode, Refusal> {
    let refuse = |why: String| Refusal::bad_request("bad-grant", why, MEND);
    let (sealed, to) = named(&sealed, &to).ok_or_else(|| refuse("this names no blob and key".to_owned()))?;
    let bytes = intake::read(&state, request, GRANT_MAX_BYTES).await?;
    let grant = Grant::parse(&bytes).map_err(|error| {
        let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
        refuse(format!("{error}{why}"))
    })?;
    if (grant.sealed(), grant.to()) != (sealed, to) {
        return Err(refuse(format!("it is for {} and the key {}", grant.sealed(), grant.to())));
    }
    state.depot.put(&Key::grant(&sealed, &to), bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The grant of a sealed blob for a node's key.
#[utoipa::path(
    get, path = "/api/v1/grants/{sealed}/{to}", tag = "packages",
    params(
        ("sealed" = String, Path, description = "The digest of the sealed blob"),
        ("to" = String, Path, description = "The id of the node's key"),
    ),
    responses((status = 200, body = Object), (status = 404, body = ErrorBody))
)]
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path((sealed, to)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let found = match named(&sealed, &to) {
        Some((sealed, to)) => state.depot.read(&Key::grant(&sealed, &to), GRANT_MAX_BYTES as u64).await?,
        None => None,
    };
    let nothing = || {
        let message = "there is no grant of this blob for this key".to_owned();
        Refusal::not_found(message, "whoever packed it makes one with `selvedge grant … -o hub:`")
    };
    let bytes = found.ok_or_else(nothing)?;
    let facts = [(header::CACHE_CONTROL, cache::ASK)];
    Ok((facts, [(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

fn named(sealed: &str, to: &str) -> Option<(Digest, KeyId)> {
    Some((Digest::parse(sealed).ok()?, KeyId::parse(to)?))
}
