//! What the threads of one node share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use package::digest::Digest;
use wire::checkin::{SlotState, TrustFacts};
use wire::world::{ClockQuality, MonoNs};

use crate::status::Status;

/// The program's version, as records name it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the threads of one node share.
pub(crate) struct Shared {
    /// How the node is.
    status: Mutex<Status>,
    /// When the pipeline last went round, by the monotonic clock.
    pub(crate) alive_ns: AtomicU64,
    /// The node shall stop.
    pub(crate) stopping: AtomicBool,
    /// Every source has ended and all that came of it is journalled.
    pub(crate) ended: AtomicBool,
    /// The blobs that the slots reach: what neighbours may fetch.
    pub(crate) reachable: Arc<RwLock<BTreeSet<Digest>>>,
    clock_quality: Mutex<ClockQuality>,
}

impl Shared {
    /// A node that has just begun.
    pub(crate) fn new(status: Status, now_ns: MonoNs) -> Shared {
        Shared {
            status: Mutex::new(status),
            alive_ns: AtomicU64::new(now_ns),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            reachable: Arc::default(),
            clock_quality: Mutex::new(ClockQuality::Unchecked),
        }
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        // A panic while a snapshot was written leaves an old field behind, nothing worse.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The models that come as packages, and whom they are believed from: for whoever asks, and for the hub.
    pub(crate) fn tell_slots(&self, slots: Vec<SlotState>, trust: Option<TrustFacts>) {
        let mut status = self.status();
        (status.slots, status.trust) = (slots, trust);
    }

    /// What the hub last said of its assignments: another number than before says that there may be others.
    pub(crate) fn assignments_revision(&self) -> Option<u64> {
        self.status().uplink.as_ref().and_then(|uplink| uplink.assignments)
    }

    pub(crate) fn clock_quality(&self) -> ClockQuality {
        *self.clock_quality.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_clock_quality(&self, quality: ClockQuality) {
        *self.clock_quality.lock().unwrap_or_else(PoisonError::into_inner) = quality;
    }
}
