//! One run of the node's process: it opens what stands on the disk, refreshes its trust, takes what it is offered, carries
//! the slots on until nothing is left to do, and is asked to stop; or dies before.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::install::carry::{Carry, Hands};
use node::install::choose::{Choosing, Sparing, read_document, slot_for, spare_for};
use node::install::event::{Event, NoSpare, Now, Proof, Rules};
use node::install::keys::Keys;
use node::install::orders::{Local, orders};
use node::install::report::draft;
use node::install::state::{Kept, Measured, Order, Phase, Report, Slot, SparePhase};
use node::install::trial::{Answer, TrialRules};
use node::install::verify::{chunks_of, verify};
use package::digest::Digest;
use package::disk::Disk;
use package::disk::simulated::Simulated;
use package::golden::Budget;
use package::manifest::Manifest;
use package::media::Role;
use package::name::ModelName;
use package::store::Store;
use package::store::collect::reachable;
use package::store::ingest::{Ingest, IngestError, Want};
use package::trust::Policy;
use package::trust::assignment::{NodeFacts, accept};
use package::trust::key::KindSet;
use package::trust::shadow::Limits;
use package::trust::state::TrustState;
use package::trust::update::{self, Effect, Outcome, Update};
use wire::facts::Facts;
use wire::id::BootId;
use wire::world;

use crate::house::{self, Files, House, NODE, NOW_MS, QUOTA_BYTES};
use crate::journal::Journal;
use crate::mutant::Over;
use crate::night::Act;
use crate::seen::{Seen, Violation, must};

const STEP_NS: u64 = 61_000_000_000;
/// What answered beside the current one for so long has its misses forgotten.
const STEADY_NS: u64 = 600_000_000_000;

/// How a run ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    /// Nothing was left to do; it was asked to stop.
    Quiet,
    /// The model took it down.
    Killed,
    /// The power went.
    Died,
    /// The disk failed, and the process ended of it.
    Failed,
}

/// The rest of the node.
struct Outside<'a, D: Disk> {
    house: &'a House,
    act: &'a Act,
    disk: Simulated,
    store: Arc<Store<D>>,
    events: VecDeque<(ModelName, Event)>,
    serving: BTreeMap<ModelName, Slot>,
    journal: Journal,
    seen: Rc<RefCell<Seen>>,
    /// A model took the process down.
    killed: bool,
}

