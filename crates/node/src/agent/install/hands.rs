//! What the slots have done by the rest of the node: each call begins a piece of work and returns.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use package::digest::Digest;
use package::golden::Budget;
use package::name::ModelName;
use package::trust::shadow::Limits;
use tokio::task::AbortHandle;
use wire::body::PartChange;
use wire::world::World;

use super::compare;
use super::errand::{self, Reach};
use super::flows::Flows;
use super::networks::Networks;
use super::what::{What, known, what};
use super::word::Word;
use crate::install::UNSERVED;
use crate::install::carry::Hands;
use crate::install::event::{Agreement, Event, Stood};
use crate::install::report;
use crate::install::state::{Kept, Order, Report, Slot};

/// The hands of the slots.
pub(super) struct Worker<W> {
    reach: Rc<Reach<W>>,
    /// What is being done for each model; a new piece of work takes the place of the old.
    errands: BTreeMap<ModelName, AbortHandle>,
    networks: Networks,
    pub(super) flows: Flows,
    /// Candidates that are compared.
    shadows: BTreeMap<ModelName, AbortHandle>,
    /// Of which manifests it was found out whether anything here lets them answer.
    served: BTreeMap<ModelName, (Digest, bool)>,
}

impl<W: World + Clone + 'static> Worker<W> {
    pub(super) fn new(reach: Rc<Reach<W>>) -> Worker<W> {
        let flows = Flows::new(reach.packages.flow.clone(), Arc::clone(&reach.reloader));
        Worker {
            reach,
            errands: BTreeMap::new(),
            networks: Networks::default(),
            flows,
            shadows: BTreeMap::new(),
            served: BTreeMap::new(),
        }
    }

    /// Begins to choose a variant. `index_bytes`: the size of the release's index, if targets list it; `kept`: the slots.
    pub(super) fn choose_now(
        &mut self,
        model: &ModelName,
        order: Order,
        index_bytes: Option<u64>,
        kept: Kept,
    ) {
        let (reach, its) = (Rc::clone(&self.reach), model.clone());
        self.begin(model, async move { errand::choose(&reach, &its, order, index_bytes, kept).await });
    }

    /// Begins to choose what stands by for the current model. `kept`: the slots.
    pub(super) fn choose_spare_now(&mut self, model: &ModelName, current: Slot, kept: Kept) {
        let (reach, its) = (Rc::clone(&self.reach), model.clone());
        self.begin(model, async move { errand::choose_spare(&reach, &its, current, kept).await });
    }

    /// A model's candidate is compared no more: nothing runs beside the current model.
    pub(super) fn leave_shadow(&mut self, model: &ModelName) {
        if let Some(shadow) = self.shadows.remove(model) {
            shadow.abort();
        }
    }

    fn begin(&mut self, model: &ModelName, work: impl Future<Output = Event> + 'static) -> AbortHandle {
        let (words, its) = (self.reach.words.clone(), model.clone());
        let begun = tokio::task::spawn_local(async move {
            let event = work.await;
            // The thread has ended: nobody hears any more.
            drop(words.send(Word::Happened(its, event)));
        });
        if let Some(before) = self.errands.insert(model.clone(), begun.abort_handle()) {
            before.abort();
        }
        begun.abort_handle()
    }
}

