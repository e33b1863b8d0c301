//! Files and what is known of them become a package: blobs, a manifest for each variant, and the index of the release.
//!
//! Stands after `evaluate` and before signing. What a variant asks for and achieves is measured by others and given here;
//! nothing is made up. The same files and facts give the same bytes: the time is given, lists are sorted, JSON has one form.
//! Sealed weights alone differ each time, by a salt.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use package::bom::{self, BomFacts, BomFile};
use package::card::{self, CardFacts};
use package::chunks::{CHUNK_BYTES, LISTED_FROM_BYTES};
use package::config::{About, ModelConfig, ModelFs, Shape};
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::disk::Disk;
use package::form::{Annotations, FormError};
use package::golden::Golden;
use package::index::{self, Release};
use package::layout::{Layout, LayoutError};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::name::{ModelName, VariantName};
use package::requirement::{Better, Kind, Measurement, Quality, Requires, Runtime};
use package::seal::content::{ContentKey, SealKey};
use package::seal::hybrid::NodePublic;
use package::seal::stream::{SealError, Sealer};
use package::seal::wrap::{GrantError, wrap};
use wire::world::Entropy;

pub mod adapter;
pub mod facts;
pub mod found;
pub mod golden;
pub mod onnx;

/// Disk that a variant's own documents take at most, in bytes: added to what its files take.
const DOCUMENTS_BYTES: u64 = 1 << 20;

/// A release to be packed.
#[derive(Clone, Debug)]
pub struct Order {
    /// The model's name.
    pub model: ModelName,
    /// A number that only grows.
    pub release: u64,
    /// When it was made, RFC 3339; the same time gives the same bytes.
    pub created: Option<String>,
    /// SPDX, or the licence's own name.
    pub licence: Option<String>,
    /// The licence's text.
    pub licence_text: Option<Vec<u8>>,
    /// The card, if not one made from the facts.
    pub card: Option<String>,
    /// What the model is for, in a sentence.
    pub purpose: Option<String>,
    /// Where it was built from.
    pub source: Option<String>,
    /// What it is for, in a word: `text-generation`.
    pub task: String,
    /// What it cannot do.
    pub limitations: Vec<String>,
    /// Its forms, in any order.
    pub variants: Vec<Variant>,
}

/// One form of a model.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its name.
    pub name: VariantName,
    /// The file with its weights.
    pub weights: PathBuf,
    /// What that file is called in the package.
    pub filepath: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What runs it.
    pub runtime: Runtime,
    /// What it asks for; `disk_bytes` is reckoned here.
    pub requires: Requires,
    /// How good it is, if that was measured.
    pub quality: Option<Quality>,
    /// How long answers took, where that was measured.
    pub latency: Vec<Measurement>,
    /// What answers took of energy, where that was measured.
    pub energy: Vec<Measurement>,
    /// What it is, for catalogues.
    pub shape: Shape,
    /// What it is one of: `llama`.
    pub family: Option<String>,
    /// What goes in and what comes out: `text`.
    pub inputs: Vec<String>,
    /// What comes out.
    pub outputs: Vec<String>,
    /// An adapter's base.
    pub base: Option<Digest>,
    /// The golden set.
    pub golden: Option<Golden>,
    /// Further files by their role: calibration, input, profile.
    pub files: Vec<(Role, Vec<u8>)>,
}

/// How weights become readable to some nodes alone.
pub struct Seal<'a> {
    /// What each file's own key grows from.
    pub key: &'a SealKey,
    /// The nodes that are granted each file at once; others may be granted later.
    pub to: &'a [NodePublic],
    /// Where salts come from.
    pub chance: &'a mut dyn Entropy,
}

/// A package in a layout.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The release's index.
    pub index: Descriptor,
    /// What it says.
    pub release: Release,
}

