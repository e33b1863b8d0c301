//! What the slots let serve, as the server has it: which models, and who is told what becomes of them.
//!
//! Stands between `install::carry`, which decides what serves, and `table`, which loads it. Each call returns at once, may come
//! before there is a server, and is made good when there is one. What comes of it is told as an event: loaded or not, each
//! answer, a crash. Events of a model that shall not serve any more are not told, but for its last answers.
//!
//! What has a smaller variant that has proven itself ([`Slots::keep_spares`]) is answered by that while memory is short; the slots
//! hear that it was loaded, and that the larger one is again. Nobody compares or exercises it.
//!
//! Who compares a candidate with the model that serves is handed some of its answers ([`Slots::sample`]); nothing waits for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use package::digest::Digest;
use package::disk::system::System;
use package::form::DOCUMENT_MAX_BYTES;
use package::golden::Golden;
use package::name::ModelName;
use package::store::Store;

use super::offer::Offer;
use crate::install::choose::read_or_discard;
use crate::install::event::Event;
use crate::install::shadow::Sample;
use crate::install::state::Slot;
use crate::install::trial::Answer;
use crate::why::why;

/// So many samples wait to be taken; more are dropped.
const SAMPLES_MAX: usize = 4;

/// Told from any thread; returns at once.
pub type Tell = Arc<dyn Fn(&ModelName, Event) + Send + Sync>;

/// What the slots let serve. Clones are the same.
#[derive(Clone)]
pub struct Slots(Arc<Inner>);

struct Inner {
    store: Arc<Store<System>>,
    keys: Option<PathBuf>,
    tell: Tell,
    samplings: Samplings,
    spares: Spares,
    state: Mutex<State>,
}

/// What stands by, and for which manifest.
type Spares = Arc<Mutex<BTreeMap<ModelName, (Digest, Slot)>>>;

/// Of which models answers are sampled.
type Samplings = Arc<Mutex<BTreeMap<ModelName, Sampling>>>;

/// Each `every`-th answer goes to somebody.
struct Sampling {
    every: u32,
    /// Since the last one.
    met: u32,
    to: SyncSender<Sample>,
    /// How many were chosen and had no room.
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<ModelName, Slot>,
    /// Who loads them, once there is a server.
    loader: Option<Weak<dyn Loader>>,
}

impl State {
    fn loader(&self) -> Option<Arc<dyn Loader>> {
        self.loader.as_ref()?.upgrade()
    }
}

/// Who loads models of slots. Each call returns at once, and tells nothing before it did.
pub(super) trait Loader: Send + Sync {
    /// Loads a model and lets it answer instead of what is loaded. What is known at once: that it is loaded already, or why it
    /// cannot be.
    fn serve(self: Arc<Self>, witness: Witness) -> Option<Result<(), String>>;
    /// Lets nothing of a slot answer under this name.
    fn unload(&self, model: &ModelName);
    /// Lets what serves answer one case of its golden set, if it is this manifest.
    fn exercise(&self, model: &ModelName, manifest: &Digest);
}

impl Slots {
    /// Nothing serves yet. `store` has the blobs, the data folder `keys` what opens sealed ones, `tell` hears what becomes of
    /// what is asked for here.
    pub fn new(store: Arc<Store<System>>, keys: Option<PathBuf>, tell: Tell) -> Slots {
        let (samplings, spares, state) = Default::default();
        Slots(Arc::new(Inner { store, keys, tell, samplings, spares, state }))
    }

    /// Loads a slot and lets it answer instead of what is loaded; [`Event::Loaded`] tells, then [`Event::Answered`] and
    /// [`Event::Crashed`]. If it is loaded already, only says so. What is loaded answers until the new bytes are checked.
    pub fn serve(&self, model: &ModelName, slot: &Slot) {
        let witness = self.witness(model, slot);
        let known = {
            let mut state = self.state();
            state.wanted.insert(model.clone(), slot.clone());
            state.loader().and_then(|loader| loader.serve(self.witness(model, slot)))
        };
        if let Some(result) = known {
            witness.loaded(result);
        }
    }

    /// Lets nothing answer.
    pub fn unload(&self, model: &ModelName) {
        let mut state = self.state();
        state.wanted.remove(model);
        if let Some(loader) = state.loader() {
            loader.unload(model);
        }
    }

    /// Lets what serves answer one case of its golden set, the next in turn: [`Event::Answered`]. Nothing is told if the slot
    /// does not serve, has no golden set, or there is no room for one more answer.
    pub fn exercise(&self, model: &ModelName, slot: &Slot) {
        if let Some(loader) = self.state().loader() {
            loader.exercise(model, &slot.manifest);
        }
    }

    /// Gives each `every`-th answer of a model that any engine gives alike: always the likeliest token, and no form to follow.
    /// Ends when the receiver is dropped, or somebody else asks for it.
    /// `dropped` counts those that nobody took in time.
    pub fn sample(&self, model: &ModelName, every: u32, dropped: Arc<AtomicU64>) -> Receiver<Sample> {
        let (to, samples) = sync_channel(SAMPLES_MAX);
        let sampling = Sampling { every, met: 0, to, dropped };
        locked(&self.0.samplings).insert(model.clone(), sampling);
        samples
    }

    /// What stands by from now on: for the model whose manifest is told, this smaller variant.
    pub fn keep_spares(&self, spares: BTreeMap<ModelName, (Digest, Slot)>) {
        *locked(&self.0.spares) = spares;
    }

