//! What nodes call: records up, check-ins up.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, State};
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use wire::batch::{BatchAnswer, CONTENT_TYPE};
use wire::checkin::CheckInAnswer;

use crate::access::who::Who;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::api::wellformed::has_nul;
use crate::checkin::{self, CHECKIN_MAX_BYTES};
use crate::ingest::{self, COMPRESSED_MAX_BYTES};
use crate::state::{HubState, TURN};
use crate::write::NotWritten;

/// Takes a batch of records of one stream: at least once on the wire, exactly once in the store.
///
/// The body is the JSON of a batch, compressed with zstd. The answer is sent when the records are on disk; its
/// `outcome` is `stored`, `ahead` (begin at the watermark) or `forked` (this journal does not continue its past).
#[utoipa::path(
    post, path = "/api/v1/records", tag = "nodes",
    request_body(content = Vec<u8>, content_type = "application/vnd.selvedge.batch+json+zstd"),
    responses(
        (status = 200, description = "What became of it, and where the hub stands: `outcome`, `watermark`", body = Object),
        (status = 400, description = "No honest node writes this batch", body = ErrorBody),
        (status = 413, description = "Larger than 1 MiB, or than 2 MiB decompressed", body = ErrorBody),
        (status = 415, description = "Not a batch by its content type", body = ErrorBody),
        (status = 503, description = "Busy; see Retry-After", body = ErrorBody),
    )
)]
pub async fn records(
    State(state): State<Arc<HubState>>,
    who: Who,
    request: Request<Body>,
) -> Result<Json<BatchAnswer>, Refusal> {
    check_type(request.headers(), CONTENT_TYPE)?;
    let body = read(&state, request, COMPRESSED_MAX_BYTES).await?;
    let turn = timeout(TURN, state.decoded.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        state.metrics.busy();
        return Err(Refusal::later("busy", "the hub is busy storing records".to_owned(), 2));
    };
    // Milliseconds of work, which would stand in the way of everybody's check-ins.
    let decoded = tokio::task::spawn_blocking(move || ingest::decode(&body)).await;
    let batch = match decoded {
        Ok(Ok(batch)) => batch,
        Ok(Err(error)) => {
            state.metrics.batch_refused();
            return Err(bad_batch(&error));
        }
        Err(_) => return Err(Refusal::later("stopping", "the hub is stopping".to_owned(), 5)),
    };
    if !who.speaks_for(&batch.node) {
        return Err(other_node());
    }
    state.writer.store(batch).await.map(Json).map_err(|error| not_written(&state, &error))
}

/// Takes a node's check-in: how it is, where it stands. Answers where the hub stands and when to come again.
#[utoipa::path(
    post, path = "/api/v1/checkin", tag = "nodes",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, description = "`hub_ms`, `next_ms`, `watermarks`, and `assignments`: a number that changes with them", body = Object),
        (status = 400, description = "Not a check-in", body = ErrorBody),
        (status = 413, description = "Larger than 256 KiB", body = ErrorBody),
        (status = 415, description = "Not JSON by its content type", body = ErrorBody),
        (status = 503, description = "Busy; see Retry-After", body = ErrorBody),
    )
)]
pub async fn checkin(
    State(state): State<Arc<HubState>>,
    who: Who,
    request: Request<Body>,
) -> Result<Json<CheckInAnswer>, Refusal> {
    check_type(request.headers(), "application/json")?;
    let body = read(&state, request, CHECKIN_MAX_BYTES).await?;
    let checkin = checkin::decode(&body)
        .map_err(|error| Refusal::bad_request("bad-checkin", error.to_string(), SPEAKS_OTHERWISE))?;
    if !who.speaks_for(&checkin.node) {
        return Err(other_node());
    }
    // JSON that was read is UTF-8.
    let text = String::from_utf8_lossy(&body).into_owned();
    let answer = state.writer.check_in(checkin, text).await.map_err(|error| not_written(&state, &error))?;
    let assignments = state.revision.get(&state.depot, state.mono_s()).await;
    Ok(Json(CheckInAnswer { assignments, ..answer }))
}

const SPEAKS_OTHERWISE: &str = "is the node's program of a version that fits this hub's?";

fn check_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Refusal> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let message = format!("the content type must be {expected}");
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", message, SPEAKS_OTHERWISE))
}

/// Reads a body of at most `limit` bytes. Memory for it is set aside first, as much as it announces.
pub async fn read(
    state: &HubState,
    request: Request<Body>,
    limit: usize,
) -> Result<axum::body::Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message, "send it in smaller parts")
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced: usize = announced.and_then(|text| text.parse().ok()).unwrap_or(limit);
    if announced > limit {
        return Err(too_large());
    }
    let kib = announced.div_ceil(1024) as u32;
    let Ok(Ok(_room)) = timeout(TURN, state.inbound_kib.acquire_many(kib)).await else {
        state.metrics.busy();
        return Err(Refusal::later("busy", "too many records are on their way in".to_owned(), 2));
    };
    to_bytes(request.into_body(), limit).await.map_err(|error| {
        // A longer body than allowed, or a connection that was cut.
        tracing::debug!(%error, "a body could not be read");
        too_large()
    })
}

/// The most bytes of JSON that a person or a program writes, where nothing else is said.
const TOLD_MAX_BYTES: usize = 64 << 10;

/// The body as JSON, refused in our own words.
pub struct Told<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<HubState>> for Told<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request<Body>, state: &Arc<HubState>) -> Result<Self, Refusal> {
        json(&read(state, request, TOLD_MAX_BYTES).await?).map(Told)
    }
}

/// Reads JSON that a person or a program wrote.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    if has_nul(bytes) {
        let message = "a text in it has a NUL character".to_owned();
        return Err(Refusal::bad_request("bad-json", message, "leave it out"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Refusal::bad_request("bad-json", error.to_string(), "what it takes is listed at /api")
    })
}

fn bad_batch(error: &ingest::DecodeError) -> Refusal {
    use ingest::DecodeError as E;
    match error {
        E::TooLarge | E::BodyTooLarge { .. } => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            error.to_string(),
            "send it in smaller batches",
        ),
        E::NotZstd(_) => Refusal::bad_request("not-zstd", error.to_string(), SPEAKS_OTHERWISE),
        E::NotABatch(_) | E::Bad(_) | E::NumberTooLarge { .. } => {
            Refusal::bad_request("bad-batch", error.to_string(), SPEAKS_OTHERWISE)
        }
    }
}

/// A node that speaks in another's name.
fn other_node() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "other-node",
        "this certificate is another node's".to_owned(),
        "a node speaks for itself: its name is the one that it was enrolled under",
    )
}

/// Why the writer did not take something.
pub fn not_written(state: &HubState, error: &NotWritten) -> Refusal {
    match error {
        NotWritten::Busy | NotWritten::Stopping => {
            state.metrics.busy();
            Refusal::later("busy", error.to_string(), 2)
        }
        NotWritten::Store => {
            Refusal::later("store", "the store does not take it; the hub's log says why".to_owned(), 10)
        }
        NotWritten::Full { .. } => Refusal::new(
            StatusCode::FORBIDDEN,
            "full",
            error.to_string(),
            "raise the limit in the hub's config, or point this node at another hub",
        ),
        NotWritten::OtherClass { .. } => Refusal::bad_request(
            "other-class",
            error.to_string(),
            "a stream keeps the class of its first record; use another stream name",
        ),
    }
}
