//! Joins thinking and remembering: the one place where a source's readings meet the journal, so it reads as the flow
//! does: source → pipeline → journal ⇒ uplink.
//!
//! Threads: `agent` runs the pipeline and owns the journal; `io` runs the local API and the uplink on one tokio
//! runtime; `install` has releases brought and proven; `serve` answers; `relay` carries for nodes behind; `care` looks after all of
//! them; each blocking source and each sink has its own. Nothing that thinks waits for the network or the wall clock.
//!
//! Room in a source's queue is given back only after what came of its readings is committed: a slow disk slows the
//! sources, not the memory. A panic while a batch is looked at costs that batch and is journalled.

mod acting;
mod care;
mod follow;
mod host;
#[cfg(feature = "packages")]
mod install;
#[cfg(feature = "language")]
mod language;
#[cfg(not(feature = "language"))]
#[path = "agent/no_language.rs"]
mod language;
mod looper;
#[cfg(test)]
mod nights;
mod reining;
#[cfg(feature = "packages")]
mod releases;
#[cfg(not(feature = "packages"))]
#[path = "agent/no_releases.rs"]
mod releases;
pub mod reload;
mod report;
mod reporting;
mod restore;
pub(crate) mod shared;
mod sinks;
pub(crate) mod sources;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use package::disk::FileError;
use tokio::sync::watch;
use wire::body::Start;
use wire::id::BootId;
use wire::record::Stamp;
use wire::world::{Clock, ClockQuality, Entropy, World};

use crate::api::Api;
use crate::api::guard::Guard;
use crate::config::Config;
use crate::config::token::{TokenError, read_token};
use crate::flow::Flow;
use crate::identity::tend::{Identity, IdentityError};
use crate::identity::tls::HubTls;
use crate::inventory;
use crate::journal::{self, DatabaseError, FreeBytes, Journal, OpenError, free_bytes};
use crate::keep::Of;
use crate::network::releases::Releases;
use crate::pipeline::{Pipeline, Product};
use crate::policy::pseudonym::{KeyError, Pseudonyms};
use crate::pressure::Limits;
use crate::progress::{Progress, Thread};
use crate::relay::{self, Relay, RelayError};
use crate::source::BackOff;
use crate::source::queue::{Outlet, Stopper};
use crate::status::Status;
use crate::supervise::crumb::Crumb;
use crate::supervise::starts::{LeftOut, Starts};
use crate::uplink::{self, Uplink, UplinkError};
use crate::why::why;
use acting::Acting;
pub use care::Supervision;
use care::{Care, Caring, Life};
use follow::Follower;
use host::AgentHost;
pub use language::LanguageError;
use language::Speaking;
use looper::Looper;
use reining::Reining;
pub use releases::ReleasesError;
use releases::{Around, Packages, Receiving};
use reload::{Reloaded, Reloader};
use report::Reports;
use reporting::Reporting;
use shared::Shared;
pub use shared::VERSION;
use sinks::{MakeClock, Sinks};
use sources::{Sources, Threads};

/// Calls that are being answered when the node stops have so long to end.
const LEAVE: Duration = Duration::from_secs(2);

/// How often the `io` thread says that it goes round.
const PULSE: Duration = Duration::from_secs(1);

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
    /// The door for nodes behind cannot be opened.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// What the policy hides has no names.
    #[error(transparent)]
    Pseudonyms(#[from] KeyError),
    /// The language models cannot be served.
    #[error(transparent)]
    Language(#[from] LanguageError),
    /// Releases cannot be kept.
    #[error(transparent)]
    Releases(#[from] ReleasesError),
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
    #[error("the thread that thinks had died before the node was told to stop: {0}")]
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
    reloader: Arc<Reloader>,
    io_stop: watch::Sender<bool>,
    api: Option<SocketAddr>,
    receiving: Receiving,
    speaking: Speaking,
    caring: Caring,
    acting: Option<Acting>,
    relay: Option<relay::Serving>,
    reporting: Reporting,
}

/// Starts a node.
pub fn start<W: World + Clone + 'static>(config: Config, world: W) -> Result<Running, StartError> {
    start_with(config, world, BackOff::default())
}

/// Starts a node whose failed sources are tried again after other times than the usual.
pub fn start_with<W: World + Clone + 'static>(
    config: Config,
    world: W,
    back_off: BackOff,
) -> Result<Running, StartError> {
    start_supervised(config, world, back_off, Supervision::default())
}

