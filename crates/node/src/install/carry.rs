//! Carries out what the slots decide: makes each state durable, and only then lets anything be done by it.
//!
//! One value has the slots of all models, since they share one store. What takes long (transfers, proofs, models that answer)
//! is begun through [`Hands`] and told as an event when it is over, so a call here takes as long as a few small files. Who
//! drives it calls [`Carry::start`] once, then [`Carry::hear`] for what happens, and [`Carry::tick`] every second.
//!
//! A state that cannot be written is dropped with its effects, and its event waits, in order, until the disk takes it. That
//! must not stop what runs: a node that starts on a full disk loads its current model all the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, TryLockError};

use package::disk::{Disk, FileError, make_folders, remove};
use package::golden::Budget;
use package::name::ModelName;
use package::store::Store;
use package::store::collect::{Root, collect};
use package::trust::shadow::Limits;
use package::trust::state::TrustState;

use crate::install::event::{Effect, Event, Now, Rules};
use crate::install::state::{Kept, Opened, Order, Report, Slot, Slots, SlotsError, SlotsFile};
use crate::install::step;
use crate::why::why;

/// So many events wait for the disk; more answers than that are not counted.
const WAITING_MAX: usize = 1024;

/// What the rest of the node does for the slots. Each call returns at once; what comes of it is heard as an event later.
pub trait Hands {
    /// Read a release's index, bringing it if need be, and say which variant fits: [`Event::Chosen`].
    fn choose(&mut self, model: &ModelName, order: &Order);
    /// Bring the index, the manifest, and all blobs that it names: [`Event::Arrived`], [`Event::TransferFailed`].
    fn transfer(&mut self, model: &ModelName, slot: &Slot);
    /// Check them all: [`Event::Verified`].
    fn verify(&mut self, model: &ModelName, slot: &Slot);
    /// Let a child process answer the golden set, within this budget and the package's own: [`Event::Proved`].
    fn prove(&mut self, model: &ModelName, slot: &Slot, budget: Budget);
    /// Let it answer beside the current model, and compare: before its trial [`Event::Shadowed`], within limits that were ordered
    /// [`Event::Compared`] again and again, or [`Event::Stood`]; [`Event::Crashed`].
    fn shadow(&mut self, model: &ModelName, slot: &Slot, limits: Option<Limits>);
    /// Whether anything here lets it answer; it stays so in a run.
    fn serves(&mut self, model: &ModelName, slot: &Slot) -> bool;
    /// Load it, and let it answer instead of what is loaded: [`Event::Loaded`], [`Event::Answered`], [`Event::Crashed`]. If it is
    /// loaded already, only say so.
    fn serve(&mut self, model: &ModelName, slot: &Slot);
    /// Let nothing answer.
    fn unload(&mut self, model: &ModelName);
    /// Let what serves answer one case of its golden set: [`Event::Answered`].
    fn exercise(&mut self, model: &ModelName, slot: &Slot);
    /// Bring a report into the journal: [`Event::Journalled`] when it is durable there. It may come more than once.
    fn journal(&mut self, model: &ModelName, report: &Report);
    /// Tell a person; `None`: it is about all models.
    fn tell(&mut self, model: Option<&ModelName>, words: &str);
    /// Read the release of what is current, and say which smaller variant fits: [`Event::SpareChosen`].
    fn choose_spare(&mut self, model: &ModelName, current: &Slot);
    /// Let go of what is being brought, checked or proven for a model: nothing need come of it.
    fn rest(&mut self, model: &ModelName);
    /// Bring into the journal that the spare answers now, or does no more.
    fn over(&mut self, model: &ModelName, is_over: bool, why: &str);
}

/// Slots that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// Another process does.
    #[error("the slots in {} are another process's: is a node running?", folder.display())]
    Busy {
        /// Which slots.
        folder: PathBuf,
    },
    /// One model's file.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The slots of all models of this machine, held by one process.
