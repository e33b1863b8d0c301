//! Language models for apps on this machine: an OpenAI-compatible server over the models of the node's slots, and beside
//! them listed files or a shelf.
//!
//! | call | what it is |
//! |---|---|
//! | `POST /v1/chat/completions` | `serve::chat` |
//! | `POST /v1/completions` | `serve::completions` |
//! | `POST /v1/responses` | `serve::responses`, without memory between requests |
//! | `POST /v1/embeddings` | `serve::embeddings` |
//! | `GET /v1/models`, `/v1/models/{id}` | `serve::catalogue` |
//! | `GET /selvedge/models`, `DELETE /selvedge/models/{id}` | what is loaded; unload it |
//! | `GET /health`, `/metrics` | for who watches |
//!
//! A request is read and checked (`body`, `ask`, `conversation`, `constrain`, `limits`), leases a model (`models`; it sits at
//! the `table`, loaded by `load` from an `offer`, or because the node's `slots` say so), places an order with the model's
//! thread (`order`, `engine`), and is told whole or as it comes (`sse`, with `logprobs` and `tally`). What always holds:
//! whoever goes away cancels what is not written yet; nothing a prompt holds is cut off in silence; every error has OpenAI's
//! envelope (`problem`).
//!
//! Whoever sends is a stranger, even on this machine: `Origin`, and without a key `Host`, must be ours (`api::guard`), a
//! key is compared in constant time, and without one the server listens on this machine only, unless it is told to be insecure.

mod ask;
mod body;
mod catalogue;
mod chat;
mod completions;
mod constrain;
mod conversation;
mod embeddings;
mod engine;
mod extras;
mod gauges;
mod limits;
mod load;
mod logprobs;
mod metrics;
mod models;
pub mod offer;
mod order;
mod problem;
mod responses;
pub mod settings;
pub mod slots;
mod spill;
mod sse;
mod state;
mod table;
mod tally;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::{self, MatchedPath, Request};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE,
    ORIGIN, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use tokio::sync::watch;
use wire::world::{Clock, World};

use self::limits::CONNECTIONS;
use self::models::Models;
use self::offer::Offers;
use self::problem::Problem;
use self::settings::Settings;
use self::slots::Slots;
use self::state::State;
use crate::api::connections::{self, Limits, Now};
use crate::api::guard::Guard;
use crate::pressure::Squeeze;
use crate::prometheus;
use crate::why::why;

/// Models that are idle, or took too long to leave, are looked for so often.
const TIDY: Duration = Duration::from_secs(1);
/// After answers were told to end, this long for their last word to go out.
const LEAVE: Duration = Duration::from_secs(1);

/// Why a server does not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anybody on the network could use it.
    #[error("{0} can be reached from other machines: give an API key, or say that it shall be insecure")]
    OpenToAll(SocketAddr),
    /// The key cannot stand in a header.
    #[error("an API key has 1 to 4 096 printable ASCII characters and no blanks")]
    Key,
    /// The address is taken or not ours.
    #[error("the server cannot listen on {address}")]
    Listen {
        /// As it was told.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("no thread could be started")]
    Thread(#[source] std::io::Error),
    /// A model cannot be loaded.
    #[error("{0}")]
    Load(String),
}

/// A running server. [`Serving::stop`] stops it and waits; dropping it does not wait.
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    models: Models,
    runtime: tokio::runtime::Handle,
    thread: Option<JoinHandle<()>>,
}

/// Takes memory back from the models of a server.
#[derive(Clone)]
pub struct Relief(Models);

impl Relief {
    /// Gives up memory as far as asked; with [`Squeeze::Nothing`] takes back what was given up.
    pub fn squeeze(&self, squeeze: Squeeze) {
        self.0.squeeze(squeeze);
    }

    /// Whether a smaller variant stands by for anything that serves.
    pub fn has_spares(&self) -> bool {
        self.0.has_spares()
    }
}

/// Starts a server of the models that are offered, and of those that the node's slots let serve.
pub fn start<W: World + Clone + 'static>(
    settings: Settings,
    offers: Offers,
    slots: Option<Slots>,
    world: W,
) -> Result<Serving, ServeError> {
    let Settings { listen, key, insecure, hosts, origins, grace, .. } = settings.clone();
    if let Some(key) = &key
        && !((1..=4_096).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return Err(ServeError::Key);
    }
    if key.is_none() && !insecure && !listen.ip().is_loopback() {
        return Err(ServeError::OpenToAll(listen));
    }
    let refuse = |source| ServeError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    let clock: Mutex<Box<dyn Clock>> = Mutex::new(Box::new(world.clone()));
    let now: Now = Arc::new(move || clock.lock().unwrap_or_else(PoisonError::into_inner).mono_ns());
    let models = Models::new(offers, slots, settings, Arc::clone(&now));
    let (stop, stopping) = watch::channel(false);
    let (cut, cutting) = watch::channel(false);
    let guard = Guard::new(address, hosts, key).with_origins(origins);
    let state = Arc::new(State::new(models.clone(), guard, Box::new(world), Arc::clone(&now), cutting));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    let handle = runtime.handle().clone();
    let its_models = models.clone();
    let thread = std::thread::Builder::new().name("serve".to_owned()).spawn(move || {
        let limits = Limits { connections: CONNECTIONS, ..Limits::default() };
        let doors = connections::serve(listener, router(state), limits, now, stopping.clone());
        runtime.block_on(async {
            tokio::select! {
                ended = doors => {
                    if let Err(error) = ended {
                        tracing::error!(error = why(&error), "the server ended");
                    }
                }
                () = tidy(&its_models) => {}
                () = late(stopping, grace, &cut) => {}
            }
        });
        its_models.close();
        runtime.shutdown_timeout(LEAVE);
    });
    let thread = thread.map_err(ServeError::Thread)?;
    models.attach();
    Ok(Serving { address, stop, models, runtime: handle, thread: Some(thread) })
}