/// Why nothing was packed. Blobs may have come into the layout; no name points at them.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The weights could not be opened.
    #[error("{} cannot be read", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The layout refused.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The weights could not be sealed.
    #[error("{} cannot be sealed", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// A node could not be granted.
    #[error("a node key cannot be granted the weights: is it what `selvedge trust key node` wrote?")]
    Grant(#[from] GrantError),
    /// What was given does not make a package.
    #[error("this cannot be packed")]
    Form(#[from] FormError),
}

/// Packs a release into a layout, under the name `model:release`; with `seal` its weights are sealed, and grants lie beside.
/// `tell` is told the bytes of weights as they are read.
pub fn pack<D: Disk>(
    layout: &Layout<D>,
    order: &Order,
    mut seal: Option<Seal>,
    tell: &mut dyn FnMut(u64),
) -> Result<Packed, PackError> {
    let mut variants: Vec<&Variant> = order.variants.iter().collect();
    variants.sort_by(|a, b| better_first(a, b));
    let variants = variants.into_iter().map(|variant| -> Result<_, PackError> {
        let manifest = pack_variant(layout, order, variant, seal.as_mut(), tell)?;
        layout.put_blob(&manifest.to_bytes())?;
        Ok(index::Variant::of(&manifest)?)
    });
    let release = Release {
        model: order.model.clone(),
        release: order.release,
        variants: variants.collect::<Result<_, _>>()?,
        provenance: Vec::new(),
        annotations: catalogue(order),
    };
    let bytes = release.to_bytes();
    let release = Release::read(&bytes)?; // a release that no device would read is not packed
    layout.put_blob(&bytes)?;
    let mut index = Descriptor::of(media::OCI_INDEX, &bytes);
    index.artifact_type = Some(media::PACKAGE.to_owned());
    layout.set_ref(&format!("{}:{}", order.model, order.release), &index)?;
    Ok(Packed { index, release })
}

/// The better one first, by name where quality does not tell them apart.
fn better_first(a: &Variant, b: &Variant) -> std::cmp::Ordering {
    let quality = match (&a.quality, &b.quality) {
        (Some(a), Some(b)) if a.better == Better::Lower => a.value.total_cmp(&b.value),
        (Some(a), Some(b)) => b.value.total_cmp(&a.value),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    quality.then_with(|| a.name.cmp(&b.name))
}

/// What catalogues of OCI look at.
fn catalogue(order: &Order) -> Annotations {
    let said = [
        (media::OCI_VERSION, Some(order.release.to_string())),
        (media::OCI_LICENSES, order.licence.clone()),
        (media::OCI_CREATED, order.created.clone()),
    ];
    said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Puts a variant's files into the layout, and gives its manifest.
fn pack_variant<D: Disk>(
    layout: &Layout<D>,
    order: &Order,
    variant: &Variant,
    seal: Option<&mut Seal>,
    tell: &mut dyn FnMut(u64),
) -> Result<Manifest, PackError> {
    let is_sealed = seal.is_some();
    let mut layers = put_weights(layout, variant, seal, tell)?;
    let named = |role: Role, path: &str, bytes: &[u8]| -> Result<Descriptor, LayoutError> {
        let layer = Descriptor::new(role.media_type(), layout.put_blob(bytes)?, bytes.len() as u64);
        Ok(layer.with(media::FILEPATH, path).with(media::ROLE, role.word()))
    };
    if let Some(golden) = &variant.golden {
        layers.push(named(Role::Golden, "golden.json", &golden.to_bytes())?);
    }
    let mut files: Vec<&(Role, Vec<u8>)> = variant.files.iter().collect();
    files.sort_by_key(|(role, _)| *role);
    for (role, bytes) in files {
        layers.push(named(*role, &format!("{}.json", role.word()), bytes)?);
    }
    if let Some(text) = &order.licence_text {
        layers.push(named(Role::Licence, "LICENSE", text)?);
    }
    let files_bytes: u64 = layers.iter().map(|layer| layer.size).sum();
    let card_bytes = order.card.as_ref().map_or(0, |card| card.len() as u64);
    let disk_bytes = files_bytes + card_bytes + DOCUMENTS_BYTES;
    // Plain bytes of sealed weights are in memory, not in a file whose pages can be given back.
    let open_bytes = if is_sealed { layers[0].size } else { 0 };
    let ram_bytes = variant.requires.ram_bytes.saturating_add(open_bytes);
    let requires = Requires { ram_bytes, disk_bytes, ..variant.requires.clone() };
    let card = order.card.clone().unwrap_or_else(|| card::card(&card_facts(order, variant, &requires)));
    layers.push(named(Role::Card, "README.md", card.as_bytes())?);
    layers.push(named(Role::Bom, "bom.cdx.json", &bom::bom(&bom_facts(order, variant, &layers)))?);
    let config = config(order, variant, &layers).to_bytes();
    let config = Descriptor::new(media::MODEL_CONFIG, layout.put_blob(&config)?, config.len() as u64);
    let mut manifest = Manifest::new(media::MODEL_MANIFEST, config);
    manifest.annotations = annotations(order, variant, &requires, &layers);
    manifest.layers = layers;
    Ok(Manifest::parse(&manifest.to_bytes())?)
}

/// The weights, and the list of their chunks if they are large.
fn put_weights<D: Disk>(
    layout: &Layout<D>,
    variant: &Variant,
    seal: Option<&mut Seal>,
    tell: &mut dyn FnMut(u64),
) -> Result<Vec<Descriptor>, PackError> {
    let Variant { weights: path, filepath, .. } = variant;
    let refused = |source| PackError::Weights { path: path.clone(), source };
    let file = File::open(path).map_err(refused)?;
    let plain_bytes = file.metadata().map_err(refused)?.len();
    let reader = Told { reader: file, tell };
    let (media_type, filepath, (digest, chunks)) = match seal {
        None => (Role::Weights.media_type(), filepath.clone(), layout.put_from(reader, CHUNK_BYTES)?),
        Some(Seal { key, to, chance }) => {
            let refused = |source| PackError::Seal { path: path.clone(), source };
            let (sealer, content) = Sealer::with_own_key(key, plain_bytes, *chance).map_err(refused)?;
            let put = layout.put_from(sealer.reader(reader), CHUNK_BYTES)?;
            grant(layout, &content, put.0, to, *chance)?;
            (media::SEALED, format!("{filepath}.sealed"), put)
        }
    };
    let weights = Descriptor::new(media_type, digest, chunks.blob_bytes())
        .with(media::FILEPATH, &filepath)
        .with(media::ROLE, Role::Weights.word());
    if weights.size <= LISTED_FROM_BYTES {
        return Ok(vec![weights]);
    }
    let bytes = chunks.to_bytes();
    let list = Descriptor::new(Role::Chunks.media_type(), layout.put_blob(&bytes)?, bytes.len() as u64)
        .with(media::FILEPATH, format!("{filepath}.chunks"))
        .with(media::ROLE, Role::Chunks.word());
    Ok(vec![weights.with(media::CHUNKS, list.digest.to_string()), list])
}

/// Lets nodes open a sealed blob: a grant for each, beside the package.
pub fn grant<D: Disk>(
    layout: &Layout<D>,
    key: &ContentKey,
    sealed: Digest,
    to: &[NodePublic],
    chance: &mut dyn Entropy,
) -> Result<(), PackError> {
    for node in to {
        layout.put_grant(&wrap(key, sealed, node, chance)?)?;
    }
    Ok(())
}

/// Tells how many bytes are read.
pub(crate) struct Told<'a, R> {
    pub(crate) reader: R,
    pub(crate) tell: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let came = self.reader.read(into)?;
        (self.tell)(came as u64);
        Ok(came)
    }
}

fn annotations(order: &Order, variant: &Variant, requires: &Requires, layers: &[Descriptor]) -> Annotations {
    let mut annotations = Annotations::new();
    requires.write(&mut annotations);
    let mut note = |key: &str, value: String| drop(annotations.insert(key.to_owned(), value));
    note(media::FORM, media::FORM_1.to_owned());
    note(media::MODEL, order.model.to_string());
    note(media::RELEASE, order.release.to_string());
    note(media::VARIANT, variant.name.to_string());
    note(media::KIND, variant.kind.to_string());
    note(media::RUNTIME, variant.runtime.to_string());
    if let Some(base) = variant.base {
        note(media::BASE, base.to_string());
    }
    if let Some(quality) = &variant.quality {
        note(media::QUALITY, json(quality));
    }
    for (key, measured) in [(media::LATENCY, &variant.latency), (media::ENERGY, &variant.energy)] {
        if !measured.is_empty() {
            note(key, json(measured));
        }
    }
    for layer in layers {
        if let Some(key) = layer.role().and_then(Role::key) {
            note(key, layer.digest.to_string());
        }
        if layer.media_type == media::SEALED {
            note(media::SEALED_AS, media::AES_256_GCM_1M.to_owned());
        }
    }
    annotations
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("text, numbers and lists can be written as JSON")
}

fn config(order: &Order, variant: &Variant, layers: &[Descriptor]) -> ModelConfig {
    ModelConfig {
        descriptor: About {
            created_at: order.created.clone(),
            family: variant.family.clone(),
            name: Some(order.model.to_string()),
            source_url: order.source.clone(),
            version: Some(order.release.to_string()),
            licenses: order.licence.clone().into_iter().collect(),
            description: order.purpose.clone(),
            ..About::default()
        },
        config: variant.shape.clone(),
        modelfs: ModelFs {
            diff_ids: layers.iter().map(|layer| layer.digest).collect(),
            ..ModelFs::default()
        },
    }
}

fn card_facts(order: &Order, variant: &Variant, requires: &Requires) -> CardFacts {
    CardFacts {
        model: order.model.to_string(),
        release: order.release,
        variant: variant.name.to_string(),
        purpose: order.purpose.clone(),
        licence: order.licence.clone(),
        source: order.source.clone(),
        requires: requires.clone(),
        quality: variant.quality.clone(),
        limitations: order.limitations.clone(),
    }
}

fn bom_facts(order: &Order, variant: &Variant, layers: &[Descriptor]) -> BomFacts {
    let measured = variant.energy.iter().filter_map(|one| {
        let joules = one.joules?;
        Some(("dev.selvedge.joules".to_owned(), format!("{joules} on {}", one.cpu)))
    });
    let digests =
        layers.iter().filter_map(|layer| Some((layer.role()?.key()?.to_owned(), layer.digest.to_string())));
    let file = |layer: &Descriptor| BomFile {
        name: layer.filepath().unwrap_or_default().to_owned(),
        digest: layer.digest,
    };
    BomFacts {
        model: order.model.to_string(),
        release: order.release,
        variant: variant.name.to_string(),
        created: order.created.clone(),
        licence: order.licence.clone(),
        weights: layers[0].digest, // the weights come first, and are always there
        task: order.task.clone(),
        family: variant.family.clone(),
        architecture: variant.shape.architecture.clone(),
        inputs: variant.inputs.clone(),
        outputs: variant.outputs.clone(),
        quality: variant.quality.clone(),
        limitations: order.limitations.clone(),
        properties: measured.chain(digests).collect(),
        files: layers.iter().map(file).collect(),
    }
}

/// What a file with weights is called in a package: its own name.
pub fn filepath_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use package::disk::simulated::Simulated;
    use package::golden::{Budget, Case, Text};
    use package::requirement::{IsaNeed, Version};
    use package::seal::hybrid::NodeSecret;
    use package::seal::stream::{Opener, content_key, sealed_bytes};
    use wire::world;

    use super::*;

    fn variant(name: &str, weights: &Path, perplexity: f64) -> Variant {
        let golden = Text { prompt: "Once".into(), max_tokens: 2, tokens: vec![1, 2] };
        let on = Digest::of(b"text");
        Variant {
            name: VariantName::new(name).unwrap(),
            weights: weights.to_owned(),
            filepath: filepath_of(weights),
            kind: Kind::Lm,
            runtime: Runtime::Lm,
            requires: Requires {
                ram_bytes: 1 << 30,
                disk_bytes: 0,
                isa: vec![IsaNeed { arch: "x86_64".into(), isa: vec!["avx2".into()] }],
                accelerator: None,
                selvedge: Version(0, 1, 0),
                context: Some(2048),
            },
            quality: Some(Quality {
                metric: "perplexity".into(),
                value: perplexity,
                better: Better::Lower,
                on,
            }),
            latency: vec![],
            energy: vec![],
            shape: Shape { format: Some("gguf".into()), ..Shape::default() },
            family: Some("llama".into()),
            inputs: vec!["text".into()],
            outputs: vec!["text".into()],
            base: None,
            golden: Some(Golden {
                form: 1,
                kind: "lm".into(),
                cases: vec![Case::Text(golden)],
                budget: Budget::default(),
            }),
            files: vec![(Role::Profile, b"{}".to_vec()), (Role::Input, b"{}".to_vec())],
        }
    }

    fn order(variants: Vec<Variant>) -> Order {
        Order {
            model: ModelName::new("smollm2").unwrap(),
            release: 7,
            created: Some("2026-11-21T20:00:00Z".into()),
            licence: Some("Apache-2.0".into()),
            licence_text: Some(b"Apache License".to_vec()),
            card: None,
            purpose: Some("Answers short questions.".into()),
            source: None,
            task: "text-generation".into(),
            limitations: vec![],
            variants,
        }
    }

    fn layout() -> Layout<Simulated> {
        Layout::create(Simulated::new(), Path::new("/out")).unwrap()
    }

    #[test]
    fn packing_twice_gives_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (small, large) = (folder.path().join("small.gguf"), folder.path().join("large.gguf"));
        std::fs::write(&small, vec![1; 1 << 20]).unwrap();
        std::fs::write(&large, vec![2; (1 << 20) + 1]).unwrap();
        let variants = vec![variant("q4_k_m", &small, 12.31), variant("q8_0", &large, 11.92)];
        let (first, again) = (layout(), layout());
        let mut read_bytes = 0;
        let packed = pack(&first, &order(variants.clone()), None, &mut |bytes| read_bytes += bytes).unwrap();
        assert_eq!(read_bytes, (2 << 20) + 1);
        pack(&again, &order(variants.into_iter().rev().collect()), None, &mut |_| {}).unwrap();
        assert_eq!(first.index_bytes().unwrap(), again.index_bytes().unwrap());
        let reached = first.reachable().unwrap();
        assert_eq!(reached, again.reachable().unwrap());
        for digest in &reached {
            assert_eq!(first.read_blob(digest, 2 << 20).unwrap(), again.read_blob(digest, 2 << 20).unwrap());
        }
        // Index; per variant: manifest, config, weights, card and bom; the rest is shared; one list of chunks.
        assert_eq!(reached.len(), 1 + 2 * 5 + 3 + 1);

        let bytes = first.read_blob(&packed.index.digest, 4 << 20).unwrap();
        let release = Release::read(&bytes).unwrap();
        assert_eq!(release, packed.release);
        let names: Vec<_> = release.variants.iter().map(|variant| variant.name.as_str()).collect();
        assert_eq!(names, ["q8_0", "q4_k_m"], "the better one comes first");
        for (variant, listed) in release.variants.iter().zip([true, false]) {
            let manifest =
                Manifest::parse(&first.read_blob(&variant.manifest.digest, 4 << 20).unwrap()).unwrap();
            assert_eq!(release.check(&manifest).unwrap().name, variant.name);
            assert_eq!(manifest.layer(Role::Chunks).is_some(), listed);
            assert!(variant.requires.disk_bytes >= manifest.size() + variant.manifest.size);
            let config = first.read_blob(&manifest.config.digest, 4 << 20).unwrap();
            assert_eq!(ModelConfig::parse(&config).unwrap().modelfs.diff_ids.len(), manifest.layers.len());
            assert_eq!(variant.manifest.platform.as_ref().unwrap().architecture, "amd64");
        }
    }

    #[test]
    fn sealed_weights_are_granted_to_each_node() {
        let folder = tempfile::tempdir().unwrap();
        let (small, large) = (folder.path().join("small.gguf"), folder.path().join("large.gguf"));
        let bytes = [vec![1; 1000], vec![2; (1 << 20) + 1]];
        std::fs::write(&small, &bytes[0]).unwrap();
        std::fs::write(&large, &bytes[1]).unwrap();
        let variants = vec![variant("q4_k_m", &small, 12.31), variant("q8_0", &large, 11.92)];
        let chance = &mut world::Simulated::new(1);
        let key = SealKey::draw(chance);
        let nodes = [NodeSecret::generate(chance).unwrap(), NodeSecret::generate(chance).unwrap()];
        let to: Vec<NodePublic> = nodes.iter().map(|node| node.public().clone()).collect();
        let layout = layout();
        let seal = Seal { key: &key, to: &to, chance };
        let packed = pack(&layout, &order(variants), Some(seal), &mut |_| {}).unwrap();
        for (variant, plain) in packed.release.variants.iter().rev().zip(bytes) {
            assert_eq!(variant.sealed.as_deref(), Some(media::AES_256_GCM_1M));
            assert_eq!(variant.requires.ram_bytes, (1 << 30) + sealed_bytes(plain.len() as u64).unwrap());
            let manifest = layout.read_blob(&variant.manifest.digest, 4 << 20).unwrap();
            let manifest = Manifest::parse(&manifest).unwrap();
            let weights = manifest.layer(Role::Weights).unwrap();
            assert_eq!(weights.media_type, media::SEALED);
            assert!(weights.filepath().unwrap().ends_with(".gguf.sealed"));
            let list = manifest.layer(Role::Chunks).map(|list| list.filepath().unwrap().to_owned());
            assert_eq!(list.as_deref(), (plain.len() > 1000).then_some("large.gguf.sealed.chunks"));
            let file = layout.read_blob(&weights.digest, 4 << 20).unwrap();
            let head = file.first_chunk().unwrap();
            let grants = layout.grants(&weights.digest).unwrap();
            assert_eq!(grants.len(), 2);
            for node in &nodes {
                let grant = grants.iter().find(|grant| grant.to() == node.public().id()).unwrap();
                let content = grant.open(weights.digest, node).unwrap();
                let opener = Opener::new(&content, head, file.len() as u64).unwrap();
                let mut opened = vec![0; plain.len()];
                opener.open_whole(&file, &mut opened, 2).unwrap();
                assert!(opened == plain);
            }
            let kept = content_key(&key, head, file.len() as u64).unwrap();
            assert!(Opener::new(&kept, head, file.len() as u64).is_ok(), "so that others are granted later");
        }
    }

    #[test]
    fn what_no_device_would_read_is_not_packed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.gguf");
        std::fs::write(&file, b"GGUF").unwrap();
        fn check(order: &Order, expected: &str) {
            let layout = layout();
            let error = pack(&layout, order, None, &mut |_| {}).unwrap_err();
            let told = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
            assert!(told.contains(expected), "{told}");
            assert!(layout.refs().unwrap().is_empty());
        }
        let good = variant("a", &file, 1.0);
        check(&order(vec![]), "a variant is missing");
        check(&order(vec![good.clone(), good.clone()]), "two variants");
        let mut other = variant("b", &file, 1.0);
        other.quality.as_mut().unwrap().on = Digest::of(b"another text");
        check(&order(vec![good.clone(), other]), "measured alike");
        check(&order(vec![variant("a", &folder.path().join("none"), 1.0)]), "cannot be read");
        check(&order(vec![Variant { filepath: "../a".into(), ..good.clone() }]), "stays in its folder");
        let twice = vec![(Role::Input, vec![]), (Role::Input, vec![])];
        check(&order(vec![Variant { files: twice, ..good }]), "two layers");
    }
}
