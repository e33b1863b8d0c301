//! Carries out what the hub has for this node: makes each step of [`crate::desired`] durable, and only then lets anything be
//! done by it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use package::disk::FileError;
use package::disk::system::System;
use wire::checkin::{Ack, CheckInAnswer, HubLabels};

use super::releases::Inbox;
use super::shared::Shared;
use crate::desired::{Effect, FILE, Following, KeptFile, Lets, take};
use crate::uplink::Work;
use crate::why::why;

/// How far the hub is followed.
pub(super) struct Follower {
    state: Arc<Mutex<State>>,
    shared: Arc<Shared>,
    /// Who takes documents, if somebody does.
    inbox: Option<Inbox>,
    /// The labels of the node's settings.
    own: BTreeMap<String, String>,
    lets_labels: bool,
    /// Why the hub hands out nothing, told once.
    paused: Option<String>,
}

struct State {
    file: KeptFile<System>,
    following: Following,
}

/// What a check-in says of it.
pub(super) struct Stands {
    pub(super) hub: Option<String>,
    pub(super) revision: Option<u64>,
    pub(super) acks: Vec<Ack>,
    /// The largest checkpoint of its log: size and root.
    pub(super) checkpoint: Option<String>,
}

/// What an answer asks of whoever checks in.
#[derive(Default)]
pub(super) struct Asked {
    /// To say all facts.
    pub(super) full: bool,
    /// To come again at once.
    pub(super) soon: bool,
    /// To have this done before.
    pub(super) work: Option<Work>,
}

impl Follower {
    /// Goes on from what an earlier life kept; the labels that the hub had set hold from here on.
    pub(super) fn open(
        data: &Path,
        own: BTreeMap<String, String>,
        lets_labels: bool,
        shared: Arc<Shared>,
    ) -> Result<Follower, FileError> {
        let (file, kept, damage) = KeptFile::open(System, &data.join(FILE))?;
        if let Some(damage) = damage {
            tracing::warn!(%damage, "how far the hub was followed is not known any more; it says so again");
        }
        if lets_labels {
            shared.own().labels = merged(&own, &kept.labels);
        }
        let state = State { file, following: Following::of(kept) };
        Ok(Follower {
            state: Arc::new(Mutex::new(state)),
            shared,
            inbox: None,
            own,
            lets_labels,
            paused: None,
        })
    }

    /// The same, with somebody who takes documents.
    pub(super) fn with_inbox(self, inbox: Option<Inbox>) -> Follower {
        Follower { inbox, ..self }
    }

    pub(super) fn stands(&self) -> Stands {
        let Following { kept, acks, .. } = &lock(&self.state).following;
        let revision = kept.hub.is_some().then_some(kept.revision);
        let checkpoint = kept.checkpoint().map(|checkpoint| checkpoint.brief());
        Stands { hub: kept.hub.clone(), revision, acks: acks.clone(), checkpoint }
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, answer: &CheckInAnswer) -> Asked {
        if self.paused != answer.paused {
            if let Some(why) = &answer.paused {
                tracing::warn!(why, "the hub hands out nothing to this node");
            }
            self.paused.clone_from(&answer.paused);
        }
        let lets = Lets { labels: self.lets_labels, documents: self.inbox.is_some() };
        let (now, effects) = take(&lock(&self.state).following, answer, lets);
        let asks = |effect| effects.contains(effect);
        let mut asked = Asked { full: asks(&Effect::ReportFull), soon: asks(&Effect::CheckIn), work: None };
        let (shared, inbox) = (Arc::clone(&self.shared), self.inbox.clone());
        let labels = merged(&self.own, &now.kept.labels);
        let carry_out = move |effects: Vec<Effect>| {
            for effect in effects {
                match effect {
                    // Done before the rest, or by whoever checks in.
                    Effect::Persist | Effect::ReportFull | Effect::CheckIn => {}
                    Effect::Relabel => {
                        shared.own().labels.clone_from(&labels);
                        inbox.iter().for_each(Inbox::relabelled);
                    }
                    Effect::Take(documents) => {
                        inbox.iter().for_each(|inbox| inbox.documents(documents.clone()));
                    }
                    Effect::RefreshTrust => inbox.iter().for_each(Inbox::refresh),
                    Effect::Tell(words) => tracing::warn!(words, "the hub"),
                }
            }
        };
        if effects.first() != Some(&Effect::Persist) {
            lock(&self.state).following = now;
            carry_out(effects);
            return asked;
        }
        let state = Arc::clone(&self.state);
        asked.work = Some(Box::new(move || {
            let mut state = lock(&state);
            match state.file.write(&now.kept) {
                Ok(()) => {
                    state.following = now;
                    drop(state);
                    carry_out(effects);
                }
                // The next answer has it again.
                Err(error) => tracing::error!(error = why(&error), "what the hub has is not taken"),
            }
        }));
        asked
    }
}

/// The node's own labels, and those of the hub's that are not among them.
fn merged(own: &BTreeMap<String, String>, hub: &HubLabels) -> BTreeMap<String, String> {
    let mut labels = hub.set.clone();
    labels.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
    labels
}

/// Takes a lock that a panic cannot spoil: what it guards is replaced whole.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
