//! The neighbours' door: blobs of our own packages, for nodes next to this one, so that a release crosses the link to the hub
//! once.
//!
//! Words of OCI distribution: `GET` and `HEAD` of `/v2/<name>/blobs/<digest>`, in parts if asked, and of manifests by digest.
//! Only what the slots reach is given, which was proven when it came; whoever fetches it proves it again. A few bodies at a
//! time and so many bytes a second, so that neighbours never stand in our own way. A body that nobody reads keeps its place,
//! and no more than that.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use futures_util::stream;
use package::digest::Digest;
use package::disk::DiskFile;
use package::disk::system::System;
use package::form::DOCUMENT_MAX_BYTES;
use package::media;
use package::range::{Asked, asked};
use package::registry::{Code, RegistryErrors, RepoName};
use package::store::Store;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::connections::Now;
use crate::api::guard::{Guard, Stranger};
use crate::pace::Pace;
use crate::transfer::blocking::blocking;

/// How many bodies go out at a time.
pub const BODIES: usize = 4;

/// How much of a blob is read at once.
const PIECE_BYTES: u64 = 256 << 10;

/// When to come again if all bodies are taken.
const LATER_S: u32 = 2;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Which digests may be given: those that the slots reach. Whoever changes the slots keeps it.
pub type Reachable = Arc<RwLock<BTreeSet<Digest>>>;

/// The door.
pub struct Door {
    store: Arc<Store<System>>,
    reachable: Reachable,
    guard: Guard,
    bodies: Arc<Semaphore>,
    pace: Mutex<Pace>,
    now: Now,
}

/// A question that is not answered.
struct Refused {
    status: StatusCode,
    code: Code,
    message: String,
    more: Option<(HeaderName, HeaderValue)>,
}

impl Refused {
    fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Refused {
        Refused { status, code, message: message.into(), more: None }
    }

    fn unknown() -> Refused {
        Refused::new(StatusCode::NOT_FOUND, Code::BlobUnknown, "this node does not have it")
    }
}

impl From<Stranger> for Refused {
    fn from(stranger: Stranger) -> Refused {
        match stranger {
            Stranger::Token => {
                let message = "send the neighbours' token as `Authorization: Bearer …`";
                Refused::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message)
            }
            Stranger::Host(_) | Stranger::Origin(_) => {
                let message = "this node does not answer to that host, or to that page";
                Refused::new(StatusCode::FORBIDDEN, Code::Denied, message)
            }
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        tracing::warn!(%error, "a blob could not be read for a neighbour");
        Refused::unknown()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(RegistryErrors::one(self.code, self.message))).into_response();
        response.headers_mut().extend(self.more);
        response
    }
}

/// What a path is of.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Blob(Digest),
    Manifest(Digest),
}

/// What decides how a manifest is called.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

impl Door {
    /// A door at `listen` for who shows `token`. At most `bytes_per_s` go out a second.
    pub fn new(
        store: Arc<Store<System>>,
        reachable: Reachable,
        (listen, hosts): (SocketAddr, Vec<String>),
        token: Option<String>,
        bytes_per_s: u64,
        now: Now,
    ) -> Door {
        let guard = Guard::new(listen, hosts, token);
        let (bodies, pace) = (Arc::new(Semaphore::new(BODIES)), Mutex::new(Pace::new(Some(bytes_per_s))));
        Door { store, reachable, guard, bodies, pace, now }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new().route("/v2/", get(version)).route("/v2/{*path}", any(answer)).with_state(Arc::new(self))
    }

