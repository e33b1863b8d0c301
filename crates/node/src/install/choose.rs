//! Which variant of a release comes here, and which stands by for it when memory is short: read from its index and manifest in the
//! store, chosen by what the device proves.

use std::io::ErrorKind;

use package::choose::{Device, choose};
use package::digest::Digest;
use package::disk::{Disk, FileError};
use package::form::{DOCUMENT_MAX_BYTES, FormError};
use package::index::{Release, Variant};
use package::manifest::Manifest;
use package::media::Role;
use package::name::ModelName;
use package::requirement::Kind;
use package::store::Store;

use crate::install::event::NoSpare;
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
    let slot = slot_of(&manifest, &index, order.index, order.rollout.clone());
    Ok(Choosing::Done(slot.map_err(|error| error.to_string())))
}

/// What choosing a spare came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Sparing {
    /// The manifest of the best smaller variant must come first.
    Needs(Digest),
    /// The slot that would stand by; or why there is none.
    Done(Result<Slot, NoSpare>),
}

/// Chooses what stands by for a slot that is current, as far as what is in the store allows: the best variant of the same release, for
/// the same runtime, that asks for at most three quarters of the memory.
pub fn spare_for<D: Disk>(store: &Store<D>, current: &Slot, device: &Device) -> Result<Sparing, FileError> {
    let Some(index) = read_document(store, &current.index)? else {
        let why = "the release's index was damaged here; it is read again when the release is ordered again";
        return Ok(Sparing::Done(Err(NoSpare::NotNow(why.to_owned()))));
    };
    let variant = match smaller(&index, current, device) {
        Ok(variant) => variant,
        Err(none) => return Ok(Sparing::Done(Err(none))),
    };
    let digest = variant.manifest.digest;
    let Some(manifest) = read_document(store, &digest)? else { return Ok(Sparing::Needs(digest)) };
    let slot = slot_of(&manifest, &index, current.index, None);
    Ok(Sparing::Done(slot.map_err(|error| NoSpare::Never(error.to_string()))))
}