/// Starts a node that somebody else watches.
pub fn start_supervised<W: World + Clone + 'static>(
    mut config: Config,
    mut world: W,
    back_off: BackOff,
    supervision: Supervision,
) -> Result<Running, StartError> {
    let data = config.data.clone();
    let begun_with = releases::at_start(&config);
    let given = begun_with.as_ref().map(Flow::text);
    config.flow = begun_with.unwrap_or(config.flow);
    std::fs::create_dir_all(&data).map_err(|source| StartError::Data { path: data.clone(), source })?;
    if config.policy.needs_key() {
        config.policy.pseudonyms = Some(Pseudonyms::open_or_make(&data, &mut world)?);
    }
    let hub_token =
        config.hub.as_ref().and_then(|hub| hub.token_file.as_deref()).map(read_token).transpose()?;
    let api_token =
        config.api.as_ref().and_then(|api| api.token_file.as_deref()).map(read_token).transpose()?;
    // What can fail for reasons outside comes before the first record is written.
    let listener = config.api.as_ref().map(|api| listen(api.listen)).transpose()?;
    // Another node that runs here is left alone: this one will not start.
    if journal::is_held(&data) == Some(true) {
        return Err(StartError::Journal(OpenError::InUse { dir: data }));
    }
    let (crumb, died_at) = if supervision.restarted { Crumb::open(&data) } else { (Crumb::off(), None) };
    let life = supervision.restarted.then(|| begin(&data, died_at.as_deref()));
    let left_out = life.as_ref().map(|life| life.left_out.clone()).unwrap_or_default();
    let (packages, speaking) = if left_out.models.is_none() {
        let packages = Packages::open(&config)?;
        let speaking = Speaking::start(&config, &packages, &world)?;
        (packages, speaking)
    } else {
        (Packages::left_out(), Speaking::left_out())
    };
    let boot = BootId::random(&mut world);
    let (mut pipeline, mut journal, first) = recall(&config, &left_out, free_bytes(&data), &mut world)?;
    pipeline.note_at(crumb.clone());
    let releases = Releases::default();
    pipeline.join(releases.clone());
    let identity = identify(&config, &world)?;
    let tls = identity.as_ref().map(|identity| identity.tls.clone());
    let relay = stand_for_hub(&config, tls.as_ref(), &world)?;
    let uplink = rise(&config, hub_token.clone(), tls.clone(), &journal)?;
    let stamp =
        Stamp { boot, mono_ns: world.mono_ns(), wall_ms: world.wall_ms(), clock: ClockQuality::Unchecked };
    remember_start(&mut journal, &first, stamp);

    let outlet = Outlet::new(0);
    let stopper = outlet.stopper();
    let shared = Arc::new(Shared::new(looper::first_status(&config), world.mono_ns()));
    let uplink = uplink.map(|uplink| uplink.with_news(Arc::clone(&shared.news)));
    {
        let mut own = shared.own();
        own.machine = inventory::of(&config);
        (own.data, own.labels) = (data.clone(), config.labels.clone());
        own.takes_flow = releases::takes_flow(&config);
        inventory::say_relay(&mut own.machine, relay.is_some());
    }
    let follower = Follower::open(&data, config.labels.clone(), config.hub_labels, Arc::clone(&shared))?;

    let mut sources =
        Sources::new(config.name.clone(), data.clone(), outlet.intake(), clocks(&world), back_off);
    for source in &config.flow.sources {
        let left_out = left_out.parts.get(&format!("source.{}", source.name));
        sources.start(source, left_out.map(String::as_str)).map_err(StartError::Thread)?;
    }
    let (posted, threads) = (sources.posted(), sources.threads());
    let bound = config.policy.sources.keys().cloned().collect();
    let reloader =
        Reloader::new(&config.flow, config.params.clone(), bound, Arc::clone(&shared), outlet.messenger());
    let reloader = Arc::new(reloader.with(given));

    let (messenger, care_messenger) = (outlet.messenger(), outlet.messenger());
    let (reports, filed) = report::reports(outlet.messenger());
    let acting = act(&config, &outlet, &reports, &world)?;
    let reporting = reporting::start(
        config.flow.reports.clone(),
        reporting::Around {
            data: data.clone(),
            clock: Box::new(world.clone()),
            reports: reports.clone(),
            messenger: outlet.messenger(),
        },
    )
    .map_err(StartError::Thread)?;
    let (ring, rung) = watch::channel(0);
    let sinks = Arc::new(Sinks::new(&config, &shared, outlet.messenger(), rung, clocks(&world), back_off));
    sinks.follow(&config.flow.sinks).map_err(StartError::Thread)?;
    let looper = Looper {
        pipeline,
        journal,
        outlet,
        boot,
        data,
        policy: config.policy.clone(),
        clock: Box::new(world.clone()),
        shared: Arc::clone(&shared),
        states: looper::SourceStates::new(&config.flow),
        reports: filed,
        reining: acting.as_ref().map(|acting| Reining::new(&config.flow, acting.actors())),
        flow: config.flow.clone(),
        sources,
        sinks: Arc::clone(&sinks),
        desk: reporting.desk(),
        ring,
        crumb,
    };
    // Whoever asks right now hears of all parts.
    looper.tell_status(&looper::Round::new(world.mono_ns()));
    let around = Around {
        world: world.clone(),
        boot,
        shared: Arc::clone(&shared),
        reports,
        token: hub_token,
        tls,
        releases,
        reloader: Arc::clone(&reloader),
    };
    let receiving = packages.join(&config, around)?;
    let agent = spawn("agent", move || looper.run())?;

    let (io_stop, stop) = watch::channel(false);
    let api_addr = listener.as_ref().map(|(address, _)| *address);
    let api = match listener {
        Some((address, listener)) => {
            let hosts = config.api.as_ref().map(|api| api.hosts.clone()).unwrap_or_default();
            let door = receiving.door(&config, &shared, (address, hosts.clone()), &world)?;
            let guard = Guard::new(address, hosts, api_token);
            let policy = config.policy.clone();
            let api = Api::new(Arc::clone(&shared), posted, guard, policy, Box::new(world.clone()));
            Some((api.with_neighbours(door), listener))
        }
        None => None,
    };
    let follower = follower.with_inbox(receiving.inbox());
    let host =
        AgentHost::new(&config, Arc::clone(&shared), messenger, boot, Box::new(world.clone()), follower);
    let care = Care {
        root: supervision.machine.unwrap_or_else(|| PathBuf::from("/")),
        data: config.data.clone(),
        limits: Limits { disk_free_bytes: config.journal.min_free_bytes, has_spares: false },
        shared: Arc::clone(&shared),
        messenger: care_messenger,
        relief: speaking.relief(),
        clock: Box::new(world.clone()),
        manager: supervision.manager,
        life,
    };
    let beating = Arc::clone(&shared);
    let io = spawn("io", move || {
        run_io(api, uplink, identity, host, world, &beating.progress, &stop);
        beating.progress.ended(Thread::Io);
    })?;
    let caring = care.start().map_err(StartError::Thread)?;
    let relay = match relay {
        Some(relay) => {
            let shared = Arc::clone(&shared);
            let tell = move |status| shared.status().relay = Some(status);
            Some(relay.start(tell).map_err(StartError::Thread)?)
        }
        None => None,
    };
    Ok(Running {
        shared,
        stopper,
        agent,
        io,
        sources: threads,
        sinks,
        reloader,
        io_stop,
        api: api_addr,
        receiving,
        speaking,
        caring,
        acting,
        relay,
        reporting,
    })
}

