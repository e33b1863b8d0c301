//! What each file of a package is: a language model, an adapter, an ONNX graph, a detector or a flow; and what it says of itself.
//!
//! Models are read by the workshop. What a detector has learnt is read by `signal`, a flow by the node's own parser: the same
//! that would run them.

use std::path::Path;

use anyhow::Context as _;
use forge::pack::found::{Found, Known, kind_of};
use forge::pack::{adapter, facts, onnx};
use forge::parcel::Parcel;
use net::recipe::Recipe;
use node::flow::{Flow, SourceKind};
use package::contract::{self, Contract, NAME_MAX_BYTES, Watch};
use package::digest::Digest;
use package::media::Role;
use package::name::VariantName;
use package::requirement::{Kind, Version};
use serde::{Deserialize, Serialize};
use signal::detector::{Config, Detector};

use crate::complaint::Usage;
use crate::engine::open_path;

/// The largest detector or flow that is read.
const TEXT_MAX_BYTES: u64 = 16 << 20;
/// Channels that a detector of a flow is reckoned with where the flow does not say them.
const CHANNELS_RECKONED: usize = 32;
/// The form of learnt states that is known: the node's own.
const STATE_FORM: u32 = 2;

/// What is said of all files at once.
pub(super) struct Said {
    /// Instead of what the files look like.
    pub(super) kind: Option<Kind>,
    /// Of adapters: the manifest of the base.
    pub(super) base: Option<Digest>,
    /// Of language models: tokens that memory is reckoned with.
    pub(super) context: Option<usize>,
    /// Of networks: what stands before and after them.
    pub(super) recipe: Option<Recipe>,
    /// The version of this program.
    pub(super) selvedge: Version,
}

/// What a file is as a variant; without `name` it is called after what it is.
pub(super) fn find(path: &Path, name: Option<&VariantName>, said: &Said) -> anyhow::Result<Found> {
    let kind = match &said.kind {
        Some(kind) => kind.clone(),
        None => kind_of(path).with_context(|| format!("{} cannot be read", path.display()))?,
    };
    let called = |word: &str| match name {
        Some(name) => Ok(name.clone()),
        None => VariantName::new(word),
    };
    if said.base.is_some() && kind != Kind::Adapter {
        return Err(Usage(format!("--base is for adapters, and {} is none", path.display())).into());
    }
    match kind {
        Kind::Lm => {
            let name = match name {
                Some(name) => name.clone(),
                None => {
                    let word = lm::model::Facts::of(&open_path(path)?).quantisation;
                    let path = path.display();
                    facts::name_of(&word).with_context(|| {
                        format!("{path} does not say what it is: name it with --variant NAME={path}")
                    })?
                }
            };
            Ok(facts::facts(path, name, said.context, said.selvedge)?)
        }
        Kind::Adapter => Ok(adapter::facts(path, called("lora")?, said.base, said.selvedge)?),
        Kind::Net => Ok(onnx::facts(path, name.cloned(), said.recipe.as_ref(), said.selvedge)?),
        Kind::Detector => detector(path, called("learnt")?, said.selvedge),
        Kind::Flow => flow(path, called("flow")?, said.selvedge),
        Kind::Other(word) => Err(Usage(format!("no kind is called {word}")).into()),
    }
}

/// The manifest that `--base` means: a digest, or a package with one variant.
pub(super) fn base(word: &str) -> anyhow::Result<Digest> {
    if word.starts_with("sha256:") {
        return Digest::parse(word).with_context(|| format!("--base {word} is no digest"));
    }
    let entry = Parcel::open(Path::new(word))?.entry(None)?;
    match &entry.release.variants[..] {
        [only] => Ok(only.manifest.digest),
        several => {
            let digests: Vec<String> =
                several.iter().map(|one| format!("{} {}", one.name, one.manifest.digest)).collect();
            let why =
                format!("{word} has several variants; say --base DIGEST with one of: {}", digests.join(", "));
            Err(Usage(why).into())
        }
    }
}

/// A learnt state as a node keeps it in `models/NAME.json`.
#[derive(Deserialize)]
struct State {
    channels: Vec<String>,
    detector: Detector,
}

/// As much of a learnt state as every form has.
#[derive(Deserialize)]
struct Formed {
    form: u32,
}

