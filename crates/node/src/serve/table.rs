//! The models that are loaded: each with a seat at the table and a thread of its own, which loads it, lets it answer, and
//! gives its memory back.
//!
//! Two kinds sit here. Models of files are loaded when first asked for, and unloaded when idle for long or when another needs
//! their memory. Models of slots ([`Loader`]) come and go when the slots say so, and files make room for them. To unload is to
//! tell the thread to stop; it takes its seat away when the memory is back, so that memory is never counted as free before it
//! is. Whoever uses a model holds a [`Use`]; while there is one, its thread is told to stop only when its time is up.
//!
//! A name may have several seats while one model follows another: the *front*, the oldest that does not leave, takes the
//! requests. A new slot waits behind the front until its bytes are checked, so that damaged ones disturb nobody. Then the front
//! leaves: answers under way are written, for [`LEAVE_WAIT`] at most, and requests wait for the new one. Smaller variants that
//! answer while memory is short (`spare`) come and go in the same way.

mod spare;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use package::digest::Digest;
use package::name::ModelName;
use tokio::sync::watch;
use wire::world::MonoNs;

use super::engine::{self, Command, words};
use super::gauges::Gauges;
use super::load::{Loaded, SPOILT, load};
use super::offer::Offer;
use super::problem::Problem;
use super::settings::Settings;
use super::slots::{Loader, Witness};
use super::spill::Spill;
use crate::api::connections::Now;
use crate::pressure::Squeeze;
use crate::source::BackOff;
use crate::why::why;

/// Answers under way have so long when a model leaves for a slot's.
const LEAVE_WAIT: Duration = Duration::from_secs(30);

/// A slot's model that went for the machine's sake is loaded again after so long, twice as long each time in a row.
const AWAY: BackOff = BackOff { first: Duration::from_secs(30), longest: Duration::from_secs(1_800) };

/// The models of one server that are loaded.
pub(super) struct Table {
    settings: Settings,
    now: Now,
    /// What of the memory is given up.
    squeeze: Mutex<Squeeze>,
    seats: Mutex<Seats>,
    /// Threads wait here for others to be gone.
    gone: Condvar,
    /// Told whenever a seat comes or goes.
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct Seats {
    /// By number: a model that is loaded again has another, higher one.
    all: BTreeMap<u64, Seat>,
    seated: u64,
    /// No model is loaded any more.
    closed: bool,
    away: Away,
}

/// Slots' models that were unloaded because the machine was short of memory, to be loaded again.
#[derive(Default)]
struct Away {
    models: Vec<Arc<Witness>>,
    /// How often in a row, and when last.
    times: u32,
    since_ns: MonoNs,
}

impl Away {
    /// One more went.
    fn went(&mut self, witness: Arc<Witness>, now_ns: MonoNs) {
        if self.models.is_empty() {
            let ago = Duration::from_nanos(now_ns.saturating_sub(self.since_ns));
            self.times = AWAY.failures(self.times, ago);
            self.since_ns = now_ns;
        }
        self.models.push(witness);
    }

    /// Those that may come again.
    fn come(&mut self, now_ns: MonoNs) -> Vec<Arc<Witness>> {
        let wait_ns = AWAY.after(self.times.max(1)).as_nanos() as MonoNs;
        if now_ns.saturating_sub(self.since_ns) < wait_ns {
            return Vec::new();
        }
        std::mem::take(&mut self.models)
    }

