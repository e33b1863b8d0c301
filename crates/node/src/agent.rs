//! Joins thinking and remembering: the one place where a source's readings meet the journal, so it reads as the flow
//! does: source → pipeline → journal ⇒ uplink.
//!
//! Threads: `agent` runs the pipeline and owns the journal; `io` runs the local API and the uplink on one tokio
//! runtime; `install` has releases brought and proven; `serve` answers; each blocking source and each sink has its own. Nothing that thinks waits for the network or the wall clock.
//!
//! Room in a source's queue is given back only after what came of its readings is committed: a slow disk slows the
//! sources, not the memory. A panic while a batch is looked at costs that batch and is journalled.

mod follow;
mod host;
mod install;
mod looper;
pub mod reload;
mod report;
mod restore;
pub(crate) mod shared;
mod sinks;
pub(crate) mod sources;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use package::disk::FileError;
use package::disk::system::System;
use package::store::Store;
use tokio::sync::watch;
use wire::body::Start;
use wire::id::BootId;
use wire::record::Stamp;
use wire::world::{Clock, ClockQuality, Entropy, World};

use crate::api::Api;
use crate::api::blobs::Door;
use crate::api::guard::Guard;
use crate::config::Config;
use crate::config::serve::ServeConfig;
use crate::config::token::{TokenError, read_token};
use crate::identity::tend::{Identity, IdentityError};
use crate::inventory;
use crate::journal::{self, DatabaseError, Journal, OpenError};
use crate::keep;
use crate::pipeline::{Pipeline, Product};
use crate::serve::{self, ServeError, Serving};
use crate::source::BackOff;
use crate::source::queue::{Outlet, Stopper};
use crate::status::Status;
use crate::uplink::{self, Uplink, UplinkError};
use crate::why::why;
use follow::Follower;
use host::AgentHost;
use install::{InstallError, Installing, Surroundings};
use looper::Looper;
use reload::{Reloaded, Reloader};
use shared::Shared;
pub use shared::VERSION;
use sinks::Sinks;
use sources::{Sources, Threads};

