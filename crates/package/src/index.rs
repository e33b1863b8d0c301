//! An OCI image index, and what one of ours means: a release with its variants and their provenance.
//!
//! The index is what a signature names; everything of a release hangs from it by digest. It repeats what the variants'
//! manifests say of themselves, so that a device can choose before it fetches; [`Release::check`] proves that the two
//! agree.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::descriptor::{Descriptor, Platform};
use crate::digest::Digest;
use crate::form::{self, Annotations, DOCUMENT_MAX_BYTES, ENTRIES_MAX, FormError, wrong_value};
use crate::manifest::Manifest;
use crate::media;
use crate::name::{ModelName, VariantName};
use crate::requirement::{self, Kind, Measurement, Quality, Requires, Runtime, required};

/// An index as OCI has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// What it is: [`media::PACKAGE`] for a release.
    pub artifact_type: Option<String>,
    /// Manifests, or further indices.
    pub manifests: Vec<Descriptor>,
    /// What the publisher says of it.
    pub annotations: Annotations,
    /// Fields of other versions and tools.
    pub extra: BTreeMap<String, Value>,
}

/// An index as it stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default = "own_media_type")]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "form::list")]
    manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "form::annotations", skip_serializing_if = "BTreeMap::is_empty")]
    annotations: Annotations,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

fn own_media_type() -> String {
    media::OCI_INDEX.to_owned()
}

impl Index {
    /// Reads an index of at most [`DOCUMENT_MAX_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Index, FormError> {
        let Document { schema_version, media_type, artifact_type, manifests, annotations, extra } =
            form::read("OCI index", bytes)?;
        if schema_version != 2 {
            let found = schema_version.to_string();
            return Err(FormError::Unsupported { what: "index's schemaVersion", found, known: "2" });
        }
        if media_type != media::OCI_INDEX {
            return Err(FormError::Unsupported {
                what: "media type",
                found: media_type,
                known: media::OCI_INDEX,
            });
        }
        let found = manifests.len();
        if found > ENTRIES_MAX {
            return Err(FormError::TooMany { what: "manifests", found, most: ENTRIES_MAX });
        }
        form::check_annotations(&annotations)?;
        manifests.iter().try_for_each(Descriptor::check)?;
        Ok(Index { artifact_type, manifests, annotations, extra })
    }

    /// The index as JSON: compact, keys in the order of OCI's own tools. Equal indices are equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Index { artifact_type, manifests, annotations, extra } = self.clone();
        let media_type = own_media_type();
        form::write(&Document { schema_version: 2, media_type, artifact_type, manifests, annotations, extra })
    }
}

/// One version of a model, in all the forms that it comes in.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The model.
    pub model: ModelName,
    /// A number that only grows.
    pub release: u64,
    /// What a device may choose from, as the publisher ordered them. At least one; names and digests once.
    pub variants: Vec<Variant>,
    /// Manifests that tell who made a variant.
    pub provenance: Vec<Descriptor>,
    /// What the publisher says of the release beside form, model and number.
    pub annotations: Annotations,
}

/// One form of a model: what it is, asks and achieves. The weights are behind `manifest`.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name, once in a release.
    pub name: VariantName,
    /// Its manifest, with the annotations that all else here was read from.
    pub manifest: Descriptor,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What runs it.
    pub runtime: Runtime,
    /// What it asks of a device.
    pub requires: Requires,
    /// How good its answers are, if that was measured.
    pub quality: Option<Quality>,
    /// How long answers took, where that was measured.
    pub latency: Vec<Measurement>,
    /// What answers took of energy, where that was measured.
    pub energy: Vec<Measurement>,
    /// An adapter's base.
    pub base: Option<Digest>,
    /// How the weights are sealed, if they are.
    pub sealed: Option<String>,
}

impl Variant {
    /// The variant of a manifest that we wrote, as it stands in the index: with its annotations, and with a platform for
    /// those who know no others, if it runs on one architecture alone.
    pub fn of(manifest: &Manifest) -> Result<Variant, FormError> {
        let mut entry = Descriptor::of(media::OCI_MANIFEST, &manifest.to_bytes());
        entry.artifact_type = Some(media::MODEL_MANIFEST.to_owned());
        entry.annotations = ours(&manifest.annotations);
        entry.platform = platform(&Requires::read(&manifest.annotations)?);
        Variant::read(&entry)
    }