/// Unloads idle models, and cuts what took too long to leave, for ever.
async fn tidy(models: &Models) {
    loop {
        tokio::time::sleep(TIDY).await;
        models.tidy();
    }
}

/// Cuts answers that are still under way when the grace after a stop is over.
async fn late(mut stopping: watch::Receiver<bool>, grace: Duration, cut: &watch::Sender<bool>) {
    // An error means that nobody can stop it any more, which is a stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
    tokio::time::sleep(grace).await;
    cut.send_replace(true);
    tokio::time::sleep(LEAVE).await;
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loads a model before anybody asks for it, to learn whether it can be. Blocks.
    pub fn load(&self, name: &str) -> Result<(), ServeError> {
        let lease = self.runtime.block_on(self.models.lease(name));
        lease.map(drop).map_err(|problem| ServeError::Load(problem.message))
    }

    /// What takes memory back from its models while the server runs.
    pub fn relief(&self) -> Relief {
        Relief(self.models.clone())
    }

    /// Whether its thread has died, which nothing should bring about.
    pub fn failed(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops: takes no more requests, lets answers under way end within the grace, then tells them that it ends.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        // A panic in it was told when it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::answer))
        .route("/v1/completions", post(completions::answer))
        .route("/v1/responses", post(responses::answer))
        .route("/v1/embeddings", post(embeddings::answer))
        .route("/v1/models", get(catalogue::list))
        .route("/v1/models/{*id}", get(catalogue::one))
        .route("/selvedge/models", get(catalogue::loaded))
        .route("/selvedge/models/{*id}", delete(catalogue::unload))
        .route("/health", get(|| async { Json(serde_json::json!({ "status": "ok" })) }))
        .route("/metrics", get(metrics))
        .fallback(|request: Request| async move { Problem::nothing_here(request.uri().path()) })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("{} takes another method than {}", request.uri().path(), request.method());
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_allowed"), message)
        })
        .layer(from_fn_with_state(Arc::clone(&state), door))
        .with_state(state)
}

async fn metrics(extract::State(state): extract::State<Arc<State>>) -> Response {
    let sitting = state.models.sitting();
    let models = sitting.iter().map(|sitting| {
        let loaded = &sitting.loaded;
        (loaded.offer.name.as_str(), &*loaded.gauges, loaded.needed_bytes)
    });
    let kind = HeaderValue::from_static(prometheus::CONTENT);
    ([(CONTENT_TYPE, kind)], state.metrics.text(models)).into_response()
}

/// Goes down again when its request has its answer, or is given up.
struct UnderWay(Arc<State>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.metrics.under_way.fetch_sub(1, Relaxed);
    }
}

/// Who may come in, and what is counted.
async fn door(extract::State(state): extract::State<Arc<State>>, request: Request, next: Next) -> Response {
    state.metrics.under_way.fetch_add(1, Relaxed);
    let _under_way = UnderWay(Arc::clone(&state));
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let origin = request
        .headers()
        .get(ORIGIN)
        .filter(|origin| origin.to_str().is_ok_and(|origin| state.guard.welcomes(origin)));
    let origin = origin.cloned();
    // Whoever asks whether the server is there need not show a key, and a browser asks before it shows one.
    let preflight = request.method() == Method::OPTIONS && origin.is_some();
    // A rebound name leads pages to us that have no key; who has it may call us as he likes.
    let (guard, headers) = (&state.guard, request.headers());
    let way = if guard.has_token() { Ok(()) } else { guard.check_host(headers) };
    let way = way.and_then(|()| guard.check_origin(headers));
    let open = preflight || route.as_deref() == Some("/health");
    let checked = if open { way } else { way.and_then(|()| guard.check_token(headers)) };
    let mut response = match checked {
        Err(stranger) => Problem::from(stranger).closing().into_response(),
        Ok(()) if preflight => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("origin"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        // A star would leave out the key.
        let allowed = HeaderValue::from_static(
            "authorization, content-type, x-stainless-arch, x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout",
        );
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    state.metrics.answered(route.as_deref(), response.status());
    response
}
