//! A file that can become a variant, and what it says of itself; and which kind of thing a file is.
//!
//! What is no language model says what it takes and gives in a contract, which travels as the layer `input`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use lm::gguf::Gguf;
use package::config::{Capabilities, Modality, Shape, param_size};
use package::contract::Contract;
use package::media::Role;
use package::name::VariantName;
use package::requirement::{Kind, Requires, Runtime, Version};

use crate::pack::{Variant, filepath_of};

/// A variant made of a file, and what the file says of itself.
#[derive(Clone, Debug)]
pub struct Found {
    /// Quality and golden set are absent until somebody measures them.
    pub variant: Variant,
    /// The licence, as the file names it.
    pub licence: Option<String>,
    /// Bytes of the file.
    pub bytes: u64,
    /// What it is for, in a word: `text-generation`.
    pub task: &'static str,
}

/// What is known of a file beside its contract.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Memory that running takes, in bytes: an estimate where nothing runs it yet.
    pub ram_bytes: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Numbers that were learnt; `None` if that is no measure of it.
    pub parameters: Option<u64>,
    /// What most numbers are: `float32`.
    pub precision: Option<String>,
    /// What it is one of: `llama`.
    pub family: Option<String>,
    /// The licence, as the file names it.
    pub licence: Option<String>,
}

impl Found {
    /// The variant `name` of the file at `path`, which does what `contract` says.
    pub fn of(path: &Path, name: VariantName, contract: &Contract, known: Known, selvedge: Version) -> Found {
        let Known { ram_bytes, bytes, parameters, precision, family, licence } = known;
        let (kind, runtime, task, architecture, format) = match contract {
            Contract::Net(_) => (Kind::Net, Runtime::Onnx, "tensors-to-tensors", "graph", "onnx"),
            Contract::Adapter(_) => (Kind::Adapter, Runtime::Lm, "text-generation", "lora", "gguf"),
            Contract::Detector(_) => {
                (Kind::Detector, Runtime::Signal, "anomaly-detection", "subspace", "json")
            }
            Contract::Flow(_) => (Kind::Flow, Runtime::Flow, "anomaly-detection", "flow", "toml"),
        };
        let (inputs, outputs) = match contract {
            Contract::Net(net) => (ports(&net.inputs), ports(&net.outputs)),
            Contract::Adapter(_) => (vec!["text".to_owned()], vec!["text".to_owned()]),
            Contract::Detector(_) => (vec!["readings".to_owned()], vec!["scores".to_owned()]),
            Contract::Flow(_) => (vec!["readings".to_owned()], vec!["decisions".to_owned()]),
        };
        let modality = if kind == Kind::Adapter { Modality::Text } else { Modality::Other };
        let capabilities = Capabilities {
            input_types: vec![modality],
            output_types: vec![modality],
            ..Capabilities::default()
        };
        let variant = Variant {
            name,
            weights: path.to_owned(),
            filepath: filepath_of(path),
            kind,
            runtime,
            requires: Requires {
                ram_bytes,
                disk_bytes: 0,
                isa: Vec::new(),
                accelerator: None,
                selvedge,
                context: None,
            },
            quality: None,
            latency: Vec::new(),
            energy: Vec::new(),
            shape: Shape {
                architecture: Some(architecture.to_owned()),
                format: Some(format.to_owned()),
                param_size: parameters.filter(|count| *count >= 1000).map(param_size),
                precision,
                quantization: None,
                capabilities: Some(capabilities),
            },
            family,
            inputs,
            outputs,
            base: None,
            golden: None,
            files: vec![(Role::Input, contract.to_bytes())],
        };
        Found { variant, licence, bytes, task }
    }
}

fn ports(ports: &[package::contract::Port]) -> Vec<String> {
    ports.iter().map(ToString::to_string).collect()
}

/// What a file with this beginning and name is taken for: GGUF says itself whether it is an adapter, `.json`
/// is a detector, `.toml` a flow, and `.onnx` a graph. All else is a language model, whose reader says what is wrong with it.
pub fn kind_of(path: &Path) -> io::Result<Kind> {
    let mut magic = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut magic)?;
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    Ok(match ending.as_deref() {
        _ if magic == *b"GGUF" && is_adapter(path) => Kind::Adapter,
        _ if magic == *b"GGUF" => Kind::Lm,
        Some("onnx") => Kind::Net,
        Some("json") => Kind::Detector,
        Some("toml") => Kind::Flow,
        _ => Kind::Lm,
    })
}

/// Whether a GGUF file says that it is an adapter. One that cannot be read is none: its reader will say why.
fn is_adapter(path: &Path) -> bool {
    Gguf::open(path).is_ok_and(|file| file.metadata().string("general.type") == Ok("adapter"))
}
