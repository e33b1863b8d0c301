//! The local API: readings in, state out, for apps on this machine.
//!
//! | call | answer |
//! |---|---|
//! | `POST /v1/readings/{source}` | 202 and how many readings were taken |
//! | `GET /v1/state` | sources, models, rules, slots, journal: to who is on this machine as they are, to others as the policy lets them leave |
//! | `GET /metrics` | the same in numbers, as Prometheus text |
//! | `GET /health` | 200 while the pipeline goes round, else 503 |
//! | `GET /v2/…` | blobs of packages, for neighbours, if they may (`api::blobs`) |
//!
//! Whoever sends is a stranger, even on this machine: a web page in somebody's browser can reach a loopback address. So
//! the `Host` must be ours (against DNS rebinding), an `Origin` must be the same, a body is at most 4 MiB and refused
//! before it is read if it says it is larger, a few bodies are read at a time, and connections have limits
//! (`api::connections`).

#[cfg(feature = "packages")]
pub mod blobs;
pub(crate) mod connections;
pub(crate) mod guard;
mod metrics;

use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tower_http::timeout::TimeoutLayer;
use wire::world::{Clock, MonoNs};

use self::connections::{IsHere, Limits};
use self::guard::{Guard, Stranger};
use crate::agent::shared::Shared;
use crate::agent::sources::Posted;
use crate::policy::Policy;
use crate::prometheus;
use crate::source::http::Form;
use crate::source::http::brought::Refusal;
use crate::source::queue::NotTaken;

/// The largest body, in bytes.
pub const BODY_MAX_BYTES: usize = 4 << 20;
/// Bodies read at a time.
const BODIES: usize = 4;
/// A request that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The pipeline is not well if it has not gone round for so long.
const STALLED_NS: u64 = 30_000_000_000;

/// Calls that are answered beside the API's own.
pub(crate) type Routes = Router;

/// What a caller is told when something is wrong.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    close: bool,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into(), close: false }
    }

    /// The connection is closed after it: the rest of the body is not read.
    fn closing(self) -> Problem {
        Problem { close: true, ..self }
    }
}

