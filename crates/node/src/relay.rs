//! The relay: a node's door for nodes behind it, which cannot reach the hub themselves or have a thin line there.
//!
//! It opens them tunnels to our own hub, through which they check in, send records and are known by their own certificates: the
//! relay reads nothing of it, and can forge nothing. And it keeps what proves itself: packages' blobs, trust metadata,
//! assignments; so that a release crosses the line once, and is here when the line is cut. Records wait in each node's own journal.
//!
//! In reading order: [`gate`] says purely who may stay and how fast, [`keep`] which blobs stay; `door` takes the connections, `tunnel`
//! carries; `cache` brings blobs and `documents` what is signed, both from `upstream`.

mod cache;
mod documents;
mod door;
pub mod gate;
pub mod keep;
mod tunnel;
mod upstream;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use package::disk::FileError;
use reqwest::Url;
use tokio::sync::watch;
use wire::world::MonoNs;

use self::cache::{Cache, Toll};
use self::documents::Documents;
use self::door::Door;
use self::gate::{Effect, Event, Gate, Limits};
use self::tunnel::Target;
use self::upstream::Upstream;
use crate::api::connections::Now;
use crate::config::relay::RelayConfig;
use crate::config::token::{TokenError, read_token};
use crate::identity::tls::HubTls;
use crate::status::{BehindStatus, CacheStatus, FetchStatus, MovedStatus, RefusedStatus, RelayStatus};

/// Who has not said what it wants after so long is a stranger who leaves.
const OPENING: Duration = Duration::from_secs(10);

/// How often it says how it is.
const TELL: Duration = Duration::from_secs(1);

/// What is still under way when the node stops has so long to end.
const LEAVE: Duration = Duration::from_secs(2);

/// Why a node is no relay, and so does not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address is taken or not ours.
    #[error("the relay cannot listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The token is missing.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The hub's address names no host.
    #[error("{url:?} names no hub that a relay could lead to")]
    Hub {
        /// As configured.
        url: String,
    },
    /// What it keeps cannot be kept.
    #[error("the relay's cache cannot be used")]
    Cache(#[from] FileError),
    /// The HTTP client cannot be set up.
    #[error("the relay cannot ask the hub")]
    Client(#[from] reqwest::Error),
}

/// A relay that has its address, and answers nobody yet.
pub struct Relay {
    listener: TcpListener,
    address: SocketAddr,
    connections: usize,
    hub: Target,
    gate: Arc<Mutex<Gate>>,
    cache: Option<Arc<Cache>>,
    quota_bytes: u64,
    door: Door,
    now: Now,
}

/// A relay that answers.
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Relay {
    /// Takes the address, and opens what an earlier life kept below the folder `data`. `tls`: how this node itself enters the hub's
    /// door, and the ways there.
    pub(crate) fn open(
        config: &RelayConfig,
        hub_url: &str,
        tls: &HubTls,
        data: &Path,
        now: Now,
    ) -> Result<Relay, RelayError> {
        let token = read_token(&config.token_file)?;
        let no_hub = || RelayError::Hub { url: hub_url.to_owned() };
        let base = Url::parse(&format!("{}/", hub_url.trim_end_matches('/'))).map_err(|_| no_hub())?;
        let hub = Target::of(&base).ok_or_else(no_hub)?;
        let address = config.listen;
        let refuse = |source| RelayError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let limits = Limits {
            seats: config.connections,
            per_address: config.per_address,
            opening_ns: nanos(OPENING),
            idle_ns: nanos(config.idle),
            bytes_per_s: config.bytes_per_s,
        };
        let gate = Arc::new(Mutex::new(Gate::new(limits)));
        let folder = data.join("relay");
        let cache = match config.cache_bytes {
            0 => None,
            quota_bytes => {
                let documents = Documents::open(&folder.join("documents"), Arc::clone(&now))?;
                let upstream = Upstream::new(base, tls.clone(), Arc::clone(&now))?;
                let toll = toll(Arc::clone(&gate), Arc::clone(&now));
                let keep_free = config.keep_free_bytes;
                Some(Arc::new(Cache::open(&folder, quota_bytes, keep_free, documents, upstream, toll)?))
            }
        };
        let (via, opening) = (tls.via().cloned(), (Arc::clone(&gate), OPENING));
        let door = Door::new(opening, token, hub.clone(), via, cache.clone(), Arc::clone(&now));
        let (connections, quota_bytes) = (config.connections, config.cache_bytes);
        Ok(Relay { listener, address, connections, hub, gate, cache, quota_bytes, door, now })
    }

    /// Answers on a thread of its own; `tell` hears every second how it is.
    pub(crate) fn start(self, tell: impl Fn(RelayStatus) + Send + 'static) -> std::io::Result<Serving> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, mut stopped) = watch::channel(false);
        let address = self.address;
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
            let Relay { listener, address, connections, hub, gate, cache, quota_bytes, door, now } = self;
            let how = move || status(address, connections, &hub, &gate, cache.as_deref(), quota_bytes, &now);
            runtime.block_on(async {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => {
                        tracing::error!(%error, "the relay answers nobody");
                        return;
                    }
                };
                let serving = Arc::new(door).serve(listener, stopped.clone());
                let telling = async {
                    loop {
                        tell(how());
                        tokio::time::sleep(TELL).await;
                    }
                };
                tokio::select! {
                    () = serving => {}
                    () = telling => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
            runtime.shutdown_timeout(LEAVE);
        })?;
        Ok(Serving { address, stop, thread })
    }
}

impl Serving {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it. Tunnels break; the nodes behind try again, and keep what the hub has not confirmed.
    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        // A panic there was told already.
        let _ = self.thread.join();
    }
}