/// The guard of actuators is this very program.
fn guard_command() -> std::io::Result<Vec<OsString>> {
    Ok(vec![std::env::current_exe()?.into_os_string(), "guard".into()])
}

/// What earlier starts came to, with this one among them: counted before anything is loaded that it could die of.
fn begin(data: &Path, died_at: Option<&str>) -> Life {
    let (starts, left_out) = Starts::load(data).begin(died_at);
    if let Err(error) = starts.save(data) {
        tracing::warn!(error = why(&error), "the next start will not know of this one");
    }
    for (part, why) in &left_out.parts {
        tracing::error!(part, why, "a part of the flow is left out");
    }
    if let Some(why) = &left_out.models {
        tracing::error!(why, "models are left out");
    }
    Life { starts, left_out }
}

/// Takes the address of the local API.
fn listen(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let refuse = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    Ok((listener.local_addr().map_err(refuse)?, listener))
}

/// Who this node is at a hub's door for nodes, which is one with TLS; there it is known by its certificate.
fn identify<W: World + Clone + 'static>(
    config: &Config,
    world: &W,
) -> Result<Option<Identity>, IdentityError> {
    let hub = config.hub.as_ref().filter(|hub| hub.url.starts_with("https://"));
    hub.map(|hub| {
        let facts = inventory::of(config);
        Identity::open(&config.data, hub, &config.name, facts, world.clone())
    })
    .transpose()
}

