//! The hub as a running thing: opens the store, listens, serves, and stops without losing anything it acknowledged.
//!
//! Two doors: one for people, programs and the registry, plain or with TLS ([`people`]); and one for nodes ([`tls`]), where it is
//! asked for. Their connections have limits that hold whatever is sent: see [`door`].

pub mod door;
pub mod people;
pub mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use package::trust::hex::to_hex;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use wire::world::{Clock, Entropy, World};
use zeroize::Zeroizing;

use crate::access::first::{self, FirstError};
#[cfg(feature = "oidc")]
use crate::access::oidc::provider::{Provider, ProviderError};
use crate::access::session::Sealer;
use crate::access::tokens::REFRESH;
use crate::access::{self, Access, Guard};
use crate::api::refusal::Refusal;
use crate::api::wellformed;
use crate::audit;
use crate::audit::key::LogKeyError;
use crate::audit::witness::Witness;
use crate::checkin::advice::Turns;
use crate::checkin::wait::Waits;
use crate::config::{ConfigError, HubConfig};
use crate::depot::{Depot, DepotError};
use crate::fleet::view::Fleet;
use crate::identity::ca::{Ca, CaError};
use crate::identity::factory::{Factories, FactoryError};
use crate::identity::peer::Peers;
use crate::identity::stranger::Strangers;
use crate::live::Live;
use crate::metrics::{Area, Metrics};
use crate::registry::sessions::Sessions;
use crate::replica::Replica;
use crate::revision::Revision;
use crate::server::door::{Asks, Tls};
use crate::server::people::{PeopleError, Shown};
use crate::server::tls::{HubCertificateError, Own};
use crate::state::{HubState, stopped};
use crate::store::database::{OpenError, Store, unreadable};
use crate::store::{self, checkpoint, recovery};
use crate::tuf::keys::{KeyError, OnlineKeys};
use crate::tuf::online::{self, OnlineError};
use crate::write::Limits;
use crate::writer::{self, BATCH_QUEUE, Desk};
use crate::{api, console, registry, retain, tuf};

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
    /// Settings for which this program was not built.
    #[error(
        "this selvedge was built without an archive: build it with `--features archive`, or take `on` out of [archive]"
    )]
    NoArchive,
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
    /// The certificate of the people's door.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// Where people sign in.
    #[cfg(feature = "oidc")]
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A maker of devices.
    #[error(transparent)]
    Factory(#[from] FactoryError),
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
    has_tls: bool,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    nodes: Option<JoinHandle<()>>,
    writing: JoinHandle<()>,
}

