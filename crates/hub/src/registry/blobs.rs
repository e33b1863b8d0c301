//! Blobs on their way out, whole or in part.
//!
//! One hub has one set of blobs for all its repositories: whoever may pull from one may pull from all.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use package::digest::Digest;
use package::range::{Asked, asked};
use package::registry::Code;

use crate::cache;
use crate::depot::Key;
use crate::registry::refusal::Refused;
use crate::state::HubState;

/// Names the bytes of an answer.
pub const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// GET and HEAD of a blob.
pub async fn show(
    state: &HubState,
    digest: &Digest,
    headers: &HeaderMap,
    is_head: bool,
) -> Result<Response, Refused> {
    let unknown = || Refused::unknown(Code::BlobUnknown, format!("there is no blob {digest} here"));
    let key = Key::blob(digest);
    let size = state.depot.size(&key).await?.ok_or_else(unknown)?;
    let etag = cache::etag(digest);
    let names = [
        (header::ETAG, etag.clone()),
        (DIGEST, digest.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
    ];
    let facts = (names, [(header::CACHE_CONTROL, cache::for_ever(&state.config))]);
    if cache::is_known(headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, facts).into_response());
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // A range of something else would be a lie.
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|known| known == etag));
    let (status, range) = match asked(range.filter(|_| !is_head), size) {
        Asked::Whole => (StatusCode::OK, 0..size),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Nowhere => {
            let message =
                format!("the blob has {size} bytes, none of them is in the range that was asked for");
            let refused = Refused::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, message);
            let place = HeaderValue::from_str(&format!("bytes */{size}"));
            return Err(place.into_iter().fold(refused, |to, place| to.with(header::CONTENT_RANGE, place)));
        }
    };
    let length = [(header::CONTENT_LENGTH, (range.end - range.start).to_string())];
    let place = (status == StatusCode::PARTIAL_CONTENT)
        .then(|| [(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1))]);
    let body = match is_head || range.is_empty() {
        true => Body::empty(),
        false => Body::from_stream(state.depot.stream(&key, range).await?.ok_or_else(unknown)?),
    };
    Ok((status, facts, length, place, body).into_response())
}
