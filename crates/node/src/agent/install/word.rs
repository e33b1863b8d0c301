//! What the thread of the slots hears.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use package::name::ModelName;
use package::trust::trusted::Trusted;
use tokio::sync::{mpsc, oneshot};
use wire::checkin::{Document, TrustFacts};

use crate::behaviour::Beside;
use crate::control::{Answer, Ask};
use crate::install::event::Event;
use crate::install::state::{Order, Slot};

/// What the thread hears.
pub(super) enum Word {
    /// Something happened to a model.
    Happened(ModelName, Event),
    /// Something became of an answer that was chosen to be compared.
    #[cfg_attr(not(feature = "language"), expect(dead_code, reason = "only language models are compared"))]
    Beside(ModelName, Beside),
    /// A variant is to be chosen.
    Choose(ModelName, Order),
    /// A smaller variant than this one is to be chosen.
    ChooseSpare(ModelName, Slot),
    /// Trust and assignments were brought up to date, or not.
    Brought(Brought),
    /// The hub handed these out.
    Desired(Vec<Document>),
    /// The node has other labels.
    Relabelled,
    /// Trust and assignments shall be brought up to date.
    Refresh,
    /// A person asks.
    Asked(Ask, oneshot::Sender<Answer>),
    /// The node stops.
    Stop,
}

/// The end of the queue that talks.
pub(super) type Words = mpsc::UnboundedSender<Word>;

/// What bringing trust and assignments came to.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// What a person ordered by it.
    pub(super) orders: Vec<(ModelName, Order)>,
    /// What is not followed, for people.
    pub(super) notes: Vec<String>,
    /// Why what a person asked for cannot be done.
    pub(super) refusal: Option<String>,
    /// Whether a person asked for it.
    pub(super) is_asked: bool,
    /// What is trusted now.
    pub(super) trusted: Option<Trusted>,
    /// How trust stands.
    pub(super) facts: Option<TrustFacts>,
}

/// Takes a lock that a panic cannot spoil: what it guards is replaced whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Happened(model, event) => write!(f, "Happened({model}, {event:?})"),
            Word::Beside(model, beside) => write!(f, "Beside({model}, {:?})", beside.agrees),
            Word::Choose(model, order) => write!(f, "Choose({model}, {order:?})"),
            Word::ChooseSpare(model, slot) => write!(f, "ChooseSpare({model}, {})", slot.release),
            Word::Brought(_) => f.write_str("Brought"),
            Word::Desired(documents) => write!(f, "Desired({})", documents.len()),
            Word::Relabelled => f.write_str("Relabelled"),
            Word::Refresh => f.write_str("Refresh"),
            Word::Asked(ask, _) => write!(f, "Asked({ask:?})"),
            Word::Stop => f.write_str("Stop"),
        }
    }
}