/// The way up, if there is one.
fn rise(
    config: &Config,
    token: Option<String>,
    tls: Option<HubTls>,
    journal: &Journal,
) -> Result<Option<Uplink>, StartError> {
    let Some(hub) = &config.hub else { return Ok(None) };
    let settings = uplink::Settings { hub_url: hub.url.clone(), token, tls, node: config.name.clone() };
    Ok(Some(Uplink::new(settings, journal.outbox()?, journal.bell())?))
}

/// The door for nodes behind this one, if there is one.
fn stand_for_hub<W: World + Clone + 'static>(
    config: &Config,
    tls: Option<&HubTls>,
    world: &W,
) -> Result<Option<Relay>, StartError> {
    let (Some(relay), Some(hub), Some(tls)) = (&config.relay, &config.hub, tls) else { return Ok(None) };
    let clock = Mutex::new(world.clone());
    let now = move || clock.lock().unwrap_or_else(PoisonError::into_inner).mono_ns();
    Ok(Some(Relay::open(relay, &hub.url, tls, &config.data, Arc::new(now))?))
}

/// Gives each that asks a clock of its own. A lock, because they ask from several threads, which a world need not be shared by.
fn clocks<W: World + Clone + 'static>(world: &W) -> MakeClock {
    let world = Mutex::new(world.clone());
    Box::new(move || {
        let clock = world.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::new(clock) as Box<dyn Clock>
    })
}

/// Starts the guard of the actuators, if the flow has any.
fn act<W: World + Clone + 'static>(
    config: &Config,
    outlet: &Outlet,
    reports: &Reports,
    world: &W,
) -> Result<Option<Acting>, StartError> {
    if config.flow.actuators.is_empty() {
        return Ok(None);
    }
    let around = acting::Around {
        data: config.data.clone(),
        node: config.name.clone(),
        policy: config.policy.clone(),
        clock: Box::new(world.clone()),
        reports: reports.clone(),
        messenger: outlet.messenger(),
        command: guard_command().map_err(StartError::Thread)?,
    };
    acting::start(config.flow.actuators.clone(), around).map(Some).map_err(StartError::Thread)
}

