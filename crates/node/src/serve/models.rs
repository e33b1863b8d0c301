//! Which models may be asked for, and the right to ask one: a request finds the model that it means, waits until it is loaded,
//! and holds a [`Lease`] as long as it uses it.
//!
//! What a request asks for by the name of a slot's model may be unloaded while another release follows it: the request waits
//! for whichever comes. While a model of a file leaves, requests for it are told to come again.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;

use super::engine::Command;
use super::load::Loaded;
use super::offer::{Offer, OfferError, Offers};
use super::problem::Problem;
use super::settings::Settings;
use super::slots::{Loader, Slots};
use super::table::{Place, Sitting, State, Table, Use};
use crate::api::connections::Now;
use crate::pressure::Squeeze;
use crate::why::why;

/// A request waits so long for a model to be loaded before it is told to come again.
const LOAD_WAIT: Duration = Duration::from_secs(60);

/// A request waits so long for the slots to say what is loaded after a model of theirs could not be, or broke down.
const SLOTS_WAIT: Duration = Duration::from_secs(5);

/// The models of one server.
#[derive(Clone)]
pub(super) struct Models(Arc<Inner>);

struct Inner {
    offers: Offers,
    slots: Option<Slots>,
    table: Arc<Table>,
}

/// The right to ask a model, which stays loaded meanwhile.
pub(super) struct Lease {
    pub(super) loaded: Arc<Loaded>,
    pub(super) commands: Sender<Command>,
    _user: Use,
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

impl Inner {
    /// What the node's slots let serve.
    fn own(&self) -> Vec<Offer> {
        self.slots.as_ref().map(Slots::offers).unwrap_or_default()
    }

    /// Waits until a model is loaded that answers for `offer`, or cannot be.
    async fn lease(&self, offer: &Offer) -> Result<Lease, Problem> {
        let mut changes = self.table.changes();
        let mut last = None;
        loop {
            changes.mark_unchanged();
            let problem = match self.table.sit_down(offer)? {
                Some(Place { mut state, commands, user }) => {
                    let settled = state.wait_for(|state| !matches!(state, State::Loading)).await;
                    match settled.map(|state| state.clone()) {
                        Ok(State::Ready(loaded)) => return Ok(Lease { loaded, commands, _user: user }),
                        Ok(State::Failed(problem)) => problem,
                        // Another came, or comes.
                        _ => continue,
                    }
                }
                None => last.unwrap_or_else(|| {
                    let message =
                        format!("the model {:?} is the node's own, and is not loaded now", offer.name);
                    Problem::unavailable("model_not_loaded", message).again_in(5)
                }),
            };
            // What becomes of a slot's model the slots say soon.
            let is_own = self.slots.as_ref().is_some_and(|slots| slots.want(&offer.name));
            if !is_own || timeout(SLOTS_WAIT, changes.changed()).await.is_err() {
                return Err(problem);
            }
            last = Some(problem);
        }
    }
}

impl Models {
    pub(super) fn new(offers: Offers, slots: Option<Slots>, settings: Settings, now: Now) -> Models {
        Models(Arc::new(Inner { offers, slots, table: Arc::new(Table::new(settings, now)) }))
    }

    /// Begins to load what the slots let serve.
    pub(super) fn attach(&self) {
        if let Some(slots) = &self.0.slots {
            let table: Weak<Table> = Arc::downgrade(&self.0.table);
            let loader: Weak<dyn Loader> = table;
            slots.attach(loader);
        }
    }

    /// The model that a request means, loaded. Waits for it if it must be loaded first.
    pub(super) async fn lease(&self, wanted: &str) -> Result<Lease, Problem> {
        let offer = self.find(wanted).await?;
        timeout(LOAD_WAIT, self.0.lease(&offer)).await.unwrap_or_else(|_| {
            let message = format!("the model {:?} is still being loaded", offer.name);
            Err(Problem::unavailable("model_loading", message).again_in(5))
        })
    }

    /// The offer that a request means.
    pub(super) async fn find(&self, wanted: &str) -> Result<Offer, Problem> {
        let (inner, wanted) = (Arc::clone(&self.0), wanted.to_owned());
        let found = tokio::task::spawn_blocking(move || inner.offers.find(&inner.own(), &wanted)).await;
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
        let listed = tokio::task::spawn_blocking(move || inner.offers.list(&inner.own())).await;
        let listed = listed.map_err(|_| Problem::internal("listing the models failed"))?;
        listed.map_err(|error| Problem::internal(why(&error)))
    }

    /// What is loaded, by name.
    pub(super) fn sitting(&self) -> Vec<Sitting> {
        self.0.table.sitting()
    }

    /// Unloads a model of a file, once the answers under way are written; how many there are. `None` if it is not loaded.
    pub(super) fn unload(&self, name: &str) -> Option<usize> {
        self.0.table.unload_file(name)
    }

    /// Whether a smaller variant stands by for anything that slots let serve.
    pub(super) fn has_spares(&self) -> bool {
        self.0.slots.as_ref().is_some_and(Slots::has_spares)
    }

    /// Gives up memory as far as asked; with [`Squeeze::Nothing`] takes back what was given up.
    pub(super) fn squeeze(&self, squeeze: Squeeze) {
        self.0.table.squeeze(squeeze);
    }

    /// Unloads what nobody used for long, and cuts what has left for long enough.
    pub(super) fn tidy(&self) {
        self.0.table.tidy();
    }

    /// Unloads all, answers under way or not, and waits until their memory is given back. Blocks.
    pub(super) fn close(&self) {
        self.0.table.close();
    }
}
