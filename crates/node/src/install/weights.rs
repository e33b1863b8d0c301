//! The weights of a variant, checked and loaded through one open file: what was checked is what is loaded.
//!
//! The file is opened once, mapped, checked chunk by chunk on several threads over the map, and read from the same map. So
//! whoever puts another file under the blob's name, between the check and the load or at any other time, changes nothing.
//! Who may rewrite the very file while it is in use is not held off: that is the user the node runs as.
//!
//! Sealed weights are checked in the same way and opened from the same map, into memory and never onto the disk.

use package::chunks::WrongChunk;
use package::digest::Digest;
use package::disk::FileError;
use package::disk::system::System;
use package::form::{DOCUMENT_MAX_BYTES, FormError};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::seal::content::ContentKey;
use package::seal::stream::{Opener, SealError};
use package::store::Store;

use lm::gguf::GgufError;
use lm::map::{Map, MapError};

use crate::install::choose::read_document;
use crate::install::keys::{Keys, KeysError};
use crate::install::verify::{chunks_of, sealed_in};
use crate::why::why;

#[cfg(feature = "language")]
pub mod gguf;

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
    /// Weights that nothing here opens.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Sealed weights that the granted key does not open.
    #[error("{digest} is sealed and does not open: ask whoever packed it for another grant")]
    Seal {
        /// What.
        digest: Digest,
        /// Why.
        source: SealError,
    },
    /// More than fits into memory.
    #[error("{digest} has {bytes} plain bytes, for which there is no memory")]
    Memory {
        /// What.
        digest: Digest,
        /// How many.
        bytes: u64,
    },
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

    /// Whether only something beside the blobs is missing: a key, a grant.
    pub fn waits(&self) -> bool {
        matches!(self, WeightsError::Keys(error) if !error.is_wrong())
    }
}

/// Weights that are what was signed.
pub enum Checked {
    /// As the file has them.
    Mapped(Map),
    /// Opened from sealed ones.
    Opened(Vec<u8>),
}