    /// The slots have said something newer of this model.
    fn forget(&mut self, model: &str) {
        self.models.retain(|witness| witness.model().as_str() != model);
    }
}

/// A model that is loaded, or is about to be.
struct Seat {
    name: String,
    /// Of a slot's model.
    witness: Option<Arc<Witness>>,
    state: Arc<watch::Sender<State>>,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
    /// Requests that use it.
    users: usize,
    used_ns: MonoNs,
    needed_bytes: u64,
    leaving: bool,
    /// When it leaves, whoever uses it.
    cut_ns: Option<MonoNs>,
}

/// How far a model is.
#[derive(Clone)]
pub(super) enum State {
    Loading,
    Ready(Arc<Loaded>),
    Failed(Problem),
    /// It is gone; another may have come.
    Left,
}

/// A place at the table for one request.
pub(super) struct Place {
    pub(super) state: watch::Receiver<State>,
    pub(super) commands: Sender<Command>,
    pub(super) user: Use,
}

/// A loaded model, for who asks what is loaded.
pub(super) struct Sitting {
    pub(super) loaded: Arc<Loaded>,
    pub(super) users: usize,
    pub(super) used_ns: MonoNs,
    pub(super) leaving: bool,
}

/// How a model's thread ends.
enum End {
    /// It was told to.
    Left,
    /// It could not be loaded.
    Refused(Problem),
    /// It broke down.
    Crashed(String),
}

/// A count of users that goes down again, whatever becomes of the request.
pub(super) struct Use {
    table: Arc<Table>,
    number: u64,
}

impl Drop for Use {
    fn drop(&mut self) {
        let now_ns = (self.table.now)();
        if let Some(seat) = self.table.seats().all.get_mut(&self.number) {
            seat.users = seat.users.saturating_sub(1);
            seat.used_ns = now_ns;
            if seat.leaving {
                seat.leave();
            }
        }
    }
}

impl Seat {
    fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), State::Ready(_))
    }

    /// Whether it may be unloaded for others, or for nobody.
    fn is_idle(&self) -> bool {
        self.witness.is_none() && self.is_unused()
    }

    /// Whether it is loaded, and nobody uses it.
    fn is_unused(&self) -> bool {
        self.users == 0 && !self.leaving && self.is_ready()
    }

    fn is_of(&self, manifest: &Digest) -> bool {
        self.witness.as_ref().is_some_and(|witness| witness.manifest() == manifest)
    }

    /// Whether nobody waits for it to be loaded.
    fn is_unwanted(&self) -> bool {
        self.leaving && (self.users == 0 || matches!(*self.state.borrow(), State::Left))
    }

    /// Leaves when the last that uses it is done.
    fn leave(&mut self) {
        self.leaving = true;
        if self.users == 0 {
            // A thread that is gone has left already.
            let _ = self.commands.send(Command::Stop);
        }
    }

    /// Leaves for a slot's model, at `cut_ns` at the latest. Who waits for it to be loaded looks elsewhere.
    fn give_way(&mut self, cut_ns: MonoNs) {
        self.cut_ns = Some(self.cut_ns.map_or(cut_ns, |before| before.min(cut_ns)));
        self.state.send_if_modified(|state| {
            let is_loading = matches!(state, State::Loading);
            if is_loading {
                *state = State::Left;
            }
            is_loading
        });
        self.leave();
    }
}

impl Seats {
    /// All seats of a name, the oldest first.
    fn of<'s>(&'s mut self, name: &'s str) -> impl Iterator<Item = (u64, &'s mut Seat)> {
        self.all.iter_mut().filter(move |(_, seat)| seat.name == name).map(|(number, seat)| (*number, seat))
    }

    /// The seat that takes the requests for a name.
    fn front<'s>(&'s mut self, name: &'s str) -> Option<(u64, &'s mut Seat)> {
        self.of(name).find(|(_, seat)| !seat.leaving)
    }

    /// Whether a seat's model need not be loaded any more.
    fn is_unwanted(&self, number: u64) -> bool {
        self.closed || self.all.get(&number).is_none_or(Seat::is_unwanted)
    }
}

impl Table {
    pub(super) fn new(settings: Settings, now: Now) -> Table {
        let (seats, gone, changes) = (Mutex::default(), Condvar::new(), watch::Sender::new(()));
        Table { settings, now, squeeze: Mutex::default(), seats, gone, changes }
    }

    /// Told whenever a seat comes or goes.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Counts one user more of a model. A file is begun to be loaded if nobody did; a slot's model that is not here is not.
    pub(super) fn sit_down(self: &Arc<Table>, offer: &Offer) -> Result<Option<Place>, Problem> {
        let mut seats = self.seats();
        if seats.closed {
            return Err(Problem::shutting_down());
        }
        let squeeze = self.squeezed();
        let would_load = || seats.all.values().all(|seat| seat.name != offer.name || seat.leaving);
        if squeeze == Squeeze::Answers || squeeze >= Squeeze::Models && would_load() {
            let message =
                "this machine is short of memory, and takes no new requests until it has some again";
            return Err(Problem::unavailable("memory_short", message).again_in(30));
        }
        if seats.front(&offer.name).is_none() {
            if offer.weights.slot().is_some() {
                return Ok(None);
            }
            if seats.of(&offer.name).next().is_some() {
                let message = format!("the model {:?} is being unloaded", offer.name);
                return Err(Problem::unavailable("model_unloading", message).again_in(1));
            }
            self.place(&mut seats, offer.clone(), None).map_err(|error| {
                let message = format!("the system gives no thread for the model: {error}");
                Problem::unavailable("no_thread", message)
            })?;
        }
        Ok(seats.front(&offer.name).map(|(number, seat)| {
            seat.users += 1;
            let user = Use { table: Arc::clone(self), number };
            Place { state: seat.state.subscribe(), commands: seat.commands.clone(), user }
        }))
    }

