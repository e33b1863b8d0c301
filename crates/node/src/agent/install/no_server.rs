//! Stands for the server of language models in a build without them: nothing answers, whatever the slots hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use package::digest::Digest;
use package::disk::system::System;
use package::name::ModelName;
use package::store::Store;

use crate::config::Config;
use crate::install::event::Event;
use crate::install::state::Slot;

/// What this build lacks for language models.
pub(super) const LACKS: Option<&str> = Some("this is a build without language models");

/// Nobody.
pub(in crate::agent) struct Server;

impl Server {
    pub(super) fn new(
        _config: &Config,
        _store: Arc<Store<System>>,
        _tell: impl Fn(&ModelName, Event) + Send + Sync + 'static,
    ) -> Server {
        Server
    }

    pub(super) fn is_there(&self) -> bool {
        false
    }

    pub(super) fn serve(&self, _model: &ModelName, _slot: &Slot) {}

    pub(super) fn unload(&self, _model: &ModelName) {}

    pub(super) fn exercise(&self, _model: &ModelName, _slot: &Slot) {}

    pub(super) fn keep_spares(&self, _spares: BTreeMap<ModelName, (Digest, Slot)>) {}
}
