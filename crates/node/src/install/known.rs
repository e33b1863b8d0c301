//! What is known of the memory of a release that serves here, read from the node's data folder, whether the node runs or not.

use std::path::Path;

use package::disk::system::System;
use package::form::DOCUMENT_MAX_BYTES;
use package::manifest::Manifest;
use package::name::ModelName;
use package::requirement::Requires;
use package::store::Store;

use crate::install::state::SlotsFile;

/// Bytes of memory, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The process that proved it had so much more for it.
    Measured(u64),
    /// Its package asks for so much.
    Declared(u64),
}

/// What the current release of a model takes; `None`: there is none, or nobody says.
pub fn memory_of(data: &Path, model: &ModelName) -> Option<Memory> {
    let folder = data.join("slots");
    if !folder.is_dir() {
        return None;
    }
    let kept = SlotsFile::open(System, &folder, model).ok()?.kept;
    let manifest = kept.current.as_ref()?.manifest;
    if let Some(bytes) = kept.measured_of(&manifest).and_then(|measured| measured.own_bytes) {
        return Some(Memory::Measured(bytes));
    }
    let store = Store::open(System, &data.join("packages"), u64::MAX).ok()?;
    let bytes = store.read_small(&manifest, DOCUMENT_MAX_BYTES as u64).ok()??;
    let requires = Requires::read(&Manifest::parse(&bytes).ok()?.annotations).ok()?;
    Some(Memory::Declared(requires.ram_bytes))
}