impl<D: Disk> Outside<'_, D> {
    fn say(&mut self, model: &ModelName, event: Event) {
        self.events.push_back((model.clone(), event));
    }

    fn holds(&mut self, holds: bool, words: impl FnOnce() -> String) {
        if !holds {
            self.seen.borrow_mut().violation.get_or_insert_with(words);
        }
    }

    /// Work is done on a manifest: none that was refused, none that was approved by nobody.
    fn works(&mut self, doing: &str, model: &ModelName, slot: &Slot) {
        let refuses = |kept: &Kept| kept.refusal(&slot.manifest).is_some();
        let is_refused = self.seen.borrow().slots.get(model).is_some_and(refuses);
        self.holds(!is_refused || self.act.forgives, || {
            format!("{doing} {model} {}, which was refused", slot.release)
        });
        let packed = self.house.releases.iter().find(|((name, release), packed)| {
            *name == model.as_str() && *release == slot.release && packed.index == slot.index
        });
        let is_of_it = packed.is_some_and(|(_, packed)| {
            packed.manifest == slot.manifest || packed.spare == Some(slot.manifest)
        });
        let is_approved = packed.is_some_and(|(name, _)| self.act.approved.contains(name));
        self.holds(is_of_it && is_approved, || {
            format!("{doing} {model} {}, which nobody approved", slot.release)
        });
    }

    fn is_spare(&self, slot: &Slot) -> bool {
        self.house.releases.values().any(|packed| packed.spare == Some(slot.manifest))
    }

    /// It runs now, at the risk of the node.
    fn risks(&mut self, model: &ModelName, slot: &Slot) {
        let ends = self.seen.borrow().ends.get(&slot.manifest).copied().unwrap_or_default();
        self.holds(ends < 2, || format!("{model} {} runs again after {ends} ends", slot.release));
        self.seen.borrow_mut().running.insert(slot.manifest);
    }

    /// A blob comes from the registry.
    fn bring(
        &self,
        digest: &Digest,
        list: Option<(&Manifest, &package::descriptor::Descriptor)>,
    ) -> Result<(), String> {
        let Some(bytes) = self.house.blobs.get(digest) else { return Err(format!("nobody has {digest}")) };
        let chunks = list.map(|(manifest, list)| chunks_of(&self.store, manifest, list)).transpose()?;
        for _ in 0..2 {
            let want = Want { digest: *digest, size: bytes.len() as u64, chunks: chunks.clone() };
            match self.ingest(want, bytes) {
                // A part without chunks that a cut tore: it is gone now.
                Err(IngestError::WrongDigest { .. }) => {}
                Ok(()) | Err(IngestError::There { .. }) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("{digest} came twice with wrong bytes"))
    }

    fn ingest(&self, want: Want, bytes: &[u8]) -> Result<(), IngestError> {
        let mut ingest = Ingest::begin(&self.store, want, 0)?;
        while ingest.check(16 << 10)?.is_some() {}
        let mut is_settled = false;
        while let Some(range) = ingest.missing().first().cloned() {
            let range = range.start as usize..range.end.min(range.start + (20 << 10)) as usize;
            ingest.write(range.start as u64, &bytes[range])?;
            if !is_settled && bytes.len() > 20 << 10 {
                ingest.settle()?;
                is_settled = true;
            }
        }
        ingest.finish().map(drop)
    }

    fn bring_all(&self, slot: &Slot) -> Result<(), String> {
        self.bring(&slot.index, None)?;
        self.bring(&slot.manifest, None)?;
        let bytes = read_document(&self.store, &slot.manifest).map_err(|error| error.to_string())?;
        let manifest = Manifest::parse(&bytes.unwrap_or_default()).map_err(|error| error.to_string())?;
        let list = manifest.layer(Role::Chunks);
        if let Some(list) = list {
            self.bring(&list.digest, None)?;
        }
        for layer in manifest.layers.iter().chain([&manifest.config]) {
            let has_list = layer.role() == Some(Role::Weights);
            self.bring(&layer.digest, list.filter(|_| has_list).map(|list| (&manifest, list)))?;
        }
        Ok(())
    }
}

