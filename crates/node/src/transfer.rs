//! Brings a release's blobs from wherever they are: decided purely, carried out by [`carry`].
//!
//! ```text
//! manifest → lists of chunks → layers, the largest first
//! each:  Open → (Fetch …) → Finish        held by another process: look again in a second
//! ```
//!
//! In reading order: [`plan`] says which bytes from whom, [`origin`] what can be asked; [`registry`] and [`folder`] are
//! origins, [`crate::pace`] keeps a rate; [`grants`] brings what opens sealed weights. What always holds: no blob is brought
//! twice, by us or by another process; room and quota are asked before any origin is; a byte that was proven is never
//! asked for again; what an origin says is nothing until the store has proven it.

pub(crate) mod blocking;
pub mod carry;
pub mod folder;
pub mod grants;
pub mod origin;
pub mod plan;
pub mod registry;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use package::chunks::Chunks;
use package::digest::Digest;
use package::disk::room::NoRoom;
use package::form::DOCUMENT_MAX_BYTES;
use package::manifest::Manifest;
use package::media::{self, Role};
use package::store::ingest::Want;
use wire::world::{Entropy, MonoNs};

use self::origin::{Fault, OriginId, Wanted};
use self::plan::{Ask, Choice, Origins, Part, Rules};

/// How long until a blob that another process brings is looked at again.
const HELD_NS: MonoNs = 1_000_000_000;

/// A list of the smallest chunks is the longest: its head, and a hash for each.
const CHUNK_MIN_BYTES: u64 = 4 << 10;
const LIST_HEAD_BYTES: u64 = 56;
const LIST_ENTRY_BYTES: u64 = 32;

/// What to bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Whether everything that it names is wanted, too.
    pub with_layers: bool,
}

impl Order {
    /// A release's index, alone.
    pub fn index(digest: Digest, size: u64) -> Order {
        Order { digest, size, with_layers: false }
    }

    /// A variant: its manifest, its config and all its layers.
    pub fn variant(digest: Digest, size: u64) -> Order {
        Order { digest, size, with_layers: true }
    }
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A blob can be brought; these bytes of it are missing, ascending.
    Opened {
        /// Which.
        digest: Digest,
        /// What an earlier life left is not among them.
        missing: Vec<Range<u64>>,
    },
    /// Another process brings it.
    Held {
        /// Which.
        digest: Digest,
    },
    /// A question was answered, or not.
    Fetched {
        /// Of which blob.
        digest: Digest,
        /// What is missing of it now.
        missing: Vec<Range<u64>>,
        /// How the origin failed, if it did.
        fault: Option<Fault>,
    },
    /// A blob stands in the store, whole: it came, it was there, or another process brought it.
    Whole(Digest),
    /// All of a blob came, and it is another one.
    Spoiled(Digest),
    /// A document of the store.
    Read {
        /// Which.
        digest: Digest,
        /// Its bytes; they have the digest.
        bytes: Vec<u8>,
    },
    /// This machine cannot take a blob.
    Stopped(Stop),
    /// The wait is over.
    Tick,
}

/// What to do; one thing at a time.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Begin a blob, or go on with it: lock, room and quota are looked at here.
    Open(Want),
    /// Ask an origin for bytes of the open blob.
    Fetch {
        /// Of which blob.
        wanted: Wanted,
        /// Whom, for which.
        ask: Ask,
    },
    /// Prove the open blob and give it its name.
    Finish(Digest),
    /// Read a document of at most so many bytes from the store.
    Read {
        /// Which.
        digest: Digest,
        /// Its bytes.
        size: u64,
    },
    /// Do nothing until then.
    Wait {
        /// By the monotonic clock.
        until: MonoNs,
        /// What failed, or is awaited.
        why: String,
    },
    /// All blobs are in the store.
    Done,
    /// They cannot be brought now. What came is kept.
    GaveUp(GaveUp),
}

/// Why this machine takes no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The disk is full, or would be.
    #[error(transparent)]
    NoRoom(NoRoom),
    /// The store would outgrow its quota.
    #[error("{0}")]
    Quota(String),
    /// The store, or its disk.
    #[error("{0}")]
    Store(String),
}

/// Why blobs were not brought.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    /// Nobody who could be asked has it, or gives it.
    #[error("nobody gives {digest}: {}", told(faults))]
    Nobody {
        /// Which blob.
        digest: Digest,
        /// Each origin that was asked, and how it failed last.
        faults: Vec<(String, Fault)>,
    },
    /// This machine cannot take it.
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// What came is what was signed, and cannot be used.
    #[error("{digest} is genuine and cannot be used: {why}")]
    Unusable {
        /// Which document.
        digest: Digest,
        /// Why.
        why: String,
    },
}

fn told(faults: &[(String, Fault)]) -> String {
    let told: Vec<String> = faults.iter().map(|(name, fault)| format!("{name}: {fault}")).collect();
    if told.is_empty() { "there is nobody to ask".to_owned() } else { told.join("; ") }
}

