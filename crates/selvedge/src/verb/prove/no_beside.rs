//! Stands for `selvedge prove --shadow` in a build without language models: there is no such word.

use std::num::NonZeroUsize;

use node::install::keys::Keys;
use package::digest::Digest;
use package::disk::system::System;
use package::store::Store;

/// Nothing more can be said.
#[derive(clap::Args)]
pub(super) struct BesideArgs {}

impl BesideArgs {
    /// The threads that check bytes.
    pub(super) fn threads(&self) -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    pub(super) fn is_wanted(&self) -> bool {
        false
    }

    /// Nobody asks.
    pub(super) fn answer(
        &self,
        _store: &Store<System>,
        _keys: &Keys,
        _manifest: &Digest,
        _until_eof: bool,
    ) -> anyhow::Result<()> {
        Ok(())
    }
}
