//! The work of the slots that takes long: bringing blobs, checking, proving. Each ends with an event.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use package::choose::Device;
use package::digest::Digest;
use package::disk::system::System;
use package::form::DOCUMENT_MAX_BYTES;
use package::golden::Budget;
use package::index::Release;
use package::manifest::Manifest;
use package::name::ModelName;
use package::registry::RepoName;
use package::requirement::{Kind, Runtime};
use package::store::Store;
use package::store::collect::{Root, reachable};
use package::trust::assignment::NodeFacts;
use package::trust::state::TrustState;
use package::trust::time::{Quality, effective};
use tokio::sync::Semaphore;
use wire::world::World;

use super::server::{LACKS, Server};
use super::word::Words;
use crate::agent::reload::Reloader;
use crate::agent::report::Reports;
use crate::agent::shared::Shared;
use crate::config::neighbours::NeighboursConfig;
use crate::config::packages::{PackagesConfig, Place as From};
use crate::config::token::read_token;
use crate::device::device;
use crate::identity::tls::HubTls;
use crate::install::choose::{Choosing, Sparing, read_document, slot_for, spare_for};
use crate::install::event::{Event, Fault, NoSpare};
use crate::install::keys::{Keys, grants_folder};
use crate::install::orders::{Local, Orders, orders};
use crate::install::prove::{ChildProver, Prover as _};
use crate::install::state::{Kept, Order, Slot};
use crate::install::verify;
use crate::network::releases::Releases;
use crate::transfer::blocking::blocking;
use crate::transfer::carry::{News, Settings, carry};
use crate::transfer::folder::Folder;
use crate::transfer::grants::{self, GrantSource, Sealed};
use crate::transfer::origin::Origin;
use crate::transfer::registry::{Login, Registry, neighbours};
use crate::transfer::{self, GaveUp, Stop};
use crate::trust::RepositoryError;
use crate::why::why;
use crate::zone::Zone;

/// How long until an index or manifest that could not be brought is asked for again.
const CHOOSE_AGAIN: Duration = Duration::from_secs(60);

/// So many sticks are remembered, the newest first.
const STICKS_MAX: usize = 8;

/// A clock that is further from the hub's opens no window.
const SKEW_MAX_MS: i64 = 300_000;

/// So many packages of a folder are looked at.
const PACKAGES_MAX: usize = 64;

/// What errands need.
pub(super) struct Place<W> {
    pub(super) packages: PackagesConfig,
    pub(super) store: Arc<Store<System>>,
    /// The data folder, with the keys that open sealed weights.
    pub(super) data: PathBuf,
    /// The hub's address.
    pub(super) hub: Option<String>,
    /// Its token.
    pub(super) token: Option<String>,
    /// How its door for nodes is entered.
    pub(super) tls: Option<HubTls>,
    /// The nodes next to this one, and the token to show them.
    pub(super) neighbours: Option<(NeighboursConfig, Option<String>)>,
    /// The node's name.
    pub(super) node: String,
    /// The time that windows are in.
    pub(super) zone: Zone,
    pub(super) prover: ChildProver,
    /// Who lets language models answer.
    pub(super) server: Server,
    /// Where the flow takes networks from.
    pub(super) releases: Releases,
    /// Who takes another flow.
    pub(super) reloader: Arc<Reloader>,
    pub(super) reports: Reports,
    pub(super) shared: Arc<Shared>,
    pub(super) words: Words,
    pub(super) world: W,
}

/// What errands need, and what they leave for people to see.
pub(super) struct Reach<W> {
    place: Place<W>,
    /// One transfer at a time, so that the rate is kept.
    line: Semaphore,
    /// Packages that a person named.
    sticks: RefCell<Vec<PathBuf>>,
    progress: RefCell<BTreeMap<ModelName, Progress>>,
    told: RefCell<BTreeMap<ModelName, String>>,
}

impl<W> std::ops::Deref for Reach<W> {
    type Target = Place<W>;

    fn deref(&self) -> &Place<W> {
        &self.place
    }
}

/// How far a transfer is, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    came: u64,
    missing: u64,
}

