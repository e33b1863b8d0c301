//! What other parts of the node have to say in the journal, with word when it is durable there.

use std::sync::mpsc::{Receiver, Sender, channel};

use wire::body::PartChange;
use wire::record::Draft;

use crate::source::queue::Messenger;

/// A draft on its way into the journal.
pub(super) struct Filed {
    pub(super) draft: Draft,
    /// Called once it is durable.
    pub(super) kept: Box<dyn FnOnce() + Send>,
}

/// Where drafts are handed in.
#[derive(Clone)]
pub(super) struct Reports {
    to: Sender<Filed>,
    messenger: Messenger,
}

/// A place to hand drafts in, and the end that the agent reads.
pub(super) fn reports(messenger: Messenger) -> (Reports, Receiver<Filed>) {
    let (to, from) = channel();
    (Reports { to, messenger }, from)
}

impl Reports {
    /// Hands a draft in. If the node stops before it is durable, `kept` is never called.
    pub(super) fn file(&self, draft: Draft, kept: impl FnOnce() + Send + 'static) {
        // The agent is gone: the next life hands it in again.
        let _ = self.to.send(Filed { draft, kept: Box::new(kept) });
        self.messenger.wake();
    }

    /// Has a change of a part remembered; lost if the node stops before.
    #[cfg_attr(not(feature = "packages"), expect(dead_code, reason = "it is the slots that tell"))]
    pub(super) fn tell(&self, change: PartChange) {
        self.messenger.tell(change);
    }
}
