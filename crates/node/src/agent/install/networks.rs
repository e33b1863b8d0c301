//! Networks among the slots' models: a flow asks them instead of people, so they are handed to it and not to the server.
//!
//! A network is checked byte for byte and loaded once here before the flow gets it: what cannot be loaded costs the flow nothing.
//! The same calls as the server's, with the same events for answers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use net::network::Network;
use net::recipe::Recipe;
use package::digest::Digest;
use package::disk::system::System;
use package::form::DOCUMENT_MAX_BYTES;
use package::golden::Golden;
use package::media::Role;
use package::name::ModelName;
use package::store::Store;
use wire::world::World;

use super::errand::Reach;
use super::what::described;
use super::word::{Word, Words};
use crate::install::event::Event;
use crate::install::keys::Keys;
use crate::install::prove::network::{answer_case, options};
use crate::install::state::Slot;
use crate::install::trial::Answer;
use crate::install::weights::{self, Checked, WeightsError};
use crate::network::releases::{Given, Releases, Told};
use crate::transfer::blocking::blocking;
use crate::why::why;

/// Threads that check bytes: the flow's own goes on beside them.
const CHECK_THREADS: usize = 1;

/// Which networks shall serve, and which golden case is the next in turn. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Networks {
    wanted: Rc<RefCell<BTreeMap<ModelName, Digest>>>,
    next: Rc<RefCell<BTreeMap<ModelName, usize>>>,
}

/// Why a network does not serve.
enum Trouble {
    /// The disk has damaged or lost it; what is damaged was removed.
    Spoilt(String),
    /// It cannot be loaded.
    Unfit(String),
}

/// Tells the slots what becomes of networks in the flow.
pub(super) fn listen(releases: &Releases, words: Words) {
    releases.tell_to(Box::new(move |model, manifest, told| {
        let event = match told {
            Told::Answered { ms, ok } => Event::Answered(manifest, Answer { ms, ok, golden: false }),
            Told::Broke(why) => Event::Crashed(manifest, why),
        };
        // Nobody hears any more when the node stops.
        drop(words.send(Word::Happened(model.clone(), event)));
    }));
}

impl Networks {
    /// Hands a slot's network to the flow, once it was loaded here; until then the one before serves.
    pub(super) fn serve<W: World + Clone + 'static>(
        &self,
        reach: &Rc<Reach<W>>,
        model: &ModelName,
        slot: &Slot,
    ) {
        let manifest = slot.manifest;
        self.wanted.borrow_mut().insert(model.clone(), manifest);
        let (reach, model, slot) = (Rc::clone(reach), model.clone(), slot.clone());
        if reach.releases.get(&model).is_some_and(|given| given.manifest == manifest) {
            drop(reach.words.send(Word::Happened(model, Event::Loaded(manifest, Ok(())))));
            return;
        }
        let wanted = Rc::clone(&self.wanted);
        tokio::task::spawn_local(async move {
            let (store, data) = (Arc::clone(&reach.store), reach.data.clone());
            let loaded = blocking(move || {
                let keys = Keys::open(&data).map_err(|error| Trouble::Unfit(why(&error)))?;
                load(&store, &keys, &slot).map(|(given, _)| given)
            })
            .await;
            let is_wanted = wanted.borrow().get(&model) == Some(&manifest);
            if !is_wanted {
                return;
            }
            let event = match loaded {
                Ok(given) => {
                    reach.releases.give(&model, given);
                    Event::Loaded(manifest, Ok(()))
                }
                Err(Trouble::Spoilt(why)) => Event::Spoilt(manifest, why),
                Err(Trouble::Unfit(why)) => Event::Loaded(manifest, Err(why)),
            };
            drop(reach.words.send(Word::Happened(model, event)));
        });
    }

    /// Lets no network serve under the name.
    pub(super) fn unload(&self, releases: &Releases, model: &ModelName) {
        self.wanted.borrow_mut().remove(model);
        releases.take_back(model);
    }

    /// Lets a slot's network answer one case of its golden set, the next in turn: [`Event::Answered`]. Nothing is told if it has none.
    pub(super) fn exercise<W: World + Clone + 'static>(
        &self,
        reach: &Rc<Reach<W>>,
        model: &ModelName,
        slot: &Slot,
    ) {
        let Some(golden) = golden_of(&reach.store, slot) else { return };
        let at = {
            let mut next = self.next.borrow_mut();
            let next = next.entry(model.clone()).or_default();
            *next = next.wrapping_add(1);
            *next % golden.cases.len()
        };
        let (reach, model, slot) = (Rc::clone(reach), model.clone(), slot.clone());
        tokio::task::spawn_local(async move {
            let (store, data, manifest) = (Arc::clone(&reach.store), reach.data.clone(), slot.manifest);
            let clock = reach.world.clone();
            let answered = blocking(move || {
                let (_, mut network) = load(&store, &Keys::open(&data).ok()?, &slot).ok()?;
                let begun_ns = clock.mono_ns();
                let answer = answer_case(&mut network, &golden.cases[at]);
                let took_ns = clock.mono_ns().saturating_sub(begun_ns);
                let set = Golden { cases: vec![golden.cases[at].clone()], ..golden };
                let ok = answer.is_ok_and(|answer| set.judge(&[answer]).is_ok());
                Some(Answer { ms: millis(took_ns), ok, golden: true })
            });
            if let Some(answer) = answered.await {
                drop(reach.words.send(Word::Happened(model, Event::Answered(manifest, answer))));
            }
        });
    }
}

/// Nanoseconds as milliseconds, rounded up.
fn millis(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Reads, checks and loads a slot's network. Blocks.
fn load(store: &Store<System>, keys: &Keys, slot: &Slot) -> Result<(Given, Network), Trouble> {
    let checked = weights::check_or_discard(store, keys, &slot.manifest, CHECK_THREADS);
    let checked: Checked = checked.map_err(|error: WeightsError| match error.is_damage() {
        true => Trouble::Spoilt(why(&error)),
        false => Trouble::Unfit(why(&error)),
    })?;
    let network = Network::load(checked.bytes(), &options()).map_err(|error| Trouble::Unfit(why(&error)))?;
    let recipe = recipe_of(store, slot).map_err(Trouble::Unfit)?;
    recipe.clone().completed(network.net()).map_err(|error| Trouble::Unfit(why(&error)))?;
    let Slot { release, manifest, weights, .. } = *slot;
    Ok((Given { release, manifest, weights, bytes: Box::new(checked), recipe }, network))
}

/// What stands around a slot's network; nothing, if its package does not say.
fn recipe_of(store: &Store<System>, slot: &Slot) -> Result<Recipe, String> {
    let Some(layer) = described(store, slot).and_then(|it| it.layer(Role::Recipe).map(|layer| layer.digest))
    else {
        return Ok(Recipe::default());
    };
    let bytes = store.read_small(&layer, DOCUMENT_MAX_BYTES as u64).map_err(|error| why(&error))?;
    let bytes = bytes.ok_or_else(|| format!("its recipe {layer} is not in the store"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("its recipe cannot be read: {error}"))
}

/// A slot's golden set, if it has one that can be read: whoever proved it has read it before.
fn golden_of(store: &Store<System>, slot: &Slot) -> Option<Golden> {
    let bytes = store.read_small(&slot.golden?, DOCUMENT_MAX_BYTES as u64).ok()??;
    Golden::parse(&bytes).ok()
}
