//! Joins releases to the node: the store, the thread of the slots that brings and proves them, and the door for neighbours. A build
//! without releases has `no_releases.rs` in the place of this file, with the same face.

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
use crate::config::token::{TokenError, read_token};
use crate::identity::tls::HubTls;
use crate::network::releases::Releases;

/// Whether the node's flow comes as a release.
pub(super) fn takes_flow(config: &Config) -> bool {
    config.packages.as_ref().is_some_and(|packages| packages.flow.is_some())
}

/// Why a node does without releases, and so does not start.
#[derive(Debug, thiserror::Error)]
pub enum ReleasesError {
    /// They cannot be kept.
    #[error("the releases cannot be kept")]
    Install(#[from] InstallError),
    /// A token is missing.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What was made ready for the slots; nothing in a node that takes no releases.
pub(super) struct Packages {
    pub(super) prepared: Option<Prepared>,
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

/// Releases that come to a running node.
pub(super) struct Receiving {
    installing: Option<Installing>,
    store: Option<Arc<Store<System>>>,
}

impl Packages {
    /// Opens the store, if the node takes releases; before the first record is written.
    pub(super) fn open(config: &Config) -> Result<Packages, ReleasesError> {
        let prepared =
            config.packages.as_ref().map(|packages| install::prepare(config, packages)).transpose()?;
        Ok(Packages { prepared })
    }

    /// Leaves them out, whatever the settings say.
    pub(super) fn left_out() -> Packages {
        Packages { prepared: None }
    }

    /// Starts the thread of the slots.
    pub(super) fn join<W: World + Clone + 'static>(
        self,
        config: &Config,
        around: Around<W>,
    ) -> Result<Receiving, ReleasesError> {
        let store = self.prepared.as_ref().map(|prepared| Arc::clone(&prepared.store));
        let installing = match self.prepared {
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
        Ok(Receiving { installing, store })
    }
}

impl Receiving {
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

    /// Stops the slots.
    pub(super) fn stop(self) {
        if let Some(installing) = self.installing {
            installing.stop();
        }
    }
}
