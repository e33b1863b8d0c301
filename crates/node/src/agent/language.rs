//! Joins language models to the node: the server in which they answer, those of files and those of releases. A build without them has
//! `no_language.rs` in the place of this file, with the same face.

use std::net::SocketAddr;

use wire::world::World;

use super::releases::Packages;
use crate::config::Config;
use crate::config::serve::ServeConfig;
use crate::config::token::{TokenError, read_token};
pub(super) use crate::serve::Relief;
use crate::serve::settings::Settings;
use crate::serve::{self, ServeError, Serving};

/// Why a node does without its language models, and so does not start.
#[derive(Debug, thiserror::Error)]
pub enum LanguageError {
    /// They cannot be served.
    #[error("the language models cannot be served")]
    Serve(#[from] ServeError),
    /// A token is missing.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Language models that are part of a node.
pub(super) struct Speaking {
    serving: Option<Serving>,
}

impl Speaking {
    /// Starts the server, if the node has one; before the first record is written. `packages`: where those of releases come from.
    pub(super) fn start<W: World + Clone + 'static>(
        config: &Config,
        packages: &Packages,
        world: &W,
    ) -> Result<Speaking, LanguageError> {
        let key_file = config.serve.as_ref().and_then(|serve| serve.token_file.as_deref());
        let key = key_file.map(read_token).transpose()?;
        let serving = match config.serve.clone() {
            Some(ServeConfig { settings, offers, .. }) => {
                let settings = Settings { key, ..settings };
                let slots = packages.prepared.as_ref().map(|prepared| prepared.server.slots().clone());
                Some(serve::start(settings, offers, slots, world.clone())?)
            }
            None => None,
        };
        Ok(Speaking { serving })
    }

    /// Leaves them out, whatever the settings say.
    pub(super) fn left_out() -> Speaking {
        Speaking { serving: None }
    }

    /// What takes memory back from the models, if they are served.
    pub(super) fn relief(&self) -> Option<Relief> {
        self.serving.as_ref().map(Serving::relief)
    }

    /// Where language models answer, if they do.
    pub(super) fn serve_addr(&self) -> Option<SocketAddr> {
        self.serving.as_ref().map(Serving::address)
    }

    /// Stops the server.
    pub(super) fn stop(self) {
        if let Some(serving) = self.serving {
            serving.stop();
        }
    }
}