pub struct Carry<D: Disk, H> {
    disk: D,
    folder: PathBuf,
    store: Arc<Store<D>>,
    trust: Option<Arc<Mutex<TrustState<D>>>>,
    rules: Rules,
    models: BTreeMap<ModelName, Carried<D>>,
    /// Models whose slots cannot be read: nobody knows what they need, so nothing is collected.
    lost: Vec<SlotsError>,
    /// Whether the store was collected since what is needed last changed.
    is_collected: bool,
    /// What is in the way, told once.
    trouble: Option<String>,
    hands: H,
    _lock: D::Lock,
}

/// One model's slots.
struct Carried<D> {
    slots: Slots,
    file: SlotsFile<D>,
    /// What the state before needs of the store.
    old_roots: Vec<Root>,
    /// Events that the disk did not take.
    waiting: VecDeque<Event>,
}

impl<D: Disk + Clone, H: Hands> Carry<D, H> {
    /// Opens the slots in `folder`. Slots that cannot be read are told by [`Carry::start`], and the other models go on.
    pub fn open(
        disk: D,
        folder: &Path,
        store: Arc<Store<D>>,
        rules: Rules,
        hands: H,
    ) -> Result<Carry<D, H>, CarryError> {
        make_folders(&disk, folder)?;
        let lock_path = folder.join(".lock");
        let lock = disk.lock(&lock_path).map_err(FileError::at(&lock_path))?;
        let lock = lock.ok_or_else(|| CarryError::Busy { folder: folder.to_owned() })?;
        let mut names = BTreeSet::new();
        for entry in disk.list(folder).map_err(FileError::at(folder))? {
            let name = entry.name.as_str();
            if name.ends_with(".new") {
                // Begun by a life that did not end it.
                remove(&disk, &folder.join(name))?;
            } else if let Some(name) = name.strip_suffix(".old").unwrap_or(name).strip_suffix(".json") {
                names.extend(ModelName::new(name).ok());
            }
        }
        let (mut models, mut lost) = (BTreeMap::new(), Vec::new());
        for name in names {
            match SlotsFile::open(disk.clone(), folder, &name) {
                Ok(opened) => drop(models.insert(name, Carried::of(opened))),
                Err(error @ SlotsError::Lost { .. }) => lost.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Carry {
            disk,
            folder: folder.to_owned(),
            store,
            trust: None,
            rules,
            models,
            lost,
            is_collected: false,
            trouble: None,
            hands,
            _lock: lock,
        })
    }

    /// The newest trust state that any slot came from: one that is older is an old one.
    pub fn trust_sequence(&self) -> u64 {
        self.models.values().map(|it| it.slots.kept.trust_sequence).max().unwrap_or_default()
    }

    /// Where committed releases are remembered, so that nothing older is accepted. Without it the slots go on all the same.
    pub fn trust(&mut self, state: Arc<Mutex<TrustState<D>>>) {
        self.trust = Some(state);
    }

    /// Goes on with what an earlier run left, and collects what it left over.
    pub fn start(&mut self, now: &Now) -> Result<(), CarryError> {
        for error in &self.lost {
            self.hands.tell(None, &error.to_string());
        }
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            self.hear(&name, Event::Started, now)?;
            let Some(carried) = self.models.get(&name).filter(|carried| !carried.waiting.is_empty()) else {
                continue;
            };
            // This start is not counted, so a model that breaks the node down would do so again; no model at all is worse.
            let Slots { kept, run } = &carried.slots;
            let may = kept.safe.is_none() && !run.unserved;
            if let Some(current) = kept.current.as_ref().filter(|_| may) {
                self.hands.serve(&name, current);
            }
        }
        self.collect();
        Ok(())
    }