impl From<Stranger> for Problem {
    fn from(stranger: Stranger) -> Problem {
        match stranger {
            Stranger::Host(host) => {
                let message = format!("this node does not answer to the host {host:?}");
                Problem::new(StatusCode::FORBIDDEN, "unknown_host", message)
            }
            Stranger::Origin(origin) => {
                let message = format!("pages of {origin:?} may not ask this node");
                Problem::new(StatusCode::FORBIDDEN, "foreign_origin", message)
            }
            Stranger::Token => {
                let message = "send the node's token as `Authorization: Bearer …`";
                Problem::new(StatusCode::UNAUTHORIZED, "token", message)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Envelope {
            error: Inner,
        }
        #[derive(Serialize)]
        struct Inner {
            code: &'static str,
            message: String,
        }
        let (status, inner) = (self.status, Inner { code: self.code, message: self.message });
        let mut response = (status, Json(Envelope { error: inner })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The local API of one node.
pub(crate) struct Api {
    inner: Arc<Inner>,
    neighbours: Option<Routes>,
}

struct Inner {
    shared: Arc<Shared>,
    sources: Posted,
    guard: Guard,
    policy: Policy,
    clock: Mutex<Box<dyn Clock>>,
    bodies: Semaphore,
}

impl Inner {
    fn now_ns(&self) -> MonoNs {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).mono_ns()
    }
}

impl Api {
    /// An API over `sources`, by name. `policy`: what those who are not on this machine may hear of the state.
    pub(crate) fn new(
        shared: Arc<Shared>,
        sources: Posted,
        guard: Guard,
        policy: Policy,
        clock: Box<dyn Clock>,
    ) -> Api {
        let bodies = Semaphore::new(BODIES);
        let inner = Inner { shared, sources, guard, policy, clock: Mutex::new(clock), bodies };
        Api { inner: Arc::new(inner), neighbours: None }
    }

    /// With a door for neighbours, who have a token of their own.
    pub(crate) fn with_neighbours(self, door: Option<Routes>) -> Api {
        Api { neighbours: door, ..self }
    }

    /// Answers until `stop`.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        stop: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let router = Router::new()
            .route("/v1/readings/{source}", post(take_readings))
            .route("/v1/state", get(state))
            .route("/metrics", get(metrics))
            .route("/health", get(health))
            .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here") })
            .method_not_allowed_fallback(|| async {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path takes another method")
            })
            .layer(from_fn_with_state(Arc::clone(&self.inner), check))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
            .with_state(Arc::clone(&self.inner));
        // Blobs take longer than other answers may.
        let router = match self.neighbours {
            Some(door) => router.merge(door),
            None => router,
        };
        let now = Arc::new(move || self.inner.now_ns());
        connections::serve(listener, router, Limits::default(), now, stop).await
    }
}

async fn check(State(api): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    match api.guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(stranger) => Problem::from(stranger).closing().into_response(),
    }
}

async fn health(State(api): State<Arc<Inner>>) -> Response {
    let silent_ns = api.now_ns().saturating_sub(api.shared.alive_ns.load(Relaxed));
    if silent_ns > STALLED_NS {
        let message = format!("the pipeline has not gone round for {} s", silent_ns / 1_000_000_000);
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stalled", message).into_response();
    }
    Json(serde_json::json!({ "status": "ok" })).into_response()
}

async fn state(State(api): State<Arc<Inner>>, request: Request) -> Response {
    let status = api.shared.status().clone();
    if request.extensions().get::<IsHere>() == Some(&IsHere(true)) {
        return Json(status).into_response();
    }
    // Names, numbers and texts.
    let mut status = serde_json::to_value(status).expect("a status is plain data");
    api.policy.outside(&mut status);
    Json(status).into_response()
}

async fn metrics(State(api): State<Arc<Inner>>) -> Response {
    let text = metrics::text(&api.shared.status());
    ([(CONTENT_TYPE, HeaderValue::from_static(prometheus::CONTENT))], text).into_response()
}

#[derive(Deserialize)]
struct Options {
    precision: Option<String>,
}

#[derive(Serialize)]
struct Taken {
    taken: usize,
}

async fn take_readings(
    State(api): State<Arc<Inner>>,
    Path(source): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Taken>), Problem> {
    let entry = api.sources.read().unwrap_or_else(PoisonError::into_inner).get(&source).map(Arc::clone);
    let Some(entry) = entry else {
        let known = api.sources.read().unwrap_or_else(PoisonError::into_inner);
        let help = crate::config::problem::did_you_mean(&source, known.keys().map(String::as_str));
        let message = format!("the flow has no source `{source}` of type \"http\" ({help})");
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_source", message).closing());
    };
    let form = form(&headers, options.precision.as_deref())?;
    let body = read_body(&api, &headers, body).await?;
    let now_ms = api.clock.lock().unwrap_or_else(PoisonError::into_inner).wall_ms();
    let taken = entry.lock().unwrap_or_else(PoisonError::into_inner).take(form, &body, now_ms);
    match taken {
        Ok(taken) => Ok((StatusCode::ACCEPTED, Json(Taken { taken }))),
        Err(refusal) => {
            let (status, code) = match &refusal {
                Refusal::Bad { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad_readings"),
                Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
                Refusal::NotTaken(NotTaken::Full) => (StatusCode::SERVICE_UNAVAILABLE, "full"),
                Refusal::NotTaken(NotTaken::Stopped) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            };
            let nothing =
                if status == StatusCode::SERVICE_UNAVAILABLE { "" } else { "; nothing of it was taken" };
            Err(Problem::new(status, code, format!("{refusal}{nothing}")))
        }
    }
}

/// How the body is written: JSON if it says so, or says nothing; line protocol if it is plain text.
fn form(headers: &HeaderMap, precision: Option<&str>) -> Result<Form, Problem> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let message = format!("send the body as it is, without `Content-Encoding: {encoding:?}`");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", message).closing());
    }
    let content = headers.get(CONTENT_TYPE).map_or("application/json", |value| value.to_str().unwrap_or("?"));
    let kind = content.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind.as_str() {
        // What `curl -d` sends when nobody tells it otherwise.
        "application/json" | "application/x-www-form-urlencoded" => Ok(Form::Json),
        "text/plain" => match precision.unwrap_or("ns") {
            "ns" => Ok(Form::Lines { unit_ns: 1 }),
            "us" | "u" => Ok(Form::Lines { unit_ns: 1_000 }),
            "ms" => Ok(Form::Lines { unit_ns: 1_000_000 }),
            "s" => Ok(Form::Lines { unit_ns: 1_000_000_000 }),
            other => {
                let message = format!("`precision` is ns, us, ms or s, not {other:?}");
                Err(Problem::new(StatusCode::BAD_REQUEST, "precision", message).closing())
            }
        },
        other => {
            let message = format!("send application/json, or text/plain for line protocol, not {other:?}");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message).closing())
        }
    }
}

async fn read_body(api: &Inner, headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Problem> {
    let too_large = || {
        let message = format!("a body may have {BODY_MAX_BYTES} bytes: send several");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).closing()
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_MAX_BYTES as u64) {
        return Err(too_large());
    }
    let Ok(_permit) = api.bodies.try_acquire() else {
        let message = format!("{BODIES} bodies are being read already");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).closing());
    };
    match Limited::new(body, BODY_MAX_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "body", format!("the body ended early: {error}"))
                .closing())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_early_is_told_when_to_come_again() {
        let full = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "full", "too many").into_response();
        assert_eq!(full.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes), Some(&b"1"[..]));
        let bad = Problem::new(StatusCode::FORBIDDEN, "x", "y").closing().into_response();
        assert_eq!(bad.headers().get(RETRY_AFTER), None);
        assert_eq!(bad.headers().get(CONNECTION).map(HeaderValue::as_bytes), Some(&b"close"[..]));
    }
}