    fn reaches(&self, digest: &Digest) -> bool {
        self.reachable.read().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// How long so many bytes have to wait.
    fn wait(&self, bytes: u64) -> Duration {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_nanos(pace.wait_ns(bytes, (self.now)()))
    }

    /// A place for a body, held until its end.
    fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.bodies).try_acquire_owned().map_err(|_| {
            let message = format!("{BODIES} neighbours are fetching already");
            let busy = Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::TooManyRequests, message);
            Refused { more: Some((header::RETRY_AFTER, HeaderValue::from(LATER_S))), ..busy }
        })
    }

    async fn blob(
        self: Arc<Door>,
        digest: Digest,
        headers: &HeaderMap,
        is_head: bool,
    ) -> Result<Response, Refused> {
        let store = Arc::clone(&self.store);
        let opened = blocking(move || -> io::Result<_> {
            let Some(file) = store.open_blob(&digest).map_err(|error| error.source)? else { return Ok(None) };
            let size = file.size_bytes()?;
            Ok(Some((file, size)))
        });
        let (file, size) = opened.await?.ok_or_else(Refused::unknown)?;
        let etag = format!("\"{digest}\"");
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|known| known == etag));
        let (status, range) = match asked(range.filter(|_| !is_head), size) {
            Asked::Whole => (StatusCode::OK, 0..size),
            Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Asked::Nowhere => {
                let message = format!("the blob has {size} bytes, none of them was asked for");
                let refused = Refused::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, message);
                let place = HeaderValue::from_str(&format!("bytes */{size}")).ok();
                return Err(Refused { more: place.map(|place| (header::CONTENT_RANGE, place)), ..refused });
            }
        };
        let facts = [
            (header::ETAG, etag),
            (DIGEST, digest.to_string()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, (range.end - range.start).to_string()),
        ];
        let place = (status == StatusCode::PARTIAL_CONTENT)
            .then(|| [(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1))]);
        let body = match is_head || range.is_empty() {
            true => Body::empty(),
            false => {
                let held = self.place()?;
                self.body(file, range, held)
            }
        };
        Ok((status, facts, place, body).into_response())
    }

    /// A range of a file, as fast as the pace allows.
    fn body<F: DiskFile + 'static>(
        self: Arc<Door>,
        file: F,
        range: Range<u64>,
        held: OwnedSemaphorePermit,
    ) -> Body {
        let begun = (self, file, range, held);
        Body::from_stream(stream::try_unfold(begun, |(door, file, range, held)| async move {
            if range.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let end = range.end.min(range.start.saturating_add(PIECE_BYTES));
            let (file, read) = blocking(move || {
                let read = read_range(&file, range.start..end);
                (file, read)
            })
            .await;
            tokio::time::sleep(door.wait(end - range.start)).await;
            Ok(Some((read?, (door, file, end..range.end, held))))
        }))
    }

    async fn manifest(self: Arc<Door>, digest: Digest, is_head: bool) -> Result<Response, Refused> {
        let _held = self.place()?;
        let store = Arc::clone(&self.store);
        let read = blocking(move || store.read_small(&digest, DOCUMENT_MAX_BYTES as u64));
        let bytes = read.await.map_err(|error| error.source)?.ok_or_else(Refused::unknown)?;
        let kind: Option<Kind> = serde_json::from_slice(&bytes).ok();
        let kind = [media::OCI_MANIFEST, media::OCI_INDEX]
            .into_iter()
            .find(|known| kind.as_ref().and_then(|kind| kind.media_type.as_deref()) == Some(*known))
            .ok_or_else(Refused::unknown)?;
        tokio::time::sleep(self.wait(bytes.len() as u64)).await;
        let facts = [
            (DIGEST, digest.to_string()),
            (header::CONTENT_TYPE, kind.to_owned()),
            (header::CONTENT_LENGTH, bytes.len().to_string()),
        ];
        let body = if is_head { Body::empty() } else { Body::from(bytes) };
        Ok((facts, body).into_response())
    }
}

async fn version(State(door): State<Arc<Door>>, headers: HeaderMap) -> Result<Response, Refused> {
    door.guard.check(&headers)?;
    Ok(Json(serde_json::json!({})).into_response())
}

async fn answer(
    State(door): State<Arc<Door>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    door.guard.check(&headers)?;
    let is_head = method == Method::HEAD;
    if !is_head && method != Method::GET {
        let message = "neighbours may fetch here, and nothing else";
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message));
    }
    match read(&path).ok_or_else(Refused::unknown)? {
        Place::Blob(digest) if door.reaches(&digest) => door.blob(digest, &headers, is_head).await,
        Place::Manifest(digest) if door.reaches(&digest) => door.manifest(digest, is_head).await,
        Place::Blob(_) | Place::Manifest(_) => Err(Refused::unknown()),
    }
}

/// Reads what stands behind `/v2/`. In which repository a blob is does not matter here, but it must be one.
fn read(path: &str) -> Option<Place> {
    let (rest, digest) = path.rsplit_once('/')?;
    let (name, kind) = rest.rsplit_once('/')?;
    RepoName::new(name).ok()?;
    let digest = Digest::parse(digest).ok()?;
    match kind {
        "blobs" => Some(Place::Blob(digest)),
        "manifests" => Some(Place::Manifest(digest)),
        _ => None,
    }
}

/// Exactly these bytes of a file.
fn read_range(file: &impl DiskFile, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let came = package::disk::read_full(file, range.start, &mut bytes)?;
    match came == length {
        true => Ok(bytes.into()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests;