    /// Something happened to a model. If anything is on its way now, what is done for spares rests.
    pub fn hear(&mut self, model: &ModelName, event: Event, now: &Now) -> Result<(), CarryError> {
        self.take(model, event, now)?;
        if self.is_quiet() {
            return Ok(());
        }
        let at_work = self.models.iter().filter(|(_, carried)| carried.slots.run.spare.is_at_work);
        for name in at_work.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.take(&name, Event::Busy, now)?;
        }
        Ok(())
    }

    /// The machine is short of nothing: spares are seen to, if no release is on its way.
    pub fn quiet(&mut self, now: &Now) -> Result<(), CarryError> {
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            if self.is_quiet() {
                self.hear(&name, Event::Quiet, now)?;
            }
        }
        Ok(())
    }

    /// Whether no release is on its way, of any model.
    fn is_quiet(&self) -> bool {
        let is_quiet = |kept: &Kept| kept.candidate.is_none() && kept.wanted.is_none();
        self.models.values().all(|carried| is_quiet(&carried.slots.kept))
    }

    fn take(&mut self, model: &ModelName, event: Event, now: &Now) -> Result<(), CarryError> {
        if !self.models.contains_key(model) {
            if !matches!(event, Event::Ordered(_)) {
                return Ok(());
            }
            let opened = SlotsFile::open(self.disk.clone(), &self.folder, model)?;
            self.models.insert(model.clone(), Carried::of(opened));
        }
        let Some(carried) = self.models.get_mut(model) else { return Ok(()) };
        let is_full = carried.waiting.len() >= WAITING_MAX && matches!(event, Event::Answered(..));
        let is_heard = is_passing(&event) && !carried.waiting.is_empty();
        if !is_full && !is_heard {
            carried.waiting.push_back(event);
        }
        while let Some(effects) = self.take_next(model, now) {
            for effect in effects {
                self.carry_out(model, effect);
            }
        }
        Ok(())
    }

    /// Time passed: retries what the disk did not take.
    pub fn tick(&mut self, now: &Now) -> Result<(), CarryError> {
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            self.hear(&name, Event::Tick, now)?;
            let current = self.models.get(&name).and_then(|carried| carried.slots.kept.current.as_ref());
            if let Some(release) = current.map(|current| current.release) {
                self.raise(&name, release);
            }
        }
        // The state before needs less once the next one is written.
        if !self.is_collected {
            self.collect();
        }
        Ok(())
    }

    /// One model's slots.
    pub fn slots(&self, model: &ModelName) -> Option<&Slots> {
        self.models.get(model).map(|carried| &carried.slots)
    }

    /// The models that have slots.
    pub fn models(&self) -> impl Iterator<Item = &ModelName> {
        self.models.keys()
    }

    /// The rest of the node.
    pub fn hands(&mut self) -> &mut H {
        &mut self.hands
    }

    /// What of the store is needed: by each state, and by the one before it, which is used if the disk damages the first.
    pub fn roots(&self) -> BTreeSet<Root> {
        let of = |it: &Carried<D>| [it.slots.kept.roots(), it.old_roots.clone()].concat();
        self.models.values().flat_map(of).collect()
    }

    /// Takes the next event that waits; gives what is to be done by the state that it made, once that is durable.
    fn take_next(&mut self, model: &ModelName, now: &Now) -> Option<Vec<Effect>> {
        let carried = self.models.get_mut(model)?;
        let event = carried.waiting.front()?.clone();
        let is_passing = is_passing(&event);
        // A model is of one kind: what holds of what is current holds of what comes.
        let Kept { current, candidate, .. } = &carried.slots.kept;
        let slot = current.as_ref().or(candidate.as_ref().map(|candidate| &candidate.slot));
        carried.slots.run.unserved = slot.is_some_and(|slot| !self.hands.serves(model, slot));
        let (slots, effects) = step(carried.slots.clone(), event, now, &self.rules);
        if effects.first() == Some(&Effect::Persist) {
            match carried.file.write(&slots.kept) {
                Ok(()) => {
                    let was = &carried.slots.kept;
                    let is_same = was.roots() == slots.kept.roots();
                    let before = std::mem::replace(&mut carried.old_roots, was.firm_roots());
                    self.is_collected &= is_same && before == carried.old_roots;
                }
                Err(error) => {
                    if is_passing {
                        carried.waiting.pop_front();
                    }
                    self.tell_once(format!("the slots of {model} cannot be written: {}", why(&error)));
                    return None;
                }
            }
        }
        carried.slots = slots;
        carried.waiting.pop_front();
        Some(effects)
    }

    fn carry_out(&mut self, model: &ModelName, effect: Effect) {
        match effect {
            Effect::Persist => {} // done, or nothing else were
            Effect::Choose(order) => self.hands.choose(model, &order),
            Effect::Transfer(slot) => self.hands.transfer(model, &slot),
            Effect::Verify(slot) => self.hands.verify(model, &slot),
            Effect::Prove(slot, budget) => self.hands.prove(model, &slot, budget),
            Effect::Shadow(slot, limits) => self.hands.shadow(model, &slot, limits),
            Effect::Serve(slot) => self.hands.serve(model, &slot),
            Effect::Unload => self.hands.unload(model),
            Effect::Exercise(slot) => self.hands.exercise(model, &slot),
            Effect::RaiseFloor(release) => self.raise(model, release),
            Effect::Journal(report) => self.hands.journal(model, &report),
            Effect::Collect => self.collect(),
            Effect::Tell(words) => self.hands.tell(Some(model), &words),
            Effect::ChooseSpare(slot) => self.hands.choose_spare(model, &slot),
            Effect::Rest => self.hands.rest(model),
            Effect::Over(is_over, why) => self.hands.over(model, is_over, &why),
        }
    }

    /// A release was committed. If the trust state is being updated right now, the next tick raises it.
    fn raise(&mut self, model: &ModelName, release: u64) {
        let Some(state) = self.trust.clone() else { return };
        let mut state = match state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Err(error) = state.raise_release(model, release) {
            self.tell_once(format!("that {model} {release} was committed is not kept: {}", why(&error)));
        }
    }

    fn collect(&mut self) {
        if !self.lost.is_empty() {
            return;
        }
        match collect(&self.store, self.roots()) {
            Ok(_) => self.is_collected = true,
            Err(error) => self.tell_once(format!("what nobody needs any more stays: {}", why(&error))),
        }
    }

    fn tell_once(&mut self, words: String) {
        if self.trouble.as_ref() != Some(&words) {
            self.hands.tell(None, &words);
            self.trouble = Some(words);
        }
    }
}