/// A blob that is still to come.
#[derive(Debug, Clone)]
struct Item {
    digest: Digest,
    size: u64,
    what: What,
    chunks: Option<Arc<Chunks>>,
    /// Another process had it: not before this time.
    not_before: MonoNs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Index,
    Manifest,
    Layer,
    /// The list of another blob's chunks.
    List {
        of: Digest,
    },
}

#[derive(Debug, Clone)]
enum Stage {
    /// Nothing to do now: all that is left is held by others.
    Idle,
    Opening(Item, Part),
    Loading {
        item: Item,
        part: Part,
        /// Who was asked last.
        asked: Option<OriginId>,
    },
    Finishing {
        item: Item,
        part: Part,
        asked: Option<OriginId>,
    },
    Reading(Item),
    Over,
}

/// A transfer under way.
#[derive(Debug, Clone)]
pub struct Transfer {
    origins: Origins,
    names: Vec<String>,
    /// In the order in which they are wanted.
    todo: VecDeque<Item>,
    /// All that ever was in `todo`.
    known: BTreeSet<Digest>,
    stage: Stage,
}

impl Transfer {
    /// Begins. `names`: of the origins, the best liked first.
    pub fn begin(order: &Order, names: Vec<String>, rules: Rules) -> (Transfer, Vec<Effect>) {
        let mut transfer = Transfer {
            origins: Origins::new(names.len(), rules),
            names,
            todo: VecDeque::new(),
            known: BTreeSet::new(),
            stage: Stage::Idle,
        };
        let what = if order.with_layers { What::Manifest } else { What::Index };
        if order.size > DOCUMENT_MAX_BYTES as u64 {
            let why = format!("it has {} bytes, at most {DOCUMENT_MAX_BYTES} are read", order.size);
            let gave_up = transfer.unusable(order.digest, why);
            return (transfer, vec![gave_up]);
        }
        transfer.want(order.digest, order.size, what);
        let effect = transfer.next(0);
        (transfer, vec![effect])
    }

    fn want(&mut self, digest: Digest, size: u64, what: What) {
        if self.known.insert(digest) {
            self.todo.push_back(Item { digest, size, what, chunks: None, not_before: 0 });
        }
    }

    /// Takes up the next blob that can be brought now.
    fn next(&mut self, now: MonoNs) -> Effect {
        let needs_list = |item: &Item| {
            self.todo.iter().any(|other| matches!(other.what, What::List { of } if of == item.digest))
        };
        let ready = self.todo.iter().position(|item| item.not_before <= now && !needs_list(item));
        let first = self.todo.iter().map(|item| item.not_before).filter(|until| *until > now).min();
        if let Some(item) = ready.and_then(|at| self.todo.remove(at)) {
            let part = Part::new(item.size);
            return self.open(item, part);
        }
        match first {
            Some(until) => {
                self.stage = Stage::Idle;
                Effect::Wait { until, why: "another process brings the same blob".to_owned() }
            }
            None => {
                self.stage = Stage::Over;
                Effect::Done
            }
        }
    }

    fn open(&mut self, item: Item, part: Part) -> Effect {
        let want = Want { digest: item.digest, size: item.size, chunks: item.chunks.clone() };
        self.stage = Stage::Opening(item, part);
        Effect::Open(want)
    }

    /// Asks for what is missing of a blob, or finishes it.
    fn load(&mut self, item: Item, part: Part, asked: Option<OriginId>, now: MonoNs) -> Effect {
        let digest = item.digest;
        if part.is_all() {
            self.stage = Stage::Finishing { item, part, asked };
            return Effect::Finish(digest);
        }
        match self.origins.choose(&part, now) {
            Choice::Ask(ask) => {
                let is_manifest = matches!(item.what, What::Index | What::Manifest);
                let wanted = Wanted { digest, size: item.size, is_manifest };
                self.stage = Stage::Loading { item, part, asked: Some(ask.origin) };
                Effect::Fetch { wanted, ask }
            }
            Choice::Rest(until) => {
                self.stage = Stage::Loading { item, part, asked };
                let last = asked.and_then(|id| Some((&self.names[id.0], self.origins.fault(id)?)));
                let why =
                    last.map_or_else(|| "all rest".to_owned(), |(name, fault)| format!("{name}: {fault}"));
                Effect::Wait { until, why }
            }
            Choice::Nobody => {
                self.stage = Stage::Over;
                Effect::GaveUp(GaveUp::Nobody { digest, faults: self.faults() })
            }
        }
    }

    fn faults(&self) -> Vec<(String, Fault)> {
        let told =
            |(id, name): (usize, &String)| Some((name.clone(), self.origins.fault(OriginId(id))?.clone()));
        self.names.iter().enumerate().filter_map(told).collect()
    }

    /// A blob is in the store.
    fn whole(&mut self, item: Item, now: MonoNs) -> Effect {
        if matches!(item.what, What::Index | What::Layer) {
            return self.next(now);
        }
        let (digest, size) = (item.digest, item.size);
        self.stage = Stage::Reading(item);
        Effect::Read { digest, size }
    }