impl<D: Disk> Hands for Outside<'_, D> {
    fn choose(&mut self, model: &ModelName, order: &Order) {
        let slot = loop {
            match slot_for(&self.store, model, order, &house::device()) {
                Ok(Choosing::Done(slot)) => break slot,
                Ok(Choosing::Needs(digest)) => {
                    if let Err(why) = self.bring(&digest, None) {
                        break Err(why);
                    }
                }
                Err(error) => break Err(error.to_string()),
            }
        };
        self.say(model, Event::Chosen { index: order.index, result: slot });
    }

    fn transfer(&mut self, model: &ModelName, slot: &Slot) {
        self.works("brings", model, slot);
        let event = match self.bring_all(slot) {
            Ok(()) => Event::Arrived(slot.manifest),
            Err(why) if why.contains("quota") => Event::NoRoom(slot.manifest, why),
            Err(why) => Event::TransferFailed(slot.manifest, why),
        };
        self.say(model, event);
    }

    fn verify(&mut self, model: &ModelName, slot: &Slot) {
        self.works("checks", model, slot);
        let result = verify(&self.store, &Keys::none(), slot);
        self.say(model, Event::Verified(slot.manifest, result));
    }

    fn prove(&mut self, model: &ModelName, slot: &Slot, _budget: Budget) {
        self.works("proves", model, slot);
        self.risks(model, slot);
        let (is_spare, is_tiny) = (self.is_spare(slot), model.as_str() == "tiny");
        if is_tiny && self.act.kills.contains(&slot.release) || is_spare && self.act.spare_kills {
            self.killed = true;
            return;
        }
        let measured = Measured { load_ms: Some(1), ..Measured::default() };
        let fails = is_tiny && self.act.fails_golden.contains(&slot.release);
        let proof = match fails || is_spare && self.act.spare_fails {
            true => Proof::Failed { why: "token 2".into(), measured },
            false => Proof::Passed(measured),
        };
        self.say(model, Event::Proved(slot.manifest, proof));
    }

    fn shadow(&mut self, model: &ModelName, slot: &Slot, limits: Option<Limits>) {
        let is_ordered = self.act.beside.contains(&slot.release) && limits.is_some();
        self.holds(is_ordered, || format!("{model} is compared, which nobody asked for"));
        self.works("compares", model, slot);
        self.risks(model, slot);
        if self.act.kills.contains(&slot.release) {
            self.killed = true;
        }
        if self.act.is_enough {
            self.say(model, Event::Compared(slot.manifest, 4));
        }
    }

    fn serves(&mut self, _model: &ModelName, _slot: &Slot) -> bool {
        !self.act.unserved
    }

    fn serve(&mut self, model: &ModelName, slot: &Slot) {
        self.holds(!self.act.unserved, || format!("{model} {} is started, and nobody serves", slot.release));
        let kept = self.seen.borrow().slots.get(model).cloned().unwrap_or_default();
        let is_beside = kept.beside().is_some_and(|(it, _)| it.slot.manifest == slot.manifest);
        self.holds(!is_beside, || format!("{model} {} serves and shall not", slot.release));
        let is_current = kept.current.is_some_and(|current| current.manifest == slot.manifest);
        if !is_current {
            self.risks(model, slot);
        }
        let packed = self.house.releases.iter().find(|(_, packed)| packed.index == slot.index);
        let approved = packed.is_some_and(|(name, packed)| {
            packed.manifest == slot.manifest && self.act.approved.contains(name)
        });
        self.holds(approved, || format!("serves {model} {}, which nobody approved", slot.release));
        self.serving.remove(model);
        let loaded = match self.act.breaks && model.as_str() == "tiny" {
            true => Err("it does not load".into()),
            false => verify(&self.store, &Keys::none(), slot).map_err(|fault| format!("{fault:?}")),
        };
        let is_broken = loaded.is_err() && !self.act.breaks && !self.disk.is_dead();
        self.holds(!is_broken, || format!("{model} {} cannot be loaded: {loaded:?}", slot.release));
        if loaded.is_ok() {
            self.serving.insert(model.clone(), slot.clone());
        }
        self.say(model, Event::Loaded(slot.manifest, loaded));
    }

    fn unload(&mut self, model: &ModelName) {
        self.serving.remove(model);
    }

    fn exercise(&mut self, model: &ModelName, slot: &Slot) {
        self.say(model, Event::Answered(slot.manifest, Answer { ms: 5, ok: true, golden: true }));
    }

    fn journal(&mut self, model: &ModelName, report: &Report) {
        if self.journal.append(draft(model, report).body.get()).is_ok() {
            self.say(model, Event::Journalled(report.id.clone()));
        }
    }

    fn tell(&mut self, _model: Option<&ModelName>, _words: &str) {}

    fn choose_spare(&mut self, model: &ModelName, current: &Slot) {
        let slot = loop {
            match spare_for(&self.store, current, &house::device()) {
                Ok(Sparing::Done(slot)) => break slot,
                Ok(Sparing::Needs(digest)) => {
                    if let Err(why) = self.bring(&digest, None) {
                        break Err(NoSpare::NotNow(why));
                    }
                }
                Err(error) => break Err(NoSpare::NotNow(error.to_string())),
            }
        };
        self.say(model, Event::SpareChosen { index: current.index, result: slot });
    }

    fn rest(&mut self, _model: &ModelName) {}

    fn over(&mut self, model: &ModelName, _is_over: bool, _why: &str) {
        self.holds(false, || format!("{model} goes over to its spare, and memory is not short"));
    }
}

/// One run, on whatever stands on the disk. `fails`: the disk may fail, so the run need not come to its end; what it did meanwhile
/// is looked at by the next.
pub(crate) fn live<D: Over>(
    house: &House,
    act: &Act,
    disk: &Simulated,
    seen: Seen,
    fails: bool,
) -> (Seen, Result<End, Violation>) {
    let seen = Rc::new(RefCell::new(seen));
    let over = D::over(disk);
    let result = run(house, act, disk, &over, &seen);
    let result = match result {
        // The first thing that went wrong was the power.
        Err(_) if disk.is_dead() => Ok(End::Died),
        Err(_) if fails => Ok(End::Failed),
        result => result,
    };
    let mut seen = Rc::unwrap_or_clone(seen).into_inner();
    let result = seen.violation.take().map_or(result, Err);
    match &result {
        Ok(End::Quiet) => {
            over.flush();
            seen.running.clear();
        }
        _ => seen.end(),
    }
    (seen, result)
}