    /// Reads what an index says of a variant's manifest.
    pub fn read(manifest: &Descriptor) -> Result<Variant, FormError> {
        let annotations = &manifest.annotations;
        if manifest.media_type != media::OCI_MANIFEST {
            let found = manifest.media_type.clone();
            return Err(FormError::Unsupported { what: "media type", found, known: media::OCI_MANIFEST });
        }
        if manifest.size > DOCUMENT_MAX_BYTES as u64 {
            let bytes = usize::try_from(manifest.size).unwrap_or(usize::MAX);
            return Err(FormError::TooLong { what: "manifest", bytes, max_bytes: DOCUMENT_MAX_BYTES });
        }
        let name = required(annotations, media::VARIANT)?;
        let base = manifest
            .annotation(media::BASE)
            .map(|text| Digest::parse(text).map_err(|error| wrong_value(media::BASE, text, error)));
        Ok(Variant {
            name: VariantName::new(name).map_err(|error| wrong_value(media::VARIANT, name, error))?,
            kind: Kind::of_word(required(annotations, media::KIND)?),
            runtime: Runtime::of_word(required(annotations, media::RUNTIME)?),
            requires: Requires::read(annotations)?,
            quality: requirement::quality(annotations)?,
            latency: requirement::measurements(annotations, media::LATENCY)?,
            energy: requirement::measurements(annotations, media::ENERGY)?,
            base: base.transpose()?,
            sealed: manifest.annotation(media::SEALED_AS).map(str::to_owned),
            manifest: manifest.clone(),
        })
    }
}

impl Release {
    /// Reads a release from the bytes of its index.
    pub fn read(index: &[u8]) -> Result<Release, FormError> {
        let Index { artifact_type, manifests, mut annotations, .. } = Index::parse(index)?;
        let artifact_type = artifact_type.unwrap_or_default();
        if artifact_type != media::PACKAGE {
            let found = artifact_type;
            return Err(FormError::Unsupported { what: "artifactType", found, known: media::PACKAGE });
        }
        let form = required(&annotations, media::FORM)?;
        if form != media::FORM_1 {
            let found = form.to_owned();
            return Err(FormError::Unsupported { what: "form of a package", found, known: media::FORM_1 });
        }
        let model = required(&annotations, media::MODEL)?;
        let model = ModelName::new(model).map_err(|error| wrong_value(media::MODEL, model, error))?;
        let release = requirement::number(media::RELEASE, required(&annotations, media::RELEASE)?)?;
        let (mut variants, mut provenance) = (Vec::new(), Vec::new());
        for mut manifest in manifests {
            manifest.artifact_type = manifest.artifact_type.or_else(|| kind_of(&manifest.annotations));
            match manifest.artifact_type.as_deref() {
                Some(media::MODEL_MANIFEST) => variants.push(Variant::read(&manifest)?),
                Some(media::SIGSTORE_BUNDLE) => {
                    manifest.annotations.remove(media::ROLE);
                    provenance.push(manifest);
                }
                _ => {} // of a later version, or another tool's
            }
        }
        for key in [media::FORM, media::MODEL, media::RELEASE] {
            annotations.remove(key);
        }
        let release = Release { model, release, variants, provenance, annotations };
        release.check_variants()?;
        Ok(release)
    }

    /// The index of this release. [`Release::read`] gives the release back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut annotations = self.annotations.clone();
        let mut note = |key: &str, value: String| drop(annotations.insert(key.to_owned(), value));
        note(media::FORM, media::FORM_1.to_owned());
        note(media::MODEL, self.model.to_string());
        note(media::RELEASE, self.release.to_string());
        let variants = self.variants.iter().map(|variant| &variant.manifest);
        let index = Index {
            artifact_type: Some(media::PACKAGE.to_owned()),
            manifests: variants.chain(&self.provenance).cloned().map(without_type).collect(),
            annotations,
            extra: BTreeMap::new(),
        };
        index.to_bytes()
    }

    /// The variant of a manifest that came in, if what it says of itself is what the index says of it: all annotations
    /// of ours, each way. That the manifest has the digest which the index names is for the caller to see.
    pub fn check(&self, manifest: &Manifest) -> Result<&Variant, FormError> {
        let name = required(&manifest.annotations, media::VARIANT)?;
        let variant = self.variants.iter().find(|variant| variant.name.as_str() == name);
        let variant =
            variant.ok_or_else(|| wrong_value(media::VARIANT, name, "the index has no such variant"))?;
        let (index, own) = (ours(&variant.manifest.annotations), ours(&manifest.annotations));
        let differs = index.keys().chain(own.keys()).find(|key| index.get(*key) != own.get(*key));
        match differs {
            Some(key) => Err(FormError::Disagree { variant: name.to_owned(), key: key.clone() }),
            None => Ok(variant),
        }
    }

    /// The variant behind this manifest.
    pub fn variant_of(&self, manifest: &Digest) -> Result<&Variant, FormError> {
        let found = self.variants.iter().find(|variant| variant.manifest.digest == *manifest);
        found.ok_or(FormError::NotNamed { digest: *manifest })
    }

    /// Two variants that a device could take for one another, or could not compare, are refused.
    fn check_variants(&self) -> Result<(), FormError> {
        let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
        let mut measured: Option<&Quality> = None;
        if self.variants.is_empty() {
            return Err(FormError::Missing { key: "a variant" });
        }
        for variant in &self.variants {
            if !names.insert(&variant.name) {
                return Err(FormError::Twice { what: "variants", name: variant.name.to_string() });
            }
            let said = [(media::MODEL, self.model.to_string()), (media::RELEASE, self.release.to_string())];
            for (key, expected) in said {
                let found = variant.manifest.annotation(key).unwrap_or_default();
                if found != expected {
                    return Err(wrong_value(key, found, format_args!("the index is of {expected}")));
                }
            }
            if let (Some(one), Some(other)) = (measured, &variant.quality)
                && !one.is_comparable(other)
            {
                let why = "all variants of a release are measured alike, on the same inputs";
                return Err(wrong_value(media::QUALITY, &other.metric, why));
            }
            measured = measured.or(variant.quality.as_ref());
        }
        let manifests = self.variants.iter().map(|variant| &variant.manifest).chain(&self.provenance);
        for manifest in manifests {
            if !digests.insert(manifest.digest) {
                return Err(FormError::Twice { what: "manifests", name: manifest.digest.to_string() });
            }
        }
        Ok(())
    }
}