    /// A document is at hand: what else is to come?
    fn read(&mut self, item: &Item, bytes: &[u8], now: MonoNs) -> Effect {
        match item.what {
            What::Index | What::Layer => {}
            What::Manifest => match Manifest::parse(bytes) {
                Ok(manifest) => {
                    if let Some((digest, why)) = self.want_layers(&manifest) {
                        return self.unusable(digest, why);
                    }
                }
                Err(error) => return self.unusable(item.digest, error.to_string()),
            },
            What::List { of } => match Chunks::parse(bytes) {
                Ok(chunks) => {
                    let chunks = Arc::new(chunks);
                    let listed = self.todo.iter_mut().filter(|item| item.digest == of);
                    listed.for_each(|item| item.chunks = Some(Arc::clone(&chunks)));
                }
                Err(error) => return self.unusable(item.digest, error.to_string()),
            },
        }
        self.next(now)
    }

    /// The list of chunks first, then the largest: what does not fit is told before the rest comes. Gives a list that is
    /// longer than any of its blob can be.
    fn want_layers(&mut self, manifest: &Manifest) -> Option<(Digest, String)> {
        let weights = manifest.layer(Role::Weights).filter(|layer| layer.annotation(media::CHUNKS).is_some());
        if let (Some(weights), Some(list)) = (weights, manifest.layer(Role::Chunks))
            && weights.digest != list.digest
        {
            if list.size > LIST_HEAD_BYTES + weights.size.div_ceil(CHUNK_MIN_BYTES) * LIST_ENTRY_BYTES {
                let (size, of) = (list.size, weights.digest);
                return Some((list.digest, format!("a list of {size} bytes is too long for {of}")));
            }
            self.want(list.digest, list.size, What::List { of: weights.digest });
        }
        let mut layers: Vec<_> = manifest.layers.iter().chain([&manifest.config]).collect();
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
        for layer in layers {
            self.want(layer.digest, layer.size, What::Layer);
        }
        None
    }

    fn unusable(&mut self, digest: Digest, why: String) -> Effect {
        self.stage = Stage::Over;
        Effect::GaveUp(GaveUp::Unusable { digest, why })
    }

    fn on(&mut self, event: Event, now: MonoNs, chance: &mut dyn Entropy) -> Option<Effect> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        Some(match (event, stage) {
            (Event::Opened { digest, missing }, Stage::Opening(item, mut part)) if digest == item.digest => {
                part.is_missing(missing);
                self.load(item, part, None, now)
            }
            (Event::Held { digest }, Stage::Opening(mut item, _)) if digest == item.digest => {
                item.not_before = now.saturating_add(HELD_NS);
                self.todo.push_back(item);
                self.next(now)
            }
            (
                Event::Fetched { digest, missing, fault },
                Stage::Loading { item, mut part, asked: Some(asked) },
            ) if digest == item.digest => {
                let before = part.missing_bytes();
                if part.is_missing(missing) {
                    self.origins.progressed(asked);
                }
                let is_nothing = fault.is_none() && part.missing_bytes() >= before;
                let why = "nothing of what it was asked for".to_owned();
                let fault = fault.or(is_nothing.then_some(Fault::WrongRange { why }));
                if let Some(fault) = fault {
                    self.origins.failed(asked, fault, &mut part, now, chance);
                }
                self.load(item, part, Some(asked), now)
            }
            (Event::Tick, Stage::Loading { item, part, asked }) => self.load(item, part, asked, now),
            (Event::Tick, Stage::Idle) => self.next(now),
            (Event::Spoiled(digest), Stage::Finishing { item, mut part, asked }) if digest == item.digest => {
                if let Some(asked) = asked {
                    let fault = Fault::WrongBytes { range: 0..item.size };
                    self.origins.failed(asked, fault, &mut part, now, chance);
                }
                part.begin_again();
                self.open(item, part)
            }
            (Event::Whole(digest), Stage::Opening(item, _) | Stage::Finishing { item, .. })
                if digest == item.digest =>
            {
                self.whole(item, now)
            }
            (Event::Read { digest, bytes }, Stage::Reading(item)) if digest == item.digest => {
                self.read(&item, &bytes, now)
            }
            (Event::Stopped(stop), stage) if !matches!(stage, Stage::Over) => {
                Effect::GaveUp(GaveUp::Stopped(stop))
            }
            // An answer to a question that nobody asked.
            (_, stage) => {
                self.stage = stage;
                return None;
            }
        })
    }
}

/// One step. After `Done` and `GaveUp` nothing more comes.
pub fn step(
    mut state: Transfer,
    event: Event,
    now: MonoNs,
    chance: &mut dyn Entropy,
) -> (Transfer, Vec<Effect>) {
    let effect = state.on(event, now, chance);
    (state, effect.into_iter().collect())
}

#[cfg(test)]
mod tests;
