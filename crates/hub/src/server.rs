//! The hub as a running thing: opens the store, listens, serves, and stops without losing anything it acknowledged.
//!
//! Connections have limits that hold whatever is sent: how many, how long a header may take, how large it may be, how
//! long a request may take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use package::trust::hex::to_hex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower_http::timeout::TimeoutLayer;
use wire::world::{Clock, World};

use crate::access::{self, Access};
use crate::config::{ConfigError, HubConfig};
use crate::depot::{Depot, DepotError};
use crate::live::Live;
use crate::metrics::{Area, Metrics};
use crate::registry::sessions::Sessions;
use crate::revision::Revision;
use crate::state::{HubState, stopped};
use crate::store;
use crate::store::database::{OpenError, Store};
use crate::tuf::keys::{KeyError, OnlineKeys};
use crate::tuf::online::{self, OnlineError};
use crate::write::Limits;
use crate::writer::{self, BATCH_QUEUE, Desk};
use crate::{api, console, registry, tuf};

/// How long a request may take, its body included: 1 MiB over a link of 250 kbit/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// How long a header may take, and how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long connections get to end by themselves when the hub stops.
const GRACE: Duration = Duration::from_secs(5);

/// Compressed bodies on their way in, together: 48 MiB.
const INBOUND_KIB: usize = 48 * 1024;

/// Why a hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The packages.
    #[error(transparent)]
    Depot(#[from] DepotError),
    /// The folder of what is on its way in.
    #[error("cannot use the folder {} for uploads; check that this user may write to it", path.display())]
    Uploads {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key of [tuf].
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The address is taken.
    #[error("another program listens on {0}; stop it, or choose another address with --listen")]
    InUse(SocketAddr),
    /// The address cannot be had.
    #[error(
        "cannot listen on {listen}; choose an address of this machine and a port above 1023 with --listen"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// The control plane.
#[derive(Debug)]
pub struct Hub;

/// A hub that serves. Call [`Running::stop`] to end it; dropping it leaves it running with the runtime.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; with port 0 in the config, the port it got.
    pub addr: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    writing: JoinHandle<()>,
}

impl Running {
    /// The address to open in a browser.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops taking requests, answers those under way, writes what is queued, closes the store.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for (what, task) in [("connections", self.serving), ("the writer", self.writing)] {
            if let Err(error) = task.await {
                tracing::error!(%error, "{what} did not end cleanly");
            }
        }
    }
}

impl Hub {
    /// Starts a hub in this tokio runtime and returns once it listens. `world` gives the time and the key of sessions.
    pub async fn start(
        config: HubConfig,
        mut world: impl World + Sync + 'static,
    ) -> Result<Running, HubError> {
        config.check()?;
        let token = config.read_token()?;
        let (mut key, mut seed, mut me) = ([0; 32], [0; 32], [0; 16]);
        world.fill(&mut key);
        world.fill(&mut seed);
        world.fill(&mut me);
        let clock: Arc<dyn Clock + Sync> = Arc::new(world);
        // The port before the store: a hub that runs already is the likelier reason, and the clearer message.
        let listen = config.listen;
        let listener = TcpListener::bind(listen).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => HubError::InUse(listen),
            _ => HubError::Listen { listen, source },
        })?;
        let addr = listener.local_addr().map_err(|source| HubError::Listen { listen, source })?;
        let server = config.read_database()?;
        let Store { writer, readers, way, lock } = store::open(&config.data, server.as_ref()).await?;

        let depot = Depot::open(&config.depot, &config.data, clock.wall_ms())?;
        let uploads = config.data.join("uploads");
        let (most, rest_s) = (config.registry.uploads_max, config.registry.upload_rest_hours * 3600);
        let sessions = Sessions::open(&uploads, most, rest_s, seed)
            .map_err(|source| HubError::Uploads { path: uploads, source })?;

        let online = open_keys(&config, &depot).await?;
        let access = Arc::new(Access::new(token.as_deref(), &config.hosts, key, clock.clone()));
        let (live, metrics) = (Live::new(config.live_max), Arc::new(Metrics::default()));
        let (stop, stopping) = watch::channel(false);
        let desk = Desk {
            writer,
            way,
            live: live.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            check_in_ms: config.check_in_ms,
            limits: Limits { nodes: config.nodes_max },
            me: to_hex(&me),
        };
        let (handle, writer_task) = writer::start(desk);
        let connections_max = config.connections_max;
        let state = Arc::new(HubState {
            config,
            readers: readers.clone(),
            writer: handle,
            depot,
            sessions,
            revision: Revision::default(),
            online,
            publishing: tokio::sync::Mutex::new(()),
            live,
            metrics,
            clock,
            stopping: stopping.clone(),
            inbound_kib: Semaphore::new(INBOUND_KIB),
            decoded: Semaphore::new(BATCH_QUEUE),
        });
        tokio::spawn(look(state.depot.clone()));
        tokio::spawn(online::tend(state.clone()));
        let serving = tokio::spawn(serve(listener, router(state, access), connections_max, stopping));
        let writing = tokio::spawn(async move {
            if let Err(error) = writer_task.await {
                tracing::error!(%error, "the writer did not end cleanly");
            }
            readers.close().await;
            drop(lock);
        });
        tracing::info!(%addr, "hub listens");
        Ok(Running { addr, stop, serving, writing })
    }
}

fn router(state: Arc<HubState>, access: Arc<Access>) -> Router {
    Router::new()
        .merge(api::router(state.clone()))
        .merge(tuf::router(state.clone()))
        .merge(console::router(state.clone(), access.clone()))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .merge(registry::router(state.clone()))
        .layer(from_fn_with_state(access, access::guard))
        .layer(from_fn_with_state(state, measure))
}

/// The keys that the hub signs with, if it shall; a key that is not its role's is refused before anything runs.
async fn open_keys(config: &HubConfig, depot: &Depot) -> Result<Option<OnlineKeys>, HubError> {
    let tuf = config.tuf.clone();
    // A passphrase is slow on purpose.
    let opened = tokio::task::spawn_blocking(move || OnlineKeys::open(&tuf)).await;
    let Some(keys) = opened.unwrap_or(Ok(None))? else { return Ok(None) };
    match online::check(depot, &config.tuf, &keys).await {
        Err(OnlineError::Keys(error)) => return Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the keys of [tuf] could not be held against the published root");
        }
        Ok(()) => {}
    }
    Ok(Some(keys))
}

/// Says so at once if packages can neither come nor go. Everything else of the hub works without them.
async fn look(depot: Depot) {
    if let Err(error) = depot.look().await {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, why, "the depot does not answer: packages neither come nor go until it does");
    }
}

async fn measure(State(state): State<Arc<HubState>>, request: Request, next: Next) -> Response {
    let area = match request.uri().path() {
        "/api/v1/checkin" => Area::CheckIn,
        "/api/v1/records" if request.method() == axum::http::Method::POST => Area::Records,
        path if path.starts_with("/v2/") || path.starts_with("/tuf/") => Area::Packages,
        path if path.starts_with("/api/v1/") || path == "/health" || path == "/metrics" => Area::Api,
        _ => Area::Console,
    };
    let began_ns = state.clock.mono_ns();
    let response = next.run(request).await;
    state.metrics.request(area, state.clock.mono_ns().saturating_sub(began_ns) / 1000);
    response
}

async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    mut stopping: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped(&mut stopping) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (router, stopping) = (router.clone(), stopping.clone());
                connections.spawn(async move {
                    connection(stream, router, stopping).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for connections to end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::info!(open = connections.len(), "closing connections that did not end by themselves");
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        }
        _ = stopped(&mut stopping) => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}