/// The value of [`media::ROLE`] of an entry that tells who made a variant.
const PROVENANCE: &str = "provenance";

/// An entry as it stands in an index. Debian's skopeo (1.9.3) loses `artifactType` of entries when it copies an index, and then
/// finds that it may not: so annotations say it, which it keeps.
fn without_type(mut entry: Descriptor) -> Descriptor {
    if entry.artifact_type.take().as_deref() == Some(media::SIGSTORE_BUNDLE) {
        entry = entry.with(media::ROLE, PROVENANCE);
    }
    entry
}

/// What annotations say of an entry without `artifactType`.
fn kind_of(annotations: &Annotations) -> Option<String> {
    let is_provenance = annotations.get(media::ROLE).is_some_and(|role| role == PROVENANCE);
    match annotations.contains_key(media::VARIANT) {
        true => Some(media::MODEL_MANIFEST.to_owned()),
        false => is_provenance.then(|| media::SIGSTORE_BUNDLE.to_owned()),
    }
}

/// The annotations that are ours.
fn ours(annotations: &Annotations) -> Annotations {
    let ours = annotations.iter().filter(|(key, _)| key.starts_with(media::PREFIX));
    ours.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The one architecture on which a variant runs, in Go's words.
fn platform(requires: &Requires) -> Option<Platform> {
    let arch = &requires.isa.first()?.arch;
    let architecture = match &**arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => return None,
    };
    let alone = requires.isa.iter().all(|need| need.arch == *arch);
    alone.then(|| Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        extra: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirement::Version;

    fn manifest(variant: &str, perplexity: f64) -> Manifest {
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty());
        let requires = Requires {
            ram_bytes: 1 << 30,
            disk_bytes: 1 << 29,
            isa: vec![],
            accelerator: None,
            selvedge: Version(0, 1, 0),
            context: Some(2048),
        };
        requires.write(&mut manifest.annotations);
        let on = Digest::of(b"text");
        let quality =
            format!(r#"{{"metric":"perplexity","value":{perplexity},"better":"lower","on":"{on}"}}"#);
        for (key, value) in [
            (media::FORM, "1"),
            (media::MODEL, "smollm2"),
            (media::RELEASE, "7"),
            (media::VARIANT, variant),
            (media::KIND, "lm"),
            (media::RUNTIME, "lm"),
            (media::QUALITY, &quality),
        ] {
            manifest.annotations.insert(key.into(), value.into());
        }
        manifest
    }

    fn release() -> Release {
        let mut bundle = Descriptor::of(media::OCI_MANIFEST, b"bundle");
        bundle.artifact_type = Some(media::SIGSTORE_BUNDLE.into());
        let variants = [manifest("q8_0", 11.92), manifest("q4_k_m", 12.31)];
        Release {
            model: ModelName::new("smollm2").unwrap(),
            release: 7,
            variants: variants.iter().map(|manifest| Variant::of(manifest).unwrap()).collect(),
            provenance: vec![bundle],
            annotations: Annotations::from([(media::OCI_VERSION.into(), "7".into())]),
        }
    }

    /// The index of the release, after a change.
    fn changed(change: impl FnOnce(&mut Index)) -> Result<Release, FormError> {
        let mut index = Index::parse(&release().to_bytes()).unwrap();
        change(&mut index);
        Release::read(&index.to_bytes())
    }

    #[test]
    fn a_release_reads_back() {
        let bytes = release().to_bytes();
        assert!(bytes.starts_with(
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"application/vnd.selvedge.package.v1","manifests":[{"#
        ));
        assert_eq!(String::from_utf8_lossy(&bytes).matches("artifactType").count(), 1, "entries have none");
        let read = Release::read(&bytes).unwrap();
        assert_eq!(read, release());
        assert_eq!(read.to_bytes(), bytes);
        let typed = changed(|index| {
            index.manifests[0].artifact_type = Some(media::MODEL_MANIFEST.into());
            index.manifests[2].artifact_type = Some(media::SIGSTORE_BUNDLE.into());
            drop(index.manifests[2].annotations.remove(media::ROLE));
        });
        assert_eq!(typed.unwrap(), release(), "where a type stands it says the same");
        let variant = read.check(&manifest("q4_k_m", 12.31)).unwrap();
        assert_eq!(variant.quality.as_ref().unwrap().value, 12.31);
        assert_eq!(read.variant_of(&variant.manifest.digest).unwrap().name.as_str(), "q4_k_m");
        assert!(matches!(read.variant_of(&Digest::of(b"")), Err(FormError::NotNamed { .. })));
    }

    #[test]
    fn a_platform_only_if_there_is_one() {
        fn check(isa: &str, expected: Option<&str>) {
            let mut manifest = manifest("q8_0", 11.92);
            manifest.annotations.insert(media::REQUIRES_ISA.into(), isa.into());
            let platform = Variant::of(&manifest).unwrap().manifest.platform;
            assert_eq!(platform.map(|platform| platform.architecture).as_deref(), expected, "{isa}");
        }
        check("any", None);
        check("x86_64+avx2", Some("amd64"));
        check("aarch64+neon,aarch64+i8mm", Some("arm64"));
        check("x86_64+avx2,aarch64+neon", None);
        check("riscv64", None);
    }

    #[test]
    fn the_index_says_what_the_manifests_say() {
        let release = release();
        let differs = |manifest: &Manifest| release.check(manifest).unwrap_err().to_string();
        let mut lighter = manifest("q8_0", 11.92);
        lighter.annotations.insert(media::REQUIRES_RAM.into(), "1".into());
        assert!(differs(&lighter).contains("disagree about dev.selvedge.requires.ram"));
        let mut silent = manifest("q8_0", 11.92);
        silent.annotations.remove(media::QUALITY);
        assert!(differs(&silent).contains("disagree about dev.selvedge.quality"));
        let mut more = manifest("q8_0", 11.92);
        more.annotations.insert(media::SEALED_AS.into(), "aes-256-gcm-1m".into());
        assert!(differs(&more).contains("disagree about dev.selvedge.sealed"));
        assert!(differs(&manifest("f16", 11.92)).contains("no such variant"));
        let mut foreign = manifest("q8_0", 11.92);
        foreign.annotations.insert("org.example".into(), "x".into());
        assert!(release.check(&foreign).is_ok());
    }

    #[test]
    fn two_variants_cannot_be_mistaken() {
        assert!(changed(|_| ()).is_ok());
        fn check(change: impl FnOnce(&mut Index), expected: &str) {
            let error = changed(change).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let note = |index: &mut Index, at: usize, key: &str, value: &str| {
            drop(index.manifests[at].annotations.insert(key.into(), value.into()));
        };
        check(|index| note(index, 1, media::VARIANT, "q8_0"), "two variants");
        check(|index| index.manifests[1].digest = index.manifests[0].digest, "two manifests");
        check(|index| index.manifests[2].digest = index.manifests[0].digest, "two manifests");
        check(|index| note(index, 0, media::MODEL, "other"), "the index is of smollm2");
        check(|index| note(index, 0, media::RELEASE, "8"), "the index is of 7");
        check(|index| note(index, 0, media::VARIANT, "../q8_0"), "cannot be the name");
        check(|index| note(index, 0, media::BASE, "sha512:00"), "not supported");
        check(|index| drop(index.manifests.drain(..2)), "a variant is missing");
        check(|index| index.manifests[0].size = 5 << 20, "are not read");
        check(|index| index.manifests[0].media_type = media::OCI_INDEX.into(), "not supported");
        check(|index| drop(index.annotations.insert(media::FORM.into(), "2".into())), "not supported");
        check(|index| drop(index.annotations.insert(media::RELEASE.into(), "07".into())), "digits alone");
        check(|index| index.artifact_type = None, "not supported");
        check(|index| index.manifests.resize(257, Descriptor::empty()), "257 manifests");
        let other = |index: &mut Index| {
            let quality = index.manifests[0].annotations[media::QUALITY].replace("perplexity", "bits");
            note(index, 0, media::QUALITY, &quality);
        };
        check(other, "measured alike");
    }

    #[test]
    fn entries_of_later_versions_are_passed_over() {
        let read = changed(|index| index.manifests.push(Descriptor::of("a/b", b"later"))).unwrap();
        assert_eq!(read, release());
    }
}
