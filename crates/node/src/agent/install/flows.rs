//! The flow as a release: read from its slot, taken while the node runs, watched while it is on trial, and gone back from.
//!
//! What a flow answers is whether it goes round: told once a second, with how long readings take to their decisions. On trial, a
//! part that failed for [`FAILS_FOR`] and did not before the flow came speaks against it; later that is the part's own affair,
//! since sources fail for reasons of theirs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use package::digest::Digest;
use package::disk::system::System;
use package::name::ModelName;
use package::store::Store;
use wire::world::{MonoNs, World};

use super::errand::Reach;
use super::word::Word;
use crate::agent::reload::{Reloaded, Reloader};
use crate::config::Config;
use crate::flow::Flow;
use crate::install::event::Event;
use crate::install::keys::Keys;
use crate::install::state::{Slot, SlotsFile};
use crate::install::trial::Answer;
use crate::install::weights::{self, WeightsError};
use crate::status::Status;
use crate::transfer::blocking::blocking;
use crate::why::why;

/// A part that fails for so long, and did not before, speaks against a flow on trial: longer than a broker's restart takes.
const FAILS_FOR: MonoNs = 30_000_000_000;

/// The flow that comes as a release, if one does. Clones are the same.
#[derive(Clone)]
pub(super) struct Flows {
    /// Whose releases the node takes its flow from.
    model: Option<ModelName>,
    reloader: Arc<Reloader>,
    serves: Rc<RefCell<Option<Serves>>>,
}

/// A flow that serves.
struct Serves {
    manifest: Digest,
    watched: Watched,
}

/// Which parts fail, and since when.
#[derive(Debug, Default)]
struct Watched {
    /// Those that failed before it came.
    before: BTreeSet<String>,
    since: BTreeMap<String, MonoNs>,
}

impl Watched {
    /// Looks at the parts that fail now, each with its reason; says what speaks against the flow.
    fn look(&mut self, failing: &BTreeMap<String, String>, now_ns: MonoNs) -> Option<String> {
        self.since.retain(|part, _| failing.contains_key(part));
        self.before.retain(|part| failing.contains_key(part));
        for (part, reason) in failing.iter().filter(|(part, _)| !self.before.contains(*part)) {
            let since_ns = *self.since.entry(part.clone()).or_insert(now_ns);
            if now_ns.saturating_sub(since_ns) >= FAILS_FOR {
                let seconds = FAILS_FOR / 1_000_000_000;
                return Some(format!("`{part}` fails for {seconds} s and did not before it came: {reason}"));
            }
        }
        None
    }
}

/// The parts that fail, with their reasons.
fn failing(status: &Status) -> BTreeMap<String, String> {
    let sources = status.sources.iter().filter(|source| source.state == "failed");
    let models = status.models.iter().filter(|model| model.state == "failed");
    let of_sources = sources.map(|it| (format!("source.{}", it.source), it.reason.clone()));
    let of_models = models.map(|it| (format!("model.{}", it.model), "it failed".to_owned()));
    of_sources.chain(of_models).collect()
}

impl Flows {
    pub(super) fn new(model: Option<ModelName>, reloader: Arc<Reloader>) -> Flows {
        Flows { model, reloader, serves: Rc::default() }
    }

    /// Whether the node takes its flow from this model's releases.
    fn is_of(&self, model: &ModelName) -> bool {
        self.model.as_ref() == Some(model)
    }

