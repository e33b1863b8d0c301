//! Which models are loaded: each with a thread of its own, loaded when first asked for, unloaded when idle for long, or
//! when another needs its memory.
//!
//! Whoever uses a model holds a [`Lease`]; a leased model is never unloaded. To unload is to tell the thread to stop; it
//! gives the model's memory back and then takes its own name off the table, so that memory is never counted as free
//! before it is. While a model leaves, requests for it are told to come again.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use wire::world::MonoNs;

use super::engine::{self, Command};
use super::gauges::Gauges;
use super::load::{Loaded, load};
use super::offer::{Offer, OfferError, Offers};
use super::problem::Problem;
use super::settings::Settings;
use super::spill::Spill;
use crate::api::connections::Now;
use crate::why::why;

/// A request waits so long for a model to be loaded before it is told to come again.
const LOAD_WAIT: Duration = Duration::from_secs(60);

/// The models of one server.
#[derive(Clone)]
pub(super) struct Models(Arc<Inner>);

struct Inner {
    offers: Offers,
    settings: Settings,
    now: Now,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    seats: BTreeMap<String, Seat>,
    /// No model is loaded any more.
    closed: bool,
    /// Seats so far: a model that is loaded again has another seat.
    seated: u64,
}

/// A model that is loaded, or is about to be.
struct Seat {
    number: u64,
    state: watch::Receiver<State>,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
    /// Requests that use it.
    users: usize,
    used_ns: MonoNs,
    needed_bytes: u64,
    leaving: bool,
}

#[derive(Clone)]
enum State {
    Loading,
    Ready(Arc<Loaded>),
    Failed(Problem),
}

/// The right to ask a model, which stays loaded meanwhile.
pub(super) struct Lease {
    pub(super) loaded: Arc<Loaded>,
    pub(super) commands: Sender<Command>,
    _user: Use,
}

/// A loaded model, for who asks what is loaded.
pub(super) struct Sitting {
    pub(super) loaded: Arc<Loaded>,
    pub(super) users: usize,
    pub(super) used_ns: MonoNs,
    pub(super) leaving: bool,
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here can be left half done: each change is one assignment.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn idle(&self) -> bool {
        self.users == 0 && !self.leaving && matches!(*self.state.borrow(), State::Ready(_))
    }

    fn leave(&mut self) {
        self.leaving = true;
        if self.users == 0 {
            // A thread that is gone has left already.
            let _ = self.commands.send(Command::Stop);
        }
    }
}

impl Lease {
    /// Refuses an encoder.
    pub(super) fn that_writes(self) -> Result<Lease, Problem> {
        if self.loaded.model.network.writes() {
            return Ok(self);
        }
        let message =
            format!("the model {:?} is an encoder: it gives embeddings, not text", self.loaded.offer.name);
        Err(Problem::invalid("model", message))
    }
}

/// A count of users that goes down again, whatever becomes of the request.
struct Use {
    inner: Arc<Inner>,
    name: String,
    number: u64,
}

impl Drop for Use {
    fn drop(&mut self) {
        let now_ns = (self.inner.now)();
        let mut table = self.inner.table();
        if let Some(seat) = table.seats.get_mut(&self.name).filter(|seat| seat.number == self.number) {
            seat.users = seat.users.saturating_sub(1);
            seat.used_ns = now_ns;
            if seat.leaving && seat.users == 0 {
                seat.leave();
            }
        }
    }
}

impl Models {
    pub(super) fn new(offers: Offers, settings: Settings, now: Now) -> Models {
        Models(Arc::new(Inner { offers, settings, now, table: Mutex::default() }))
    }

