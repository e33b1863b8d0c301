//! The thread of the slots: follows assignments, has releases brought, proven and served, and hears what comes of it.
//!
//! `install::carry` decides and makes durable, `errand` does what takes long, `server` lets language models answer, `networks` and
//! `flows` the others; they meet in one queue of [`Word`]s, so that the slots see one thing after the other. Nothing that thinks
//! waits for this thread: records go to the agent's queue, and a hub that is away costs nothing but news.

mod bring;
#[cfg(feature = "language")]
mod compare;
#[cfg(not(feature = "language"))]
#[path = "install/no_compare.rs"]
mod compare;
mod door;
mod errand;
pub(super) mod flows;
mod hands;
mod networks;
#[cfg(feature = "language")]
mod server;
#[cfg(not(feature = "language"))]
#[path = "install/no_server.rs"]
mod server;
mod view;
mod what;
mod word;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use package::digest::Digest;
use package::disk::system::System;
use package::disk::{FileError, read_whole};
use package::name::ModelName;
use package::store::Store;
use package::trust::state::TrustState;
use package::trust::trusted::Trusted;
use tokio::sync::{mpsc, oneshot};
use wire::body::Body as _;
use wire::checkin::{Document, TrustFacts};
use wire::class::Class;
use wire::id::{BootId, StreamName};
use wire::world::{MonoNs, World};

use self::door::Door;
use self::errand::Reach;
use self::hands::Worker;
use self::server::Server;
use self::word::{Brought, Word, Words, lock};
use crate::agent::reload::Reloader;
use crate::agent::report::Reports;
use crate::agent::shared::Shared;
use crate::behaviour::{self, Beside, Watch};
use crate::config::Config;
use crate::config::packages::PackagesConfig;
use crate::control::{Answer, Ask, Standing, TrialView, View};
use crate::device::kernel_run;
use crate::identity::tls::HubTls;
use crate::install::carry::{Carry, CarryError};
use crate::install::event::{Event, Now};
use crate::install::orders::Waiting;
use crate::install::prove::ChildProver;
use crate::install::state::{Beside as Order, Kept, Phase, Slot};
use crate::install::trial::Trial;
use crate::network::releases::Releases;
use crate::progress::Thread;
use crate::status::rss_bytes;
use crate::why::why;

/// How often the slots are asked whether time changes anything.
const TICK: Duration = Duration::from_secs(1);

/// An order that waits for its window is looked at again after so long at most: people set clocks.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long work that is being done may take to end when the node stops.
const LEAVE: Duration = Duration::from_secs(2);

/// So many people may wait for what takes a while.
const ASKED_MAX: usize = 8;

/// The largest root that is read.
const ROOT_MAX_BYTES: u64 = 512 << 10;