fn run<D: Over>(
    house: &House,
    act: &Act,
    disk: &Simulated,
    over: &D,
    seen: &Rc<RefCell<Seen>>,
) -> Result<End, Violation> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    seen.borrow_mut().lives += 1;
    if !act.spares {
        // Who takes spares out of the settings, and puts them in again, asks for another try.
        let spares: BTreeSet<Digest> = house.releases.values().filter_map(|packed| packed.spare).collect();
        seen.borrow_mut().ends.retain(|manifest, _| !spares.contains(manifest));
    }
    let boot = BootId::random(&mut world::Simulated::new(seen.borrow().lives));
    let mut now = Now { mono_ns: 0, wall_ms: NOW_MS, boot, kernel: None };
    let store =
        Store::open(over.clone(), Path::new("/data/packages"), QUOTA_BYTES).map_err(|error| told(&error))?;
    let store = Arc::new(store);
    let journal = Journal::open(disk).map_err(|error| told(&error))?;
    let outside = Outside {
        house,
        act,
        disk: disk.clone(),
        store: store.clone(),
        events: VecDeque::new(),
        serving: BTreeMap::new(),
        journal,
        seen: seen.clone(),
        killed: false,
    };
    let trial = TrialRules { least: Duration::from_secs(60), answers: 2, ..TrialRules::default() };
    let rules = Rules { trial, spare: act.spares, ..Rules::default() };
    let mut carry = Carry::open(over.clone(), Path::new("/data/slots"), store.clone(), rules, outside)
        .map_err(|error| told(&error))?;
    let models: BTreeSet<ModelName> = seen.borrow().slots.keys().chain(carry.models()).cloned().collect();
    for model in &models {
        let kept = carry.slots(model).map(|slots| slots.kept.clone()).unwrap_or_default();
        seen.borrow().check_slots(model, &kept, act.forgives)?;
        seen.borrow_mut().slots.insert(model.clone(), kept.clone());
        let spare = kept.spare.as_ref().filter(|spare| spare.phase == SparePhase::Ready);
        for slot in kept.current.iter().chain(&kept.previous).chain(spare.map(|spare| &spare.slot)) {
            let whole = verify(&store, &Keys::none(), slot);
            must!(whole.is_ok(), "{model} {}: {whole:?}", slot.release);
        }
    }
    let kinds = KindSet::hybrid();
    let path = Path::new("/data/trust/state");
    let least = carry.trust_sequence();
    let state =
        TrustState::open(over.clone(), path, &house.root, &kinds, least).map_err(|error| told(&error))?;
    seen.borrow().check_trust(state.trusted())?;
    state.tidy().map_err(|error| told(&error))?;
    let state = Arc::new(Mutex::new(state));
    carry.trust(state.clone());
    let mut life = Life { carry, state, disk, over: over.clone(), seen };
    let started = life.carry.start(&now);
    life.heard(started)?;
    if let Some(end) = life.drain(&now)? {
        return Ok(end);
    }
    life.no_leftovers()?;
    let policy = Policy::default();
    life.refresh(&policy, act, house)?;
    let node = NodeFacts { name: NODE, labels: &BTreeMap::new(), facts: &Facts::default() };
    for offer in &act.offers {
        let mut state = life.state.lock().unwrap();
        if let Ok(accepted) = accept(state.trusted(), &policy, offer, node, NOW_MS) {
            state.commit(accepted.trusted).map_err(|error| told(&error))?;
            seen.borrow_mut().trusted = Some(state.trusted().clone());
        }
    }
    let utc = Local { now_ms: Some(NOW_MS), offset_s: 0 };
    let standing = orders(&life.state.lock().unwrap(), &policy, node, NOW_MS, utc);
    for (model, order) in standing.due {
        let heard = life.carry.hear(&model, Event::Ordered(order), &now);
        life.heard(heard)?;
    }
    if standing.beside.is_empty() {
        let heard = life.carry.hear(&ModelName::new("tiny").unwrap(), Event::Withdrawn, &now);
        life.heard(heard)?;
    }
    for (model, order) in standing.beside {
        let heard = life.carry.hear(&model, Event::Ordered(order), &now);
        life.heard(heard)?;
    }
    if act.forgives {
        let heard = life.carry.hear(&ModelName::new("tiny").unwrap(), Event::LeaveSafe, &now);
        life.heard(heard)?;
    }
    let (mut quiet, mut steps_beside) = (0, 0);
    for _ in 0..100 {
        if let Some(end) = life.drain(&now)? {
            return Ok(end);
        }
        life.answer(act);
        if let Some(end) = life.drain(&now)? {
            return Ok(end);
        }
        quiet = if life.is_quiet(act) { quiet + 1 } else { 0 };
        if quiet == 3 {
            life.check_end()?;
            let models: Vec<ModelName> = life.carry.models().cloned().collect();
            for model in models {
                let heard = life.carry.hear(&model, Event::Stopping, &now);
                life.heard(heard)?;
            }
            return Ok(End::Quiet);
        }
        now.mono_ns += STEP_NS;
        let ticked = life.carry.tick(&now);
        life.heard(ticked)?;
        let seen_to = life.carry.quiet(&now);
        life.heard(seen_to)?;
        let beside = life.beside();
        steps_beside = if beside.is_some() { steps_beside + 1 } else { 0 };
        if steps_beside * STEP_NS >= STEADY_NS {
            // What stood so long beside the current one is not what a later end is about.
            beside.map(|manifest| seen.borrow_mut().ends.remove(&manifest));
        }
    }
    Err("it never comes to an end".into())
}

