//! What every request can reach: the store's readers, the writer's queue, the live ring, the counters and the clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use wire::world::{Clock, Entropy, WallMs};

use crate::access::Access;
#[cfg(feature = "oidc")]
use crate::access::oidc::provider::Provider;
use crate::audit::witness::Witness;
use crate::checkin::wait::Waits;
use crate::config::HubConfig;
use crate::depot::Depot;
use crate::fleet::view::Fleet;
use crate::identity::ca::Ca;
use crate::identity::factory::Factories;
use crate::identity::peer::Peers;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::registry::sessions::Sessions;
use crate::replica::Replica;
use crate::revision::Revision;
use crate::store::connection::Readers;
use crate::store::operators;
use crate::tuf::keys::OnlineKeys;
use crate::writer::WriterHandle;

/// How long a batch waits for its turn before the node is asked to come again.
pub const TURN: Duration = Duration::from_secs(5);

/// Shared by all requests.
pub struct HubState {
    /// The settings in force.
    pub config: HubConfig,
    /// The store, for reading.
    pub readers: Readers,
    /// The store, for writing.
    pub writer: WriterHandle,
    /// Who may ask.
    pub access: Arc<Access>,
    /// Where else people sign in.
    #[cfg(feature = "oidc")]
    pub oidc: Option<Provider>,
    /// The authority of nodes' certificates, if nodes have a door of their own.
    pub ca: Option<Arc<Ca>>,
    /// The makers whose devices come in by themselves.
    pub factories: Arc<Factories>,
    /// Whose keys nodes come with.
    pub peers: Arc<Peers>,
    /// Where tokens, codes and numbers of certificates come from.
    pub chance: Mutex<Box<dyn Entropy>>,
    /// All nodes, for searching.
    pub fleet: Fleet,
    /// Where packages lie.
    pub depot: Depot,
    /// Files of packages on their way in.
    pub sessions: Sessions,
    /// This hub among others on its database.
    pub replica: Arc<Replica>,
    /// What changes with the assignments.
    pub revision: Revision,
    /// The keys of timestamp and snapshot, if this hub holds any.
    pub online: Option<OnlineKeys>,
    /// The published audit log, as nodes witness it.
    pub witness: Witness,
    /// One author at a time.
    pub publishing: tokio::sync::Mutex<()>,
    /// What happens now.
    pub live: Arc<Live>,
    /// The hub's own numbers.
    pub metrics: Arc<Metrics>,
    /// Who waits for news.
    pub waits: Arc<Waits>,
    /// What time it is.
    pub clock: Arc<dyn Clock + Sync>,
    /// True once the hub is stopping.
    pub stopping: watch::Receiver<bool>,
    /// Memory for compressed bodies on their way in, in KiB: a flood waits in the network, not here.
    pub inbound_kib: Semaphore,
    /// How many batches may be decompressed and waiting to be stored, each up to a few MiB.
    pub decoded: Semaphore,
}

impl HubState {
    /// The hub's wall clock.
    pub fn now_ms(&self) -> WallMs {
        self.clock.wall_ms()
    }

    /// Chance, for one draw.
    pub fn entropy(&self) -> MutexGuard<'_, Box<dyn Entropy>> {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads again who may ask.
    pub async fn refresh_access(&self) -> Result<(), sqlx::Error> {
        self.access.learn(operators::directory(&self.readers).await?);
        Ok(())
    }

    /// Seconds of the clock that never goes back, for counting.
    pub fn mono_s(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000_000
    }
}

/// Waits until the hub stops.
pub async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that whoever could stop it is gone; then it never stops by itself.
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending::<()>().await;
    }
}
