//! What nodes call: records up, check-ins up.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, State};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};
use wire::batch::{BatchAnswer, CONTENT_TYPE};
use wire::checkin::CheckInAnswer;
use wire::id::NodeId;

use crate::access::who::Who;
use crate::api::refusal::{Asked, ErrorBody, Refusal};
use crate::api::wellformed::has_nul;
use crate::audit::witness::Verdict;
use crate::checkin::wait::{HOLD_MS, Held};
use crate::checkin::{self, CHECKIN_MAX_BYTES};
use crate::ingest::{self, COMPRESSED_MAX_BYTES};
use crate::state::{HubState, TURN, stopped};
use crate::store::{alerts, nodes};
use crate::watch;
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
    let (node, hub, seen) = (checkin.node.clone(), checkin.hub.clone(), checkin.checkpoint.clone());
    let answer = state.writer.check_in(checkin, text).await.map_err(|error| not_written(&state, &error))?;
    let assignments = state.revision.get(&state.depot, state.mono_s()).await;
    // What it saw of another hub's log says nothing of this one's.
    if let Some(seen) = seen.as_deref().filter(|_| hub == answer.hub) {
        witnessed(&state, node, seen).await;
    }
    let checkpoint = state.witness.news(&state.depot, seen.as_deref(), state.mono_s()).await;
    Ok(Json(CheckInAnswer { assignments, checkpoint, ..answer }))
}

/// Holds the log to what a node saw of it.
async fn witnessed(state: &HubState, node: NodeId, seen: &str) {
    let now_s = state.mono_s();
    let is_forked = state.witness.judge(&state.depot, seen, now_s).await == Verdict::Forked;
    if !is_forked || !state.witness.is_news(now_s) {
        return;
    }
    tracing::error!(%node, seen, "log-forked: this node saw another audit log than the one that is published");
    let (alert, now_ms) = (watch::log_forked(&node, seen, state.now_ms()), state.now_ms());
    let raised = state.writer.within(move |writer| {
        Box::pin(async move {
            if let Some(node) = nodes::find(writer, &node).await? {
                alerts::raise_for_fleet(writer, node, &alert, now_ms).await?;
            }
            Ok(())
        })
    });
    if let Err(error) = raised.await {
        tracing::error!(%error, "that the log forked is told again in a minute");
    }
}

/// What a held call says of itself.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// The highest revision that the node has heard of.
    revision: Option<u64>,
    /// The node's name; needed only where nodes have no door of their own.
    node: Option<String>,
}

/// There is news.
#[derive(Debug, Serialize, ToSchema)]
pub struct News {
    /// What the hub had for the node when it last answered; there may be more now.
    revision: u64,
}

/// Holds the answer until there is news for the node: then it checks in. Only for a node whose last answer had `poll_ms`.
///
/// Nothing is told by it and nothing is lost with it, so it may be dropped at any time.
#[utoipa::path(
    get, path = "/api/v1/wait", tag = "nodes", params(WaitQuery),
    responses(
        (status = 200, description = "There is news: check in", body = News),
        (status = 204, description = "None came while it was held: ask again"),
        (status = 400, description = "No name, or not one", body = ErrorBody),
        (status = 503, description = "The node may not wait: it goes by `next_ms`", body = ErrorBody),
    )
)]
pub async fn wait(
    State(state): State<Arc<HubState>>,
    who: Who,
    Asked(asked): Asked<WaitQuery>,
) -> Result<Response, Refusal> {
    let node = match (asked.node, &who) {
        (Some(name), _) => NodeId::new(&name)
            .map_err(|error| Refusal::bad_request("bad-node", error.to_string(), SPEAKS_OTHERWISE))?,
        (None, Who::Node { name, .. }) => name.clone(),
        (None, _) => {
            let message = "who waits is not said".to_owned();
            return Err(Refusal::bad_request("bad-node", message, "add node=<name>"));
        }
    };
    if !who.speaks_for(&node) {
        return Err(other_node());
    }
    let _counted = state.metrics.hold();
    let mut stopping = state.stopping.clone();
    let held = tokio::select! {
        held = state.waits.hold(&node, asked.revision.unwrap_or(0)) => held,
        () = tokio::time::sleep(Duration::from_millis(HOLD_MS)) => {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        () = stopped(&mut stopping) => Held::NoPermit,
    };
    match held {
        Held::News { revision } => Ok(Json(News { revision }).into_response()),
        Held::NoPermit => {
            let message = "this node may not wait here for now; it goes by next_ms".to_owned();
            Err(Refusal::later("no-permit", message, 60))
        }
    }
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
