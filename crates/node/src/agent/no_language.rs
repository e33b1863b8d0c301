//! What joins language models to the node, in a build that has none: the face of `language.rs`, with nothing behind it.

use std::net::SocketAddr;

use super::releases::Packages;
use crate::config::Config;
use crate::pressure::Squeeze;

/// There is no reason: nothing is tried.
#[derive(Debug, thiserror::Error)]
pub enum LanguageError {}

/// Nothing that runs.
pub(super) struct Speaking;

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

impl Speaking {
    pub(super) fn start<W>(
        _config: &Config,
        _packages: &Packages,
        _world: &W,
    ) -> Result<Speaking, LanguageError> {
        Ok(Speaking)
    }

    pub(super) fn left_out() -> Speaking {
        Speaking
    }

    pub(super) fn relief(&self) -> Option<Relief> {
        None
    }

    pub(super) fn serve_addr(&self) -> Option<SocketAddr> {
        None
    }

    pub(super) fn stop(self) {}
}