/// A run under way.
struct Life<'a, D: Over> {
    carry: Carry<D, Outside<'a, D>>,
    state: Arc<Mutex<TrustState<D>>>,
    disk: &'a Simulated,
    over: D,
    seen: &'a Rc<RefCell<Seen>>,
}

impl<D: Over> Life<'_, D> {
    /// What was carried out may be relied on now, unless the power went under it.
    fn heard<E: std::fmt::Display>(&mut self, result: Result<(), E>) -> Result<(), Violation> {
        must!(self.seen.borrow().violation.is_none(), "see there");
        must!(!self.disk.is_dead(), "the power is gone");
        result.map_err(|error| error.to_string())?;
        let models: Vec<ModelName> = self.carry.models().cloned().collect();
        for model in models {
            if let Some(slots) = self.carry.slots(&model) {
                self.seen.borrow_mut().note(&model, &slots.kept, &self.state.lock().unwrap());
            }
        }
        Ok(())
    }

    /// Lets the slots hear all that happened.
    fn drain(&mut self, now: &Now) -> Result<Option<End>, Violation> {
        loop {
            if self.carry.hands().killed {
                return Ok(Some(End::Killed));
            }
            let Some((model, event)) = self.carry.hands().events.pop_front() else { return Ok(None) };
            let heard = self.carry.hear(&model, event, now);
            self.heard(heard)?;
        }
    }

    /// Somebody asks each model that serves.
    fn answer(&mut self, act: &Act) {
        let serving = self.carry.hands().serving.clone();
        for (model, slot) in serving {
            let ok = !act.fails_trial.contains(&slot.release) || model.as_str() != "tiny";
            for _ in 0..2 {
                let answer = Answer { ms: 10, ok, golden: false };
                self.carry.hands().say(&model, Event::Answered(slot.manifest, answer));
            }
        }
    }

    /// What of `tiny` answers beside the current one.
    fn beside(&mut self) -> Option<Digest> {
        let slots = self.carry.slots(&ModelName::new("tiny").ok()?)?;
        let (candidate, _) = slots.kept.beside()?;
        (candidate.phase == Phase::Shadow).then_some(candidate.slot.manifest)
    }

    fn is_quiet(&mut self, act: &Act) -> bool {
        let models: Vec<ModelName> = self.carry.models().cloned().collect();
        let is_quiet = |kept: &Kept| {
            let waits = kept.candidate.as_ref().is_none_or(|it| {
                let is_beside = it.beside.is_some() && it.phase == Phase::Shadow;
                it.phase == Phase::Staging && act.waits || is_beside && !act.is_enough
            });
            let spare = kept.spare.as_ref().is_some_and(|spare| spare.phase == SparePhase::Ready);
            let is_without = kept.spareless.is_some() || kept.safe.is_some() || kept.current.is_none();
            let is_spared = !act.spares || spare || is_without;
            waits && is_spared && kept.wanted.is_none() && kept.reports.is_empty()
        };
        models.iter().filter_map(|model| self.carry.slots(model)).all(|slots| is_quiet(&slots.kept))
    }

    /// Metadata comes, first an attacker's if the act has any.
    fn refresh(&mut self, policy: &Policy, act: &Act, house: &House) -> Result<(), Violation> {
        let mut state = self.state.lock().unwrap();
        if let Some(stage) = act.replays {
            update(&mut state, policy, &house.stages[stage], update::Want::Refresh)?;
            self.seen.borrow_mut().trusted = Some(state.trusted().clone());
        }
        for target in &act.targets {
            let outcome =
                update(&mut state, policy, &house.stages[act.stage], update::Want::Target(target.clone()))?;
            must!(matches!(outcome, Outcome::Target(_)), "{target}: {outcome:?}");
            self.seen.borrow_mut().trusted = Some(state.trusted().clone());
        }
        Ok(())
    }

    /// Nothing that was begun and not ended stays.
    fn no_leftovers(&self) -> Result<(), Violation> {
        for folder in ["/data/slots", "/data/trust", "/data/packages", "/data/packages/blobs/sha256"] {
            for entry in self.over.list(Path::new(folder)).map_err(|error| error.to_string())? {
                let is_left = entry.name.ends_with(".new") || entry.name.ends_with(".lock");
                must!(!is_left, "{folder}/{} is left", entry.name);
            }
        }
        Ok(())
    }

    /// What stands on the disk when nothing is left to do: what is needed, and nothing else; and every report is journalled.
    fn check_end(&mut self) -> Result<(), Violation> {
        self.no_leftovers()?;
        let store = self.carry.hands().store.clone();
        let needed = reachable(self.carry.roots(), |digest| store.read_small(digest, 4 << 20));
        let needed = needed.map_err(|error| error.to_string())?;
        let folder = Path::new("/data/packages/blobs/sha256");
        for entry in self.disk.list(folder).map_err(|error| error.to_string())? {
            let hex = entry.name.trim_start_matches('.').trim_end_matches(".part");
            let is_needed = needed.iter().any(|digest| digest.hex() == hex);
            must!(is_needed, "nobody needs {}", entry.name);
        }
        let used = store.used_bytes().map_err(|error| error.to_string())?;
        must!(used <= QUOTA_BYTES, "{used} bytes are used");
        let mut journalled: BTreeMap<String, &String> = BTreeMap::new();
        let journal = &self.carry.hands().journal;
        for record in &journal.records {
            let body: wire::body::Install =
                serde_json::from_str(record).map_err(|error| error.to_string())?;
            let first = journalled.entry(body.id.clone()).or_insert(record);
            must!(*first == record, "two reports are called {}", body.id);
        }
        for (id, owed) in &self.seen.borrow().owed {
            must!(journalled.get(id).is_some_and(|record| *record == owed), "{id} is not journalled: {owed}");
        }
        Ok(())
    }
}

/// Carries a refresh out over files, each step durable before the next.
fn update<D: Disk>(
    state: &mut TrustState<D>,
    policy: &Policy,
    files: &Files,
    want: update::Want,
) -> Result<Outcome, Violation> {
    let update = Update::new(state.trusted().clone(), policy.clone());
    let (mut update, mut effects) = update::step(update, update::Event::Begin(want), NOW_MS);
    loop {
        let event = match effects.pop() {
            Some(Effect::Done(outcome)) => return Ok(outcome),
            Some(Effect::Persist(trusted)) => {
                state.commit(trusted).map_err(|error| error.to_string())?;
                update::Event::Persisted
            }
            Some(Effect::Fetch { file, .. }) => match files.get(file.as_str()) {
                Some(bytes) => update::Event::Got { file, bytes: bytes.clone() },
                None => update::Event::Absent { file },
            },
            None => return Err("an update without an end".into()),
        };
        (update, effects) = update::step(update, event, NOW_MS);
    }
}