/// Whether an event comes again by itself, and so need not wait for the disk.
fn is_passing(event: &Event) -> bool {
    matches!(event, Event::Tick | Event::Quiet | Event::Busy)
}

impl<D> Carried<D> {
    fn of(opened: Opened<D>) -> Carried<D> {
        let Opened { file, kept, old_roots, .. } = opened;
        let slots = Slots { kept, ..Slots::default() };
        Carried { slots, file, old_roots, waiting: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use package::digest::Digest;
    use package::disk::simulated::Simulated;
    use package::name::VariantName;
    use wire::id::BootId;
    use wire::world;

    use super::*;
    use crate::install::trial::Answer;

    /// Writes down what it is asked for; and whether nothing lets models answer.
    #[derive(Default)]
    struct Notes(Vec<String>, bool);

    impl Notes {
        fn note(&mut self, words: String) {
            self.0.push(words);
        }
    }

    impl Hands for Notes {
        fn choose(&mut self, _model: &ModelName, order: &Order) {
            self.note(format!("choose {}", order.release));
        }
        fn transfer(&mut self, _model: &ModelName, slot: &Slot) {
            self.note(format!("transfer {}", slot.release));
        }
        fn verify(&mut self, _model: &ModelName, slot: &Slot) {
            self.note(format!("verify {}", slot.release));
        }
        fn prove(&mut self, _model: &ModelName, slot: &Slot, _budget: Budget) {
            self.note(format!("prove {}", slot.release));
        }
        fn shadow(&mut self, _model: &ModelName, slot: &Slot, _limits: Option<Limits>) {
            self.note(format!("shadow {}", slot.release));
        }
        fn serves(&mut self, _model: &ModelName, _slot: &Slot) -> bool {
            !self.1
        }
        fn serve(&mut self, _model: &ModelName, slot: &Slot) {
            self.note(format!("serve {}", slot.release));
        }
        fn unload(&mut self, _model: &ModelName) {
            self.note("unload".into());
        }
        fn exercise(&mut self, _model: &ModelName, slot: &Slot) {
            self.note(format!("exercise {}", slot.release));
        }
        fn journal(&mut self, _model: &ModelName, report: &Report) {
            self.note(format!("journal {:?}", report.outcome));
        }
        fn tell(&mut self, _model: Option<&ModelName>, _words: &str) {
            self.note("tell".into());
        }
        fn choose_spare(&mut self, model: &ModelName, current: &Slot) {
            self.note(format!("choose a spare of {model} {}", current.release));
        }
        fn rest(&mut self, model: &ModelName) {
            self.note(format!("{model} rests"));
        }
        fn over(&mut self, _model: &ModelName, is_over: bool, _why: &str) {
            self.note(format!("over {is_over}"));
        }
    }

    fn tiny() -> ModelName {
        ModelName::new("tiny").unwrap()
    }

    fn slot(release: u64) -> Slot {
        let digest = Digest::of(&release.to_le_bytes());
        let variant = VariantName::new("q4_k_m").unwrap();
        Slot {
            release,
            index: digest,
            manifest: digest,
            variant,
            weights: digest,
            golden: None,
            committed_ms: None,
            rollout: None,
        }
    }

    /// Release 8, the first that is ordered.
    fn order() -> Order {
        Order {
            release: 8,
            index: slot(8).index,
            variant: None,
            allow_rollback: false,
            forgive: None,
            rollout: None,
            beside: None,
            trust_sequence: 1,
        }
    }

    /// A disk on which release 7 is current.
    fn disk() -> Simulated {
        let disk = Simulated::new();
        let mut opened = SlotsFile::open(disk.clone(), Path::new("/data/slots"), &tiny()).unwrap();
        opened.file.write(&Kept { current: Some(slot(7)), ..Kept::default() }).unwrap();
        disk
    }

    fn open(disk: &Simulated) -> Result<Carry<Simulated, Notes>, CarryError> {
        open_with(disk, Rules::default())
    }

    fn open_with(disk: &Simulated, rules: Rules) -> Result<Carry<Simulated, Notes>, CarryError> {
        let store = Arc::new(Store::open(disk.clone(), Path::new("/data/packages"), 1 << 20).unwrap());
        Carry::open(disk.clone(), Path::new("/data/slots"), store, rules, Notes::default())
    }

    fn now() -> Now {
        let boot = BootId::random(&mut world::Simulated::new(1));
        Now { mono_ns: 0, wall_ms: 0, boot, kernel: None }
    }

    fn heard(carry: &mut Carry<Simulated, Notes>) -> String {
        std::mem::take(&mut carry.hands().0).join(", ")
    }

    #[test]
    fn a_full_disk_keeps_no_model_from_serving() {
        let disk = disk();
        let mut carry = open(&disk).unwrap();
        disk.full_at(1);
        carry.start(&now()).unwrap();
        assert_eq!(heard(&mut carry), "tell, serve 7");
        let answer = Answer { ms: 1, ok: true, golden: false };
        carry.hear(&tiny(), Event::Answered(slot(7).manifest, answer), &now()).unwrap();
        carry.tick(&now()).unwrap();
        assert_eq!(heard(&mut carry), "", "told once");
        disk.full_at(1 << 20);
        carry.tick(&now()).unwrap();
        assert_eq!(heard(&mut carry), "serve 7", "the start is counted now, then the answer");
        assert_eq!(carry.slots(&tiny()).unwrap().kept.unproven_starts, 0);
    }

    #[test]
    fn what_nobody_serves_is_neither_started_nor_counted() {
        let disk = disk();
        for full_at in [1 << 20, 1] {
            disk.full_at(1 << 20);
            let mut carry = open(&disk).unwrap();
            carry.hands().1 = true;
            disk.full_at(full_at);
            for _ in 0..5 {
                carry.start(&now()).unwrap();
                assert_eq!(heard(&mut carry), "tell", "why not");
            }
            assert_eq!(carry.slots(&tiny()).unwrap().kept.unproven_starts, 0);
        }
        disk.full_at(1 << 20);
        let mut carry = open(&disk).unwrap();
        carry.start(&now()).unwrap();
        assert_eq!(heard(&mut carry), "serve 7");
    }

    #[test]
    fn events_wait_in_order_until_the_disk_takes_them() {
        let disk = disk();
        let mut carry = open(&disk).unwrap();
        carry.start(&now()).unwrap();
        assert_eq!(heard(&mut carry), "serve 7");
        disk.full_at(1);
        carry.hear(&tiny(), Event::Ordered(order()), &now()).unwrap();
        let chosen = Event::Chosen { index: slot(8).index, result: Ok(slot(8)) };
        carry.hear(&tiny(), chosen, &now()).unwrap();
        assert_eq!(heard(&mut carry), "tell");
        disk.full_at(1 << 20);
        carry.tick(&now()).unwrap();
        assert_eq!(heard(&mut carry), "choose 8, transfer 8");
        assert_eq!(carry.trust_sequence(), 1);
    }

    #[test]
    fn work_on_a_spare_rests_while_any_model_has_something_on_its_way() {
        let disk = disk();
        let other = ModelName::new("other").unwrap();
        let mut opened = SlotsFile::open(disk.clone(), Path::new("/data/slots"), &other).unwrap();
        opened.file.write(&Kept { current: Some(slot(3)), ..Kept::default() }).unwrap();
        let mut carry = open_with(&disk, Rules { spare: true, ..Rules::default() }).unwrap();
        carry.start(&now()).unwrap();
        let answer = Answer { ms: 1, ok: true, golden: false };
        for (model, release) in [(&other, 3), (&tiny(), 7)] {
            carry.hear(model, Event::Loaded(slot(release).manifest, Ok(())), &now()).unwrap();
            carry.hear(model, Event::Answered(slot(release).manifest, answer), &now()).unwrap();
        }
        heard(&mut carry);
        carry.quiet(&now()).unwrap();
        assert_eq!(heard(&mut carry), "choose a spare of other 3, choose a spare of tiny 7");
        carry.quiet(&now()).unwrap();
        assert_eq!(heard(&mut carry), "", "it is being done");
        carry.hear(&tiny(), Event::Ordered(order()), &now()).unwrap();
        assert_eq!(heard(&mut carry), "choose 8, other rests, tiny rests");
        carry.quiet(&now()).unwrap();
        let late = Event::SpareChosen { index: slot(3).index, result: Ok(slot(2)) };
        carry.hear(&other, late, &now()).unwrap();
        assert_eq!(heard(&mut carry), "", "nothing while something is on its way");
    }

    #[test]
    fn slots_are_one_processs_and_what_was_begun_goes() {
        let disk = disk();
        package::disk::write_whole(&disk, Path::new("/data/slots/tiny.json.new"), b"half").unwrap();
        let carry = open(&disk).unwrap();
        let entries = disk.list(Path::new("/data/slots")).unwrap();
        assert_eq!(entries.iter().map(|entry| &*entry.name).collect::<Vec<_>>(), ["tiny.json"]);
        assert!(matches!(open(&disk), Err(CarryError::Busy { .. })));
        drop(carry);
        assert_eq!(open(&disk).unwrap().models().collect::<Vec<_>>(), [&tiny()]);
    }

    #[test]
    fn nothing_is_collected_while_somebodys_slots_are_lost() {
        let disk = disk();
        package::disk::write_whole(&disk, Path::new("/data/slots/other.json"), b"damaged").unwrap();
        let mut carry = open(&disk).unwrap();
        let blob = carry.store.put_small(b"the lost model's", 0).unwrap();
        carry.start(&now()).unwrap();
        assert_eq!(heard(&mut carry), "tell, serve 7");
        assert!(carry.store.has(&blob).unwrap());
    }
}
