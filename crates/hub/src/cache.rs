//! What caches may do with an answer: keep for ever what is named by its bytes, ask again about the rest.

use axum::http::{HeaderMap, HeaderValue, header};
use package::digest::Digest;

use crate::config::HubConfig;

/// Asked about every time, answered by 304 if it is the same.
pub const ASK: HeaderValue = HeaderValue::from_static("no-cache");

/// What never changes. Where a token is needed, only for who asked: a cache between would hand it to others without.
pub fn for_ever(config: &HubConfig) -> HeaderValue {
    HeaderValue::from_static(match config.token_file {
        None => "public, max-age=31536000, immutable",
        Some(_) => "private, max-age=31536000, immutable",
    })
}

/// The tag of some bytes.
pub fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether whoever asks has these bytes already.
pub fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(','));
    tags.any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == etag)
}
