//! Which variant of a release comes here: read from its index and manifest in the store, chosen by what the device proves.

use std::io::ErrorKind;

use package::choose::{Device, choose};
use package::digest::Digest;
use package::disk::{Disk, FileError};
use package::form::{DOCUMENT_MAX_BYTES, FormError};
use package::index::{Release, Variant};
use package::manifest::Manifest;
use package::media::Role;
use package::name::ModelName;
use package::store::Store;

use crate::install::state::{Order, Slot};

/// What choosing came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Choosing {
    /// A blob must come first: the index, or the manifest of the best variant.
    Needs(Digest),
    /// The slot that the order becomes; or why no variant can be installed here.
    Done(Result<Slot, String>),
}

/// Chooses, as far as what is in the store allows.
pub fn slot_for<D: Disk>(
    store: &Store<D>,
    model: &ModelName,
    order: &Order,
    device: &Device,
) -> Result<Choosing, FileError> {
    let Some(index) = read_document(store, &order.index)? else { return Ok(Choosing::Needs(order.index)) };
    let variant = match best_of(&index, model, order, device) {
        Ok(variant) => variant,
        Err(why) => return Ok(Choosing::Done(Err(why))),
    };
    let digest = variant.manifest.digest;
    let Some(manifest) = read_document(store, &digest)? else { return Ok(Choosing::Needs(digest)) };
    Ok(Choosing::Done(slot_of(&manifest, &index, order).map_err(|error| error.to_string())))
}

/// An index or manifest; one that the disk has damaged is removed, as if it had never come.
pub fn read_document<D: Disk>(store: &Store<D>, digest: &Digest) -> Result<Option<Vec<u8>>, FileError> {
    read_or_discard(store, digest, DOCUMENT_MAX_BYTES as u64)
}

/// The same for any blob of at most `max_bytes`.
pub fn read_or_discard<D: Disk>(
    store: &Store<D>,
    digest: &Digest,
    max_bytes: u64,
) -> Result<Option<Vec<u8>>, FileError> {
    match store.read_small(digest, max_bytes) {
        Err(error) if error.source.kind() == ErrorKind::InvalidData => {
            store.discard(digest)?;
            Ok(None)
        }
        read => read,
    }
}

fn best_of(index: &[u8], model: &ModelName, order: &Order, device: &Device) -> Result<Variant, String> {
    let release = Release::read(index).map_err(|error| error.to_string())?;
    if release.model != *model || release.release != order.release {
        let found = format!("{} {}", release.model, release.release);
        return Err(format!("its index is that of {found}, not of {model} {}", order.release));
    }
    let choice = choose(&release, device);
    let at = match &order.variant {
        Some(name) => release.variants.iter().position(|variant| variant.name == *name),
        None => choice.best,
    };
    match at.filter(|at| choice.reasons[*at].lacks.is_empty()) {
        Some(at) => Ok(release.variants[at].clone()),
        None => Err(choice.to_string()),
    }
}

fn slot_of(manifest: &[u8], index: &[u8], order: &Order) -> Result<Slot, FormError> {
    let digest = Digest::of(manifest);
    let manifest = Manifest::parse(manifest)?;
    let release = Release::read(index)?;
    let variant = release.check(&manifest)?;
    let weights = manifest.layer(Role::Weights).ok_or(FormError::Missing { key: "a layer with weights" })?;
    Ok(Slot {
        release: release.release,
        index: order.index,
        manifest: digest,
        variant: variant.name.clone(),
        weights: weights.digest,
        golden: manifest.layer(Role::Golden).map(|layer| layer.digest),
        committed_ms: None,
        rollout: order.rollout.clone(),
    })
}
