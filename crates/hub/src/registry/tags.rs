//! The tags of a repository, in order and in pages.

use axum::Json;
use axum::extract::Query;
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};
use package::registry::{Code, RepoName};
use serde::{Deserialize, Serialize};

use crate::depot::Key;
use crate::registry::refusal::Refused;
use crate::state::HubState;

/// The most of a page, and as many as one has unless told.
const PAGE: usize = 1000;

/// Which page.
#[derive(Debug, Default, Deserialize)]
struct Page {
    /// How many.
    n: Option<usize>,
    /// The last of the page before.
    last: Option<String>,
}

/// A page of tags.
#[derive(Debug, Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: Vec<String>,
}

/// GET of the tags.
pub async fn list(state: &HubState, name: &RepoName, uri: &Uri) -> Result<Response, Refused> {
    let page = Query::try_from_uri(uri);
    let Query(Page { n, last }) = page.map_err(|error| Refused::bad(Code::Unsupported, error.body_text()))?;
    let n = n.unwrap_or(PAGE).min(PAGE);
    let found = state.depot.names(&Key::tags(name), last.as_deref(), n).await?;
    if found.names.is_empty() && !found.more {
        let is_there = !state.depot.names(&Key::manifests(name), None, 1).await?.names.is_empty();
        if !is_there {
            return Err(Refused::unknown(Code::NameUnknown, format!("there is no repository {name} here")));
        }
    }
    let next = found.names.last().filter(|_| found.more);
    let link =
        next.map(|last| [(header::LINK, format!("<{}?n={n}&last={last}>; rel=\"next\"", name.tags()))]);
    Ok((link, Json(Tags { name: name.as_str(), tags: found.names })).into_response())
}