impl<W: World + Clone + 'static> Reach<W> {
    pub(super) fn new(place: Place<W>) -> Reach<W> {
        let (sticks, progress, told) = Default::default();
        Reach { place, line: Semaphore::new(1), sticks, progress, told }
    }

    /// A person named a package, or a folder with some: it is asked first from now on.
    pub(super) fn remember(&self, stick: &Path) {
        let mut sticks = self.sticks.borrow_mut();
        sticks.retain(|known| known != stick);
        sticks.insert(0, stick.to_owned());
        sticks.truncate(STICKS_MAX);
    }

    /// How far a model's transfer is: bytes that came, and bytes that were missing when it began.
    pub(super) fn progress_of(&self, model: &ModelName) -> Option<(u64, u64)> {
        self.progress.borrow().get(model).map(|progress| (progress.came, progress.missing))
    }

    /// What was last told of a model.
    pub(super) fn told_of(&self, model: &ModelName) -> Option<String> {
        self.told.borrow().get(model).cloned()
    }

    /// Tells something of a model; logged by whoever calls.
    pub(super) fn told(&self, model: &ModelName, words: &str) {
        self.told.borrow_mut().insert(model.clone(), words.to_owned());
    }

    /// The orders that stand.
    pub(super) fn orders(&self, state: &TrustState<System>) -> Orders {
        let (labels, facts) = self.shared.said();
        let node = NodeFacts { name: &self.node, labels: &labels, facts: &facts };
        let (policy, clock_ms) = (&self.packages.trust.policy, self.world.wall_ms());
        let mut floor = state.trusted().floor;
        floor.raise_offline(policy.built_ms);
        let is_behind = effective(Some(floor), clock_ms).quality != Quality::Clock;
        let is_off = self.shared.own().skew_ms.saturating_abs() > SKEW_MAX_MS;
        let now_ms = (!is_behind && !is_off).then_some(clock_ms);
        let local = Local { now_ms, offset_s: self.zone.offset_s(clock_ms) };
        orders(state, policy, node, clock_ms, local)
    }

    /// Everybody who may have blobs of a model, the best liked first; and who cannot be asked, for people.
    fn origins(&self, model: &ModelName) -> (Vec<Box<dyn Origin>>, Vec<String>) {
        let (mut origins, mut troubles): (Vec<Box<dyn Origin>>, Vec<String>) = (Vec::new(), Vec::new());
        let mut folders = self.sticks.borrow().clone();
        let registry = |url: &str, path: Option<&RepoName>, token: Option<String>| {
            let name = path.map_or_else(|| model.to_string(), |path| format!("{path}/{model}"));
            let repo = RepoName::new(&name).map_err(|error| why(&error))?;
            let login = token.map_or(Login::Anonymous, Login::Bearer);
            Registry::new(url, repo, &login, self.settings().idle).map_err(|error| why(&error))
        };
        let mut registries = Vec::new();
        if let Some(hub) = &self.hub {
            let ours = registry(hub, None, self.token.clone());
            let with = |ours: Registry| ours.with_tls(self.tls.as_ref()).map_err(|error| why(&error));
            registries.push(ours.and_then(with));
        }
        for from in &self.packages.from {
            match from {
                From::Folder(folder) => folders.push(folder.clone()),
                From::Registry { url, path, token_file } => {
                    let token = token_file.as_deref().map(read_token).transpose();
                    let token = token.map_err(|error| why(&error));
                    registries.push(token.and_then(|token| registry(url, path.as_ref(), token)));
                }
            }
        }
        for folder in folders.iter().flat_map(|folder| packages_in(folder)) {
            match Folder::open(&folder) {
                Ok(folder) => origins.push(Box::new(folder)),
                Err(error) => troubles.push(why(&error)),
            }
        }
        if let (Some((next, token)), Ok(repo)) = (&self.neighbours, RepoName::new(model.as_str())) {
            match neighbours(&next.peers, token.as_deref(), &repo, self.settings().idle) {
                Ok(near) => origins.extend(near),
                Err(error) => troubles.push(why(&error)),
            }
        }
        // They have what the hub has, and are nearer.
        if let (Some(via), Ok(repo)) =
            (self.tls.as_ref().and_then(HubTls::via), RepoName::new(model.as_str()))
        {
            let relays: Vec<String> = via.relays().collect();
            match neighbours(&relays, via.token(), &repo, self.settings().idle) {
                Ok(relays) => origins.extend(relays),
                Err(error) => troubles.push(why(&error)),
            }
        }
        for registry in registries {
            match registry {
                Ok(registry) => origins.push(Box::new(registry)),
                Err(trouble) => troubles.push(trouble),
            }
        }
        (origins, troubles)
    }

    fn settings(&self) -> Settings {
        let PackagesConfig { leave, bytes_per_s, .. } = self.packages;
        Settings { keep_free_bytes: leave.disk_bytes, bytes_per_s, ..Settings::default() }
    }

    /// Brings blobs, one transfer after the other.
    async fn fetch(&self, model: &ModelName, order: &transfer::Order) -> Result<(), NotBrought> {
        // Nobody closes it.
        let _turn = self.line.acquire().await.ok();
        // An archive's whole list of contents is read here.
        let (origins, troubles) = self.origins(model);
        if origins.is_empty() {
            let why = if troubles.is_empty() {
                "there is no hub, and `[packages]` has no `from`".to_owned()
            } else {
                troubles.join("; ")
            };
            let why = format!("nobody can be asked for it: {why}");
            return Err(NotBrought { why, has_no_room: false });
        }
        self.progress.borrow_mut().insert(model.clone(), Progress::default());
        let news = |news: News| {
            let mut progress = self.progress.borrow_mut();
            let progress = progress.entry(model.clone()).or_default();
            match news {
                News::Opened { missing_bytes, .. } => progress.missing += missing_bytes,
                News::Came { bytes, .. } => progress.came += bytes,
                News::Waiting { wait_ms, why } => tracing::info!(%model, wait_ms, why, "a transfer waits"),
            }
        };
        let mut world = self.world.clone();
        let carried = carry(&self.store, &origins, order, &self.settings(), &mut world, news).await;
        self.progress.borrow_mut().remove(model);
        carried.map_err(|gave_up| {
            let has_no_room = matches!(gave_up, GaveUp::Stopped(Stop::NoRoom(_) | Stop::Quota(_)));
            NotBrought { why: why(&gave_up), has_no_room }
        })
    }

    /// Brings the grant that opens a slot's weights, if they are sealed and we have a key.
    async fn bring_grant(&self, keys: &Keys, slot: &Slot) -> Result<(), String> {
        let manifest = manifest_of(&self.store, &slot.manifest);
        let Some((sealed, secret)) = manifest.as_ref().and_then(verify::sealed_in).zip(keys.secret()) else {
            return Ok(());
        };
        let mut sources = Vec::new();
        let mut troubles = Vec::new();
        let mut keep = |source: Result<GrantSource, RepositoryError>| match source {
            Ok(source) => sources.push(source),
            Err(error) => troubles.push(why(&error)),
        };
        let sticks = self.sticks.borrow().clone();
        let folders = self.packages.from.iter().filter_map(|from| match from {
            From::Folder(folder) => Some(folder),
            From::Registry { .. } => None,
        });
        for package in sticks.iter().chain(folders).flat_map(|folder| packages_in(folder)) {
            keep(GrantSource::in_folder(&package));
        }
        if let Some(hub) = &self.hub {
            let ours = GrantSource::at(hub, self.token.as_deref());
            keep(ours.and_then(|ours| ours.with_tls(self.tls.as_ref())));
        }
        let Some(sealed) = Sealed::of(&self.store, sealed.digest).map_err(|error| why(&error))? else {
            return Ok(());
        };
        let brought = grants::bring(&sealed, secret, &sources, &System, &grants_folder(&self.data)).await;
        match brought {
            Ok(true) => Ok(()),
            Ok(false) if troubles.is_empty() => Ok(()),
            Ok(false) => Err(troubles.join("; ")),
            Err(error) => Err(why(&error)),
        }
    }

    /// Tells the door for neighbours what of the store they may fetch.
    pub(super) fn tell_reachable(&self, roots: BTreeSet<Root>) {
        if !self.neighbours.as_ref().is_some_and(|(next, _)| next.serve) {
            return;
        }
        let read = |digest: &Digest| self.store.read_small(digest, DOCUMENT_MAX_BYTES as u64);
        match reachable(roots, read) {
            Ok(digests) => {
                *self.shared.reachable.write().unwrap_or_else(PoisonError::into_inner) = digests;
            }
            Err(error) => tracing::warn!(error = why(&error), "neighbours are not told of new releases"),
        }
    }

    /// Removes the grants for what no slot needs any more.
    pub(super) fn forget_grants(&self, roots: &BTreeSet<Root>) {
        let manifests = roots.iter().filter_map(|root| match root {
            Root::Tree(manifest) => manifest_of(&self.store, manifest),
            Root::Leaf(_) => None,
        });
        let needed = manifests.filter_map(|manifest| Some(verify::sealed_in(&manifest)?.digest)).collect();
        if let Err(error) = grants::forget(&System, &grants_folder(&self.data), &needed) {
            tracing::warn!(error = why(&error), "grants that nobody needs stay");
        }
    }
}

