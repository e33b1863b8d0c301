//! Language models among the slots' models: the node's server lets them answer, if there is one.
//!
//! A build without language models has `no_server.rs` in the place of this file, with the same face and nothing behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernels::page::CacheFormat;
use package::digest::Digest;
use package::disk::system::System;
use package::name::ModelName;
use package::store::Store;

use crate::config::Config;
use crate::install::event::Event;
use crate::install::state::Slot;
use crate::serve::slots::Slots;

/// What this build lacks for language models.
pub(super) const LACKS: Option<&str> = None;

/// Who lets language models answer.
pub(in crate::agent) struct Server {
    slots: Slots,
    cache: CacheFormat,
    is_there: bool,
}

impl Server {
    /// Of a node with these settings; `tell` hears what becomes of what shall answer.
    pub(super) fn new(
        config: &Config,
        store: Arc<Store<System>>,
        tell: impl Fn(&ModelName, Event) + Send + Sync + 'static,
    ) -> Server {
        let slots = Slots::new(store, Some(config.data.clone()), Arc::new(tell));
        let engine = config.serve.as_ref().map(|serve| serve.settings.engine.clone()).unwrap_or_default();
        Server { slots, cache: engine.cache, is_there: config.serve.is_some() }
    }

    /// What the server, once it starts, loads from.
    pub(in crate::agent) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Whether there is a server in which language models answer.
    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// How models that serve keep keys and values.
    pub(super) fn cache(&self) -> CacheFormat {
        self.cache
    }

    /// Lets a slot's model answer.
    pub(super) fn serve(&self, model: &ModelName, slot: &Slot) {
        self.slots.serve(model, slot);
    }

    /// Lets no language model answer under the name.
    pub(super) fn unload(&self, model: &ModelName) {
        self.slots.unload(model);
    }

    /// Lets a slot's model answer one case of its golden set.
    pub(super) fn exercise(&self, model: &ModelName, slot: &Slot) {
        self.slots.exercise(model, slot);
    }

    /// What stands by from now on, and for which manifest.
    pub(super) fn keep_spares(&self, spares: BTreeMap<ModelName, (Digest, Slot)>) {
        self.slots.keep_spares(spares);
    }
}