    /// The model that a request means, loaded. Waits for it if it must be loaded first.
    pub(super) async fn lease(&self, wanted: &str) -> Result<Lease, Problem> {
        let offer = self.find(wanted).await?;
        let name = offer.name.clone();
        let (mut state, commands, user) = self.0.sit_down(offer)?;
        let waited =
            tokio::time::timeout(LOAD_WAIT, state.wait_for(|state| !matches!(state, State::Loading)));
        let state = match waited.await {
            Ok(Ok(state)) => state.clone(),
            // Its thread died on the way.
            Ok(Err(_)) => State::Failed(Problem::internal(format!("loading the model {name:?} failed"))),
            Err(_) => {
                let message = format!("the model {name:?} is still being loaded");
                return Err(Problem::unavailable("model_loading", message).again_in(5));
            }
        };
        match state {
            State::Ready(loaded) => Ok(Lease { loaded, commands, _user: user }),
            State::Failed(problem) => Err(problem),
            State::Loading => {
                Err(Problem::unavailable("model_loading", "the model is being loaded").again_in(5))
            }
        }
    }

    /// The offer that a request means.
    pub(super) async fn find(&self, wanted: &str) -> Result<Offer, Problem> {
        let (inner, wanted) = (Arc::clone(&self.0), wanted.to_owned());
        let found = tokio::task::spawn_blocking(move || inner.offers.find(&wanted)).await;
        found.map_err(|_| Problem::internal("looking for the model failed"))?.map_err(|error| match error {
            OfferError::Shelf(
                error @ (crate::shelf::ShelfError::NotFound { .. }
                | crate::shelf::ShelfError::Ambiguous { .. }),
            ) => Problem::no_model(error.to_string()),
            OfferError::NotFound { .. } => Problem::no_model(error.to_string()),
            error => Problem::unavailable("model_not_loaded", why(&error)),
        })
    }

    /// All that may be asked for.
    pub(super) async fn offers(&self) -> Result<Vec<Offer>, Problem> {
        let inner = Arc::clone(&self.0);
        let listed = tokio::task::spawn_blocking(move || inner.offers.list()).await;
        let listed = listed.map_err(|_| Problem::internal("listing the models failed"))?;
        listed.map_err(|error| Problem::internal(why(&error)))
    }

    /// What is loaded, by name.
    pub(super) fn sitting(&self) -> Vec<Sitting> {
        let table = self.0.table();
        let seats = table.seats.values().filter_map(|seat| match &*seat.state.borrow() {
            State::Ready(loaded) => {
                let loaded = Arc::clone(loaded);
                Some(Sitting { loaded, users: seat.users, used_ns: seat.used_ns, leaving: seat.leaving })
            }
            _ => None,
        });
        seats.collect()
    }

    /// Unloads a model, once the answers under way are written; how many there are. `None` if it is not loaded.
    pub(super) fn unload(&self, name: &str) -> Option<usize> {
        let mut table = self.0.table();
        let seat = table.seats.get_mut(name)?;
        seat.leave();
        Some(seat.users)
    }

    /// Unloads what nobody used for long.
    pub(super) fn tidy(&self) {
        let Some(keep_alive) = self.0.settings.keep_alive else { return };
        let keep_ns = u64::try_from(keep_alive.as_nanos()).unwrap_or(u64::MAX);
        let now_ns = (self.0.now)();
        for (name, seat) in &mut self.0.table().seats {
            if seat.idle() && now_ns.saturating_sub(seat.used_ns) >= keep_ns {
                tracing::info!(model = name, "idle for long, unloaded");
                seat.leave();
            }
        }
    }

