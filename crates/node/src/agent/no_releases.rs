//! What joins releases to the node, in a build that takes none: the face of `releases.rs`, with nothing behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use wire::checkin::Document;
use wire::id::BootId;

use super::reload::Reloader;
use super::report::Reports;
use super::shared::Shared;
use crate::api::Routes;
use crate::config::Config;
use crate::config::token::TokenError;
use crate::flow::Flow;
use crate::identity::tls::HubTls;
use crate::network::releases::Releases;

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
pub enum ReleasesError {}

/// Nothing.
pub(super) struct Packages;

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
pub(super) struct Receiving;

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

impl Packages {
    pub(super) fn open(_config: &Config) -> Result<Packages, ReleasesError> {
        Ok(Packages)
    }

    pub(super) fn left_out() -> Packages {
        Packages
    }

    pub(super) fn join<W>(self, _config: &Config, around: Around<W>) -> Result<Receiving, ReleasesError> {
        drop(around);
        Ok(Receiving)
    }
}

impl Receiving {
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

    pub(super) fn stop(self) {}
}