impl Checked {
    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Checked::Mapped(map) => map.bytes(),
            Checked::Opened(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Checked {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Opens the weights that a manifest names, checked on so many threads; sealed ones by `keys`. `done` is told the bytes of each
/// chunk that is right, from any thread.
pub fn check(
    store: &Store<System>,
    keys: &Keys,
    manifest: &Digest,
    threads: usize,
    done: impl Fn(u64) + Sync,
) -> Result<Checked, WeightsError> {
    let bytes = store.read_small(manifest, DOCUMENT_MAX_BYTES as u64)?;
    let manifest = Manifest::parse(&bytes.ok_or(WeightsError::Missing { digest: *manifest })?)?;
    let weights = manifest.layer(Role::Weights).ok_or(FormError::Missing { key: "a layer with weights" })?;
    let digest = weights.digest;
    let is_sealed = weights.media_type == media::SEALED;
    let key = is_sealed.then(|| keys.content_key(&digest)).transpose()?;
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
    match key {
        Some(key) => Ok(Checked::Opened(opened(&digest, &key, map.bytes(), threads)?)),
        None => Ok(Checked::Mapped(map)),
    }
}

/// Whether the weights that a manifest names are sealed; a manifest that cannot be read names none.
pub fn is_sealed(store: &Store<System>, manifest: &Digest) -> bool {
    let bytes = store.read_small(manifest, DOCUMENT_MAX_BYTES as u64).ok().flatten();
    let manifest = bytes.and_then(|bytes| Manifest::parse(&bytes).ok());
    manifest.is_some_and(|manifest| sealed_in(&manifest).is_some())
}

/// The plain bytes of a sealed file that is whole.
fn opened(digest: &Digest, key: &ContentKey, sealed: &[u8], threads: usize) -> Result<Vec<u8>, WeightsError> {
    let digest = *digest;
    let failed = |source| WeightsError::Seal { digest, source };
    let header = sealed.first_chunk();
    let header = header.ok_or_else(|| failed(SealError::Form { why: "it is too short" }))?;
    let opener = Opener::new(key, header, sealed.len() as u64).map_err(failed)?;
    let bytes = opener.plain_bytes();
    let length = usize::try_from(bytes).map_err(|_| WeightsError::Memory { digest, bytes })?;
    // Asked for beforehand, since zeros that find no room end the process. They come from the system as pages that nobody has
    // touched yet: the threads do, each where it opens.
    Vec::<u8>::new().try_reserve_exact(length).map_err(|_| WeightsError::Memory { digest, bytes })?;
    let mut plain = vec![0; length];
    opener.open_whole(sealed, &mut plain, threads).map_err(failed)?;
    Ok(plain)
}

/// Checks them as [`check`] does, and removes what the disk has damaged.
pub fn check_or_discard(
    store: &Store<System>,
    keys: &Keys,
    manifest: &Digest,
    threads: usize,
) -> Result<Checked, WeightsError> {
    read_document(store, manifest)?;
    check(store, keys, manifest, threads, |_| ()).inspect_err(|error| discard(store, error))
}

fn discard(store: &Store<System>, error: &WeightsError) {
    if let WeightsError::Damaged { digest, .. } = error
        && let Err(error) = store.discard(digest)
    {
        tracing::warn!(%digest, error = why(&error), "damaged weights cannot be removed");
    }
}

#[cfg(test)]
#[cfg(feature = "language")]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use lm::gguf::Gguf;
    use lm::specimen::Specimen;
    use package::chunks::Chunks;
    use package::descriptor::Descriptor;
    use package::form::Annotations;
    use package::index::{Release, Variant};
    use package::name::ModelName;
    use package::seal::hybrid::{NodePublic, NodeSecret};
    use package::seal::stream::Sealer;
    use package::seal::wrap::wrap;
    use wire::world::Simulated;

    use super::gguf::{open, open_or_discard};
    use super::*;
    use crate::install::event::Fault;
    use crate::install::keys::{grant_path, grants_folder, make_node_key};
    use crate::install::state::Slot;
    use crate::install::verify::verify;

    /// A store with one variant, and the digests of its manifest and weights.
    fn stored(folder: &Path, weights: &[u8], is_listed: bool) -> (Store<System>, Digest, Digest) {
        stored_as(folder, weights, media::WEIGHT_RAW, is_listed)
    }

    fn stored_as(
        folder: &Path,
        weights: &[u8],
        media_type: &str,
        is_listed: bool,
    ) -> (Store<System>, Digest, Digest) {
        let store = Store::open(System, folder, 1 << 30).unwrap();
        let put = |bytes: &[u8]| store.put_small(bytes, 0).unwrap();
        let layer = |role: Role, bytes: &[u8]| {
            let layer = Descriptor::new(role.media_type(), put(bytes), bytes.len() as u64);
            layer.with(media::ROLE, role.word()).with(media::FILEPATH, role.word())
        };
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty());
        for (key, value) in [
            (media::FORM, "1"),
            (media::MODEL, "tiny"),
            (media::RELEASE, "1"),
            (media::VARIANT, "f32"),
            (media::KIND, "lm"),
            (media::RUNTIME, "lm"),
            (media::REQUIRES_RAM, "1"),
            (media::REQUIRES_DISK, "1"),
            (media::REQUIRES_ISA, "any"),
            (media::REQUIRES_ACCELERATOR, "none"),
            (media::REQUIRES_SELVEDGE, "0.1.0"),
        ] {
            manifest.annotations.insert(key.to_owned(), value.to_owned());
        }
        put(b"{}"); // its config
        let mut model = layer(Role::Weights, weights);
        model.media_type = media_type.to_owned();
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
            let loaded = open(&store, &Keys::none(), &manifest, 2, done).unwrap();
            assert_eq!(told.into_inner(), honest.len() as u64);
            assert_eq!(std::fs::read(&path).unwrap(), other, "it stands there");
            assert_eq!(numbers(&loaded), numbers(&Gguf::parse(honest.into()).unwrap()));
            let error = open(&store, &Keys::none(), &manifest, 2, |_| ()).unwrap_err();
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
        let found = open(&store, &Keys::none(), &manifest, 2, done).unwrap_err();
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
            assert!(open_or_discard(&store, &Keys::none(), &manifest, 2).is_ok());
            let damage = |digest: &Digest| {
                let path = store.blob_path(digest);
                let mut bytes = std::fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, bytes).unwrap();
            };
            damage(&weights);
            let error = open_or_discard(&store, &Keys::none(), &manifest, 2).unwrap_err();
            assert!(matches!(error, WeightsError::Damaged { digest, .. } if digest == weights), "{error}");
            assert!(!store.has(&weights).unwrap() && store.has(&manifest).unwrap());
            damage(&manifest);
            let error = open_or_discard(&store, &Keys::none(), &manifest, 2).unwrap_err();
            assert!(matches!(error, WeightsError::Missing { digest } if digest == manifest), "{error}");
        }
    }

    /// A data folder with a key, a store in it with a sealed specimen and its grant.
    struct House {
        _folder: tempfile::TempDir,
        data: PathBuf,
        store: Store<System>,
        manifest: Digest,
        sealed: Digest,
        content: ContentKey,
        public: NodePublic,
    }

    impl House {
        fn new(is_listed: bool) -> House {
            let folder = tempfile::tempdir().unwrap();
            let (data, chance) = (folder.path().join("data"), &mut Simulated::new(3));
            let (public, _) = make_node_key(&System, &data, chance).unwrap();
            let (plain, content) = (specimen(1), ContentKey::draw(chance));
            let mut file = Vec::new();
            let sealer = Sealer::new(&content, plain.len() as u64, chance).unwrap();
            sealer.seal(&mut &plain[..], &mut file).unwrap();
            let (store, manifest, sealed) =
                stored_as(&data.join("packages"), &file, media::SEALED, is_listed);
            let house = House { _folder: folder, data, store, manifest, sealed, content, public };
            house.grant(&sealed, &house.public);
            house
        }

        /// Puts a grant where that of the sealed weights lies.
        fn grant(&self, of: &Digest, to: &NodePublic) {
            let grant = wrap(&self.content, *of, to, &mut Simulated::new(4)).unwrap();
            let path = grant_path(&grants_folder(&self.data), &self.sealed);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, grant.to_bytes()).unwrap();
        }

        fn open(&self, threads: usize) -> Result<Gguf, WeightsError> {
            open(&self.store, &Keys::open(&self.data).unwrap(), &self.manifest, threads, |_| ())
        }

        fn verify(&self) -> Result<(), Fault> {
            let (found, reason) = (self.open(1), verify_weights(self));
            assert_eq!(found.is_ok(), reason.is_ok(), "{reason:?}");
            if let Err(error) = found {
                assert_eq!(error.waits(), matches!(reason, Err(Fault::NotNow(_))), "{error}: {reason:?}");
            }
            reason
        }
    }

    /// What verifying a slot comes to, whose index is this manifest's own.
    fn verify_weights(house: &House) -> Result<(), Fault> {
        let bytes = house.store.read_small(&house.manifest, 1 << 20).unwrap().unwrap();
        let variant = Variant::of(&Manifest::parse(&bytes).unwrap()).unwrap();
        let name = variant.name.clone();
        let release = Release {
            model: ModelName::new("tiny").unwrap(),
            release: 1,
            variants: vec![variant],
            provenance: vec![],
            annotations: Annotations::new(),
        };
        let index = house.store.put_small(&release.to_bytes(), 0).unwrap();
        let slot = Slot {
            release: 1,
            index,
            manifest: house.manifest,
            variant: name,
            weights: house.sealed,
            golden: None,
            committed_ms: None,
            rollout: None,
        };
        verify(&house.store, &Keys::open(&house.data).unwrap(), &slot)
    }

    #[test]
    fn sealed_weights_open_into_memory() {
        for (is_listed, threads) in [(true, 3), (true, 1), (false, 2)] {
            let house = House::new(is_listed);
            let plain = Gguf::parse(specimen(1).into()).unwrap();
            let opened = house.open(threads).unwrap();
            assert_eq!(numbers(&opened), numbers(&plain));
            assert_eq!(opened.file_bytes(), plain.file_bytes());
            assert_eq!(house.verify(), Ok(()));
            let on_disk = std::fs::read(house.store.blob_path(&house.sealed)).unwrap();
            assert!(!on_disk.windows(4).any(|bytes| bytes == b"GGUF"), "nothing plain is there");
        }
    }

    #[test]
    fn what_does_not_open_is_told_apart() {
        let house = House::new(true);
        // No grant, one for another key, one that the disk has damaged: it may come yet.
        let path = grant_path(&grants_folder(&house.data), &house.sealed);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(house.verify(), Err(Fault::NotNow(why)) if why.contains("selvedge grant")));
        let other = NodeSecret::generate(&mut Simulated::new(9)).unwrap();
        house.grant(&house.sealed, other.public());
        assert!(matches!(house.verify(), Err(Fault::NotNow(_))));
        std::fs::write(&path, b"{").unwrap();
        assert!(matches!(house.verify(), Err(Fault::NotNow(_))));
        // A grant of another file.
        house.grant(&Digest::of(b"x"), &house.public);
        assert!(matches!(house.verify(), Err(Fault::Unfit(_))));
        // A grant that says what it should, with another file's key.
        let wrong = ContentKey::draw(&mut Simulated::new(8));
        let grant = wrap(&wrong, house.sealed, &house.public, &mut Simulated::new(4)).unwrap();
        std::fs::write(&path, grant.to_bytes()).unwrap();
        assert!(matches!(house.verify(), Err(Fault::Unfit(why)) if why.contains("not this file's")));
        assert!(matches!(house.open(2), Err(WeightsError::Seal { source: SealError::Key, .. })));
        // Another node's data folder.
        let missing = open(&house.store, &Keys::none(), &house.manifest, 1, |_| ()).unwrap_err();
        assert!(missing.waits() && missing.to_string().contains("trust key node"), "{missing}");
    }

    #[test]
    fn a_changed_or_cut_sealed_blob_is_damage() {
        let change = |change: fn(&mut Vec<u8>)| {
            let house = House::new(true);
            let path = house.store.blob_path(&house.sealed);
            let mut bytes = std::fs::read(&path).unwrap();
            change(&mut bytes);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
            assert!(house.open(2).unwrap_err().is_damage());
            assert!(matches!(verify_weights(&house), Err(Fault::Damaged(_))));
        };
        change(|bytes| bytes[30] ^= 1);
        change(|bytes| *bytes.last_mut().unwrap() ^= 1);
        change(|bytes| bytes.truncate(bytes.len() - 1));
        change(|bytes| bytes.truncate(40));
        // Signed as it is, and no sealed file at all.
        for bytes in [&b"short"[..], &[7; 5000]] {
            let house = House::new(true);
            let (_, manifest, sealed) = stored_as(&house.data.join("packages"), bytes, media::SEALED, false);
            let house = House { manifest, sealed, ..house };
            house.grant(&sealed, &house.public);
            assert!(matches!(house.open(1), Err(WeightsError::Seal { .. })));
            assert!(matches!(verify_weights(&house), Err(Fault::Unfit(_))));
        }
    }

    #[test]
    fn what_is_not_there_or_no_model_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (store, manifest, weights) = stored(folder.path(), b"no model", false);
        let open = |manifest| open(&store, &Keys::none(), manifest, 1, |_| ());
        assert!(matches!(open(&manifest), Err(WeightsError::Gguf(_))));
        store.discard(&weights).unwrap();
        assert!(matches!(open(&manifest), Err(WeightsError::Missing { digest }) if digest == weights));
        assert!(matches!(open(&weights), Err(WeightsError::Missing { .. })));
    }
}
