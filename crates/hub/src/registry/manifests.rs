//! Manifests and indices: kept byte for byte, and only if all that they name is here.
//!
//! A manifest lies among the blobs; its repository has a note of it that says of which media type it is. So a release's index
//! is had by its digest alone, as TUF's targets are. A tag is a file with a digest in it, written last.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::form::{Annotations, DOCUMENT_MAX_BYTES, FormError};
use package::index::Index;
use package::manifest::Manifest;
use package::media;
use package::registry::{Code, Reference, RepoName};
use serde::Deserialize;
use tokio::time::timeout;

use crate::cache;
use crate::depot::Key;
use crate::inflow::Inflow;
use crate::registry::blobs::DIGEST;
use crate::registry::referrers;
use crate::registry::refusal::Refused;
use crate::state::{HubState, TURN};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// The longest note of a media type, and the longest tag's file.
const NOTE_MAX_BYTES: u64 = 1 << 10;

/// What a manifest or an index needs, and what it says of itself.
struct Named {
    media_type: &'static str,
    blobs: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Annotations,
}

/// What the beginning of reading needs: which of the two it is.
#[derive(Debug, Deserialize)]
struct Kind {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

/// GET and HEAD of a manifest.
pub async fn show(
    state: &HubState,
    name: &RepoName,
    reference: &Reference,
    headers: &HeaderMap,
    is_head: bool,
) -> Result<Response, Refused> {
    let unknown = || {
        let message = format!("the repository {name} has no manifest {reference}");
        Refused::unknown(Code::ManifestUnknown, message)
    };
    let (digest, keep) = match reference {
        Reference::Digest(digest) => (*digest, cache::for_ever(&state.config)),
        Reference::Tag(tag) => {
            let said = state.depot.read(&Key::tag(name, tag), NOTE_MAX_BYTES).await?.ok_or_else(unknown)?;
            let digest = std::str::from_utf8(&said).ok().and_then(|said| Digest::parse(said).ok());
            (digest.ok_or_else(unknown)?, cache::ASK)
        }
    };
    let note = state.depot.read(&Key::manifest(name, &digest), NOTE_MAX_BYTES).await?.ok_or_else(unknown)?;
    let bytes =
        state.depot.read(&Key::blob(&digest), DOCUMENT_MAX_BYTES as u64).await?.ok_or_else(unknown)?;
    let etag = cache::etag(&digest);
    let facts = [(header::ETAG, etag.clone()), (DIGEST, digest.to_string())];
    let keep = [(header::CACHE_CONTROL, keep)];
    if cache::is_known(headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, facts, keep).into_response());
    }
    let length = [(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()))];
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_maybe_shared(note).map_err(|_| unknown())?)];
    let body = if is_head { Body::empty() } else { Body::from(bytes) };
    Ok((facts, keep, length, kind, body).into_response())
}

/// PUT of a manifest.
pub async fn put(
    state: &HubState,
    name: &RepoName,
    reference: &Reference,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    // Memory for it is set aside first.
    let room = timeout(TURN, state.inbound_kib.acquire_many((DOCUMENT_MAX_BYTES >> 10) as u32)).await;
    let Ok(Ok(_room)) = room else {
        state.metrics.busy();
        return Err(Refused::later("too much is on its way in", 2));
    };
    let bytes = Inflow::new(body, DOCUMENT_MAX_BYTES as u64).whole().await?;
    let digest = Digest::of(&bytes);
    if let Reference::Digest(said) = reference
        && *said != digest
    {
        let message = format!("{} bytes came, and they are {digest}, not {said}", bytes.len());
        return Err(Refused::bad(Code::DigestInvalid, message));
    }
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let named = read(&bytes, said)?;
    is_here(state, name, &named).await?;
    let size = bytes.len() as u64;
    state.depot.put_if_absent(&Key::blob(&digest), Bytes::from(bytes)).await?;
    if let Some(subject) = &named.subject {
        let mut entry = Descriptor::new(named.media_type, digest, size);
        entry.artifact_type = named.artifact_type;
        entry.annotations = named.annotations;
        referrers::note(state, name, &subject.digest, &entry).await?;
    }
    let note = Bytes::from_static(named.media_type.as_bytes());
    state.depot.put(&Key::manifest(name, &digest), note).await?;
    if let Reference::Tag(tag) = reference {
        state.depot.put(&Key::tag(name, tag), Bytes::from(digest.to_string())).await?;
    }
    let location = name.manifest(&Reference::Digest(digest));
    let facts = [(header::LOCATION, location), (DIGEST, digest.to_string())];
    let subject = named.subject.map(|subject| [(SUBJECT, subject.digest.to_string())]);
    Ok((StatusCode::CREATED, subject, facts).into_response())
}