    /// Takes a slot's flow while the node runs.
    pub(super) fn serve<W: World + Clone + 'static>(
        &self,
        reach: &Rc<Reach<W>>,
        model: &ModelName,
        slot: &Slot,
    ) {
        let (flows, reach, model, slot) = (self.clone(), Rc::clone(reach), model.clone(), slot.clone());
        tokio::task::spawn_local(async move {
            let (store, data, wanted) = (Arc::clone(&reach.store), reach.data.clone(), slot.clone());
            let text = blocking(move || text_of(&store, &data, &wanted)).await;
            let event = flows.take(&reach, &model, &slot, text);
            drop(reach.words.send(Word::Happened(model, event)));
        });
    }

    fn take<W: World + Clone + 'static>(
        &self,
        reach: &Reach<W>,
        model: &ModelName,
        slot: &Slot,
        text: Result<Arc<str>, WeightsError>,
    ) -> Event {
        let manifest = slot.manifest;
        if !self.is_of(model) {
            let why =
                format!("this node takes no flow from `{model}`: `flow = \"{model}\"` in `[packages]` does");
            return Event::Loaded(manifest, Err(why));
        }
        let text = match text {
            Ok(text) => text,
            Err(error) if error.is_damage() => return Event::Spoilt(manifest, why(&error)),
            Err(error) => return Event::Loaded(manifest, Err(why(&error))),
        };
        let before = failing(&reach.shared.status()).into_keys().collect();
        match self.reloader.take(Some(text)) {
            Reloaded::Refused(why) => Event::Loaded(manifest, Err(why)),
            Reloaded::Same | Reloaded::Taken => {
                let watched = Watched { before, since: BTreeMap::new() };
                *self.serves.borrow_mut() = Some(Serves { manifest, watched });
                Event::Loaded(manifest, Ok(()))
            }
        }
    }

    /// Goes back to the file, if a release of this model served.
    pub(super) fn unload(&self, model: &ModelName) {
        if self.is_of(model) && self.serves.borrow_mut().take().is_some() {
            // A file that is no good is told of, and what ran goes on.
            self.reloader.take(None);
        }
    }

    /// What the flow that serves has to say of itself, a second after it said so last; `on_trial`: the manifest of the candidate
    /// that serves, if one does.
    pub(super) fn tick(
        &self,
        status: &Status,
        on_trial: Option<Digest>,
        now_ns: MonoNs,
    ) -> Option<(ModelName, Event)> {
        let model = self.model.clone()?;
        let mut serves = self.serves.borrow_mut();
        let Serves { manifest, watched } = serves.as_mut()?;
        let against = watched.look(&failing(status), now_ns).filter(|_| on_trial == Some(*manifest));
        let event = match against {
            Some(why) => Event::Crashed(*manifest, why),
            None => {
                let ms = status.decided.p99_us.div_ceil(1000);
                let ms = u32::try_from(ms).unwrap_or(u32::MAX);
                Event::Answered(*manifest, Answer { ms, ok: true, golden: false })
            }
        };
        Some((model, event))
    }
}

/// The text of a slot's flow, checked. Blocks.
fn text_of(store: &Store<System>, data: &Path, slot: &Slot) -> Result<Arc<str>, WeightsError> {
    let keys = Keys::open(data)?;
    let checked = weights::check_or_discard(store, &keys, &slot.manifest, 1)?;
    // A text that is none is refused by the reader of flows, in its own words.
    Ok(String::from_utf8_lossy(checked.bytes()).into())
}

/// The flow with which a node begins: the release that it ended with, or its own file's if there is none that can be read.
/// `None`: the file's.
pub(crate) fn at_start(config: &Config) -> Option<Flow> {
    let model = config.packages.as_ref()?.flow.as_ref()?;
    let folder = config.data.join("slots");
    if !folder.is_dir() {
        return None;
    }
    let kept = match SlotsFile::open(System, &folder, model) {
        Ok(opened) => opened.kept,
        Err(error) => {
            tracing::error!(
                error = why(&error),
                "the flow's slots cannot be read: the node begins with its file"
            );
            return None;
        }
    };
    let slot = kept.current.filter(|_| kept.safe.is_none())?;
    let store = Store::open(System, &config.data.join("packages"), u64::MAX);
    let text = store.map_err(WeightsError::from).and_then(|store| text_of(&store, &config.data, &slot));
    let text = text.map_err(|error| why(&error));
    let flow = text.and_then(|text| {
        Flow::parse_with(&config.flow.file, text, &config.params).map_err(|problems| problems.to_string())
    });
    match flow {
        Ok(flow) => Some(flow),
        Err(why) => {
            tracing::error!(
                why,
                release = slot.release,
                "the flow's release cannot be used: the node begins with its file"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: MonoNs = 1_000_000_000;

    #[test]
    fn only_what_begins_to_fail_and_stays_so_speaks_against_a_flow() {
        let failing = |parts: &[&str]| -> BTreeMap<String, String> {
            parts.iter().map(|part| ((*part).to_owned(), "no route".to_owned())).collect()
        };
        let mut watched = Watched { before: ["source.a".to_owned()].into(), since: BTreeMap::new() };
        // It failed before; another comes and goes, as when a broker starts again.
        for second in 0..20 {
            assert_eq!(watched.look(&failing(&["source.a", "source.b"]), second * S), None);
        }
        assert_eq!(watched.look(&failing(&["source.a"]), 20 * S), None);
        for second in 21..51 {
            assert_eq!(watched.look(&failing(&["source.a", "source.b"]), second * S), None);
        }
        let why = watched.look(&failing(&["source.a", "source.b"]), 51 * S).unwrap();
        assert_eq!(why, "`source.b` fails for 30 s and did not before it came: no route");
        // What has worked since it came may not fail for good either.
        let mut watched = Watched { before: ["source.a".to_owned()].into(), since: BTreeMap::new() };
        assert_eq!(watched.look(&failing(&[]), 0), None);
        assert_eq!(watched.look(&failing(&["source.a"]), S), None);
        assert!(watched.look(&failing(&["source.a"]), 31 * S).is_some());
    }
}
