//! What the threads of one node share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use package::digest::Digest;
use wire::checkin::{AcceptedVersion, ModelFigures, SlotState, TrustFacts};
use wire::facts::Facts;
use wire::world::{ClockQuality, MonoNs};

use crate::flow::Flow;
use crate::inventory;
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
    own: Mutex<Own>,
    /// A flow that shall take the place of the one that runs.
    next_flow: Mutex<Option<Box<Flow>>>,
}

/// What the node says of itself beside its status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    /// The facts that stay.
    pub(crate) machine: Facts,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// Its labels: those of its settings, and others that the hub has set.
    pub(crate) labels: BTreeMap<String, String>,
    /// The documents that it accepted.
    pub(crate) accepted: Vec<AcceptedVersion>,
    /// How its models that come as packages behave.
    pub(crate) figures: Vec<ModelFigures>,
    /// How far its clock is from the hub's, as far as was last seen.
    pub(crate) skew_ms: i64,
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
            own: Mutex::default(),
            next_flow: Mutex::default(),
        }
    }

    /// Has another flow take the place of the one that runs.
    pub(crate) fn next_flow(&self, flow: Flow) {
        *self.next_flow.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(flow));
    }

    /// The flow that shall take its place, once.
    pub(crate) fn take_next_flow(&self) -> Option<Box<Flow>> {
        self.next_flow.lock().unwrap_or_else(PoisonError::into_inner).take()
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

    /// What the node says of itself beside its status.
    pub(crate) fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Labels and facts as they are now: what selectors are judged on.
    pub(crate) fn said(&self) -> (BTreeMap<String, String>, Facts) {
        let slots = self.status().slots.clone();
        let Own { machine, data, labels, .. } = &*self.own();
        (labels.clone(), inventory::facts(machine, data, &slots, labels))
    }

    pub(crate) fn clock_quality(&self) -> ClockQuality {
        *self.clock_quality.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_clock_quality(&self, quality: ClockQuality) {
        *self.clock_quality.lock().unwrap_or_else(PoisonError::into_inner) = quality;
    }
}