    /// Whether anything stands by for what shall serve.
    pub(super) fn has_spares(&self) -> bool {
        let spares = locked(&self.0.spares).clone();
        let state = self.state();
        spares.iter().any(|(model, (manifest, _))| {
            state.wanted.get(model).is_some_and(|slot| slot.manifest == *manifest)
        })
    }

    /// There is a server: what was asked for before is loaded now.
    pub(super) fn attach(&self, loader: Weak<dyn Loader>) {
        let known: Vec<_> = {
            let mut state = self.state();
            state.loader = Some(loader);
            let serve = |(model, slot): (&ModelName, &Slot)| {
                let known = state.loader()?.serve(self.witness(model, slot))?;
                Some((self.witness(model, slot), known))
            };
            state.wanted.iter().filter_map(serve).collect()
        };
        for (witness, result) in known {
            witness.loaded(result);
        }
    }

    /// What shall serve, by name.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let state = self.state();
        state
            .wanted
            .iter()
            .map(|(model, slot)| Offer::of_slot(model, slot, &self.0.store, self.0.keys.as_deref()))
            .collect()
    }

    /// Whether something shall serve under this name.
    pub(super) fn want(&self, name: &str) -> bool {
        self.state().wanted.keys().any(|model| model.as_str() == name)
    }

    fn witness(&self, model: &ModelName, slot: &Slot) -> Witness {
        let Inner { store, keys, tell, samplings, spares, .. } = &*self.0;
        Witness {
            model: model.clone(),
            slot: slot.clone(),
            store: Arc::clone(store),
            keys: keys.clone(),
            tell: Arc::clone(tell),
            samplings: Arc::clone(samplings),
            spares: Arc::clone(spares),
            is_spare: false,
            next: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }
}

/// Takes a lock that a panic cannot spoil: each change of what it guards is one assignment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells what becomes of one slot's model while it is loaded.
pub(super) struct Witness {
    model: ModelName,
    slot: Slot,
    store: Arc<Store<System>>,
    keys: Option<PathBuf>,
    tell: Tell,
    samplings: Samplings,
    spares: Spares,
    /// It answers for a larger one, since memory is short.
    is_spare: bool,
    /// The golden case that is the next in turn.
    next: AtomicUsize,
}

impl Witness {
    /// What it is loaded by.
    pub(super) fn offer(&self) -> Offer {
        let offer = Offer::of_slot(&self.model, &self.slot, &self.store, self.keys.as_deref());
        Offer { is_spare: self.is_spare, ..offer }
    }

    /// The same for the smaller variant that stands by for this one, if one does.
    pub(super) fn spare(&self) -> Option<Witness> {
        let spares = locked(&self.spares);
        let (_, slot) = spares.get(&self.model).filter(|(larger, _)| *larger == self.slot.manifest)?;
        Some(Witness {
            model: self.model.clone(),
            slot: slot.clone(),
            store: Arc::clone(&self.store),
            keys: self.keys.clone(),
            tell: Arc::clone(&self.tell),
            samplings: Arc::clone(&self.samplings),
            spares: Arc::clone(&self.spares),
            is_spare: true,
            next: AtomicUsize::new(0),
        })
    }

    /// Whether it answers for a larger one.
    pub(super) fn is_spare(&self) -> bool {
        self.is_spare
    }

    pub(super) fn manifest(&self) -> &Digest {
        &self.slot.manifest
    }

    pub(super) fn model(&self) -> &ModelName {
        &self.model
    }

    pub(super) fn loaded(&self, result: Result<(), String>) {
        (self.tell)(&self.model, Event::Loaded(self.slot.manifest, result));
    }

    pub(super) fn spoilt(&self, why: String) {
        (self.tell)(&self.model, Event::Spoilt(self.slot.manifest, why));
    }

    pub(super) fn answered(&self, answer: Answer) {
        (self.tell)(&self.model, Event::Answered(self.slot.manifest, answer));
    }

    pub(super) fn crashed(&self, why: String) {
        (self.tell)(&self.model, Event::Crashed(self.slot.manifest, why));
    }

    /// Whether an answer that begins is one that somebody compares.
    pub(super) fn wants_sample(&self) -> bool {
        if self.is_spare {
            return false;
        }
        let mut samplings = locked(&self.samplings);
        let Some(sampling) = samplings.get_mut(&self.model) else { return false };
        sampling.met = (sampling.met + 1) % sampling.every.max(1);
        sampling.met == 0
    }

    /// Hands on an answer that [`Witness::wants_sample`] chose, if there is room for it.
    pub(super) fn sample(&self, sample: Sample) {
        let mut samplings = locked(&self.samplings);
        let Some(sampling) = samplings.get(&self.model) else { return };
        match sampling.to.try_send(sample) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => drop(sampling.dropped.fetch_add(1, Relaxed)),
            Err(TrySendError::Disconnected(_)) => drop(samplings.remove(&self.model)),
        }
    }

    /// The next golden case, as a set of its own; `None` if there is no golden set. Reads a small file.
    pub(super) fn next_case(&self) -> Option<Golden> {
        let digest = self.slot.golden?;
        let bytes = match read_or_discard(&self.store, &digest, DOCUMENT_MAX_BYTES as u64) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(model = %self.model, error = why(&error), "the golden set cannot be read");
                return None;
            }
        };
        // Whoever proved the model has read it before.
        let golden = Golden::parse(&bytes).ok()?;
        let at = self.next.fetch_add(1, Relaxed) % golden.cases.len();
        Some(Golden { cases: vec![golden.cases[at].clone()], ..golden })
    }
}
