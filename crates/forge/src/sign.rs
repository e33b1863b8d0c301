//! Who made a package: a signature of OpenSSF's model signing for each variant, put into the index of the release.
//!
//! A bundle lists a variant's files with their digests. It hangs in the index as a manifest of its own that speaks of the
//! variant's manifest, so that registries and `skopeo` move it along. What a node trusts is decided by TUF, not here.

use package::descriptor::{Descriptor, Platform};
use package::digest::Digest;
use package::disk::Disk;
use package::form::FormError;
use package::index::{Release, Variant};
use package::layout::{Layout, LayoutError};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::trust::key::{PublicKey, from_pem};
use package::trust::provenance::{self, File, Provenance, ProvenanceError};
use package::trust::sign::EcdsaSigner;

use crate::parcel::{Entry, Parcel, ParcelError};

/// A package that could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// What is to be signed.
    #[error(transparent)]
    Parcel(#[from] ParcelError),
    /// Where it is to be kept.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The key.
    #[error(transparent)]
    Key(#[from] package::trust::sign::SignError),
    /// What came out.
    #[error("the signed release cannot be read again")]
    Form(#[from] FormError),
}

/// What a variant lacks to be proven.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// No signature at all.
    #[error("{variant} has no signature of who made it: `selvedge sign` puts one there")]
    Unsigned {
        /// Which variant.
        variant: String,
    },
    /// Signatures, none of them this key's over these files.
    #[error("{variant} is not signed by this key")]
    Refused {
        /// Which variant.
        variant: String,
        /// Why the last was refused.
        source: ProvenanceError,
    },
    /// Something in the package.
    #[error(transparent)]
    Parcel(#[from] ParcelError),
}

/// Signs every variant of a release that `signer` has not signed yet, and names the new index as the old one was named. Gives
/// that index and how many signatures came to it.
pub fn sign<D: Disk>(
    layout: &Layout<D>,
    parcel: &Parcel,
    entry: &Entry,
    signer: &EcdsaSigner,
) -> Result<(Descriptor, usize), SignError> {
    let key = PublicKey::EcdsaP256(from_pem(signer.pem()).unwrap_or_default());
    let mut release = entry.release.clone();
    let mut made = 0;
    for variant in &entry.release.variants {
        if check(parcel, entry, variant, &key).is_ok() {
            continue;
        }
        let manifest = parcel.manifest(&variant.manifest.digest)?;
        let name = format!("{}/{}", entry.name(), variant.name);
        let statement = provenance::statement(&name, &files(&manifest));
        let bundle = provenance::bundle(&statement, signer)?;
        let file = format!("{}.sigstore.json", variant.name);
        let bundle = Descriptor::new(media::SIGSTORE_BUNDLE, layout.put_blob(&bundle)?, bundle.len() as u64)
            .with(media::FILEPATH, file);
        layout.put_blob(b"{}")?;
        let bytes = Manifest::provenance(&bundle, &variant.manifest).to_bytes();
        layout.put_blob(&bytes)?;
        let mut speaks = Descriptor::of(media::OCI_MANIFEST, &bytes);
        speaks.artifact_type = Some(media::SIGSTORE_BUNDLE.to_owned());
        speaks.platform = Some(nowhere());
        release.provenance.push(speaks);
        made += 1;
    }
    let bytes = release.to_bytes();
    Release::read(&bytes)?; // a release that no device would read is not named
    let mut index = Descriptor::of(media::OCI_INDEX, &bytes);
    index.artifact_type = Some(media::PACKAGE.to_owned());
    if made > 0 {
        layout.put_blob(&bytes)?;
        layout.set_ref(&entry.name(), &index)?;
    }
    Ok((index, made))
}

/// A signature runs on no machine; so tools that look for an image of theirs pass it by.
fn nowhere() -> Platform {
    let unknown = || "unknown".to_owned();
    Platform { architecture: unknown(), os: unknown(), extra: std::collections::BTreeMap::new() }
}

/// Checks that a variant has a signature by `key` over exactly its files.
pub fn check(
    parcel: &Parcel,
    entry: &Entry,
    variant: &Variant,
    key: &PublicKey,
) -> Result<Provenance, Unproven> {
    let files = files(&parcel.manifest(&variant.manifest.digest)?);
    let mut refused = Unproven::Unsigned { variant: variant.name.to_string() };
    for bundle in bundles(parcel, entry, variant)? {
        match provenance::check(&parcel.document(&bundle)?, key, &files) {
            Ok(proven) => return Ok(proven),
            Err(source) => refused = Unproven::Refused { variant: variant.name.to_string(), source },
        }
    }
    Err(refused)
}

/// The bundles that speak of a variant.
pub fn bundles(parcel: &Parcel, entry: &Entry, variant: &Variant) -> Result<Vec<Digest>, ParcelError> {
    let mut bundles = Vec::new();
    for speaks in &entry.release.provenance {
        let manifest = parcel.manifest(&speaks.digest)?;
        if manifest.subject.is_some_and(|subject| subject.digest == variant.manifest.digest) {
            let signed = manifest.layers.iter().filter(|layer| layer.media_type == media::SIGSTORE_BUNDLE);
            bundles.extend(signed.map(|layer| layer.digest));
        }
    }
    Ok(bundles)
}

/// The files that are signed: all but the lists of chunks, which follow from the others.
fn files(manifest: &Manifest) -> Vec<File> {
    let signed = manifest.layers.iter().filter(|layer| layer.role() != Some(Role::Chunks));
    let files = signed.filter_map(|layer| {
        Some(File { name: layer.filepath()?.to_owned(), sha256: *layer.digest.hash().as_bytes() })
    });
    files.collect()
}
