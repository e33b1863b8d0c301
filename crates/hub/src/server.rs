//! The hub as a running thing: opens the store, listens, serves, and stops without losing anything it acknowledged.
//!
//! Two doors: one for people, programs and the registry, plain; and one for nodes, with TLS, where it is asked for. Their
//! connections have limits that hold whatever is sent: see [`door`].

pub mod door;
pub mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use package::trust::hex::to_hex;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tower_http::timeout::TimeoutLayer;
use wire::world::{Clock, Entropy, World};
use zeroize::Zeroizing;

use crate::access::first::{self, FirstError};
use crate::access::tokens::REFRESH;
use crate::access::{self, Access, Guard};
use crate::audit;
use crate::audit::key::LogKeyError;
use crate::config::{ConfigError, HubConfig};
use crate::depot::{Depot, DepotError};
use crate::fleet::view::Fleet;
use crate::identity::ca::{Ca, CaError};
use crate::identity::peer::Peers;
use crate::live::Live;
use crate::metrics::{Area, Metrics};
use crate::registry::sessions::Sessions;
use crate::revision::Revision;
use crate::server::door::Tls;
use crate::server::tls::{HubCertificateError, Own};
use crate::state::{HubState, stopped};
use crate::store;
use crate::store::database::{OpenError, Store, unreadable};
use crate::tuf::keys::{KeyError, OnlineKeys};
use crate::tuf::online::{self, OnlineError};
use crate::write::Limits;
use crate::writer::{self, BATCH_QUEUE, Desk};
use crate::{api, console, registry, tuf};