    /// Unloads all, answers under way or not, and waits until their memory is given back. Blocks.
    pub(super) fn close(&self) {
        let threads: Vec<_> = {
            let mut table = self.0.table();
            table.closed = true;
            let stop = |seat: &mut Seat| {
                seat.leaving = true;
                let _ = seat.commands.send(Command::Stop);
                seat.thread.take()
            };
            table.seats.values_mut().filter_map(stop).collect()
        };
        for thread in threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// Counts one user more of a model, and begins to load it if nobody did.
    fn sit_down(
        self: &Arc<Inner>,
        offer: Offer,
    ) -> Result<(watch::Receiver<State>, Sender<Command>, Use), Problem> {
        let user = |number, name: &str| Use { inner: Arc::clone(self), name: name.to_owned(), number };
        let mut table = self.table();
        if table.closed {
            return Err(Problem::shutting_down());
        }
        if let Some(seat) = table.seats.get_mut(&offer.name) {
            if seat.leaving {
                let message = format!("the model {:?} is being unloaded", offer.name);
                return Err(Problem::unavailable("model_unloading", message).again_in(1));
            }
            seat.users += 1;
            return Ok((seat.state.clone(), seat.commands.clone(), user(seat.number, &offer.name)));
        }
        table.seated += 1;
        let number = table.seated;
        let (tell, state) = watch::channel(State::Loading);
        let (commands, orders) = channel();
        let (inner, name) = (Arc::clone(self), offer.name.clone());
        let thread = std::thread::Builder::new().name("model".to_owned()).spawn(move || {
            let gone = Gone { inner: Arc::clone(&inner), name: offer.name.clone(), number };
            inner.live(offer, &tell, &orders);
            drop(gone);
        });
        let thread = thread.map_err(|error| {
            Problem::unavailable("no_thread", format!("the system gives no thread for the model: {error}"))
        })?;
        let seat = Seat {
            number,
            state: state.clone(),
            commands: commands.clone(),
            thread: Some(thread),
            users: 1,
            used_ns: (self.now)(),
            needed_bytes: 0,
            leaving: false,
        };
        let user = user(number, &name);
        table.seats.insert(name, seat);
        Ok((state, commands, user))
    }

    /// The life of a model's thread.
    fn live(
        self: &Arc<Inner>,
        offer: Offer,
        tell: &watch::Sender<State>,
        orders: &std::sync::mpsc::Receiver<Command>,
    ) {
        let name = offer.name.clone();
        let gauges = Arc::new(Gauges::default());
        let begun_ns = (self.now)();
        let room = |bytes| self.make_room(&name, bytes);
        let (loaded, mut batch) =
            match load(offer, &self.settings.engine, Arc::clone(&gauges), || (self.now)(), room) {
                Ok(loaded) => loaded,
                Err(problem) => {
                    tracing::warn!(model = name, reason = problem.message, "a model cannot be loaded");
                    tell.send_replace(State::Failed(problem));
                    return;
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
        tell.send_replace(State::Ready(Arc::new(loaded)));
        let batch = engine::run(&model, batch, orders, &self.now, &gauges);
        if let (Some(spill), Some(batch)) = (spill, batch)
            && let Err(error) = spill.write(&batch)
        {
            tracing::warn!(model = name, error = why(&error), "what was read cannot be written down");
        }
        // The other holds are in requests, which end with the engine, and in the state.
        tell.send_replace(State::Loading);
        tracing::info!(model = name, "unloaded");
    }

    /// Notes what a model will need, and unloads idle ones until there is room for it.
    fn make_room(&self, name: &str, needed_bytes: u64) -> Result<(), Problem> {
        let limit = self.settings.memory_bytes.unwrap_or(u64::MAX);
        loop {
            let thread = {
                let mut table = self.table();
                let others = table.seats.iter().filter(|(other, _)| *other != name);
                let taken: u64 = others.map(|(_, seat)| seat.needed_bytes).sum();
                if taken.saturating_add(needed_bytes) <= limit {
                    if let Some(seat) = table.seats.get_mut(name) {
                        seat.needed_bytes = needed_bytes;
                    }
                    return Ok(());
                }
                let idle = table.seats.iter_mut().filter(|(other, seat)| *other != name && seat.idle());
                let Some((other, seat)) = idle.min_by_key(|(_, seat)| seat.used_ns) else {
                    let leaving = table.seats.values().any(|seat| seat.leaving);
                    let message = format!(
                        "the model {name:?} needs {} MiB, and of {} MiB for models {} MiB are in use",
                        needed_bytes >> 20,
                        limit >> 20,
                        taken >> 20
                    );
                    let problem = Problem::unavailable("insufficient_memory", message);
                    return Err(if taken > 0 || leaving { problem.again_in(10) } else { problem });
                };
                tracing::info!(model = other, "unloaded to make room for another");
                seat.leave();
                seat.thread.take()
            };
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
    }
}

/// Takes a model's name off the table when its thread ends, however it ends.
struct Gone {
    inner: Arc<Inner>,
    name: String,
    number: u64,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let mut table = self.inner.table();
        if table.seats.get(&self.name).is_some_and(|seat| seat.number == self.number) {
            table.seats.remove(&self.name);
        }
    }
}