/// Why blobs were not brought.
struct NotBrought {
    why: String,
    /// There is no room for them on this disk, or in the quota.
    has_no_room: bool,
}

/// A package, or the packages in a folder: layouts, and files that end in `.tar`.
fn packages_in(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() || path.join("oci-layout").is_file() {
        return vec![path.to_owned()];
    }
    let is_package = |path: &PathBuf| {
        path.join("oci-layout").is_file() || path.extension().is_some_and(|ending| ending == "tar")
    };
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(is_package).take(PACKAGES_MAX).collect();
    found.sort();
    found
}

/// Chooses a variant, once the index and the variant's manifest are here; what is missing is brought, as often as it takes.
pub(super) async fn choose<W: World + Clone + 'static>(
    reach: &Reach<W>,
    model: &ModelName,
    order: Order,
    index_bytes: Option<u64>,
    kept: Kept,
) -> Event {
    let index = order.index;
    loop {
        let trouble = match next_of(reach, model, &order, &kept) {
            Ok(Choosing::Done(result)) => {
                let result = result.map_err(|why| as_built(&reach.store, &index, why));
                return Event::Chosen { index, result };
            }
            Ok(Choosing::Needs(digest)) => {
                let size =
                    if digest == index { index_bytes } else { manifest_bytes(&reach.store, &index, &digest) };
                match size {
                    None => Err("no trusted target lists it any more".to_owned()),
                    Some(size) => {
                        let brought = reach.fetch(model, &transfer::Order::index(digest, size)).await;
                        brought.map_err(|not_brought| not_brought.why)
                    }
                }
            }
            Err(why) => Err(why),
        };
        if let Err(trouble) = trouble {
            let words = format!("release {} waits: {trouble}", order.release);
            tracing::warn!(%model, words, "a release");
            reach.told(model, &words);
            tokio::time::sleep(CHOOSE_AGAIN).await;
        }
    }
}

