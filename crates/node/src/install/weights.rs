//! The weights of a variant, checked and loaded through one open file: what was checked is what is loaded.
//!
//! The file is opened once, mapped, checked chunk by chunk on several threads over the map, and read from the same map. So
//! whoever puts another file under the blob's name, between the check and the load or at any other time, changes nothing.
//! Who may rewrite the very file while it is in use is not held off: that is the user the node runs as.

use package::chunks::WrongChunk;
use package::digest::Digest;
use package::disk::FileError;
use package::disk::system::System;
use package::form::{DOCUMENT_MAX_BYTES, FormError};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::store::Store;

use lm::gguf::{Gguf, GgufError};
use lm::map::{Map, MapError};

use crate::install::choose::read_document;
use crate::install::verify::chunks_of;
use crate::why::why;

/// Weights that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Not in the store.
    #[error("{digest} is not in the store")]
    Missing {
        /// What.
        digest: Digest,
    },
    /// Not the bytes that were signed.
    #[error("the bytes of {digest} are damaged")]
    Damaged {
        /// What.
        digest: Digest,
        /// Where, if it has a list of chunks.
        source: Option<WrongChunk>,
    },
    /// The manifest is none, or has no weights.
    #[error("the manifest cannot be used")]
    Form(#[from] FormError),
    /// The list of chunks is none of these weights.
    #[error("its list of chunks cannot be used: {why}")]
    Chunks {
        /// Why.
        why: String,
    },
    /// Weights that only a key opens.
    #[error("the weights are sealed, which is not supported here")]
    Sealed,
    /// The file cannot be reached.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// What was signed is no model.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

impl WeightsError {
    /// Whether bringing the blobs once more may help: they were right when they came.
    pub fn is_damage(&self) -> bool {
        use WeightsError::{Chunks, Damaged, File, Missing};
        matches!(self, Missing { .. } | Damaged { .. } | Chunks { .. } | File(_))
    }
}

/// Opens the weights that a manifest names, checked on so many threads. `done` is told the bytes of each chunk that is right, from
/// any thread.
pub fn open(
    store: &Store<System>,
    manifest: &Digest,
    threads: usize,
    done: impl Fn(u64) + Sync,
) -> Result<Gguf, WeightsError> {
    let bytes = store.read_small(manifest, DOCUMENT_MAX_BYTES as u64)?;
    let manifest = Manifest::parse(&bytes.ok_or(WeightsError::Missing { digest: *manifest })?)?;
    let weights = manifest.layer(Role::Weights).ok_or(FormError::Missing { key: "a layer with weights" })?;
    if weights.media_type == media::SEALED {
        return Err(WeightsError::Sealed);
    }
    let digest = weights.digest;
    let list = manifest.layer(Role::Chunks).map(|list| chunks_of(store, &manifest, list));
    let list = list.transpose().map_err(|why| WeightsError::Chunks { why })?;
    let file = store.open_blob(&digest)?.ok_or(WeightsError::Missing { digest })?;
    let map = Map::of_file(file.as_std(), &store.blob_path(&digest))?;
    map.sequential();
    match list {
        Some(list) => list
            .check_all(map.bytes(), threads, done)
            .map_err(|wrong| WeightsError::Damaged { digest, source: Some(wrong) })?,
        None if Digest::of(map.bytes()) == digest => done(map.bytes().len() as u64),
        None => return Err(WeightsError::Damaged { digest, source: None }),
    }
    Ok(Gguf::of_map(map)?)
}

/// Opens them as [`open`] does. What the disk has damaged is removed, so that the next transfer brings it again.
pub fn open_or_discard(
    store: &Store<System>,
    manifest: &Digest,
    threads: usize,
) -> Result<Gguf, WeightsError> {
    read_document(store, manifest)?;
    open(store, manifest, threads, |_| ()).inspect_err(|error| {
        if let WeightsError::Damaged { digest, .. } = error
            && let Err(error) = store.discard(digest)
        {
            tracing::warn!(%digest, error = why(&error), "damaged weights cannot be removed");
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use lm::specimen::Specimen;
    use package::chunks::Chunks;
    use package::descriptor::Descriptor;

    use super::*;

    /// A store with one variant, and the digests of its manifest and weights.
    fn stored(folder: &std::path::Path, weights: &[u8], is_listed: bool) -> (Store<System>, Digest, Digest) {
        let store = Store::open(System, folder, 1 << 30).unwrap();
        let put = |bytes: &[u8]| store.put_small(bytes, 0).unwrap();
        let layer = |role: Role, bytes: &[u8]| {
            let layer = Descriptor::new(role.media_type(), put(bytes), bytes.len() as u64);
            layer.with(media::ROLE, role.word()).with(media::FILEPATH, role.word())
        };
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty());
        let mut model = layer(Role::Weights, weights);
        if is_listed {
            let (_, list) = Chunks::of(weights, 4096).unwrap();
            let list = layer(Role::Chunks, &list.to_bytes());
            model = model.with(media::CHUNKS, list.digest.to_string());
            manifest.layers.push(list);
        }
        let digest = model.digest;
        manifest.layers.push(model);
        let manifest = put(&manifest.to_bytes());
        (store, manifest, digest)
    }

    fn specimen(seed: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Specimen { seed, ..Specimen::SMALL }.write(&mut bytes).unwrap();
        bytes
    }

    /// The numbers of the first tensor.
    fn numbers(gguf: &Gguf) -> Vec<u8> {
        gguf.bytes_of(&gguf.tensors()[0]).to_vec()
    }

    #[test]
    fn a_file_that_takes_the_name_after_the_check_is_not_loaded() {
        for is_listed in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (honest, other) = (specimen(1), specimen(2));
            assert_eq!(honest.len(), other.len());
            let (store, manifest, weights) = stored(&folder.path().join("packages"), &honest, is_listed);
            let (path, swapped) = (store.blob_path(&weights), AtomicBool::new(false));
            let aside = folder.path().join("packages/blobs/sha256/other");
            std::fs::write(&aside, &other).unwrap();
            let told = AtomicU64::new(0);
            let done = |bytes| {
                told.fetch_add(bytes, Ordering::Relaxed);
                if !swapped.swap(true, Ordering::Relaxed) {
                    std::fs::rename(&aside, &path).unwrap();
                }
            };
            let loaded = open(&store, &manifest, 2, done).unwrap();
            assert_eq!(told.into_inner(), honest.len() as u64);
            assert_eq!(std::fs::read(&path).unwrap(), other, "it stands there");
            assert_eq!(numbers(&loaded), numbers(&Gguf::parse(honest.into()).unwrap()));
            let error = open(&store, &manifest, 2, |_| ()).unwrap_err();
            assert!(error.is_damage() && matches!(error, WeightsError::Damaged { .. }), "{error}");
        }
    }

    /// A list as its page says, of a blob that is all zeros: the hashes of two chunks make all of it.
    fn list_of_zeros(blob: Digest, blob_bytes: u64) -> Vec<u8> {
        let chunk = 1_u64 << 20;
        let hash = |bytes: u64| Digest::of(&vec![0; bytes as usize]).hash().as_bytes().to_vec();
        let head = [&b"SVCHUNK1"[..], &(chunk as u32).to_le_bytes(), &[0; 4], &blob_bytes.to_le_bytes()];
        let (whole, last) = (blob_bytes / chunk, blob_bytes % chunk);
        let hashes = [hash(chunk).repeat(whole as usize), hash(last)].concat();
        [&head.concat()[..], blob.hash().as_bytes(), &hashes].concat()
    }

    #[test]
    fn one_byte_behind_four_gigabytes_is_found() {
        use std::os::unix::fs::FileExt as _;

        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(System, folder.path(), u64::MAX).unwrap();
        let (digest, size) = (Digest::of(b"4 GiB of zeros and some"), (4_u64 << 30) + (3 << 20) + 5);
        let list = list_of_zeros(digest, size);
        let list =
            Descriptor::new(Role::Chunks.media_type(), store.put_small(&list, 0).unwrap(), list.len() as u64)
                .with(media::ROLE, Role::Chunks.word())
                .with(media::FILEPATH, "list");
        let weights = Descriptor::new(Role::Weights.media_type(), digest, size)
            .with(media::ROLE, Role::Weights.word())
            .with(media::FILEPATH, "weights")
            .with(media::CHUNKS, list.digest.to_string());
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty());
        manifest.layers = vec![weights, list];
        let manifest = store.put_small(&manifest.to_bytes(), 0).unwrap();
        // All holes but one page.
        let file = std::fs::File::create(store.blob_path(&digest)).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(&[1], (4 << 30) + (1 << 20) + 7).unwrap();
        let told = AtomicU64::new(0);
        let done = |bytes| {
            told.fetch_add(bytes, Ordering::Relaxed);
        };
        let found = open(&store, &manifest, 2, done).unwrap_err();
        let expected = WrongChunk::Bytes { index: 4097, blob: digest };
        assert!(
            matches!(&found, WeightsError::Damaged { source: Some(wrong), .. } if *wrong == expected),
            "{found}"
        );
        assert!(told.into_inner() >= (4 << 30) + (1 << 20), "all before it is right");
    }

    #[test]
    fn what_is_damaged_is_removed() {
        for is_listed in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (store, manifest, weights) = stored(folder.path(), &specimen(1), is_listed);
            assert!(open_or_discard(&store, &manifest, 2).is_ok());
            let damage = |digest: &Digest| {
                let path = store.blob_path(digest);
                let mut bytes = std::fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, bytes).unwrap();
            };
            damage(&weights);
            let error = open_or_discard(&store, &manifest, 2).unwrap_err();
            assert!(matches!(error, WeightsError::Damaged { digest, .. } if digest == weights), "{error}");
            assert!(!store.has(&weights).unwrap() && store.has(&manifest).unwrap());
            damage(&manifest);
            let error = open_or_discard(&store, &manifest, 2).unwrap_err();
            assert!(matches!(error, WeightsError::Missing { digest } if digest == manifest), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_or_no_model_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (store, manifest, weights) = stored(folder.path(), b"no model", false);
        assert!(matches!(open(&store, &manifest, 1, |_| ()), Err(WeightsError::Gguf(_))));
        store.discard(&weights).unwrap();
        assert!(
            matches!(open(&store, &manifest, 1, |_| ()), Err(WeightsError::Missing { digest }) if digest == weights)
        );
        assert!(matches!(open(&store, &weights, 1, |_| ()), Err(WeightsError::Missing { .. })));
    }
}