/// How a score becomes a probability, as the layer `calibration` says it.
#[derive(Serialize)]
struct Calibration {
    form: u32,
    /// Rising.
    scores: Vec<f64>,
    /// What each of them means.
    probabilities: Vec<f64>,
}

/// What a detector has learnt.
fn detector(path: &Path, name: VariantName, selvedge: Version) -> anyhow::Result<Found> {
    let bytes = read(path)?;
    let read = || {
        format!(
            "{} holds nothing that a detector has learnt: a node keeps that in models/NAME.json",
            path.display()
        )
    };
    let Formed { form } = serde_json::from_slice(&bytes).with_context(read)?;
    anyhow::ensure!(
        form == STATE_FORM,
        "{} has form {form}, this version reads {STATE_FORM}",
        path.display()
    );
    let State { channels, detector } = serde_json::from_slice(&bytes).with_context(read)?;
    let config = detector.config();
    if channels.len() != config.channels {
        let found = config.channels;
        anyhow::bail!("{}: {} channels have names, and {found} were learnt", path.display(), channels.len());
    }
    let contract = Contract::Detector(contract::Detector {
        channels,
        window: config.lag as u64,
        samples: detector.counts().samples,
        learnt: detector.learnt(),
    });
    contract.check().with_context(|| format!("{} cannot be packed", path.display()))?;
    let known =
        Known { ram_bytes: memory(config, &detector)?, bytes: bytes.len() as u64, ..Known::default() };
    let mut found = Found::of(path, name, &contract, known, selvedge);
    if let Some(table) = calibration(&detector) {
        found.variant.files.push((Role::Calibration, serde_json::to_vec(&table)?));
    }
    Ok(found)
}

/// Memory of a detector as it is, or while it learns anew if that takes more, in bytes.
fn memory(config: &Config, now: &Detector) -> anyhow::Result<u64> {
    Ok(now.state_bytes().max(Detector::new(config.clone())?.state_bytes()) as u64)
}

/// Scores from 0.1 to 100 in equal ratios; `None` while the detector gives no probabilities.
fn calibration(detector: &Detector) -> Option<Calibration> {
    let scores: Vec<f64> = (0..=24).map(|step| 10f64.powf(f64::from(step) / 8.0 - 1.0)).collect();
    let probabilities = scores.iter().map(|score| detector.probability(*score)).collect::<Option<_>>()?;
    Some(Calibration { form: 1, scores, probabilities })
}

/// What a flow is made of.
fn flow(path: &Path, name: VariantName, selvedge: Version) -> anyhow::Result<Found> {
    let bytes = read(path)?.len() as u64;
    let flow = Flow::load(path)?;
    let source = |source: &node::flow::SourceConfig| {
        let file = match &source.kind {
            SourceKind::Replay(replay) => replay.file.file_name(),
            _ => None,
        };
        contract::Source {
            name: source.name.to_string(),
            kind: source.kind.as_str().to_owned(),
            channels: source.channels.clone(),
            file: file.map(|file| file.to_string_lossy().chars().take(NAME_MAX_BYTES / 4).collect()),
        }
    };
    let mut ram_bytes = 0;
    for model in &flow.models {
        let channels = flow.sources[model.source].channels.as_ref().map_or(CHANNELS_RECKONED, Vec::len);
        let config = model.detector(channels);
        // What cannot be built with channels that are only reckoned may be with those that come.
        ram_bytes += Detector::new(config).map_or(0, |detector| detector.state_bytes() as u64);
    }
    let contract = Contract::Flow(contract::Flow {
        sources: flow.sources.iter().map(source).collect(),
        detectors: flow
            .models
            .iter()
            .map(|model| Watch {
                name: model.name.to_string(),
                source: flow.sources[model.source].name.to_string(),
                window: model.lag as u64,
            })
            .collect(),
        rules: flow.rules.iter().map(|rule| rule.name.to_string()).collect(),
    });
    contract.check().with_context(|| format!("{} cannot be packed", path.display()))?;
    Ok(Found::of(path, name, &contract, Known { ram_bytes, bytes, ..Known::default() }, selvedge))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = package::disk::read_whole(&package::disk::system::System, path, TEXT_MAX_BYTES)?;
    bytes.with_context(|| format!("there is no file {}", path.display()))
}