/// Why a release does not come here, with what this build lacks for it, if that is why.
fn as_built(store: &Store<System>, index: &Digest, why: String) -> String {
    let Some(lacks) = LACKS else { return why };
    let release = read_document(store, index).ok().flatten().and_then(|index| Release::read(&index).ok());
    let is_of_words = release.is_some_and(|it| it.variants.iter().all(|variant| variant.kind == Kind::Lm));
    if is_of_words { format!("{lacks}: {why}") } else { why }
}

fn next_of<W: World + Clone + 'static>(
    reach: &Reach<W>,
    model: &ModelName,
    order: &Order,
    kept: &Kept,
) -> Result<Choosing, String> {
    let mut device = device_for(reach, model, kept)?;
    // What only stands by makes room.
    let spare_bytes = kept.spare.as_ref().map_or(0, |spare| own_bytes(&reach.store, &spare.slot, kept));
    device.disk_free_bytes = device.disk_free_bytes.map(|free| free.saturating_add(spare_bytes));
    slot_for(&reach.store, model, order, &device).map_err(|error| why(&error))
}

/// What this node can prove of itself for a model.
fn device_for<W: World + Clone + 'static>(
    reach: &Reach<W>,
    model: &ModelName,
    kept: &Kept,
) -> Result<Device, String> {
    let mut device = device(&reach.store, kept, reach.packages.leave).map_err(|error| why(&error))?;
    if !reach.server.is_there() {
        device.runs.retain(|(kind, _)| *kind != Kind::Lm);
    }
    if reach.packages.flow.as_ref() == Some(model) {
        device.runs = vec![(Kind::Flow, Runtime::Flow)];
    }
    Ok(device)
}