/// Reads a manifest or an index: what it says it is, or what its sender says it is.
fn read(bytes: &[u8], said: Option<&str>) -> Result<Named, Refused> {
    let invalid = |why: String| Refused::bad(Code::ManifestInvalid, why);
    let formless = |error: FormError| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        invalid(format!("{error}{}", source.unwrap_or_default()))
    };
    let Kind { media_type } =
        serde_json::from_slice(bytes).map_err(|error| invalid(format!("this is no manifest: {error}")))?;
    let said = said.map(|said| said.split(';').next().unwrap_or_default().trim());
    if let (Some(stands), Some(said)) = (media_type.as_deref(), said)
        && stands != said
    {
        return Err(invalid(format!("it says that it is {stands}, its Content-Type says {said}")));
    }
    match media_type.as_deref().or(said) {
        Some(media::OCI_MANIFEST) => {
            let Manifest { artifact_type, config, layers, subject, annotations, .. } =
                Manifest::parse(bytes).map_err(formless)?;
            let artifact_type = artifact_type.or_else(|| Some(config.media_type.clone()));
            let blobs = [config].into_iter().chain(layers).collect();
            let (media_type, manifests) = (media::OCI_MANIFEST, Vec::new());
            Ok(Named { media_type, blobs, manifests, subject, artifact_type, annotations })
        }
        Some(media::OCI_INDEX) => {
            let Index { artifact_type, manifests, annotations, mut extra } =
                Index::parse(bytes).map_err(formless)?;
            let subject = extra.remove("subject").map(serde_json::from_value::<Descriptor>).transpose();
            let subject = subject.map_err(|error| invalid(format!("its subject cannot be read: {error}")))?;
            let (media_type, blobs) = (media::OCI_INDEX, Vec::new());
            Ok(Named { media_type, blobs, manifests, subject, artifact_type, annotations })
        }
        other => {
            let other = other.unwrap_or("nothing");
            let known = format!("{} and {}", media::OCI_MANIFEST, media::OCI_INDEX);
            Err(invalid(format!("its media type is {other:?}; what is kept here is {known}")))
        }
    }
}

/// Refuses what names something that is not here, or not as it is named.
async fn is_here(state: &HubState, name: &RepoName, named: &Named) -> Result<(), Refused> {
    let refused = |message: String| Err(Refused::bad(Code::ManifestBlobUnknown, message));
    for Descriptor { digest, size, .. } in named.blobs.iter().chain(&named.manifests) {
        match state.depot.size(&Key::blob(digest)).await? {
            Some(bytes) if bytes == *size => {}
            Some(bytes) => {
                return refused(format!("{digest} has {bytes} bytes, not the {size} that it says"));
            }
            None => return refused(format!("{digest} is not here: send it first")),
        }
    }
    for Descriptor { digest, .. } in &named.manifests {
        if state.depot.size(&Key::manifest(name, digest)).await?.is_none() {
            return refused(format!("the repository {name} has no manifest {digest}: send it first"));
        }
    }
    Ok(())
}
