//! What a slot holds: who is asked when its model is.

use package::disk::system::System;
use package::manifest::Manifest;
use package::store::Store;

use crate::install::choose::read_document;
use crate::install::prove::{flow, network};
use crate::install::state::Slot;

/// Who is asked when a slot's model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The server: a language model.
    Words,
    /// The flow's networks.
    Network,
    /// It is the flow.
    Flow,
}

/// What a slot's model is. A manifest that cannot be read is the server's affair, which says what is wrong with it.
pub(super) fn what(store: &Store<System>, slot: &Slot) -> What {
    known(store, slot).unwrap_or(What::Words)
}

/// The same; `None` if the manifest cannot be read.
pub(super) fn known(store: &Store<System>, slot: &Slot) -> Option<What> {
    let manifest = described(store, slot)?;
    Some(match () {
        () if network::is_one(&manifest) => What::Network,
        () if flow::is_one(&manifest) => What::Flow,
        () => What::Words,
    })
}

/// The manifest of a slot's variant, if it can be read.
pub(super) fn described(store: &Store<System>, slot: &Slot) -> Option<Manifest> {
    Manifest::parse(&read_document(store, &slot.manifest).ok()??).ok()
}