/// Opens the journal, gives the pipeline what its models had learnt and its rules had said, with what there is to tell of that.
fn recall(
    config: &Config,
    left_out: &LeftOut,
    free: FreeBytes,
    world: &mut dyn Entropy,
) -> Result<(Pipeline, Journal, Vec<Product>), StartError> {
    let settings = journal::Settings {
        max_bytes: config.journal.max_bytes,
        min_free_bytes: config.journal.min_free_bytes,
        policy: config.policy.clone(),
        ..journal::Settings::default()
    };
    let opened = Journal::open_with(&config.data, settings, free, world).map_err(StartError::Journal)?;
    let (version, flow) = (VERSION.to_owned(), config.flow.digest);
    let mut first = vec![Product::Start(Start { version, flow, clean: opened.clean })];
    if let Some(set_aside) = &opened.set_aside {
        first.push(Product::part("journal", "failed", set_aside.to_string()));
    }
    let mut pipeline = Pipeline::new(&config.flow);
    for (at, model) in config.flow.models.iter().enumerate() {
        match Of::Model.load(&config.data, &model.name) {
            Ok(Some(stored)) => pipeline.restore_model(at, stored),
            Ok(None) => {}
            Err(error) => {
                let part = format!("model.{}", model.name);
                first.push(Product::part(&part, "learning", why(&error)));
            }
        }
    }
    for (at, source) in config.flow.sources.iter().enumerate() {
        match Of::Sensors.load(&config.data, &source.name) {
            Ok(Some(stored)) => pipeline.restore_habits(at, stored),
            Ok(None) => {}
            Err(error) => {
                first.push(Product::part(&format!("source.{}.health", source.name), "learning", why(&error)));
            }
        }
    }
    restore::rules(&config.data, &mut pipeline, &mut first)?;
    for (at, network) in config.flow.networks.iter().enumerate() {
        if let Some(why) = left_out.parts.get(&format!("model.{}", network.name)) {
            pipeline.leave_out_network(at, why);
        }
    }
    if let Some(why) = &left_out.models {
        pipeline.leave_out_networks(why);
        first.push(Product::part("models", "left_out", why.clone()));
    }
    Ok((pipeline, opened.journal, first))
}

/// The first records of this run.
fn remember_start(journal: &mut Journal, first: &[Product], stamp: Stamp) {
    if let Err(error) = journal
        .append(first.iter().map(Product::draft), stamp)
        .and_then(|()| journal.commit(journal::Durability::Full).map(|_| ()))
    {
        // The node works without: the records wait in memory, and the status tells.
        tracing::error!(error = why(&error), "the journal did not take the start of the node");
    }
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
    progress: &Progress,
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
    let (uplink_stop, tend_stop, pulse_stop, late) = (stopped(), stopped(), stopped(), stopped());
    let (tending, pulsing) = (world.clone(), world.clone());
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
        let pulse = async {
            tokio::select! {
                () = pulse(progress, pulsing) => {}
                () = pulse_stop => {}
            }
        };
        tokio::join!(serve, carry, tend, pulse);
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

/// Says that the `io` thread goes round, for ever.
async fn pulse<W: World>(progress: &Progress, clock: W) {
    loop {
        progress.beat(Thread::Io, clock.mono_ns());
        tokio::time::sleep(PULSE).await;
    }
}

impl Running {
    /// Where the local API listens, if it does.
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api
    }

    /// Where the nodes behind it come, if it is a relay.
    pub fn relay_addr(&self) -> Option<SocketAddr> {
        self.relay.as_ref().map(relay::Serving::address)
    }

    /// Where it serves language models, if it does.
    pub fn serve_addr(&self) -> Option<SocketAddr> {
        self.speaking.serve_addr()
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
        // The last words of both are records: the journal takes them before it closes.
        if let Some(acting) = self.acting {
            acting.stop();
        }
        if let Some(relay) = self.relay {
            relay.stop();
        }
        self.reporting.stop();
        self.receiving.stop();
        self.speaking.stop();
        self.shared.stopping.store(true, Relaxed);
        self.caring.stop();
        self.stopper.stop();
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
