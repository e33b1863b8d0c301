//! Whether what is in the store is what was signed: every blob of a variant, byte for byte, and that manifest and index agree.
//!
//! Stands between a transfer that is done and a model that runs for the first time. A blob that is damaged is removed, so
//! that the next transfer brings it again. For sealed weights a grant must be here that opens them. What is loaded is checked
//! once more as it is loaded: see `weights`.

use std::sync::Arc;

use package::chunks::Chunks;
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::disk::{Disk, DiskFile, read_full};
use package::index::Release;
use package::manifest::Manifest;
use package::media::{self, Role};
use package::seal::content::ContentKey;
use package::seal::stream::{HEADER_BYTES, Opener};
use package::store::Store;
use sha2::{Digest as _, Sha256};
use wire::hash::Hash;

use crate::install::choose::{read_document, read_or_discard};
use crate::install::event::Fault;
use crate::install::keys::Keys;
use crate::install::state::Slot;
use crate::why::why;

/// How much is read at a time.
const PASS_BYTES: usize = 1 << 20;

/// Checks a slot. Blocks for as long as reading all of it takes.
///
/// # Errors
/// [`Fault::NotNow`] if what opens sealed weights is missing; then nothing else was read.
pub fn verify<D: Disk>(store: &Store<D>, keys: &Keys, slot: &Slot) -> Result<(), Fault> {
    let document = |digest: &Digest| match read_document(store, digest) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Fault::Damaged(format!("{digest} is not in the store"))),
        Err(error) => Err(Fault::Damaged(format!("{digest}: {error}"))),
    };
    let unfit = |error: package::form::FormError| Fault::Unfit(error.to_string());
    let release = Release::read(&document(&slot.index)?).map_err(unfit)?;
    release.variant_of(&slot.manifest).map_err(unfit)?;
    let manifest = Manifest::parse(&document(&slot.manifest)?).map_err(unfit)?;
    let variant = release.check(&manifest).map_err(unfit)?;
    if variant.manifest.digest != slot.manifest {
        return Err(Fault::Unfit(format!("the index has another variant called {}", variant.name)));
    }
    let sealed = sealed_in(&manifest);
    let key = sealed.map(|weights| keys.content_key(&weights.digest)).transpose();
    let key = key.map_err(|error| match error.is_wrong() {
        true => Fault::Unfit(why(&error)),
        false => Fault::NotNow(why(&error)),
    })?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        if !is_whole(store, blob).unwrap_or(false) {
            // Also what cannot be read: written anew it lies elsewhere.
            let discarded = store.discard(&blob.digest).err();
            let why = discarded.map_or(String::new(), |error| format!("; and it cannot be removed: {error}"));
            return Err(Fault::Damaged(format!("{} is not whole{why}", blob.digest)));
        }
    }
    if let Some(list) = manifest.layer(Role::Chunks)
        && let Err(why) = chunks_of(store, &manifest, list)
    {
        return Err(Fault::Unfit(why));
    }
    match sealed.zip(key) {
        Some((weights, key)) => opens(store, weights, &key),
        None => Ok(()),
    }
}

/// The weights of a manifest, if they are sealed.
pub fn sealed_in(manifest: &Manifest) -> Option<&Descriptor> {
    manifest.layer(Role::Weights).filter(|layer| layer.media_type == media::SEALED)
}

/// Whether a key is that of sealed weights, which are whole.
fn opens<D: Disk>(store: &Store<D>, weights: &Descriptor, key: &ContentKey) -> Result<(), Fault> {
    let digest = weights.digest;
    let damaged = |why: String| Fault::Damaged(format!("{digest}: {why}"));
    let file = store.open_blob(&digest).map_err(|error| damaged(why(&error)))?;
    let file = file.ok_or_else(|| damaged("it is gone".into()))?;
    let mut header = [0; HEADER_BYTES];
    let came = read_full(&file, 0, &mut header).map_err(|error| damaged(error.to_string()))?;
    if came < header.len() {
        return Err(Fault::Unfit(format!("{digest} is too short to be a sealed file")));
    }
    let opener = Opener::new(key, &header, weights.size);
    opener.map(drop).map_err(|error| Fault::Unfit(format!("{digest} does not open: {}", why(&error))))
}

/// The hashes of the pieces of a variant's weights, if it has a list of them that is as it should be. A list that the disk has
/// damaged is removed, as if it had never come.
pub fn chunks_of<D: Disk>(
    store: &Store<D>,
    manifest: &Manifest,
    list: &Descriptor,
) -> Result<Arc<Chunks>, String> {
    let weights = manifest.layer(Role::Weights).ok_or("it has a list of chunks and no weights")?;
    if weights.annotation(media::CHUNKS) != Some(&*list.digest.to_string()) {
        return Err("its weights do not name its list of chunks".into());
    }
    let most_bytes = package::chunks::list_bytes(weights.size);
    let bytes = read_or_discard(store, &list.digest, most_bytes).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("{} is not in the store", list.digest))?;
    let chunks = Chunks::parse(&bytes).map_err(|error| error.to_string())?;
    if (chunks.blob(), chunks.blob_bytes()) != (weights.digest, weights.size) {
        return Err("its list of chunks is that of another blob".into());
    }
    Ok(Arc::new(chunks))
}

/// Whether a blob is there with all its bytes, and no others.
fn is_whole<D: Disk>(store: &Store<D>, blob: &Descriptor) -> std::io::Result<bool> {
    let opened = store.open_blob(&blob.digest).map_err(|error| error.source)?;
    let Some(file) = opened.filter(|file| file.size_bytes().is_ok_and(|size| size == blob.size)) else {
        return Ok(false);
    };
    let piece_bytes =
        usize::try_from(blob.size).map_or(PASS_BYTES, |size| PASS_BYTES.min(size.saturating_add(1)));
    let (mut hasher, mut at, mut buffer) = (Sha256::new(), 0, vec![0; piece_bytes]);
    loop {
        let came = read_full(&file, at, &mut buffer)?;
        hasher.update(&buffer[..came]);
        at += came as u64;
        if came < buffer.len() {
            return Ok(Digest::from(Hash::from(hasher)) == blob.digest);
        }
    }
}
