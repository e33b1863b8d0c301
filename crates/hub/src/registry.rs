//! The registry: OCI distribution 1.1, so that packages come and go with everybody's tools.
//!
//! Blobs come first, then the manifests that name them, then the indices that name those; each is refused while something of
//! it is missing, so what can be pulled is whole. See <https://github.com/opencontainers/distribution-spec>.

pub mod blobs;
pub mod manifests;
pub mod referrers;
pub mod refusal;
pub mod sessions;
pub mod tags;
pub mod uploads;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use package::digest::Digest;
use package::registry::{Code, Reference, RepoName, WordError};

use crate::registry::refusal::Refused;
use crate::state::HubState;

/// What a path is of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Manifest(Reference),
    Blob(Digest),
    Uploads,
    Upload(String),
    Tags,
    Referrers(Digest),
}

/// All routes below `/v2/`. What they take may take its time: see [`crate::inflow`].
pub fn router(state: Arc<HubState>) -> Router {
    Router::new()
        .route("/v2/", get(version))
        .route("/v2/{*path}", any(answer))
        .layer(map_response(with_version))
        .with_state(state)
}

async fn version() -> Json<serde_json::Value> {
    Json(serde_json::json!({}))
}

async fn with_version(mut response: Response) -> Response {
    let name = HeaderName::from_static("docker-distribution-api-version");
    response.headers_mut().insert(name, HeaderValue::from_static("registry/2.0"));
    response
}

async fn answer(State(state): State<Arc<HubState>>, Path(path): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
    let answered: Result<Response, Refused> = async {
        let (name, place) = read(&path)?;
        let is_head = method == Method::HEAD;
        let is_get = is_head || method == Method::GET;
        match place {
            Place::Blob(digest) if is_get => blobs::show(&state, &digest, &headers, is_head).await,
            Place::Manifest(of) if is_get => manifests::show(&state, &name, &of, &headers, is_head).await,
            Place::Manifest(of) if method == Method::PUT => {
                manifests::put(&state, &name, &of, &headers, body).await
            }
            Place::Tags if is_get => tags::list(&state, &name, &uri).await,
            Place::Referrers(subject) if is_get => referrers::list(&state, &name, &subject, &uri).await,
            Place::Uploads if method == Method::POST => {
                uploads::begin(&state, name, &uri, &headers, body).await
            }
            Place::Upload(id) => {
                let session = uploads::find(&state, &name, &id)?;
                match method {
                    Method::GET | Method::HEAD => uploads::show(&session).await,
                    Method::PATCH => uploads::go_on(&state, &session, &headers, body).await,
                    Method::PUT => uploads::end(&state, &session, &uri, &headers, body).await,
                    Method::DELETE => Ok(uploads::forget(&state, &session)),
                    _ => Err(Refused::unsupported()),
                }
            }
            _ => Err(Refused::unsupported()),
        }
    }
    .await;
    answered.into_response()
}

/// Reads what stands behind `/v2/`. Names have slashes, so it is read from its end.
fn read(path: &str) -> Result<(RepoName, Place), Refused> {
    let nothing = || {
        let path: String = path.chars().take(200).collect();
        Refused::unknown(Code::Unsupported, format!("there is nothing at /v2/{path}"))
    };
    let (rest, last) = path.rsplit_once('/').ok_or_else(nothing)?;
    let (name, kind) = rest.rsplit_once('/').ok_or_else(nothing)?;
    let digest = || Digest::parse(last).map_err(WordError::Digest);
    let place = match (name.rsplit_once('/'), kind, last) {
        (Some((name, "blobs")), "uploads", "") => return Ok((RepoName::new(name)?, Place::Uploads)),
        (Some((name, "blobs")), "uploads", id) => {
            return Ok((RepoName::new(name)?, Place::Upload(id.to_owned())));
        }
        (_, "blobs", "uploads") => Place::Uploads,
        (_, "blobs", _) => Place::Blob(digest()?),
        (_, "manifests", _) => Place::Manifest(Reference::parse(last)?),
        (_, "tags", "list") => Place::Tags,
        (_, "referrers", _) => Place::Referrers(digest()?),
        _ => return Err(nothing()),
    };
    Ok((RepoName::new(name)?, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let digest = Digest::of(b"{}");
        let check = |path: &str, name: &str, place: Place| {
            assert_eq!(read(path).unwrap(), (RepoName::new(name).unwrap(), place), "{path}");
        };
        let tag = |text| Place::Manifest(Reference::parse(text).unwrap());
        check("a/manifests/7", "a", tag("7"));
        check(&format!("team/a/manifests/{digest}"), "team/a", tag(&digest.to_string()));
        check(&format!("a/blobs/{digest}"), "a", Place::Blob(digest));
        check("a/blobs/uploads/", "a", Place::Uploads);
        check("a/blobs/uploads", "a", Place::Uploads);
        check("a/b/blobs/uploads/0f", "a/b", Place::Upload("0f".into()));
        check("tags/list/tags/list", "tags/list", Place::Tags);
        check(&format!("a/referrers/{digest}"), "a", Place::Referrers(digest));
        for bad in [
            "",
            "a",
            "a/b",
            "_catalog",
            "/manifests/7",
            "A/manifests/7",
            "a/../manifests/7",
            "a//manifests/7",
            "a/manifests/",
            "a/manifests/..",
            "a/manifests/sha512:00",
            "a/blobs/x",
            "a/tags/x",
            "blobs/uploads/",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
