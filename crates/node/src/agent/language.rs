//! Joins language models to the node: the server in which they answer, and the thread of the slots that brings and proves
//! their releases. A build without them has `no_language.rs` in the place of this file, with the same face.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use package::disk::system::System;
use package::store::Store;
use wire::id::BootId;
use wire::world::World;

pub(super) use super::install::Inbox;
pub(super) use super::install::flows::at_start;
use super::install::{self, InstallError, Installing, Prepared, Surroundings};
use super::reload::Reloader;
use super::report::Reports;
use super::shared::Shared;
use crate::api::Routes;
use crate::api::blobs::Door;
use crate::config::Config;
use crate::config::serve::ServeConfig;
use crate::config::token::{TokenError, read_token};
use crate::identity::tls::HubTls;
use crate::network::releases::Releases;
pub(super) use crate::serve::Relief;
use crate::serve::settings::Settings;
use crate::serve::{self, ServeError, Serving};

/// Whether the node's flow comes as a release.
pub(super) fn takes_flow(config: &Config) -> bool {
    config.packages.as_ref().is_some_and(|packages| packages.flow.is_some())
}

/// Why a node does without its language models, and so does not start.
#[derive(Debug, thiserror::Error)]
pub enum LanguageError {
    /// They cannot be served.
    #[error("the language models cannot be served")]
    Serve(#[from] ServeError),
    /// Their releases cannot be kept.
    #[error("the releases cannot be kept")]
    Install(#[from] InstallError),
    /// A token is missing.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What serves, and what was made ready for the slots.
pub(super) struct Language {
    serving: Option<Serving>,
    prepared: Option<Prepared>,
}

/// What the slots need of the rest of the node.
pub(super) struct Around<W> {
    pub(super) world: W,
    pub(super) boot: BootId,
    pub(super) shared: Arc<Shared>,
    pub(super) reports: Reports,
    /// The hub's token.
    pub(super) token: Option<String>,
    /// How the hub's door for nodes is entered.
    pub(super) tls: Option<HubTls>,
    /// Where the flow takes networks of releases from.
    pub(super) releases: Releases,
    /// Who takes another flow.
    pub(super) reloader: Arc<Reloader>,
}

/// Language models that are part of a running node.
pub(super) struct Speaking {
    serving: Option<Serving>,
    installing: Option<Installing>,
    store: Option<Arc<Store<System>>>,
}

impl Language {
    /// Opens the store and starts the server, as far as the node has them; before the first record is written.
    pub(super) fn open<W: World + Clone + 'static>(
        config: &Config,
        world: &W,
    ) -> Result<Language, LanguageError> {
        let key_file = config.serve.as_ref().and_then(|serve| serve.token_file.as_deref());
        let key = key_file.map(read_token).transpose()?;
        let prepared =
            config.packages.as_ref().map(|packages| install::prepare(packages, &config.data)).transpose()?;
        let serving = match config.serve.clone() {
            Some(ServeConfig { settings, offers, .. }) => {
                let settings = Settings { key, ..settings };
                let slots = prepared.as_ref().map(|prepared| prepared.slots.clone());
                Some(serve::start(settings, offers, slots, world.clone())?)
            }
            None => None,
        };
        Ok(Language { serving, prepared })
    }

    /// Leaves them out, whatever the settings say.
    pub(super) fn left_out() -> Language {
        Language { serving: None, prepared: None }
    }

    /// Starts the thread of the slots.
    pub(super) fn join<W: World + Clone + 'static>(
        self,
        config: &Config,
        around: Around<W>,
    ) -> Result<Speaking, LanguageError> {
        let Language { serving, prepared } = self;
        let store = prepared.as_ref().map(|prepared| Arc::clone(&prepared.store));
        let installing = match prepared {
            Some(prepared) => {
                let Around { world, boot, shared, reports, token, tls, releases, reloader } = around;
                let near = config.neighbours.as_ref().and_then(|near| near.token_file.as_deref());
                let near = near.map(read_token).transpose()?;
                let around =
                    Surroundings { world, boot, shared, reports, token, tls, near, releases, reloader };
                Some(install::start(prepared, config, around)?)
            }
            None => None,
        };
        Ok(Speaking { serving, installing, store })
    }
}

impl Speaking {
    /// The door for neighbours at the local API, if they may fetch what the slots reach.
    pub(super) fn door<W: World + Clone + 'static>(
        &self,
        config: &Config,
        shared: &Shared,
        at: (SocketAddr, Vec<String>),
        world: &W,
    ) -> Result<Option<Routes>, TokenError> {
        let serving = config.neighbours.as_ref().filter(|neighbours| neighbours.serve);
        let Some((neighbours, store)) = serving.zip(self.store.clone()) else { return Ok(None) };
        let token = neighbours.token_file.as_deref().map(read_token).transpose()?;
        let clock = Mutex::new(world.clone());
        let now = move || clock.lock().unwrap_or_else(PoisonError::into_inner).mono_ns();
        let (reachable, bytes_per_s) = (Arc::clone(&shared.reachable), neighbours.bytes_per_s);
        Ok(Some(Door::new(store, reachable, at, token, bytes_per_s, Arc::new(now)).router()))
    }

    /// Where what the hub has for this node is handed in.
    pub(super) fn inbox(&self) -> Option<Inbox> {
        self.installing.as_ref().map(Installing::inbox)
    }

    /// What takes memory back from the models, if they are served.
    pub(super) fn relief(&self) -> Option<Relief> {
        self.serving.as_ref().map(Serving::relief)
    }

    /// Where language models answer, if they do.
    pub(super) fn serve_addr(&self) -> Option<SocketAddr> {
        self.serving.as_ref().map(Serving::address)
    }

    /// Stops the slots, then the server.
    pub(super) fn stop(self) {
        if let Some(installing) = self.installing {
            installing.stop();
        }
        if let Some(serving) = self.serving {
            serving.stop();
        }
    }
}