/// Packages that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The store refuses.
    #[error("the packages cannot be kept")]
    File(#[from] FileError),
    /// The slots refuse.
    #[error(transparent)]
    Carry(#[from] CarryError),
    /// The first root is not there.
    #[error("there is no {}: it is the `root.json` that `selvedge trust init` made", path.display())]
    NoRoot {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Our own program, which proves candidates, is not to be found.
    #[error("this program cannot find itself, and so cannot prove releases")]
    Program(#[source] std::io::Error),
}

/// A store, and the slots' way to the server; made before the server starts.
pub(super) struct Prepared {
    config: PackagesConfig,
    pub(super) store: Arc<Store<System>>,
    pub(super) server: Server,
    words: Words,
    heard: mpsc::UnboundedReceiver<Word>,
    prover: ChildProver,
}

/// The thread.
pub(super) struct Installing {
    words: Words,
    thread: JoinHandle<()>,
}

/// What the thread needs of the rest of the node.
pub(super) struct Surroundings<W> {
    pub(super) world: W,
    pub(super) boot: BootId,
    pub(super) shared: Arc<Shared>,
    pub(super) reports: Reports,
    /// The hub's token.
    pub(super) token: Option<String>,
    /// How the hub's door for nodes is entered.
    pub(super) tls: Option<HubTls>,
    /// The neighbours' token.
    pub(super) near: Option<String>,
    /// Where the flow takes networks from.
    pub(super) releases: Releases,
    /// Who takes another flow.
    pub(super) reloader: Arc<Reloader>,
}

/// Opens the store; what can fail for reasons outside fails here.
pub(super) fn prepare(config: &Config, packages: &PackagesConfig) -> Result<Prepared, InstallError> {
    let folder = config.data.join("packages");
    let store = Arc::new(Store::open(System, &folder, packages.quota_bytes.unwrap_or(u64::MAX))?);
    let prover = ChildProver::of_this_program(&folder, packages.proof).map_err(InstallError::Program)?;
    let prover = prover.with_keys(&config.data);
    let (words, heard) = mpsc::unbounded_channel();
    let tell = {
        let words = words.clone();
        // Nobody hears any more when the node stops.
        move |model: &ModelName, event: Event| drop(words.send(Word::Happened(model.clone(), event)))
    };
    let server = Server::new(config, Arc::clone(&store), tell);
    Ok(Prepared { config: packages.clone(), store, server, words, heard, prover })
}

/// Takes the slots, and starts their thread.
pub(super) fn start<W: World + Clone + 'static>(
    prepared: Prepared,
    config: &Config,
    around: Surroundings<W>,
) -> Result<Installing, InstallError> {
    let Prepared { config: packages, store, server, words, heard, prover } = prepared;
    let root_path = packages.trust.root.clone();
    let root = read_whole(&System, &root_path, ROOT_MAX_BYTES)?;
    let root = root.ok_or(InstallError::NoRoot { path: root_path })?;
    let data = config.data.clone();
    let hub = config.hub.as_ref().map(|hub| hub.url.clone());
    let (name, zone) = (config.name.to_string(), config.zone.clone());
    let neighbours = config.neighbours.clone();
    let begin = words.clone();
    let (tell, told) = std::sync::mpsc::channel();
    // The slots stay on their thread; whether they could be taken is told from there.
    let body = move || {
        let Surroundings { world, boot, shared, reports, token, tls, near, releases, reloader } = around;
        networks::listen(&releases, words.clone());
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let failed = FileError::at(&data)(error);
                drop(tell.send(Err(InstallError::from(failed))));
                return;
            }
        };
        let reach = Rc::new(Reach::new(errand::Place {
            packages: packages.clone(),
            store: Arc::clone(&store),
            data: data.clone(),
            hub,
            token,
            tls,
            neighbours: neighbours.map(|neighbours| (neighbours, near)),
            node: name,
            zone,
            prover,
            server,
            releases,
            reloader,
            reports,
            shared,
            words,
            world: world.clone(),
        }));
        let worker = Worker::new(Rc::clone(&reach));
        let carry = Carry::open(System, &data.join("slots"), store, packages.rules.clone(), worker);
        let mut carry = match carry {
            Ok(carry) => carry,
            Err(error) => {
                drop(tell.send(Err(error.into())));
                return;
            }
        };
        let path = data.join("trust").join("state");
        let least = carry.trust_sequence();
        let opened = TrustState::open(System, &path, &root, &packages.trust.policy.kinds, least);
        let trust = opened.map_err(|error| why(&error)).map(|state| {
            if let Err(error) = state.tidy() {
                tracing::warn!(error = why(&error), "what an earlier life left beside the trust state stays");
            }
            Arc::new(Mutex::new(state))
        });
        match &trust {
            Ok(state) => carry.trust(Arc::clone(state)),
            Err(why) => tracing::error!(why, "nothing new is accepted; what runs goes on"),
        }
        let door = Door::open(&data);
        let trusted = trust.as_ref().ok().map(|state| lock(state).trusted().clone());
        let facts = match &trust {
            Ok(state) => view::trust_of(lock(state).trusted(), &packages.trust.policy, world.wall_ms()),
            Err(why) => TrustFacts { lost: Some(why.clone()), ..TrustFacts::default() },
        };
        // The first check-in tells what an earlier life had.
        reach.shared.own().accepted = trusted.as_ref().map(view::accepted_of).unwrap_or_default();
        let slots = carry.models().filter_map(|model| {
            let kept = &carry.slots(model)?.kept;
            Some(view::slots_of(model, kept, false, None))
        });
        reach.shared.tell_slots(slots.collect(), Some(facts.clone()));
        drop(tell.send(Ok(())));
        let installer = Installer {
            carry,
            reach,
            trust,
            boot,
            world,
            trusted,
            facts: Some(facts),
            revision: None,
            asked_ns: None,
            asked: VecDeque::new(),
            is_bringing: false,
            kernel: kernel_run(),
            documents: Vec::new(),
            noted: Vec::new(),
            waiting: BTreeMap::new(),
            look_ns: None,
            watches: BTreeMap::new(),
        };
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(installer.run(heard, door, &data)));
        // Tasks of this thread end with it; a proof is told to.
        drop(local);
        runtime.shutdown_timeout(LEAVE);
    };
    let spawned = std::thread::Builder::new().name("install".to_owned()).spawn(body);
    let thread = spawned.map_err(InstallError::Program)?;
    match told.recv() {
        Ok(Ok(())) => Ok(Installing { words: begin, thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(InstallError::Program(std::io::Error::other("the thread of the slots died"))),
    }
}

/// Where what the hub has for this node is handed in; returns at once. A thread that is gone takes nothing: the hub has it
/// again for the next life.
#[derive(Clone)]
pub(super) struct Inbox(Words);

impl Inbox {
    /// Documents, to be judged, and kept if they hold.
    pub(super) fn documents(&self, documents: Vec<Document>) {
        drop(self.0.send(Word::Desired(documents)));
    }

    /// The node has other labels.
    pub(super) fn relabelled(&self) {
        drop(self.0.send(Word::Relabelled));
    }

    /// Trust and assignments shall be brought up to date.
    pub(super) fn refresh(&self) {
        drop(self.0.send(Word::Refresh));
    }
}

impl Installing {
    /// Where what the hub has for this node is handed in.
    pub(super) fn inbox(&self) -> Inbox {
        Inbox(self.words.clone())
    }

    /// Stops: what runs is told that it is not to blame. What was begun goes on in the next life.
    pub(super) fn stop(self) {
        // A thread that is gone has stopped.
        let _ = self.words.send(Word::Stop);
        let _ = self.thread.join();
    }
}

/// The trust state, or why there is none.
type Trust = Result<Arc<Mutex<TrustState<System>>>, String>;

/// The thread's own state.
struct Installer<W> {
    carry: Carry<System, Worker<W>>,
    reach: Rc<Reach<W>>,
    trust: Trust,
    boot: BootId,
    world: W,
    /// What is trusted, as it was when it was last brought up to date. Whoever brings it holds the state itself, and is driven by
    /// this thread: it must never be waited for here.
    trusted: Option<Trusted>,
    /// How trust stands, for the hub.
    facts: Option<TrustFacts>,
    /// The hub's word for its assignments, when they were last asked for.
    revision: Option<u64>,
    /// When trust and assignments were last asked for.
    asked_ns: Option<MonoNs>,
    /// What people asked for that takes a while, the first being done.
    asked: VecDeque<(Ask, oneshot::Sender<Answer>)>,
    is_bringing: bool,
    /// The run of the machine's kernel.
    kernel: Option<BootId>,
    /// What the hub handed out and nobody has judged yet.
    documents: Vec<Document>,
    /// What was told of documents that are not followed: they come again with every check-in.
    noted: Vec<String>,
    /// What waits for its window.
    waiting: BTreeMap<ModelName, Waiting>,
    /// When to look at that again.
    look_ns: Option<MonoNs>,
    /// How the models behave.
    watches: BTreeMap<ModelName, Watch>,
}

impl<W: World + Clone + 'static> Installer<W> {
    async fn run(mut self, mut heard: mpsc::UnboundedReceiver<Word>, door: Door, data: &Path) {
        let now = self.now();
        self.survive(|carry| carry.start(&now));
        self.reach.forget_grants(&self.carry.roots());
        self.reach.tell_reachable(self.carry.roots());
        self.offer_orders();
        let door = tokio::task::spawn_local(door.answer(self.reach.words.clone()));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let word = tokio::select! {
                word = heard.recv() => word,
                _ = ticks.tick() => {
                    self.tick();
                    continue;
                }
            };
            match word {
                Some(Word::Happened(model, event)) => {
                    self.watch(&model, &event);
                    let is_answer = matches!(event, Event::Answered(..));
                    self.hear(&model, event);
                    if !is_answer {
                        self.reach.tell_reachable(self.carry.roots());
                    }
                }
                Some(Word::Beside(model, beside)) => self.beside(&model, &beside),
                Some(Word::Choose(model, order)) => {
                    let kept = self.carry.slots(&model).map(|slots| slots.kept.clone()).unwrap_or_default();
                    let trusted = self.trusted.as_ref();
                    let size =
                        trusted.and_then(|trusted| bring::index_bytes(&self.reach, trusted, &model, &order));
                    self.carry.hands().choose_now(&model, order, size, kept);
                }
                Some(Word::ChooseSpare(model, current)) => self.choose_spare(&model, current),
                Some(Word::Brought(brought)) => self.brought(brought),
                Some(Word::Desired(documents)) => {
                    // What was handed out last is all that is open.
                    self.documents = documents;
                    self.take_documents();
                }
                Some(Word::Relabelled) => drop(self.offer_orders()),
                Some(Word::Refresh) => self.bring(),
                Some(Word::Asked(ask, answer)) => self.asked(ask, answer),
                Some(Word::Stop) | None => break,
            }
            self.tell_slots();
        }
        door.abort();
        door::close(data);
        self.tell_behaviour(true);
        let models: Vec<ModelName> = self.carry.models().cloned().collect();
        for model in models {
            self.hear(&model, Event::Stopping);
        }
    }

    fn now(&self) -> Now {
        let (mono_ns, wall_ms) = (self.world.mono_ns(), self.world.wall_ms());
        Now { mono_ns, wall_ms, boot: self.boot, kernel: self.kernel }
    }

    fn hear(&mut self, model: &ModelName, event: Event) {
        let now = self.now();
        self.survive(|carry| carry.hear(model, event, &now));
        let candidate = self.carry.slots(model).and_then(|slots| slots.kept.candidate.as_ref());
        if candidate.is_none_or(|candidate| candidate.phase != Phase::Shadow) {
            self.carry.hands().leave_shadow(model);
        }
    }

    /// Begins to look for a spare, if that is still wanted.
    fn choose_spare(&mut self, model: &ModelName, current: Slot) {
        let slots = self.carry.slots(model).filter(|slots| slots.run.spare.is_at_work);
        if let Some(kept) = slots.map(|slots| slots.kept.clone()) {
            self.carry.hands().choose_spare_now(model, current, kept);
        }
    }

    /// Slots that cannot be read or written are told; the thread goes on with the others.
    fn survive(&mut self, work: impl FnOnce(&mut Carry<System, Worker<W>>) -> Result<(), CarryError>) {
        if let Err(error) = work(&mut self.carry) {
            tracing::error!(error = why(&error), "a model's slots cannot be used");
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        self.reach.shared.progress.beat(Thread::Install, now.mono_ns);
        self.survive(|carry| carry.tick(&now));
        if self.reach.shared.status().health.is_calm() {
            self.survive(|carry| carry.quiet(&now));
        }
        let every_ns = u64::try_from(self.reach.packages.every.as_nanos()).unwrap_or(u64::MAX);
        let is_due = self.asked_ns.is_none_or(|asked_ns| now.mono_ns.saturating_sub(asked_ns) >= every_ns);
        let revision = self.reach.shared.assignments_revision();
        if is_due || revision != self.revision {
            self.bring();
        }
        if self.look_ns.is_some_and(|look_ns| look_ns <= now.mono_ns) {
            self.offer_orders();
        }
        self.tell_behaviour(false);
        self.ask_flow(now.mono_ns);
        self.tell_slots();
    }

    /// Has the flow that serves as a release say how it goes.
    fn ask_flow(&mut self, now_ns: MonoNs) {
        let Some(model) = self.reach.packages.flow.clone() else { return };
        let slots = self.carry.slots(&model);
        let candidate = slots.and_then(|slots| slots.kept.candidate.as_ref());
        let on_trial = candidate.filter(|it| it.phase == Phase::Trial).map(|it| it.slot.manifest);
        let flows = self.carry.hands().flows.clone();
        let said = flows.tick(&self.reach.shared.status(), on_trial, now_ns);
        if let Some((model, event)) = said {
            self.watch(&model, &event);
            self.hear(&model, event);
        }
    }

    /// Judges what the hub handed out, if nothing else is being brought.
    fn take_documents(&mut self) {
        let Ok(trust) = &self.trust else { return };
        if self.is_bringing || self.documents.is_empty() {
            return;
        }
        self.is_bringing = true;
        let documents = std::mem::take(&mut self.documents);
        let (reach, trust) = (Rc::clone(&self.reach), Arc::clone(trust));
        tokio::task::spawn_local(async move {
            let brought = bring::take(&reach, trust, documents).await;
            drop(reach.words.send(Word::Brought(brought)));
        });
    }

    /// Brings trust and assignments up to date, once at a time; for the first who asked, if somebody did.
    fn bring(&mut self) {
        let Ok(trust) = &self.trust else { return };
        if self.is_bringing {
            return;
        }
        self.is_bringing = true;
        // What a fleet was told to ask at one time it does not ask at one time.
        let every_ns = self.reach.packages.every.as_nanos() as f64;
        let early_ns = (every_ns * 0.1 * self.world.unit()) as u64;
        self.asked_ns = Some(self.world.mono_ns().saturating_sub(early_ns));
        self.revision = self.reach.shared.assignments_revision();
        let ask = self.asked.front().map(|(ask, _)| ask.clone());
        let (reach, trust) = (Rc::clone(&self.reach), Arc::clone(trust));
        tokio::task::spawn_local(async move {
            let brought = bring::bring(&reach, trust, ask).await;
            drop(reach.words.send(Word::Brought(brought)));
        });
    }

    fn brought(&mut self, brought: Brought) {
        self.is_bringing = false;
        for note in brought.notes.iter().filter(|note| !self.noted.contains(note)) {
            tracing::warn!(note, "an assignment or trust metadata is not followed");
        }
        self.noted.clone_from(&brought.notes);
        self.facts = brought.facts.clone().or(self.facts.take());
        self.trusted = brought.trusted.clone().or(self.trusted.take());
        self.tell_accepted();
        let orders = self.offer_orders();
        let mut wanted = orders;
        for (model, order) in brought.orders {
            wanted.insert(model.clone(), order.release);
            self.hear(&model, Event::Ordered(order));
        }
        if brought.is_asked
            && let Some((_, answer)) = self.asked.pop_front()
        {
            let told = match brought.refusal {
                Some(why) => Answer::Refused { why },
                None => Answer::Ordered { orders: wanted, notes: brought.notes },
            };
            // Who asked has gone.
            drop(answer.send(told));
        }
        if !self.asked.is_empty() {
            self.bring();
        }
        self.take_documents();
    }

    /// Offers all orders that stand: what the slots have, they take for nothing new.
    fn offer_orders(&mut self) -> BTreeMap<ModelName, u64> {
        let Ok(trust) = &self.trust else { return BTreeMap::new() };
        let orders = match trust.try_lock() {
            Ok(state) => self.reach.orders(&state),
            // Whoever holds it tells when it is done.
            Err(_) => return BTreeMap::new(),
        };
        self.wait(orders.waiting);
        let mut wanted = BTreeMap::new();
        for (model, order) in orders.due {
            wanted.insert(model.clone(), order.release);
            self.hear(&model, Event::Ordered(order));
        }
        let is_withdrawn = |model: &&ModelName| !orders.beside.contains_key(*model);
        let withdrawn: Vec<ModelName> = self.carry.models().filter(is_withdrawn).cloned().collect();
        for model in withdrawn {
            self.hear(&model, Event::Withdrawn);
        }
        for (model, order) in orders.beside {
            self.hear(&model, Event::Ordered(order));
        }
        wanted
    }

    /// Something became of an answer of a release that answers beside the current one.
    fn beside(&mut self, model: &ModelName, beside: &Beside) {
        let Some(slots) = self.carry.slots(model) else { return };
        let watch = self.watches.entry(model.clone()).or_default();
        if let Some(disagreement) = watch.beside(model, &slots.kept, beside) {
            let stream = StreamName::new(behaviour::DISAGREEMENTS).expect("a good name");
            self.reach.reports.file(disagreement.draft(&stream, Class::Event), || {});
        }
        let order = slots.kept.beside().map(|(_, order)| order);
        let is_enough = |order: &Order| order.compared + watch.untold() >= u64::from(order.limits.answers);
        if order.is_some_and(is_enough) {
            let count = watch.take_untold();
            self.hear(model, Event::Compared(beside.manifest, count));
        }
    }

    /// Remembers what waits for its window; what the slots have, or have begun, does not.
    fn wait(&mut self, mut waiting: BTreeMap<ModelName, Waiting>) {
        waiting.retain(|model, waiting| {
            let kept = self.carry.slots(model).map(|slots| &slots.kept);
            let current = kept.and_then(|kept| kept.current.as_ref());
            let candidate = kept.and_then(|kept| kept.candidate.as_ref()).map(|candidate| &candidate.slot);
            current.into_iter().chain(candidate).all(|slot| slot.index != waiting.index)
        });
        let next_ms = waiting.values().filter_map(|waiting| waiting.in_ms).min();
        let next = next_ms.and_then(|ms| u64::try_from(ms).ok()).map_or(LOOK_AGAIN, Duration::from_millis);
        let look_ns = next.clamp(TICK, LOOK_AGAIN).as_nanos() as u64;
        self.look_ns = (!waiting.is_empty()).then(|| self.world.mono_ns().saturating_add(look_ns));
        for (model, Waiting { why, .. }) in &waiting {
            if !self.waiting.contains_key(model) {
                tracing::info!(%model, why, "a release that was ordered waits");
                self.reach.told(model, why);
            }
        }
        self.waiting = waiting;
    }

    /// Counts what a model that serves does.
    fn watch(&mut self, model: &ModelName, event: &Event) {
        let serving = self.carry.slots(model).and_then(|slots| slots.run.serving.as_ref());
        let serves = |manifest: &Digest| serving.is_some_and(|serving| serving.manifest == *manifest);
        match event {
            Event::Answered(manifest, answer) if serves(manifest) => {
                self.watches.entry(model.clone()).or_default().answered(*answer);
            }
            Event::Crashed(manifest, _) if serves(manifest) => {
                self.watches.entry(model.clone()).or_default().crashed();
            }
            _ => {}
        }
    }

    /// Brings what is over of how the models behave into the journal; `all`: whatever was counted.
    fn tell_behaviour(&mut self, all: bool) {
        let now = self.now();
        let models: BTreeSet<ModelName> = self.carry.models().cloned().collect();
        let mut told = Vec::new();
        for model in &models {
            let Some(slots) = self.carry.slots(model) else { continue };
            let serving = slots.run.serving.as_ref().filter(|serving| serving.since_ns.is_some() && !all);
            // What a spare answers, and what it takes, is nothing that was said of the release.
            let is_over = slots.run.spare.over_ns.is_some();
            let manifest = serving.filter(|_| !is_over).map(|serving| serving.manifest);
            let watch = self.watches.entry(model.clone()).or_default();
            let takes = || rss_bytes().filter(|_| !is_over);
            if let Some(over) = watch.tick(model, &slots.kept, manifest, &now, takes) {
                let stream = StreamName::new(behaviour::STREAM).expect("a good name");
                self.reach.reports.file(over.draft(&stream, Class::Metric), || {});
                let (count, candidate) = (watch.take_untold(), slots.kept.beside());
                told.extend(
                    candidate.map(|(it, _)| (model.clone(), Event::Compared(it.slot.manifest, count))),
                );
            }
        }
        for (model, event) in told {
            self.hear(&model, event);
        }
        let figures = self.watches.iter().map(|(model, watch)| watch.figures(model)).collect();
        self.reach.shared.own().figures = figures;
    }

    /// Tells the rest of the node which documents were accepted.
    fn tell_accepted(&self) {
        let accepted = self.trusted.as_ref().map(view::accepted_of).unwrap_or_default();
        self.reach.shared.own().accepted = accepted;
    }

    fn asked(&mut self, ask: Ask, answer: oneshot::Sender<Answer>) {
        let told = match ask {
            Ask::Slots => Answer::Slots(self.standing()),
            Ask::RollBack { model } => self.act(&model, Event::RollBack),
            Ask::LeaveSafe { model } => self.act(&model, Event::LeaveSafe),
            Ask::Forgive { model, manifest } => self.act(&model, Event::Forgive(manifest)),
            Ask::Refresh { .. } | Ask::Install { .. } => match &self.trust {
                Err(why) => Answer::Refused { why: why.clone() },
                Ok(_) if self.asked.len() >= ASKED_MAX => {
                    Answer::Refused { why: "too many installations are asked for; ask again later".into() }
                }
                Ok(_) => {
                    self.asked.push_back((ask, answer));
                    self.bring();
                    return;
                }
            },
        };
        // Who asked has gone.
        drop(answer.send(told));
    }

    fn act(&mut self, model: &ModelName, event: Event) -> Answer {
        let Some(slots) = self.carry.slots(model) else {
            let there: Vec<&str> = self.carry.models().map(ModelName::as_str).collect();
            let there = if there.is_empty() { "there is none".into() } else { there.join(", ") };
            return Answer::Refused { why: format!("no model {model} has slots here: {there}") };
        };
        let kept = &slots.kept;
        let missing = match &event {
            Event::RollBack if kept.previous.is_none() => Some("has no previous release to go back to"),
            Event::LeaveSafe if kept.safe.is_none() => Some("is not in safe mode"),
            Event::Forgive(manifest) if kept.refusal(manifest).is_none() => Some("has not refused that"),
            _ => None,
        };
        if let Some(missing) = missing {
            return Answer::Refused { why: format!("{model} {missing}") };
        }
        self.hear(model, event);
        Answer::Done
    }

    fn standing(&self) -> Standing {
        let models = self.carry.models().filter_map(|model| {
            let slots = self.carry.slots(model)?;
            let serving = slots.run.serving.as_ref();
            let view = View {
                kept: slots.kept.clone(),
                serving: serving.map(|serving| serving.manifest),
                is_loaded: serving.is_some_and(|serving| serving.since_ns.is_some()),
                trial: slots.run.trial.as_ref().map(|trial| self.trial_view(trial)),
                transfer: self.reach.progress_of(model),
                told: self.reach.told_of(model),
                spare_answers: slots.run.spare.over_ns.is_some(),
                spare_waits: slots.run.spare.waits.clone(),
            };
            Some((model.clone(), view))
        });
        Standing {
            models: models.collect(),
            used_bytes: self.reach.store.used_bytes().unwrap_or_default(),
            trust_trouble: self.trust.as_ref().err().cloned(),
        }
    }

    fn trial_view(&self, trial: &Trial) -> TrialView {
        let rules = &self.reach.packages.rules.trial;
        let (time, answers, failed) = trial.progress(rules, self.world.mono_ns());
        let seconds = (time.as_secs(), rules.least.as_secs());
        TrialView { seconds, answers: (answers, rules.answers), failed }
    }

    /// Tells the rest of the node how the slots are.
    fn tell_slots(&self) {
        let spares = self.carry.models().filter_map(|model| {
            let (current, spare) = self.carry.slots(model)?.kept.spare_at_hand()?;
            Some((model.clone(), (current.manifest, spare.slot.clone())))
        });
        self.reach.server.keep_spares(spares.collect());
        let models = self.carry.models().filter_map(|model| {
            let slots = self.carry.slots(model)?;
            let waits = self.waiting.get(model).map(|waiting| waiting.why.clone());
            Some(view::slots_of(model, &slots.kept, slots.run.spare.over_ns.is_some(), waits))
        });
        // The first release of a model waits before there are slots.
        let first = self.waiting.iter().filter(|(model, _)| self.carry.slots(model).is_none());
        let first =
            first.map(|(model, it)| view::slots_of(model, &Kept::default(), false, Some(it.why.clone())));
        let models = models.chain(first).collect();
        self.reach.shared.tell_slots(models, self.facts.clone());
    }
}