/// How long a request may take, its body included: 1 MiB over a link of 250 kbit/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

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
    /// The key of the audit log.
    #[error(transparent)]
    LogKey(#[from] LogKeyError),
    /// The address is taken.
    #[error("another program listens on {0}; stop it, or choose another address with --listen")]
    InUse(SocketAddr),
    /// The authority of nodes' certificates.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The certificate of the nodes' door.
    #[error(transparent)]
    Certificate(#[from] HubCertificateError),
    /// TLS does not take its settings.
    #[error("the nodes' door cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The file of the first admin's token.
    #[error(transparent)]
    First(#[from] FirstError),
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
    /// Where it listens for nodes with certificates, if it does.
    pub nodes_addr: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    nodes: Option<JoinHandle<()>>,
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
        let nodes = self.nodes.map(|task| ("the nodes' connections", task));
        let tasks = [("connections", self.serving)].into_iter().chain(nodes);
        for (what, task) in tasks.chain([("the writer", self.writing)]) {
            if let Err(error) = task.await {
                tracing::error!(%error, "{what} did not end cleanly");
            }
        }
    }
}

impl Hub {
    /// Starts a hub in this tokio runtime and returns once it listens. `world` gives the time and the key of sessions.
    pub async fn start(
        mut config: HubConfig,
        mut world: impl World + Clone + Sync + 'static,
    ) -> Result<Running, HubError> {
        config.check()?;
        let token = config.read_token()?;
        let (mut key, mut seed, mut me) = ([0; 32], [0; 32], [0; 16]);
        let mut log_key = Zeroizing::new([0; 32]);
        world.fill(&mut key);
        world.fill(&mut seed);
        world.fill(&mut me);
        world.fill(&mut *log_key);
        let mut chance: Box<dyn Entropy> = Box::new(world.clone());
        let clock: Arc<dyn Clock + Sync> = Arc::new(world);
        // The port before the store: a hub that runs already is the likelier reason, and the clearer message.
        let (listener, addr) = bind(config.listen).await?;
        let nodes_listener = match &config.nodes {
            Some(nodes) => Some(bind(nodes.listen).await?),
            None => None,
        };
        let nodes_addr = nodes_listener.as_ref().map(|(_, addr)| *addr);
        // Pages tell the ports that it got.
        config.listen = addr;
        if let (Some(nodes), Some(addr)) = (&mut config.nodes, nodes_addr) {
            nodes.listen = addr;
        }
        let server = config.read_database()?;
        let Store { mut writer, readers, way, lock } = store::open(&config.data, server.as_ref()).await?;
        if config.nodes.is_some() && config.token_file.is_none() {
            first::admin(&mut writer, &config.data, &mut *chance, clock.wall_ms()).await?;
        }
        let keys = config.identity.keys.clone().unwrap_or_else(|| config.data.join("keys"));
        let ca = match &config.nodes {
            Some(_) => Some(Arc::new(Ca::open_or_make(&keys, &mut *chance, clock.wall_ms())?)),
            None => None,
        };
        let own = match (&config.nodes, &ca) {
            (Some(nodes), Some(ca)) => Some(Arc::new(Own::make(ca, nodes, &mut *chance, &*clock)?)),
            _ => None,
        };
        let tls = match (&ca, &own) {
            (Some(ca), Some(own)) => Some(Tls::new(Arc::new(own.settings(ca, clock.clone())?))),
            _ => None,
        };

        let depot = Depot::open(&config.depot, &config.data, clock.wall_ms())?;
        let uploads = config.data.join("uploads");
        let (most, rest_s) = (config.registry.uploads_max, config.registry.upload_rest_hours * 3600);
        let sessions = Sessions::open(&uploads, most, rest_s, seed)
            .map_err(|source| HubError::Uploads { path: uploads, source })?;

        let online = open_keys(&config, &depot).await?;
        let access = Arc::new(Access::new(
            token.as_deref(),
            &config.hosts,
            config.nodes.is_some(),
            key,
            clock.clone(),
        ));
        let log_key = audit::key::open(&config.audit, &config.data, log_key)?;
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
            access,
            ca,
            peers: Arc::new(Peers::new(readers.clone())),
            chance: Mutex::new(chance),
            fleet: Fleet::default(),
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
        state.refresh_access().await.map_err(unreadable)?;
        state.peers.refresh().await.map_err(unreadable)?;
        tokio::spawn(follow(state.clone(), own));
        tokio::spawn(audit::publish::tend(state.clone(), log_key));
        tokio::spawn(audit::heads::tend(state.clone()));
        let nodes_max = state.config.nodes.as_ref().map_or(0, |nodes| nodes.connections_max);
        let router = router(state);
        let nodes = nodes_listener.map(|(listener, addr)| {
            tracing::info!(%addr, "hub listens for nodes");
            tokio::spawn(door::serve(listener, router.clone(), tls, nodes_max, stopping.clone()))
        });
        let serving = tokio::spawn(door::serve(listener, router, None, connections_max, stopping));
        let writing = tokio::spawn(async move {
            if let Err(error) = writer_task.await {
                tracing::error!(%error, "the writer did not end cleanly");
            }
            readers.close().await;
            drop(lock);
        });
        tracing::info!(%addr, "hub listens");
        Ok(Running { addr, nodes_addr, stop, serving, nodes, writing })
    }
}

/// Takes an address.
async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), HubError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => HubError::InUse(listen),
        _ => HubError::Listen { listen, source },
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}

/// Follows what the store says of who may ask, and has a new certificate made before the old one runs out.
async fn follow(state: Arc<HubState>, own: Option<Arc<Own>>) {
    let mut stopping = state.stopping.clone();
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stopping) => return,
        }
        if let Err(error) = async {
            state.refresh_access().await?;
            state.peers.refresh().await
        }
        .await
        {
            tracing::error!(%error, "who may ask could not be read; what was known before holds");
        }
        if let (Some(own), Some(ca)) = (&own, &state.ca)
            && let Err(error) = own.keep(ca, &mut **state.entropy(), &*state.clock)
        {
            tracing::error!(%error, "the hub's certificate could not be made anew");
        }
    }
}

fn router(state: Arc<HubState>) -> Router {
    let access = state.access.clone();
    let guard = Guard { access: access.clone(), peers: state.peers.clone() };
    Router::new()
        .merge(api::router(state.clone()))
        .merge(tuf::router(state.clone()))
        .merge(console::router(state.clone(), access.clone()))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .merge(registry::router(state.clone()))
        .layer(from_fn_with_state(guard, access::guard))
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
