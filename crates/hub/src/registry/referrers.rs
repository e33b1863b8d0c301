//! The manifests that speak of another: who made it, what it is made of.

use axum::body::Bytes;
use axum::extract::Query;
use axum::http::{HeaderName, Uri, header};
use axum::response::{IntoResponse as _, Response};
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::form::{self, DOCUMENT_MAX_BYTES};
use package::index::Index;
use package::media;
use package::registry::{Code, RepoName};
use serde::Deserialize;

use crate::depot::{DepotError, Key};
use crate::registry::refusal::Refused;
use crate::state::HubState;

/// How many stand on a page.
const PAGE: usize = 100;

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Which of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    /// Of this type only.
    artifact_type: Option<String>,
    /// Behind this one.
    last: Option<String>,
}

/// GET: an index of them. Of a manifest that is not here nobody speaks: the index is empty.
pub async fn list(
    state: &HubState,
    name: &RepoName,
    subject: &Digest,
    uri: &Uri,
) -> Result<Response, Refused> {
    let asked = Query::try_from_uri(uri);
    let Query(Filter { artifact_type, last }) =
        asked.map_err(|error| Refused::bad(Code::Unsupported, error.body_text()))?;
    let folder = Key::referrers(name, subject);
    let found = state.depot.names(&folder, last.as_deref(), PAGE).await?;
    let mut index = Index::default();
    for hex in &found.names {
        let Ok(digest) = Digest::parse(&format!("sha256:{hex}")) else { continue };
        let key = Key::referrer(name, subject, &digest);
        let bytes = state.depot.read(&key, DOCUMENT_MAX_BYTES as u64).await?;
        let read = bytes.and_then(|bytes| form::read::<Descriptor>("descriptor", &bytes).ok());
        let is_asked_for =
            |entry: &Descriptor| artifact_type.is_none() || entry.artifact_type == artifact_type;
        index.manifests.extend(read.filter(is_asked_for));
    }
    let next = found.names.last().filter(|_| found.more);
    let filter = artifact_type.as_ref().map(|_| [(FILTERS, "artifactType")]);
    let link = next.map(|last| {
        let filter: String =
            artifact_type.iter().map(|word| format!("&artifactType={}", quoted(word))).collect();
        [(header::LINK, format!("<{}?last={last}{filter}>; rel=\"next\"", name.referrers(subject)))]
    });
    let facts = [(header::CONTENT_TYPE, media::OCI_INDEX)];
    Ok((facts, filter, link, index.to_bytes()).into_response())
}

/// Notes that a manifest speaks of another.
pub async fn note(
    state: &HubState,
    name: &RepoName,
    subject: &Digest,
    entry: &Descriptor,
) -> Result<(), DepotError> {
    let key = Key::referrer(name, subject, &entry.digest);
    state.depot.put(&key, Bytes::from(form::write(entry))).await
}

/// Percent-encodes what may not stand in a query.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let quote = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(quote).collect()
}