impl Running {
    /// The address to open in a browser.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.has_tls { "https" } else { "http" }, self.addr)
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
    /// Starts a hub in this tokio runtime and returns once it listens. `world` gives the time and the keys.
    pub async fn start(
        mut config: HubConfig,
        mut world: impl World + Clone + Sync + 'static,
    ) -> Result<Running, HubError> {
        config.check()?;
        if config.archive.on && !cfg!(feature = "archive") {
            return Err(HubError::NoArchive);
        }
        let token = config.read_token()?;
        let (mut seed, mut me) = ([0; 32], [0; 16]);
        let mut log_key = Zeroizing::new([0; 32]);
        world.fill(&mut seed);
        world.fill(&mut me);
        world.fill(&mut *log_key);
        let mut chance: Box<dyn Entropy> = Box::new(world.clone());
        let clock: Arc<dyn Clock + Sync> = Arc::new(world);
        let shown = config.tls.as_ref().map(Shown::open).transpose()?.map(Arc::new);
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
        if config.nodes.is_some() && config.token_file.is_none() && !config.open {
            first::admin(&mut writer, &config.data, &mut *chance, clock.wall_ms()).await?;
        }
        let keys = config.keys();
        let ca = match &config.nodes {
            Some(_) => Some(Arc::new(Ca::open_or_make(&keys, &mut *chance, clock.wall_ms())?)),
            None => None,
        };
        let own = match (&config.nodes, &ca) {
            (Some(nodes), Some(ca)) => Some(Arc::new(Own::make(ca, nodes, &mut *chance, &*clock)?)),
            _ => None,
        };
        let factories = Factories::open(&config.identity.factory)?;
        let tls = match (&ca, &own) {
            (Some(ca), Some(own)) => Some(Arc::new(own.settings(ca, &factories, clock.clone())?)),
            _ => None,
        };

        let strangers = Strangers::of(ca.as_deref())?;
        let depot = Depot::open(&config.depot, &config.data, clock.wall_ms())?;
        let uploads = config.data.join("uploads");
        let (most, rest_s) = (config.registry.uploads_max, config.registry.upload_rest_hours * 3600);
        let sessions = Sessions::open(&uploads, most, rest_s, seed)
            .map_err(|source| HubError::Uploads { path: uploads, source })?;

        let online = open_keys(&config, &depot).await?;
        let access = Access::new(
            token.as_deref(),
            &config.hosts,
            config.nodes.is_some(),
            config.open,
            Sealer::open_or_make(&keys, &mut *chance, config.is_secure())?,
            clock.clone(),
        );
        let label = config.oidc.as_ref().map(|oidc| oidc.label.clone());
        let access = Arc::new(access.with_sign_in(label));
        #[cfg(feature = "oidc")]
        let oidc = match &config.oidc {
            Some(oidc) => Some(Provider::new(oidc.clone(), oidc.secret().map_err(ConfigError::OidcSecret)?)?),
            None => None,
        };
        let log_key = audit::key::open(&config, &log_key)?;
        // Before anything is written: a restored database goes on where the log was published.
        match audit::resume::resume(&mut writer, &readers, &depot, log_key.key(), clock.wall_ms()).await {
            Ok(0) => {}
            Ok(entries) => tracing::warn!(
                entries,
                "the database is a backup's: the end of the audit log was brought back"
            ),
            Err(error) => {
                tracing::error!(%error, "the published audit log could not be held against the database");
            }
        }
        let (live, metrics) = (Live::new(config.live_max), Arc::new(Metrics::default()));
        let door_max = config.nodes.as_ref().map_or(config.connections_max, |nodes| nodes.connections_max);
        let waits = Arc::new(Waits::new(config.polls_max.min(door_max / 2)));
        let (stop, stopping) = watch::channel(false);
        let me = to_hex(&me);
        let replica = Replica::new(me.clone(), addr.to_string(), clock.clone(), server.is_some());
        let staying = tokio::spawn(replica.clone().tend(way.clone(), stopping.clone()));
        let is_file = server.is_none();
        let bringing = is_file.then(|| tokio::spawn(checkpoint::tend(way.clone(), stopping.clone())));
        let desk = Desk {
            writer,
            way,
            replica: replica.clone(),
            live: live.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            check_in_ms: config.check_in_ms,
            limits: Limits { nodes: config.nodes_max },
            me,
            waits: waits.clone(),
            turns: Turns::default(),
        };
        let (handle, writer_task) = writer::start(desk);
        let connections_max = config.connections_max;
        let state = Arc::new(HubState {
            config,
            readers: readers.clone(),
            writer: handle,
            access,
            #[cfg(feature = "oidc")]
            oidc,
            ca,
            factories: Arc::new(factories),
            peers: Arc::new(Peers::new(readers.clone(), strangers)),
            chance: Mutex::new(chance),
            fleet: Fleet::default(),
            depot,
            sessions,
            replica,
            revision: Revision::default(),
            online,
            witness: Witness::new(log_key.key().clone()),
            publishing: tokio::sync::Mutex::new(()),
            live,
            metrics: metrics.clone(),
            waits,
            clock,
            stopping: stopping.clone(),
            inbound_kib: Semaphore::new(INBOUND_KIB),
            decoded: Semaphore::new(BATCH_QUEUE),
        });
        tokio::spawn(look(state.depot.clone()));
        tokio::spawn(online::tend(state.clone()));
        state.refresh_access().await.map_err(unreadable)?;
        state.peers.refresh().await.map_err(unreadable)?;
        tokio::spawn(follow(state.clone(), own, shown.clone()));
        let people = match &shown {
            Some(shown) => {
                let settings = Arc::new(shown.settings(state.clock.clone())?);
                Some(Tls::new(settings, Asks::Nothing, metrics.clone()))
            }
            None => None,
        };
        tokio::spawn(audit::publish::tend(state.clone(), log_key));
        tokio::spawn(audit::heads::tend(state.clone()));
        tokio::spawn(retain::run::tend(state.clone()));
        #[cfg(feature = "archive")]
        tokio::spawn(crate::archive::run::tend(state.clone()));
        let nodes_max = state.config.nodes.as_ref().map_or(0, |nodes| nodes.connections_max);
        let router = router(state);
        let nodes = nodes_listener.map(|(listener, addr)| {
            tracing::info!(%addr, "hub listens for nodes");
            let tls = tls.map(|settings| Tls::new(settings, Asks::Certificates, metrics));
            tokio::spawn(door::serve(listener, router.clone(), tls, nodes_max, stopping.clone()))
        });
        let serving = tokio::spawn(door::serve(listener, router, people, connections_max, stopping));
        let writing = tokio::spawn(async move {
            if let Err(error) = writer_task.await {
                tracing::error!(%error, "the writer did not end cleanly");
            }
            if let Err(error) = staying.await {
                tracing::error!(%error, "the other hubs were not told that this one leaves");
            }
            if let Some(task) = bringing
                && let Err(error) = task.await
            {
                tracing::error!(%error, "what brings the database's log into it did not end cleanly");
            }
            readers.close().await;
            drop(lock);
        });
        tracing::info!(%addr, "hub listens");
        Ok(Running { addr, nodes_addr, has_tls: shown.is_some(), stop, serving, nodes, writing })
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

/// Follows what the store says of who may ask, and what the files say of the people's certificate; and has a new one made for
/// the nodes' door before the old one runs out.
async fn follow(state: Arc<HubState>, own: Option<Arc<Own>>, shown: Option<Arc<Shown>>) {
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
        let knocked = state.peers.strangers.news();
        if !knocked.is_empty() {
            let rows = knocked.clone();
            let kept = state.writer.within(move |writer| {
                Box::pin(async move {
                    for row in &rows {
                        recovery::put_stranger(writer, row).await?;
                    }
                    Ok(())
                })
            });
            match kept.await {
                Ok(()) => state.peers.strangers.stored(&knocked),
                Err(error) => tracing::error!(%error, "keys that knock could not be kept; they knock again"),
            }
        }
        if let (Some(own), Some(ca)) = (&own, &state.ca)
            && let Err(error) = own.keep(ca, &mut **state.entropy(), &*state.clock)
        {
            tracing::error!(%error, "the hub's certificate could not be made anew");
        }
        if let Some(Err(error)) = shown.as_ref().map(|shown| shown.keep()) {
            tracing::error!(%error, "the certificate that people see could not be read again; the one before goes on");
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
        .layer(from_fn(wellformed::check))
        .layer(from_fn(in_time))
        .merge(api::held(state.clone()))
        .merge(registry::router(state.clone()))
        .layer(from_fn_with_state(guard, access::guard))
        .layer(from_fn_with_state(state, measure))
}

/// Ends what takes too long.
async fn in_time(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let message = format!("this took longer than {} s", REQUEST_TIMEOUT.as_secs());
        let mend = "look what became of it before you ask again";
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "too-slow", message, mend).into_response()
    })
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
        // Held for as long as there is no news: that is not how long an answer took.
        "/api/v1/wait" => return next.run(request).await,
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