    /// What is loaded, by name.
    pub(super) fn sitting(&self) -> Vec<Sitting> {
        let seats = self.seats();
        let sitting = seats.all.values().filter_map(|seat| match &*seat.state.borrow() {
            State::Ready(loaded) => {
                let loaded = Arc::clone(loaded);
                Some(Sitting { loaded, users: seat.users, used_ns: seat.used_ns, leaving: seat.leaving })
            }
            _ => None,
        });
        let mut sitting: Vec<Sitting> = sitting.collect();
        sitting.sort_by(|one, other| one.loaded.offer.name.cmp(&other.loaded.offer.name));
        sitting
    }

    /// Unloads a model, once the answers under way are written; how many there are. `None` if it is not loaded.
    pub(super) fn unload_file(&self, name: &str) -> Option<usize> {
        let mut seats = self.seats();
        let (_, seat) = seats.of(name).find(|(_, seat)| seat.witness.is_none())?;
        seat.leave();
        Some(seat.users)
    }

    /// Gives up memory as far as asked: pages that are kept to be quick, then models of files that nobody uses now, then what slots
    /// serve for its smaller variant, if it has one; then new requests, and with them what slots serve as soon as nobody uses it:
    /// nobody could ask it, and it is the largest there is. [`Table::tidy`] loads that again when nothing is given up any more.
    pub(super) fn squeeze(self: &Arc<Table>, squeeze: Squeeze) {
        *self.squeeze.lock().unwrap_or_else(PoisonError::into_inner) = squeeze;
        let now_ns = (self.now)();
        let mut seats = self.seats();
        if squeeze > Squeeze::Nothing {
            Table::give_up(&mut seats, squeeze, now_ns);
        }
        self.stand_in(&mut seats, squeeze, now_ns);
    }

    fn give_up(seats: &mut Seats, squeeze: Squeeze, now_ns: MonoNs) {
        let Seats { all, away, .. } = seats;
        for seat in all.values_mut() {
            let own = seat.witness.clone().filter(|_| squeeze == Squeeze::Answers && seat.is_unused());
            if squeeze >= Squeeze::Models && seat.is_idle() || own.is_some() {
                tracing::warn!(model = seat.name, "memory is short, and nobody uses it: unloaded");
                seat.leave();
                // What a spare stood in for is away already.
                if let Some(witness) = own.filter(|witness| !witness.is_spare()) {
                    away.went(witness, now_ns);
                }
            } else {
                // A thread that is gone has left already.
                let _ = seat.commands.send(Command::Forget);
            }
        }
    }

