//! Checked weights as a language model's file.

use lm::gguf::Gguf;
use package::digest::Digest;
use package::disk::system::System;
use package::store::Store;

use super::{Checked, WeightsError, check, check_or_discard};
use crate::install::keys::Keys;

/// Opens the weights of a language model that a manifest names, as [`check`] does.
pub fn open(
    store: &Store<System>,
    keys: &Keys,
    manifest: &Digest,
    threads: usize,
    done: impl Fn(u64) + Sync,
) -> Result<Gguf, WeightsError> {
    parse(check(store, keys, manifest, threads, done)?)
}

/// The same. What the disk has damaged is removed, so that the next transfer brings it again.
pub fn open_or_discard(
    store: &Store<System>,
    keys: &Keys,
    manifest: &Digest,
    threads: usize,
) -> Result<Gguf, WeightsError> {
    parse(check_or_discard(store, keys, manifest, threads)?)
}

fn parse(checked: Checked) -> Result<Gguf, WeightsError> {
    match checked {
        Checked::Opened(bytes) => Ok(Gguf::parse(bytes.into())?),
        Checked::Mapped(map) => Ok(Gguf::of_map(map)?),
    }
}