/// Calls that are being answered when the node stops have so long to end.
const LEAVE: Duration = Duration::from_secs(2);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal cannot be opened.
    #[error("the journal cannot be opened")]
    Journal(#[source] OpenError),
    /// It was opened and then failed.
    #[error("the journal cannot be read")]
    Database(#[from] DatabaseError),
    /// A token is missing.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificate for the hub is missing, or not this node's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The hub's address cannot be used.
    #[error("the uplink cannot be set up")]
    Uplink(#[from] UplinkError),
    /// The address of the local API is taken or not ours.
    #[error("the local API cannot listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The language models cannot be served.
    #[error("the language models cannot be served")]
    Serve(#[from] ServeError),
    /// The releases cannot be kept.
    #[error("the releases cannot be kept")]
    Install(#[from] InstallError),
    /// The data folder cannot be made.
    #[error("the data folder {} cannot be used", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file in the data folder refused.
    #[error("the data folder cannot be used")]
    File(#[from] FileError),
    /// The system gives no thread.
    #[error("no thread could be started")]
    Thread(#[source] std::io::Error),
}

/// Why a node did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The pipeline's thread was gone.
    #[error("the agent had died: {0}")]
    Died(String),
    /// The journal could not be closed.
    #[error("the journal could not be closed cleanly")]
    Journal(#[source] journal::JournalError),
}

/// A running node. Dropping it leaves it running; [`Running::stop`] stops it.
pub struct Running {
    shared: Arc<Shared>,
    stopper: Stopper,
    agent: JoinHandle<Result<(), journal::JournalError>>,
    io: JoinHandle<()>,
    sources: Threads,
    sinks: Arc<Sinks>,
    reloader: Reloader,
    io_stop: watch::Sender<bool>,
    api: Option<SocketAddr>,
    serving: Option<Serving>,
    installing: Option<Installing>,
}

/// Starts a node.
pub fn start<W: World + Clone + 'static>(config: Config, world: W) -> Result<Running, StartError> {
    start_with(config, world, BackOff::default())
}

/// Starts a node whose failed sources are tried again after other times than the usual.
pub fn start_with<W: World + Clone + 'static>(
    config: Config,
    mut world: W,
    back_off: BackOff,
) -> Result<Running, StartError> {
    let data = config.data.clone();
    std::fs::create_dir_all(&data).map_err(|source| StartError::Data { path: data.clone(), source })?;
    let hub_token =
        config.hub.as_ref().and_then(|hub| hub.token_file.as_deref()).map(read_token).transpose()?;
    let api_token =
        config.api.as_ref().and_then(|api| api.token_file.as_deref()).map(read_token).transpose()?;
    let serve_key =
        config.serve.as_ref().and_then(|serve| serve.token_file.as_deref()).map(read_token).transpose()?;
    // What can fail for reasons outside comes before the first record is written.
    let listener = config.api.as_ref().map(|api| listen(api.listen)).transpose()?;
    let prepared = config.packages.as_ref().map(|packages| install::prepare(packages, &data)).transpose()?;
    let store = prepared.as_ref().map(|prepared| Arc::clone(&prepared.store));
    let serving = match config.serve.clone() {
        Some(ServeConfig { settings, offers, .. }) => {
            let settings = serve::settings::Settings { key: serve_key, ..settings };
            let slots = prepared.as_ref().map(|prepared| prepared.slots.clone());
            Some(serve::start(settings, offers, slots, world.clone())?)
        }
        None => None,
    };
    let boot = BootId::random(&mut world);
    let (mut pipeline, mut journal, mut first) = recall(&config, &mut world)?;
    restore::rules(&data, &mut pipeline, &mut first)?;
    // A door for nodes is one with TLS; there this node is known by its certificate.
    let identity = match config.hub.as_ref().filter(|hub| hub.url.starts_with("https://")) {
        Some(hub) => {
            let facts = inventory::of_machine(&config.name, &config.flow.digest);
            Some(Identity::open(&data, hub, &config.name, facts, world.clone())?)
        }
        None => None,
    };
    let tls = identity.as_ref().map(|identity| identity.tls.clone());
    let uplink = match &config.hub {
        Some(hub) => {
            let settings = uplink::Settings {
                hub_url: hub.url.clone(),
                token: hub_token.clone(),
                tls: tls.clone(),
                node: config.name.clone(),
            };
            Some(Uplink::new(settings, journal.outbox()?, journal.bell())?)
        }
        None => None,
    };
    let stamp =
        Stamp { boot, mono_ns: world.mono_ns(), wall_ms: world.wall_ms(), clock: ClockQuality::Unchecked };
    if let Err(error) = journal
        .append(first.iter().map(Product::draft), stamp)
        .and_then(|()| journal.commit(journal::Durability::Full).map(|_| ()))
    {
        // The node works without: the records wait in memory, and the status tells.
        tracing::error!(error = why(&error), "the journal did not take the start of the node");
    }

    let outlet = Outlet::new(0);
    let stopper = outlet.stopper();
    let shared = Arc::new(Shared::new(looper::first_status(&config), world.mono_ns()));
    {
        let mut own = shared.own();
        own.machine = inventory::of_machine(&config.name, &config.flow.digest);
        (own.data, own.labels) = (data.clone(), config.labels.clone());
    }
    let follower = Follower::open(&data, config.labels.clone(), config.hub_labels, Arc::clone(&shared))?;

    let clocks = world.clone();
    let clock = Box::new(move || Box::new(clocks.clone()) as Box<dyn Clock>);
    let mut sources = Sources::new(config.name.clone(), outlet.intake(), clock, back_off);
    for source in &config.flow.sources {
        sources.start(source).map_err(StartError::Thread)?;
    }
    let (posted, threads) = (sources.posted(), sources.threads());
    let reloader =
        Reloader::new(&config.flow, config.params.clone(), Arc::clone(&shared), outlet.messenger());

    let messenger = outlet.messenger();
    let (reports, filed) = report::reports(outlet.messenger());
    let (ring, rung) = watch::channel(0);
    // Shared by threads, which a world need not be.
    let clocks = Mutex::new(world.clone());
    let clock = Box::new(move || {
        let clock = clocks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::new(clock) as Box<dyn Clock>
    });
    let sinks = Arc::new(Sinks::new(&config, &shared, outlet.messenger(), rung, clock, back_off));
    sinks.follow(&config.flow.sinks).map_err(StartError::Thread)?;
    let looper = Looper {
        pipeline,
        journal,
        outlet,
        boot,
        data,
        clock: Box::new(world.clone()),
        shared: Arc::clone(&shared),
        states: looper::SourceStates::new(&config.flow),
        reports: filed,
        flow: config.flow.clone(),
        sources,
        sinks: Arc::clone(&sinks),
        ring,
    };
    let installing = match prepared {
        Some(prepared) => {
            let (world, shared) = (world.clone(), Arc::clone(&shared));
            let near = config.neighbours.as_ref().and_then(|near| near.token_file.as_deref());
            let near = near.map(read_token).transpose()?;
            let around = Surroundings { world, boot, shared, reports, token: hub_token, tls, near };
            Some(install::start(prepared, &config, around)?)
        }
        None => None,
    };
    let agent = spawn("agent", move || looper.run())?;

    let (io_stop, stop) = watch::channel(false);
    let api_addr = listener.as_ref().map(|(address, _)| *address);
    let api = match listener {
        Some((address, listener)) => {
            let hosts = config.api.as_ref().map(|api| api.hosts.clone()).unwrap_or_default();
            let door = neighbours(&config, &shared, (address, hosts.clone()), store, &world)?;
            let guard = Guard::new(address, hosts, api_token);
            let api = Api::new(Arc::clone(&shared), posted, guard, Box::new(world.clone()));
            Some((api.with_neighbours(door), listener))
        }
        None => None,
    };
    let follower = follower.with_inbox(installing.as_ref().map(Installing::inbox));
    let host =
        AgentHost::new(&config, Arc::clone(&shared), messenger, boot, Box::new(world.clone()), follower);
    let io = spawn("io", move || run_io(api, uplink, identity, host, world, &stop))?;
    let api = api_addr;
    let sources = threads;
    Ok(Running { shared, stopper, agent, io, sources, sinks, io_stop, api, serving, installing, reloader })
}

/// The door for neighbours at the local API, if they may fetch what the slots reach.
fn neighbours<W: World + Clone + 'static>(
    config: &Config,
    shared: &Shared,
    at: (SocketAddr, Vec<String>),
    store: Option<Arc<Store<System>>>,
    world: &W,
) -> Result<Option<Door>, StartError> {
    let serving = config.neighbours.as_ref().filter(|neighbours| neighbours.serve);
    let Some((neighbours, store)) = serving.zip(store) else { return Ok(None) };
    let token = neighbours.token_file.as_deref().map(read_token).transpose()?;
    let clock = Mutex::new(world.clone());
    let now = move || clock.lock().unwrap_or_else(PoisonError::into_inner).mono_ns();
    let (reachable, bytes_per_s) = (Arc::clone(&shared.reachable), neighbours.bytes_per_s);
    Ok(Some(Door::new(store, reachable, at, token, bytes_per_s, Arc::new(now))))
}

/// Takes the address of the local API.
fn listen(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let refuse = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    Ok((listener.local_addr().map_err(refuse)?, listener))
}

/// Opens the journal and gives the pipeline what its models had learnt, with what there is to tell about both.
fn recall(config: &Config, world: &mut dyn Entropy) -> Result<(Pipeline, Journal, Vec<Product>), StartError> {
    let settings = journal::Settings {
        max_bytes: config.journal.max_bytes,
        min_free_bytes: config.journal.min_free_bytes,
        leaves: config.leaves.clone(),
    };
    let opened = Journal::open(&config.data, settings, world).map_err(StartError::Journal)?;
    let (version, flow) = (VERSION.to_owned(), config.flow.digest);
    let mut first = vec![Product::Start(Start { version, flow, clean: opened.clean })];
    if let Some(set_aside) = &opened.set_aside {
        first.push(Product::part("journal", "failed", set_aside.to_string()));
    }
    let mut pipeline = Pipeline::new(&config.flow);
    for (at, model) in config.flow.models.iter().enumerate() {
        match keep::load(&config.data, &model.name) {
            Ok(Some(stored)) => pipeline.restore_model(at, stored),
            Ok(None) => {}
            Err(error) => {
                let part = format!("model.{}", model.name);
                first.push(Product::part(&part, "learning", why(&error)));
            }
        }
    }
    Ok((pipeline, opened.journal, first))
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    // Linux keeps 15 bytes of a thread's name.
    let name: String = name.chars().take(15).collect();
    std::thread::Builder::new().name(name).spawn(body).map_err(StartError::Thread)
}

/// The body of the `io` thread: the local API and the uplink, until told to stop.
fn run_io<W: World + Clone>(
    api: Option<(Api, TcpListener)>,
    uplink: Option<Uplink>,
    identity: Option<Identity>,
    host: AgentHost,
    world: W,
    stop: &watch::Receiver<bool>,
) {
    if api.is_none() && uplink.is_none() {
        return;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no local API and no uplink: the runtime cannot be made");
            return;
        }
    };
    let stopped = || {
        let mut stop = stop.clone();
        // An error means that the sender is gone, which is a stop as well.
        async move { drop(stop.wait_for(|stop| *stop).await) }
    };
    let (uplink_stop, tend_stop, late) = (stopped(), stopped(), stopped());
    let tending = world.clone();
    let work = async {
        let serve = async {
            if let Some((api, listener)) = api
                && let Err(error) = api.serve(listener, stop.clone()).await
            {
                tracing::error!(error = why(&error), "the local API ended");
            }
        };
        let carry = async {
            if let Some(uplink) = uplink {
                uplink.run(world, host, uplink_stop).await;
            }
        };
        let tend = async {
            if let Some(identity) = identity {
                tokio::select! {
                    () = identity.tend(tending) => {}
                    () = tend_stop => {}
                }
            }
        };
        tokio::join!(serve, carry, tend);
    };
    let late = async {
        late.await;
        tokio::time::sleep(LEAVE).await;
    };
    runtime.block_on(async {
        tokio::select! {
            () = work => {}
            // Somebody keeps a connection open, and holds nobody up by it.
            () = late => {}
        }
    });
    runtime.shutdown_timeout(LEAVE);
}

impl Running {
    /// Where the local API listens, if it does.
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api
    }

    /// Where it serves language models, if it does.
    pub fn serve_addr(&self) -> Option<SocketAddr> {
        self.serving.as_ref().map(Serving::address)
    }

    /// How the node is; at most a second old.
    pub fn status(&self) -> Status {
        self.shared.status().clone()
    }

    /// Whether every source has come to its end and all that came of it is journalled. Never true with an HTTP source.
    pub fn sources_ended(&self) -> bool {
        self.shared.ended.load(Relaxed)
    }

    /// Reads the flow again: a good one takes the old one's place without losing what did not change.
    pub fn reload(&self) -> Reloaded {
        self.reloader.reload()
    }

    /// The same, if the file has changed and has come to rest since the last look.
    pub fn look_at_flow(&self) -> Option<Reloaded> {
        self.reloader.look()
    }

    /// Whether the pipeline's thread has died, which nothing should bring about.
    pub fn failed(&self) -> bool {
        self.agent.is_finished()
    }

    /// Stops: takes no more readings, finishes those that wait, stores what models have learnt, closes the journal.
    pub fn stop(self) -> Result<(), StopError> {
        self.shared.stopping.store(true, Relaxed);
        self.stopper.stop();
        if let Some(installing) = self.installing {
            installing.stop();
        }
        if let Some(serving) = self.serving {
            serving.stop();
        }
        let sources = std::mem::take(&mut *self.sources.lock().unwrap_or_else(PoisonError::into_inner));
        for source in sources {
            // A source's panic was caught and told already.
            let _ = source.join();
        }
        let closed = self.agent.join();
        // The journal is closed, and all of it may be passed on.
        self.sinks.stop();
        self.io_stop.send_replace(true);
        let _ = self.io.join();
        match closed {
            Ok(closed) => closed.map_err(StopError::Journal),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Err(StopError::Died(text.unwrap_or_else(|| "it did not say why".to_owned())))
            }
        }
    }
}