    fn squeezed(&self) -> Squeeze {
        *self.squeeze.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unloads what nobody used for long, cuts what has left for long enough, and loads what went for the machine's sake.
    pub(super) fn tidy(self: &Arc<Table>) {
        if self.squeezed() == Squeeze::Nothing {
            self.come_again();
        }
        let keep_alive = self.settings.keep_alive.unwrap_or(Duration::MAX);
        let keep_ns = u64::try_from(keep_alive.as_nanos()).unwrap_or(u64::MAX);
        let now_ns = (self.now)();
        for seat in self.seats().all.values_mut() {
            if seat.cut_ns.is_some_and(|cut_ns| now_ns >= cut_ns) {
                // A thread that is gone has left already.
                let _ = seat.commands.send(Command::Stop);
            } else if seat.is_idle() && now_ns.saturating_sub(seat.used_ns) >= keep_ns {
                tracing::info!(model = seat.name, "idle for long, unloaded");
                seat.leave();
            }
        }
    }

    fn come_again(self: &Arc<Table>) {
        let mut seats = self.seats();
        if seats.closed {
            return;
        }
        for witness in seats.away.come((self.now)()) {
            let offer = witness.offer();
            if seats.of(&offer.name).any(|(_, seat)| !seat.leaving && seat.is_of(witness.manifest())) {
                // It never went: what was to take its place could not.
                continue;
            }
            tracing::info!(model = offer.name, "there is memory again: loaded again");
            if let Err(error) = self.place(&mut seats, offer, Some(Arc::clone(&witness))) {
                tracing::warn!(%error, "the system gives no thread for a model; tried again");
                let now_ns = (self.now)();
                seats.away.went(witness, now_ns);
            }
        }
    }

    /// Unloads all, answers under way or not, and waits until their memory is given back. Blocks.
    pub(super) fn close(&self) {
        let threads: Vec<_> = {
            let mut seats = self.seats();
            seats.closed = true;
            let stop = |seat: &mut Seat| {
                seat.leaving = true;
                let _ = seat.commands.send(Command::Stop);
                seat.thread.take()
            };
            seats.all.values_mut().filter_map(stop).collect()
        };
        self.tell_change();
        for thread in threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        // Nothing in here can be left half done: each change is one assignment.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_change(&self) {
        self.gone.notify_all();
        self.changes.send_replace(());
    }

    /// Bytes that all models may need together.
    fn limit(&self) -> u64 {
        self.settings.memory_bytes.unwrap_or(u64::MAX)
    }

    /// When a model that leaves now for a slot's is cut.
    fn cut_ns(&self) -> MonoNs {
        (self.now)().saturating_add(LEAVE_WAIT.as_nanos() as u64)
    }

    /// A new seat, whose thread begins.
    fn place(
        self: &Arc<Table>,
        seats: &mut Seats,
        offer: Offer,
        witness: Option<Arc<Witness>>,
    ) -> std::io::Result<()> {
        let number = seats.seated + 1;
        let (state, name) = (Arc::new(watch::Sender::new(State::Loading)), offer.name.clone());
        let (commands, orders) = channel();
        let thread = {
            let (table, state, witness) = (Arc::clone(self), Arc::clone(&state), witness.clone());
            let body = move || table.host(number, offer, witness.as_deref(), &state, orders);
            std::thread::Builder::new().name("model".to_owned()).spawn(body)?
        };
        seats.seated = number;
        let seat = Seat {
            name,
            witness,
            state,
            commands,
            thread: Some(thread),
            users: 0,
            used_ns: (self.now)(),
            needed_bytes: 0,
            leaving: false,
            cut_ns: None,
        };
        seats.all.insert(number, seat);
        self.changes.send_replace(());
        Ok(())
    }

    /// A model's thread: its life, and what is told of its end. Whatever it is, the seat is gone before.
    fn host(
        &self,
        number: u64,
        offer: Offer,
        witness: Option<&Witness>,
        state: &watch::Sender<State>,
        orders: Receiver<Command>,
    ) {
        let name = offer.name.clone();
        let lived = catch_unwind(AssertUnwindSafe(|| self.live(number, offer, witness, state, &orders)));
        let end = lived.unwrap_or_else(|panic| {
            let why = words(&*panic);
            tracing::error!(model = name, why, "a model broke down");
            if matches!(*state.borrow(), State::Loading) {
                return End::Refused(Problem::internal(format!("loading the model {name:?} failed: {why}")));
            }
            End::Crashed(why)
        });
        // Who waits for an answer hears that none comes.
        drop(orders);
        let was_wanted = match &end {
            End::Refused(problem) => {
                let was_wanted = self.take_away(number);
                state.send_replace(State::Failed(problem.clone()));
                was_wanted
            }
            End::Left | End::Crashed(_) => {
                let was_wanted = self.rise(number);
                // The other holds of it are in requests, which end with the engine.
                drop(state.send_replace(State::Left));
                self.take_away(number);
                was_wanted
            }
        };
        match (witness.filter(|_| was_wanted), end) {
            (Some(witness), End::Refused(problem)) if problem.code == Some(SPOILT) => {
                witness.spoilt(problem.message);
            }
            (Some(witness), End::Refused(problem)) => witness.loaded(Err(problem.message)),
            (Some(witness), End::Crashed(why)) => witness.crashed(why),
            _ => {}
        }
    }

    /// A seat takes no more requests; whether it did.
    fn rise(&self, number: u64) -> bool {
        let mut seats = self.seats();
        let seat = seats.all.get_mut(&number);
        seat.is_some_and(|seat| !std::mem::replace(&mut seat.leaving, true))
    }

    /// A seat is gone; whether it took requests.
    fn take_away(&self, number: u64) -> bool {
        let seat = self.seats().all.remove(&number);
        self.tell_change();
        seat.is_some_and(|seat| !seat.leaving)
    }

    fn live(
        &self,
        number: u64,
        offer: Offer,
        witness: Option<&Witness>,
        state: &watch::Sender<State>,
        orders: &Receiver<Command>,
    ) -> End {
        let name = offer.name.clone();
        let gauges = Arc::new(Gauges::default());
        let begun_ns = (self.now)();
        let room = |needed_bytes| {
            if witness.is_some() {
                self.take_over(number, &name, needed_bytes)?;
            }
            self.make_room(number, &name, needed_bytes)
        };
        let (loaded, mut batch) =
            match load(offer, &self.settings.engine, Arc::clone(&gauges), || (self.now)(), room) {
                Ok(loaded) => loaded,
                Err(problem) => {
                    tracing::warn!(model = name, reason = problem.message, "a model cannot be loaded");
                    return End::Refused(problem);
                }
            };
        let took_ms = (self.now)().saturating_sub(begun_ns) / 1_000_000;
        tracing::info!(
            model = name,
            took_ms,
            needed_bytes = loaded.needed_bytes,
            context = loaded.context,
            "loaded"
        );
        let folder = self.settings.engine.prefixes.as_deref();
        let spill = folder.map(|folder| Spill::new(folder, &loaded.offer, batch.pages())).transpose();
        let known = spill.and_then(|spill| {
            let pages = spill.as_ref().map_or(Ok(0), |spill| spill.read(&mut batch))?;
            Ok((spill, pages))
        });
        // Whatever is wrong with the file: prompts are read again, that is all.
        let (spill, pages) = known.unwrap_or_else(|error| {
            tracing::warn!(model = name, error = why(&error), "what was read before cannot be taken back");
            (None, 0)
        });
        if pages > 0 {
            tracing::info!(model = name, pages, "what was read before is known again");
        }
        let model = Arc::clone(&loaded.model);
        let ready = State::Ready(Arc::new(loaded));
        let is_ready = state.send_if_modified(|state| {
            let is_loading = matches!(state, State::Loading);
            if is_loading {
                *state = ready;
            }
            is_loading
        });
        if !is_ready {
            return End::Left;
        }
        if let Some(witness) = witness
            && self.seats().all.get(&number).is_some_and(|seat| !seat.leaving)
        {
            witness.loaded(Ok(()));
        }
        let batch = match engine::run(&model, batch, orders, &self.now, &gauges, witness) {
            Ok(batch) => batch,
            Err(why) => return End::Crashed(why),
        };
        if let Some(spill) = spill
            && let Err(error) = spill.write(&batch)
        {
            tracing::warn!(model = name, error = why(&error), "what was read cannot be written down");
        }
        tracing::info!(model = name, "unloaded");
        End::Left
    }

    /// A slot's model whose bytes are right takes the requests for its name. Waits until who had them before is gone. If there
    /// cannot be room for it, it disturbs nobody.
    fn take_over(&self, number: u64, name: &str, needed_bytes: u64) -> Result<(), Problem> {
        let (limit, cut_ns) = (self.limit(), self.cut_ns());
        let mut seats = self.seats();
        if seats.is_unwanted(number) {
            return Ok(());
        }
        let stays = |seat: &&Seat| seat.witness.is_some() && !seat.leaving && seat.name != name;
        let taken: u64 = seats.all.values().filter(stays).map(|seat| seat.needed_bytes).sum();
        if taken.saturating_add(needed_bytes) > limit {
            return Err(no_room(name, needed_bytes, limit, taken));
        }
        seats.of(name).filter(|(other, _)| *other < number).for_each(|(_, seat)| seat.give_way(cut_ns));
        self.changes.send_replace(());
        let waits =
            |seats: &mut Seats| !seats.is_unwanted(number) && seats.of(name).any(|(other, _)| other < number);
        drop(self.gone.wait_while(seats, waits));
        Ok(())
    }

    /// Notes what a model will need, and unloads others until there is room for it: for a file idle files, for a slot's model
    /// any files.
    fn make_room(&self, number: u64, name: &str, needed_bytes: u64) -> Result<(), Problem> {
        let (limit, cut_ns) = (self.limit(), self.cut_ns());
        let mut seats = self.seats();
        loop {
            if seats.is_unwanted(number) {
                return Err(Problem::unavailable("model_unloading", format!("nobody waits for {name:?}")));
            }
            let others = || seats.all.iter().filter(|(other, _)| **other != number);
            let taken: u64 = others().map(|(_, seat)| seat.needed_bytes).sum();
            let leaves = |(_, seat): &(&u64, &Seat)| seat.leaving && seat.needed_bytes > 0;
            let leaving: Vec<u64> = others().filter(leaves).map(|(other, _)| *other).collect();
            let Some(seat) = seats.all.get_mut(&number) else { continue };
            if taken.saturating_add(needed_bytes) <= limit {
                seat.needed_bytes = needed_bytes;
                return Ok(());
            }
            let is_own = seat.witness.is_some();
            let may_go = |seat: &Seat| {
                let may_be_cut = is_own && seat.witness.is_none() && !seat.leaving && seat.needed_bytes > 0;
                seat.is_idle() || may_be_cut
            };
            let others = seats.all.iter_mut().filter(|(other, seat)| **other != number && may_go(seat));
            let waits_for = match others.min_by_key(|(_, seat)| (!seat.is_idle(), seat.used_ns)) {
                Some((other, seat)) => {
                    tracing::info!(model = seat.name, "unloaded to make room for another");
                    seat.give_way(cut_ns);
                    vec![*other]
                }
                None if is_own && !leaving.is_empty() => leaving,
                None => return Err(no_room(name, needed_bytes, limit, taken)),
            };
            let waits = |seats: &mut Seats| {
                !seats.is_unwanted(number) && waits_for.iter().all(|other| seats.all.contains_key(other))
            };
            seats = self.gone.wait_while(seats, waits).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a model needs, of `limit` bytes of which others have `taken`.
fn no_room(name: &str, needed_bytes: u64, limit: u64, taken: u64) -> Problem {
    let message = format!(
        "the model {name:?} needs {} MiB, and of {} MiB for models {} MiB are in use",
        needed_bytes >> 20,
        limit >> 20,
        taken >> 20
    );
    let problem = Problem::unavailable("insufficient_memory", message);
    if taken > 0 { problem.again_in(10) } else { problem }
}

impl Loader for Table {
    fn serve(self: Arc<Table>, witness: Witness) -> Option<Result<(), String>> {
        let (offer, cut_ns) = (witness.offer(), self.cut_ns());
        let mut seats = self.seats();
        if seats.closed {
            return None;
        }
        seats.away.forget(&offer.name);
        let mut is_ready = None;
        for (_, seat) in seats.of(&offer.name).filter(|(_, seat)| !seat.leaving) {
            if seat.is_of(witness.manifest()) {
                is_ready = Some(seat.is_ready());
            } else if !seat.is_ready() {
                seat.give_way(cut_ns);
            }
        }
        match is_ready {
            Some(true) => Some(Ok(())),
            Some(false) => None,
            None => match self.place(&mut seats, offer, Some(Arc::new(witness))) {
                Ok(()) => None,
                Err(error) => Some(Err(format!("the system gives no thread: {error}"))),
            },
        }
    }

    fn unload(&self, model: &ModelName) {
        let cut_ns = self.cut_ns();
        let mut seats = self.seats();
        seats.away.forget(model.as_str());
        seats
            .of(model.as_str())
            .filter(|(_, seat)| seat.witness.is_some())
            .for_each(|(_, seat)| seat.give_way(cut_ns));
        self.tell_change();
    }

    fn exercise(&self, model: &ModelName, manifest: &Digest) {
        let mut seats = self.seats();
        if let Some((_, seat)) = seats.front(model.as_str()).filter(|(_, seat)| seat.is_of(manifest)) {
            // A thread that is gone answers nothing.
            let _ = seat.commands.send(Command::Exercise);
        }
    }
}
