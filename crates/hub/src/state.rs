//! What every request can reach: the store's readers, the writer's queue, the live ring, the counters and the clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use wire::world::{Clock, WallMs};

use crate::config::HubConfig;
use crate::depot::Depot;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::registry::sessions::Sessions;
use crate::revision::Revision;
use crate::store::connection::Readers;
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
    /// Where packages lie.
    pub depot: Depot,
    /// Files of packages on their way in.
    pub sessions: Sessions,
    /// What changes with the assignments.
    pub revision: Revision,
    /// The keys of timestamp and snapshot, if this hub holds any.
    pub online: Option<OnlineKeys>,
    /// One author at a time.
    pub publishing: tokio::sync::Mutex<()>,
    /// What happens now.
    pub live: Arc<Live>,
    /// The hub's own numbers.
    pub metrics: Arc<Metrics>,
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
