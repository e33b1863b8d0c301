//! What joins language models to the node, in a build that has none: the face of `language.rs`, with nothing behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use wire::checkin::Document;
use wire::id::BootId;
use wire::world::World;

use super::reload::Reloader;
use super::report::Reports;
use super::shared::Shared;
use crate::api::Routes;
use crate::config::Config;
use crate::config::token::TokenError;
use crate::flow::Flow;
use crate::identity::tls::HubTls;
use crate::network::releases::Releases;
use crate::pressure::Squeeze;

/// No flow comes as a release.
pub(super) fn at_start(_config: &Config) -> Option<Flow> {
    None
}

/// The same.
pub(super) fn takes_flow(_config: &Config) -> bool {
    false
}

/// There is no reason: nothing is tried.
#[derive(Debug, thiserror::Error)]
pub enum LanguageError {}

/// Nothing.
pub(super) struct Language;

/// What the slots would need of the rest of the node.
#[expect(dead_code, reason = "there are no slots; whoever starts the node need not know")]
pub(super) struct Around<W> {
    pub(super) world: W,
    pub(super) boot: BootId,
    pub(super) shared: Arc<Shared>,
    pub(super) reports: Reports,
    pub(super) token: Option<String>,
    pub(super) tls: Option<HubTls>,
    pub(super) releases: Releases,
    pub(super) reloader: Arc<Reloader>,
}

/// Nothing that runs.
pub(super) struct Speaking;

/// Nobody takes documents.
#[derive(Clone)]
pub(super) enum Inbox {}

impl Inbox {
    pub(super) fn documents(&self, _documents: Vec<Document>) {
        match *self {}
    }

    pub(super) fn relabelled(&self) {
        match *self {}
    }

    pub(super) fn refresh(&self) {
        match *self {}
    }
}

/// Nobody has memory to give back.
pub(super) enum Relief {}

impl Relief {
    pub(super) fn squeeze(&self, _squeeze: Squeeze) {
        match *self {}
    }

    pub(super) fn has_spares(&self) -> bool {
        match *self {}
    }
}

impl Language {
    pub(super) fn left_out() -> Language {
        Language
    }

    pub(super) fn open<W: World>(_config: &Config, _world: &W) -> Result<Language, LanguageError> {
        Ok(Language)
    }

    pub(super) fn join<W>(self, _config: &Config, around: Around<W>) -> Result<Speaking, LanguageError> {
        drop(around);
        Ok(Speaking)
    }
}

impl Speaking {
    pub(super) fn door<W>(
        &self,
        _config: &Config,
        _shared: &Shared,
        _at: (SocketAddr, Vec<String>),
        _world: &W,
    ) -> Result<Option<Routes>, TokenError> {
        Ok(None)
    }

    pub(super) fn inbox(&self) -> Option<Inbox> {
        None
    }

    pub(super) fn relief(&self) -> Option<Relief> {
        None
    }

    pub(super) fn serve_addr(&self) -> Option<SocketAddr> {
        None
    }

    pub(super) fn stop(self) {}
}
