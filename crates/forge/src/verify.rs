//! Whether a package is whole: every blob there, each byte of it as its digest says, and documents that agree.
//!
//! Says all that is wrong, not only the first, and where: which variant, which file, from which byte on. Who made it is
//! `sign`'s question, who approved it `repository`'s.

use std::collections::BTreeMap;
use std::io::Read;

use package::chunks::{CHUNK_BYTES, Chunks};
use package::config::ModelConfig;
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::golden::Golden;
use package::index::Variant;
use package::layout::LayoutError;
use package::manifest::Manifest;
use package::media::{self, Role};
use package::seal::stream::check_form;

use crate::pack::Told;
use crate::parcel::{Entry, Parcel, ParcelError};

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file that is not there.
    #[error("{file} is not there: the package is not whole, get it again")]
    Missing {
        /// `q8_0/model.gguf`.
        file: String,
    },
    /// A file with other bytes.
    #[error("{file} is damaged{}: get the package again", place(.at))]
    Damaged {
        /// `q8_0/model.gguf`.
        file: String,
        /// Where the wrong bytes begin, as far as that is known.
        at: Option<u64>,
    },
    /// A file of another length.
    #[error("{file} has {found} bytes, its manifest says {expected}: get the package again")]
    Size {
        /// `q8_0/model.gguf`.
        file: String,
        /// As the manifest says.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// A document that says what cannot be, or something else than another says.
    #[error("{file}: {why}")]
    Wrong {
        /// Which.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}

fn place(at: &Option<u64>) -> String {
    at.map_or_else(String::new, |at| format!(", from byte {at} or soon after"))
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Whole {
    /// Files, each once.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Bytes that [`whole`] will read of a release, as far as its manifests can be read.
pub fn total_bytes(parcel: &Parcel, entry: &Entry) -> u64 {
    let manifests = entry.release.variants.iter().map(|variant| parcel.manifest(&variant.manifest.digest));
    let blobs = manifests.flatten().flat_map(|manifest| manifest.layers);
    blobs.map(|layer| (layer.digest, layer.size)).collect::<BTreeMap<Digest, u64>>().values().sum()
}

/// Checks all that a release consists of. `tell` is told the bytes that were read.
pub fn whole(parcel: &Parcel, entry: &Entry, tell: &mut dyn FnMut(u64)) -> Result<Whole, Vec<Fault>> {
    let mut look = Look { parcel, tell, seen: BTreeMap::new(), faults: Vec::new() };
    for variant in &entry.release.variants {
        look.at_variant(entry, variant);
    }
    for speaks in &entry.release.provenance {
        let file = format!("provenance {}", speaks.digest);
        if let Some(manifest) = look.manifest(&file, speaks) {
            for layer in manifest.layers.iter().chain([&manifest.config]) {
                look.at_layer(layer.filepath().unwrap_or(&file), layer, None);
            }
        }
    }
    match look.faults.is_empty() {
        true => Ok(Whole { files: look.seen.len(), bytes: look.seen.values().sum() }),
        false => Err(look.faults),
    }
}

struct Look<'a> {
    parcel: &'a Parcel,
    tell: &'a mut dyn FnMut(u64),
    /// Blobs that were looked at, and their lengths.
    seen: BTreeMap<Digest, u64>,
    faults: Vec<Fault>,
}

impl Look<'_> {
    fn at_variant(&mut self, entry: &Entry, variant: &Variant) {
        let name = variant.name.as_str();
        let Some(manifest) = self.manifest(&format!("{name}'s manifest"), &variant.manifest) else { return };
        if let Err(error) = entry.release.check(&manifest) {
            self.wrong(&format!("{name}'s manifest"), error);
        }
        let list = self.chunks(name, &manifest);
        self.at_layer(&format!("{name}'s config"), &manifest.config, None);
        for (at, layer) in manifest.layers.iter().enumerate() {
            let file = layer.filepath().map_or_else(|| format!("layer {at}"), str::to_owned);
            let list = list.as_ref().filter(|_| layer.role() == Some(Role::Weights));
            self.at_layer(&format!("{name}/{file}"), layer, list);
        }
        self.documents(name, &manifest);
        self.seal(name, &manifest);
    }

    /// What is said to be sealed is, as far as that can be told without a key; and grants for it are grants.
    fn seal(&mut self, name: &str, manifest: &Manifest) {
        let Some(weights) = manifest.layer(Role::Weights) else { return };
        let file = format!("{name}/{}", weights.filepath().unwrap_or("weights"));
        let is_sealed = weights.media_type == media::SEALED;
        match manifest.annotation(media::SEALED_AS) {
            None if !is_sealed => return,
            Some(media::AES_256_GCM_1M) if is_sealed => {}
            said => {
                let said = said.unwrap_or("nothing");
                let why = format!("its manifest says {said} of how it is sealed, its media type otherwise");
                return self.wrong(&file, why);
            }
        }
        match self.parcel.seal_header(&weights.digest) {
            Ok(Some((header, size))) => {
                if let Err(error) = check_form(&header, size) {
                    self.wrong(&file, error);
                }
            }
            Ok(None) => self.wrong(&file, "it is too short to be a sealed file"),
            Err(_) => {} // told when the layer itself is looked at
        }
        if let Err(error) = self.parcel.grants(&weights.digest) {
            self.wrong(&format!("{name}'s grants"), error);
        }
    }

    /// What has a form of ours must have it.
    fn documents(&mut self, name: &str, manifest: &Manifest) {
        let golden = manifest.layer(Role::Golden).and_then(|layer| self.parcel.document(&layer.digest).ok());
        if let Some(Err(error)) = golden.map(|bytes| Golden::parse(&bytes)) {
            self.wrong(&format!("{name}/golden.json"), error);
        }
        let config = self.parcel.document(&manifest.config.digest).ok();
        match config.map(|bytes| ModelConfig::parse(&bytes)) {
            Some(Err(error)) => self.wrong(&format!("{name}'s config"), error),
            Some(Ok(config))
                if !config.modelfs.diff_ids.iter().eq(manifest.layers.iter().map(|layer| &layer.digest)) =>
            {
                self.wrong(&format!("{name}'s config"), "it lists other layers than the manifest");
            }
            _ => {}
        }
    }

    /// The list of chunks of the weights, if there is one and it is one.
    fn chunks(&mut self, name: &str, manifest: &Manifest) -> Option<Chunks> {
        let weights = manifest.layer(Role::Weights)?;
        let named = weights.annotation(media::CHUNKS)?;
        let file = format!("{name}'s list of chunks");
        let layer = manifest.layer(Role::Chunks).filter(|layer| layer.digest.to_string() == named);
        let Some(layer) = layer else {
            self.wrong(&file, "the weights name one that is no layer");
            return None;
        };
        let bytes = self.parcel.document(&layer.digest).ok()?; // told when the layer itself is looked at
        match Chunks::parse(&bytes) {
            Ok(list) if list.blob() == weights.digest && list.blob_bytes() == weights.size => Some(list),
            Ok(_) => {
                self.wrong(&file, "it is of other weights");
                None
            }
            Err(error) => {
                self.wrong(&file, error);
                None
            }
        }
    }

    fn manifest(&mut self, file: &str, speaks: &Descriptor) -> Option<Manifest> {
        match self.parcel.document(&speaks.digest) {
            Ok(bytes) => {
                self.seen.insert(speaks.digest, bytes.len() as u64);
                if bytes.len() as u64 != speaks.size {
                    let (expected, found) = (speaks.size, bytes.len() as u64);
                    self.faults.push(Fault::Size { file: file.to_owned(), expected, found });
                }
                let parsed = Manifest::parse(&bytes);
                parsed.map_err(|error| self.wrong(file, error)).ok()
            }
            Err(error) => {
                self.refused(file, error);
                None
            }
        }
    }

    /// Reads a blob from end to end, once.
    fn at_layer(&mut self, file: &str, layer: &Descriptor, list: Option<&Chunks>) {
        if self.seen.contains_key(&layer.digest) {
            return;
        }
        self.seen.insert(layer.digest, layer.size);
        let parcel = self.parcel;
        let (reader, found) = match parcel.blob(&layer.digest) {
            Ok(blob) => blob,
            Err(error) => return self.refused(file, error),
        };
        let chunk_bytes = list.map_or(CHUNK_BYTES, Chunks::chunk_bytes);
        match Chunks::of(Told { reader, tell: &mut *self.tell }, chunk_bytes) {
            Err(error) => self.wrong(file, error),
            Ok(_) if found != layer.size => {
                let expected = layer.size;
                self.faults.push(Fault::Size { file: file.to_owned(), expected, found });
            }
            Ok((digest, _)) if digest != layer.digest => {
                let at = list.and_then(|list| self.first_wrong(&layer.digest, list));
                self.faults.push(Fault::Damaged { file: file.to_owned(), at });
            }
            Ok((_, chunks)) if list.is_some_and(|list| *list != chunks) => {
                self.wrong(file, "its list of chunks is of other bytes");
            }
            Ok(_) => {}
        }
    }

    /// Where the first wrong chunk begins.
    fn first_wrong(&self, digest: &Digest, list: &Chunks) -> Option<u64> {
        let (mut reader, _) = self.parcel.blob(digest).ok()?;
        (0..list.len()).find_map(|index| {
            let range = list.range(index);
            let mut chunk = Vec::new();
            reader.by_ref().take(range.end - range.start).read_to_end(&mut chunk).ok()?;
            list.check(index, &chunk).is_err().then_some(range.start)
        })
    }

    fn wrong(&mut self, file: &str, why: impl std::fmt::Display) {
        self.faults.push(Fault::Wrong { file: file.to_owned(), why: why.to_string() });
    }

    fn refused(&mut self, file: &str, error: ParcelError) {
        let file = file.to_owned();
        self.faults.push(match error {
            ParcelError::Layout(LayoutError::Missing { .. }) => Fault::Missing { file },
            ParcelError::Layout(LayoutError::Damaged { .. }) => Fault::Damaged { file, at: None },
            error => Fault::Wrong { file, why: error.to_string() },
        });
    }
}