fn smaller(index: &[u8], current: &Slot, device: &Device) -> Result<Variant, NoSpare> {
    let never = |error: FormError| NoSpare::Never(error.to_string());
    let mut release = Release::read(index).map_err(never)?;
    let here = release.variant_of(&current.manifest).map_err(never)?.clone();
    if here.kind != Kind::Lm {
        let why = "only language models have spares: a network or a flow stays as it is when memory is short";
        return Err(NoSpare::Never(why.to_owned()));
    }
    let most_bytes = here.requires.ram_bytes / 4 * 3;
    let is_smaller = |variant: &Variant| {
        variant.kind == here.kind
            && variant.runtime == here.runtime
            && variant.requires.ram_bytes <= most_bytes
    };
    release.variants.retain(is_smaller);
    if release.variants.is_empty() {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (here, most) = (mib(here.requires.ram_bytes), mib(most_bytes));
        return Err(NoSpare::Never(format!(
            "the current variant asks for {here:.1} MiB, and no other of its release for {most:.1} MiB or less"
        )));
    }
    let choice = choose(&release, device);
    match choice.best {
        Some(at) => Ok(release.variants[at].clone()),
        None => Err(NoSpare::NotNow(choice.to_string())),
    }
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

fn slot_of(
    manifest: &[u8],
    index: &[u8],
    release_index: Digest,
    rollout: Option<String>,
) -> Result<Slot, FormError> {
    let digest = Digest::of(manifest);
    let manifest = Manifest::parse(manifest)?;
    let release = Release::read(index)?;
    let variant = release.check(&manifest)?;
    let weights = manifest.layer(Role::Weights).ok_or(FormError::Missing { key: "a layer with weights" })?;
    Ok(Slot {
        release: release.release,
        index: release_index,
        manifest: digest,
        variant: variant.name.clone(),
        weights: weights.digest,
        golden: manifest.layer(Role::Golden).map(|layer| layer.digest),
        committed_ms: None,
        rollout,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use package::descriptor::Descriptor;
    use package::disk::simulated::Simulated;
    use package::form::Annotations;
    use package::media;
    use package::requirement::{Requires, Runtime, Version};

    use super::*;

    /// A variant with so many bytes of memory.
    fn variant(name: &str, kind: &str, ram_bytes: u64) -> (Variant, Vec<u8>) {
        let mut manifest =
            Manifest::new(media::MODEL_MANIFEST, Descriptor::new(media::MODEL_CONFIG, Digest::of(b"{}"), 2));
        let requires = Requires {
            ram_bytes,
            disk_bytes: 1,
            isa: vec![],
            accelerator: None,
            selvedge: Version(0, 1, 0),
            context: None,
        };
        requires.write(&mut manifest.annotations);
        let runtime = if kind == "lm" { "lm" } else { "onnx" };
        let named = [
            (media::FORM, "1"),
            (media::MODEL, "tiny"),
            (media::RELEASE, "7"),
            (media::VARIANT, name),
            (media::KIND, kind),
            (media::RUNTIME, runtime),
        ];
        manifest.annotations.extend(named.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let weights = Descriptor::new(Role::Weights.media_type(), Digest::of(name.as_bytes()), 9);
        manifest.layers = vec![weights.with(media::ROLE, Role::Weights.word()).with(media::FILEPATH, "w")];
        (Variant::of(&manifest).unwrap(), manifest.to_bytes())
    }

    /// What is chosen on a device with so much free memory, if the first variant is current.
    fn chosen(variants: &[(&str, &str, u64)], free_bytes: u64) -> Result<String, NoSpare> {
        let store = Store::open(Simulated::new(), Path::new("/p"), 1 << 20).unwrap();
        let made: Vec<_> = variants.iter().map(|(name, kind, ram)| variant(name, kind, *ram)).collect();
        let current = made[0].1.clone();
        let release = Release {
            model: ModelName::new("tiny").unwrap(),
            release: 7,
            variants: made.iter().map(|(variant, _)| variant.clone()).collect(),
            provenance: vec![],
            annotations: Annotations::new(),
        };
        let index = store.put_small(&release.to_bytes(), 0).unwrap();
        let slot = slot_of(&current, &release.to_bytes(), index, None).unwrap();
        let device = Device {
            free_bytes: Some(free_bytes),
            disk_free_bytes: Some(1 << 30),
            arch: "x86_64",
            runs: vec![(Kind::Lm, Runtime::Lm), (Kind::Net, Runtime::Onnx)],
            selvedge: Some(Version(9, 0, 0)),
            ..Device::default()
        };
        let missing = match spare_for(&store, &slot, &device).unwrap() {
            Sparing::Done(result) => return result.map(|slot| slot.variant.to_string()),
            Sparing::Needs(digest) => digest,
        };
        let (_, bytes) = made.iter().find(|(variant, _)| variant.manifest.digest == missing).unwrap();
        store.put_small(bytes, 0).unwrap();
        match spare_for(&store, &slot, &device).unwrap() {
            Sparing::Done(result) => {
                let slot = result?;
                assert_eq!((slot.index, slot.release, slot.rollout), (index, 7, None));
                Ok(slot.variant.to_string())
            }
            Sparing::Needs(digest) => panic!("{digest} is there"),
        }
    }

    #[test]
    fn a_spare_is_clearly_smaller_of_the_same_release_and_fits() {
        let all = [("f16", "lm", 1000), ("q8", "lm", 760), ("q6", "lm", 750), ("q4", "lm", 500)];
        // Of those whose quality nobody measured the smallest counts as the best, as for any release.
        assert_eq!(chosen(&all, 2000), Ok("q4".to_owned()));
        assert_eq!(chosen(&all[..3], 2000), Ok("q6".to_owned()), "three quarters, and no more");
        let none = chosen(&all[..2], 2000).unwrap_err();
        assert!(matches!(&none, NoSpare::Never(why) if why.contains("no other of its release")), "{none:?}");
        let full = chosen(&all, 400).unwrap_err();
        assert!(matches!(&full, NoSpare::NotNow(why) if why.contains("memory")), "{full:?}");
        let net = chosen(&[("big", "net", 1000), ("small", "net", 10)], 2000).unwrap_err();
        assert!(matches!(&net, NoSpare::Never(why) if why.contains("language models")), "{net:?}");
        let other = chosen(&[("f16", "lm", 1000), ("small", "net", 10)], 2000).unwrap_err();
        assert!(matches!(other, NoSpare::Never(_)), "of another kind");
    }
}