fn nanos(duration: Duration) -> MonoNs {
    u64::try_from(duration.as_nanos()).unwrap_or(MonoNs::MAX)
}

/// What comes over the line for the cache is paid for as what goes through tunnels.
fn toll(gate: Arc<Mutex<Gate>>, now: Now) -> Toll {
    Arc::new(move |bytes| {
        let effects = gate.lock().unwrap_or_else(PoisonError::into_inner).step(Event::Brought(bytes), now());
        let wait = effects.iter().find_map(|effect| match effect {
            Effect::Wait(ns) => Some(Duration::from_nanos(*ns)),
            _ => None,
        });
        wait.unwrap_or_default()
    })
}

fn status(
    address: SocketAddr,
    connections: usize,
    hub: &Target,
    gate: &Mutex<Gate>,
    cache: Option<&Cache>,
    quota_bytes: u64,
    now: &Now,
) -> RelayStatus {
    let now = now();
    let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let behind = gate.peers().iter().map(|(address, peer)| BehindStatus {
        address: address.to_string(),
        connections: peer.seats,
        up_bytes: peer.up_bytes,
        down_bytes: peer.down_bytes,
        cache_bytes: peer.cache_bytes,
        quiet_ms: now.saturating_sub(peer.last_ns) / 1_000_000,
    });
    let (refused, totals) = (gate.refused(), gate.totals());
    let fetched = cache.and_then(|cache| cache.hub().tried());
    let last = [gate.tried(), fetched].into_iter().flatten().max_by_key(|(at_ns, _)| *at_ns);
    RelayStatus {
        listen: address.to_string(),
        hub: hub.to_string(),
        connections: gate.open(),
        connections_max: connections,
        hub_up: last.map(|(_, reached)| reached),
        moved: MovedStatus {
            connections: totals.connections,
            tunnels: totals.tunnels,
            up_bytes: totals.up_bytes,
            down_bytes: totals.down_bytes,
            cache_bytes: totals.cache_bytes,
        },
        behind: behind.collect(),
        refused: RefusedStatus {
            full: refused.full,
            share: refused.share,
            token: refused.token,
            target: refused.target,
            no_hub: refused.no_hub,
        },
        cache: cache.map(|cache| {
            let (blobs, bytes, documents) = cache.holds();
            let asked = &cache.hub().counts;
            CacheStatus {
                blobs,
                bytes,
                quota_bytes,
                documents,
                hits: cache.counts.hits.load(Relaxed),
                misses: cache.counts.misses.load(Relaxed),
                brought_bytes: cache.counts.brought_bytes.load(Relaxed),
                fetches: FetchStatus {
                    answered: asked.answered.load(Relaxed),
                    refused: asked.refused.load(Relaxed),
                    failed: asked.failed.load(Relaxed),
                    broken: asked.broken.load(Relaxed),
                },
            }
        }),
        trouble: cache.and_then(Cache::trouble),
    }
}