impl<W: World + Clone + 'static> Hands for Worker<W> {
    fn choose(&mut self, model: &ModelName, order: &Order) {
        // What was refused stands in the slots, which are not at hand here: the loop begins it.
        drop(self.reach.words.send(Word::Choose(model.clone(), order.clone())));
    }

    fn transfer(&mut self, model: &ModelName, slot: &Slot) {
        let (reach, its, slot) = (Rc::clone(&self.reach), model.clone(), slot.clone());
        self.begin(model, async move { errand::transfer(&reach, &its, &slot).await });
    }

    fn verify(&mut self, model: &ModelName, slot: &Slot) {
        let (reach, slot) = (Rc::clone(&self.reach), slot.clone());
        self.begin(model, async move { errand::verify(&reach, slot).await });
    }

    fn prove(&mut self, model: &ModelName, slot: &Slot, budget: Budget) {
        let (reach, slot) = (Rc::clone(&self.reach), slot.clone());
        self.begin(model, async move { errand::prove(&reach, slot, budget).await });
    }

    fn shadow(&mut self, model: &ModelName, slot: &Slot, limits: Option<Limits>) {
        let (reach, its, slot) = (Rc::clone(&self.reach), model.clone(), slot.clone());
        let shadow = match (what(&reach.store, &slot), limits) {
            (What::Words, None) => {
                self.begin(model, async move { compare::shadow(&reach, &its, slot).await })
            }
            (What::Words, Some(limits)) => {
                self.begin(model, async move { compare::beside(&reach, &its, slot, limits).await })
            }
            (_, None) => {
                // What a flow asks now is not asked again: there is nothing to compare with.
                let nothing = Agreement { compared: 0, agreed: 0 };
                self.begin(model, async move { Event::Shadowed(slot.manifest, nothing) })
            }
            (_, Some(_)) => {
                let why = "a network or a flow does not run beside another; roll it out in waves".to_owned();
                self.begin(model, async move { Event::Stood(slot.manifest, Stood::Off(why)) })
            }
        };
        self.shadows.insert(model.clone(), shadow);
    }

    fn serves(&mut self, model: &ModelName, slot: &Slot) -> bool {
        if self.reach.server.is_there() {
            return true;
        }
        if let Some((manifest, serves)) = self.served.get(model)
            && *manifest == slot.manifest
        {
            return *serves;
        }
        // What is wrong with a manifest that cannot be read is found out when it is to be loaded.
        let Some(what) = known(&self.reach.store, slot) else { return true };
        let serves = what != What::Words;
        self.served.insert(model.clone(), (slot.manifest, serves));
        serves
    }

    fn serve(&mut self, model: &ModelName, slot: &Slot) {
        match what(&self.reach.store, slot) {
            What::Network => self.networks.serve(&self.reach, model, slot),
            What::Flow => self.flows.serve(&self.reach, model, slot),
            What::Words if self.reach.server.is_there() => self.reach.server.serve(model, slot),
            // Its manifest could not be read when it was asked for.
            What::Words => self.tell(Some(model), UNSERVED),
        }
    }

    fn unload(&mut self, model: &ModelName) {
        self.reach.server.unload(model);
        self.networks.unload(&self.reach.releases, model);
        self.flows.unload(model);
    }

    fn exercise(&mut self, model: &ModelName, slot: &Slot) {
        match what(&self.reach.store, slot) {
            What::Network => self.networks.exercise(&self.reach, model, slot),
            // It speaks by itself.
            What::Flow => {}
            What::Words => self.reach.server.exercise(model, slot),
        }
    }

    fn journal(&mut self, model: &ModelName, report: &Report) {
        let (words, its, id) = (self.reach.words.clone(), model.clone(), report.id.clone());
        self.reach.reports.file(report::draft(model, report), move || {
            drop(words.send(Word::Happened(its, Event::Journalled(id))));
        });
    }

    fn tell(&mut self, model: Option<&ModelName>, words: &str) {
        match model {
            Some(model) => {
                tracing::warn!(%model, words, "a release");
                self.reach.told(model, words);
            }
            None => tracing::warn!(words, "releases"),
        }
    }

    fn choose_spare(&mut self, model: &ModelName, current: &Slot) {
        // As for an order: the slots are not at hand here.
        drop(self.reach.words.send(Word::ChooseSpare(model.clone(), current.clone())));
    }

    fn rest(&mut self, model: &ModelName) {
        if let Some(errand) = self.errands.remove(model) {
            errand.abort();
        }
    }

    fn over(&mut self, model: &ModelName, is_over: bool, why: &str) {
        tracing::warn!(%model, why, "the spare of a release");
        let state = if is_over { "spare" } else { "ready" };
        let (part, reason) = (format!("release.{model}"), why.to_owned());
        self.reach.reports.tell(PartChange { part, state: state.to_owned(), reason });
    }
}