/// Bytes of a slot's layers that neither the current model nor the previous one has.
fn own_bytes(store: &Store<System>, slot: &Slot, kept: &Kept) -> u64 {
    let layers = |slot: &Slot| manifest_of(store, &slot.manifest).map_or_else(Vec::new, |it| it.layers);
    let others = kept.current.iter().chain(&kept.previous).flat_map(layers);
    let others: BTreeSet<Digest> = others.map(|layer| layer.digest).collect();
    let own = layers(slot).into_iter().filter(|layer| !others.contains(&layer.digest));
    own.map(|layer| layer.size).sum()
}

/// Chooses what stands by for the current model, once the variant's manifest is here.
pub(super) async fn choose_spare<W: World + Clone + 'static>(
    reach: &Reach<W>,
    model: &ModelName,
    current: Slot,
    kept: Kept,
) -> Event {
    let index = current.index;
    let next = || {
        let device = device_for(reach, model, &kept).map_err(NoSpare::NotNow)?;
        spare_for(&reach.store, &current, &device).map_err(|error| NoSpare::NotNow(why(&error)))
    };
    let result = loop {
        let missing = match next() {
            Ok(Sparing::Done(result)) => break result,
            Ok(Sparing::Needs(digest)) => digest,
            Err(none) => break Err(none),
        };
        let Some(size) = manifest_bytes(&reach.store, &index, &missing) else {
            break Err(NoSpare::NotNow("the release's index was damaged here".to_owned()));
        };
        if let Err(not_brought) = reach.fetch(model, &transfer::Order::index(missing, size)).await {
            break Err(NoSpare::NotNow(not_brought.why));
        }
    };
    Event::SpareChosen { index, result }
}

/// The size of a variant's manifest, by the release's index.
fn manifest_bytes(store: &Store<System>, index: &Digest, manifest: &Digest) -> Option<u64> {
    let index = read_document(store, index).ok()??;
    Some(Release::read(&index).ok()?.variant_of(manifest).ok()?.manifest.size)
}

/// A manifest that is in the store.
fn manifest_of(store: &Store<System>, manifest: &Digest) -> Option<Manifest> {
    Manifest::parse(&read_document(store, manifest).ok()??).ok()
}

/// Brings all blobs of a slot.
pub(super) async fn transfer<W: World + Clone + 'static>(
    reach: &Reach<W>,
    model: &ModelName,
    slot: &Slot,
) -> Event {
    let Some(size) = manifest_bytes(&reach.store, &slot.index, &slot.manifest) else {
        let why = "its index was damaged here; it is brought again when it is ordered again".to_owned();
        return Event::TransferFailed(slot.manifest, why);
    };
    match reach.fetch(model, &transfer::Order::variant(slot.manifest, size)).await {
        Ok(()) => Event::Arrived(slot.manifest),
        Err(NotBrought { why, has_no_room: true }) => Event::NoRoom(slot.manifest, why),
        Err(NotBrought { why, .. }) => Event::TransferFailed(slot.manifest, why),
    }
}

/// Checks a slot's blobs, byte for byte; what opens sealed weights is brought first.
pub(super) async fn verify<W: World + Clone + 'static>(reach: &Reach<W>, slot: Slot) -> Event {
    let manifest = slot.manifest;
    let keys = match Keys::open(&reach.data) {
        Ok(keys) => keys,
        Err(error) => return Event::Verified(manifest, Err(Fault::NotNow(why(&error)))),
    };
    if let Err(trouble) = reach.bring_grant(&keys, &slot).await {
        tracing::warn!(trouble, "a grant was not brought");
    }
    let store = Arc::clone(&reach.store);
    Event::Verified(manifest, blocking(move || verify::verify(&store, &keys, &slot)).await)
}

/// Tells a child to end when nobody waits for it any more.
pub(super) struct Ends(pub(super) Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Lets a slot's model answer its golden set in a process of its own.
pub(super) async fn prove<W: World + Clone + 'static>(reach: &Reach<W>, slot: Slot, budget: Budget) -> Event {
    let ends = Ends(Arc::default());
    let prover = ChildProver { ends: Arc::clone(&ends.0), ..reach.prover.clone() };
    let manifest = slot.manifest;
    Event::Proved(manifest, blocking(move || prover.prove(&slot, budget)).await)
}
