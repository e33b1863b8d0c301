//! Networks that come as releases: what the slots let serve, handed to the flow that asks it; and what became of it, told back.
//!
//! The slots give whole files that were checked, and the flow's own thread takes them when it sees that the [turn](Releases::turn)
//! has come. Neither waits for the other: a flow that does not ask costs a release nothing, and a release that is still on its way
//! leaves the one before at work.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net::recipe::Recipe;
use package::digest::Digest;
use package::name::ModelName;

/// Bytes of a network, wherever they lie.
pub type Bytes = Box<dyn AsRef<[u8]> + Send + Sync>;

/// Told from the flow's thread; returns at once.
pub type Tell = Box<dyn Fn(&ModelName, Digest, Told) + Send + Sync>;

/// A network that serves.
pub struct Given {
    /// Its release.
    pub release: u64,
    /// The manifest of its variant.
    pub manifest: Digest,
    /// The digest of its file.
    pub weights: Digest,
    /// The file.
    pub bytes: Bytes,
    /// What stands before and after it, as its maker declared it.
    pub recipe: Recipe,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Given { release, manifest, .. } = self;
        f.debug_struct("Given").field("release", release).field("manifest", manifest).finish_non_exhaustive()
    }
}

/// What became of a network in a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It looked at a window, or could not.
    Answered {
        /// How long that took, in milliseconds, rounded up.
        ms: u32,
        /// Whether there is an answer.
        ok: bool,
    },
    /// It does not fit the flow, or its runtime broke.
    Broke(String),
}

/// The networks that serve, by model. Clones are the same; the default has none.
#[derive(Clone, Default)]
pub struct Releases(Arc<Inner>);

#[derive(Default)]
struct Inner {
    turn: AtomicU64,
    given: Mutex<BTreeMap<ModelName, Arc<Given>>>,
    tell: Mutex<Option<Tell>>,
}

impl fmt::Debug for Releases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(locked(&self.0.given).iter()).finish()
    }
}

impl Releases {
    /// Lets a network serve instead of what served under the name.
    pub fn give(&self, model: &ModelName, given: Given) {
        locked(&self.0.given).insert(model.clone(), Arc::new(given));
        self.0.turn.fetch_add(1, Relaxed);
    }

    /// Lets nothing serve under the name.
    pub fn take_back(&self, model: &ModelName) {
        if locked(&self.0.given).remove(model).is_some() {
            self.0.turn.fetch_add(1, Relaxed);
        }
    }

    /// What serves under the name.
    pub fn get(&self, model: &ModelName) -> Option<Arc<Given>> {
        locked(&self.0.given).get(model).cloned()
    }

    /// Another number after each change: cheap to ask at every reading.
    pub fn turn(&self) -> u64 {
        self.0.turn.load(Relaxed)
    }

    /// Who hears from now on what becomes of them.
    pub fn tell_to(&self, tell: Tell) {
        *locked(&self.0.tell) = Some(tell);
    }

    /// Tells what became of one.
    pub fn tell(&self, model: &ModelName, manifest: Digest, told: Told) {
        if let Some(tell) = &*locked(&self.0.tell) {
            tell(model, manifest, told);
        }
    }
}

/// Takes a lock that a panic cannot spoil: each change of what it guards is one assignment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
