//! The face: a file becomes a network, and a network makes tensors of tensors.
//!
//! Before a runtime sees a file, `graph` has walked through it: sizes, nodes, constants and names are those of an honest file,
//! and nothing lies outside of it. Before a runtime sees a tensor, it fits what the graph declares. What a runtime panics about
//! is an error here, and the network is not used again. How long a run takes, and what a value between two operators takes in a
//! network whose shapes are free, is for whoever signed the network to answer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use package::contract::{Contract, Extent, Net, Port};
use package::form::FormError;
use serde::{Deserialize, Serialize};

use crate::caught::{Panicked, caught};
use crate::graph::{self, Graph};
use crate::protobuf::WireError;
use crate::runtime::{Asked, Kind, Refusal, Runtime, short};
use crate::tensor::{KINDS, RANK_MAX, Tensor, elements};

/// How a network is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The runtime; `None`: the first of [`Kind::built`].
    pub runtime: Option<Kind>,
    /// Threads to compute with; only ONNX Runtime uses more than one.
    pub threads: usize,
    /// The shapes that inputs will have, by name: what is known beforehand is compiled beforehand, and refused beforehand.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The largest file, in bytes.
    pub file_bytes_max: u64,
    /// The most bytes of one input, of all outputs, and of all values between operators that can be known beforehand.
    pub value_bytes_max: u64,
    /// The shared library of ONNX Runtime; `None`: where `ORT_DYLIB_PATH` says, or where the system looks.
    pub library: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            runtime: None,
            threads: 1,
            shapes: BTreeMap::new(),
            file_bytes_max: 1 << 30,
            value_bytes_max: 1 << 30,
            library: None,
        }
    }
}

/// A file that is no network here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Larger than it may be.
    #[error("the file has {bytes} bytes, more than the {most} that a network may have here")]
    TooLarge {
        /// Its bytes.
        bytes: u64,
        /// The most.
        most: u64,
    },
    /// Its bytes are no ONNX.
    #[error("it is no ONNX file")]
    NotOnnx(#[from] WireError),
    /// Its names are no names.
    #[error("what goes in and comes out cannot be told on")]
    Names(#[from] FormError),
    /// An input or output is a sequence, a map, or of a kind that no tensor here has.
    #[error(
        "`{port}` is of kind {kind}, which is no tensor here; export the network with tensors of numbers, or of texts"
    )]
    NoTensor {
        /// Its name.
        port: String,
        /// What it is.
        kind: String,
    },
    /// Options name an input that is not there, or give it a shape that it cannot have.
    #[error("the shape {shape:?} does not fit `{input}`, which is {declared}")]
    Shape {
        /// The input.
        input: String,
        /// The shape in the options.
        shape: Vec<usize>,
        /// What the graph says.
        declared: String,
    },
    /// This build has no such runtime.
    #[error("this build has no {}; it has {}", kind.word(), built())]
    NoRuntime {
        /// The runtime.
        kind: Kind,
    },
    /// The runtime lacks something that the network needs.
    #[error("{} has no {lacks}: {}", kind.word(), remedy(*kind))]
    Unsupported {
        /// The runtime.
        kind: Kind,
        /// Operators, or kinds of elements.
        lacks: String,
    },
    /// The runtime refuses it, in its own words.
    #[error("{} refuses the network ({said}): {}", kind.word(), remedy(*kind))]
    Refused {
        /// The runtime.
        kind: Kind,
        /// Its words, one line.
        said: String,
    },
    /// The runtime broke.
    #[error("{} broke while it loaded the network ({said}): {}", kind.word(), remedy(*kind))]
    Broke {
        /// The runtime.
        kind: Kind,
        /// Its words, one line.
        said: String,
    },
}

/// A run that gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Other inputs than the graph has.
    #[error("{found} inputs for a network of {expected}")]
    Inputs {
        /// Inputs of the graph.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// An input of another kind or shape than the graph declares.
    #[error("the input `{input}` is {found}, and the network takes {declared}")]
    Unfit {
        /// Its name.
        input: String,
        /// What was given.
        found: String,
        /// What the graph says.
        declared: String,
    },
    /// More bytes than a value may have.
    #[error("`{port}` would have {bytes} bytes, more than the {most} that a value may have here")]
    TooLarge {
        /// The input or output.
        port: String,
        /// Its bytes.
        bytes: u64,
        /// The most.
        most: u64,
    },
    /// The runtime lacks something that these inputs need.
    #[error("{} has no {lacks}: {}", kind.word(), remedy(*kind))]
    Unsupported {
        /// The runtime.
        kind: Kind,
        /// What.
        lacks: String,
    },
    /// The runtime refuses, in its own words.
    #[error("{} cannot run the network on this ({said}): {}", kind.word(), remedy(*kind))]
    Refused {
        /// The runtime.
        kind: Kind,
        /// Its words, one line.
        said: String,
    },
    /// The runtime broke, now or before: the network must be loaded again.
    #[error("{} broke ({said}); the network must be loaded again", kind.word())]
    Broke {
        /// The runtime.
        kind: Kind,
        /// Its words, one line.
        said: String,
    },
}

/// What to do about a refusal.
fn remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::OnnxRuntime => "export the network again, for operators of this version of ONNX Runtime",
        Kind::Tract if cfg!(feature = "onnxruntime") => {
            "set `runtime = \"onnxruntime\"`, or export the network again with fixed shapes and float32"
        }
        Kind::Tract => {
            "build with the feature `onnxruntime`, or export the network again with fixed shapes and float32"
        }
    }
}

fn built() -> String {
    let words: Vec<&str> = Kind::built().into_iter().map(Kind::word).collect();
    if words.is_empty() { "none: build with the feature `networks`".to_owned() } else { words.join(", ") }
}

/// A network that is loaded.
pub struct Network {
    kind: Kind,
    net: Net,
    parameters: u64,
    value_bytes_max: u64,
    runtime: Box<dyn Runtime>,
    /// What a runtime said when it broke; it is not asked again.
    broken: Option<String>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("kind", &self.kind).field("net", &self.net).finish_non_exhaustive()
    }
}

impl Network {
    /// Loads the bytes of an ONNX file.
    pub fn load(bytes: &[u8], options: &Options) -> Result<Network, LoadError> {
        let (size, most) = (bytes.len() as u64, options.file_bytes_max);
        if size > most {
            return Err(LoadError::TooLarge { bytes: size, most });
        }
        let Graph { net, parameters, .. } = graph::read(bytes)?;
        let contract = Contract::Net(net);
        contract.check()?;
        let Contract::Net(net) = contract else { unreachable!("it was made as that") };
        for port in net.inputs.iter().chain(&net.outputs) {
            if !KINDS.contains(&port.element.as_str()) {
                return Err(LoadError::NoTensor { port: port.name.clone(), kind: port.element.clone() });
            }
        }
        let shapes = shapes(&net.inputs, options)?;
        let first = Kind::built().first().copied().unwrap_or(Kind::Tract);
        let kind = options.runtime.unwrap_or(first);
        let asked = Asked {
            bytes,
            inputs: &net.inputs,
            outputs: &net.outputs,
            operators: &net.operators,
            shapes: &shapes,
            threads: options.threads.max(1),
            value_bytes_max: options.value_bytes_max,
            library: options.library.as_ref(),
        };
        let loaded = caught(|| open(kind, &asked))
            .map_err(|Panicked(said)| LoadError::Broke { kind, said: short(&said) })?;
        let runtime = match loaded {
            None => return Err(LoadError::NoRuntime { kind }),
            Some(Err(Refusal::Lacks(lacks))) => return Err(LoadError::Unsupported { kind, lacks }),
            Some(Err(Refusal::Failed(said))) => return Err(LoadError::Refused { kind, said }),
            Some(Ok(runtime)) => runtime,
        };
        let value_bytes_max = options.value_bytes_max;
        Ok(Network { kind, net, parameters, value_bytes_max, runtime, broken: None })
    }

    /// What goes in, in the graph's order.
    pub fn inputs(&self) -> &[Port] {
        &self.net.inputs
    }

    /// What comes out, in the graph's order.
    pub fn outputs(&self) -> &[Port] {
        &self.net.outputs
    }

    /// What the file says of itself, as a package tells it.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Numbers of all its constants.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// The runtime that computes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether inputs of shapes that it has not had before cost time and memory: its runtime compiles for them.
    pub fn compiles_for_shapes(&self) -> bool {
        self.runtime.compiles_for_shapes()
    }

    /// Tensors for the inputs, in the graph's order, to tensors for the outputs.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let kind = self.kind;
        if let Some(said) = &self.broken {
            return Err(RunError::Broke { kind, said: said.clone() });
        }
        self.fits(inputs)?;
        let runtime = &mut self.runtime;
        let ran = caught(|| runtime.run(inputs)).map_err(|Panicked(said)| {
            let said = short(&said);
            self.broken = Some(said.clone());
            RunError::Broke { kind, said }
        })?;
        let outputs = ran.map_err(|refusal| match refusal {
            Refusal::Lacks(lacks) => RunError::Unsupported { kind, lacks },
            Refusal::Failed(said) => RunError::Refused { kind, said },
        })?;
        Ok(outputs)
    }

    /// Whether these are what the graph declares; the same name is the same size wherever it stands.
    fn fits(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        let declared = &self.net.inputs;
        if inputs.len() != declared.len() {
            return Err(RunError::Inputs { expected: declared.len(), found: inputs.len() });
        }
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        for (port, tensor) in declared.iter().zip(inputs) {
            let bytes = tensor.bytes() as u64;
            if bytes > self.value_bytes_max {
                return Err(RunError::TooLarge {
                    port: port.name.clone(),
                    bytes,
                    most: self.value_bytes_max,
                });
            }
            if tensor.data().kind() != port.element || !could_be(port, tensor.shape(), &mut named) {
                return Err(RunError::Unfit {
                    input: port.name.clone(),
                    found: format!("{}{:?}", tensor.data().kind(), tensor.shape()),
                    declared: port.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Whether a port can have this shape, beside those that were given to others before.
fn could_be<'a>(port: &'a Port, shape: &[usize], named: &mut BTreeMap<&'a str, usize>) -> bool {
    let Some(extents) = &port.shape else { return shape.len() <= RANK_MAX };
    extents.len() == shape.len()
        && extents.iter().zip(shape).all(|(extent, size)| match extent {
            Extent::Fixed(fixed) => *fixed == *size as u64,
            Extent::Free => true,
            // Exporters name sizes by formulas, too (`floor(n/2) + 1`): only plain names are held to be equal.
            Extent::Named(name) if name.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => {
                *named.entry(name).or_insert(*size) == *size
            }
            Extent::Named(_) => true,
        })
}

/// The shape of each input, where the graph or the options say it whole.
fn shapes(inputs: &[Port], options: &Options) -> Result<Vec<Option<Vec<usize>>>, LoadError> {
    let wrong = |input: &str, shape: &[usize], declared: String| LoadError::Shape {
        input: input.to_owned(),
        shape: shape.to_vec(),
        declared,
    };
    for (name, shape) in &options.shapes {
        let port = inputs.iter().find(|port| port.name == *name);
        let port = port.ok_or_else(|| wrong(name, shape, "no input of the network".to_owned()))?;
        if elements(shape).is_none() || !could_be(port, shape, &mut BTreeMap::new()) {
            return Err(wrong(name, shape, port.to_string()));
        }
    }
    let of = |port: &Port| match options.shapes.get(&port.name) {
        Some(shape) => Some(shape.clone()),
        None => port
            .shape
            .as_ref()?
            .iter()
            .map(|extent| match extent {
                Extent::Fixed(size) => usize::try_from(*size).ok(),
                Extent::Named(_) | Extent::Free => None,
            })
            .collect(),
    };
    Ok(inputs.iter().map(of).collect())
}

/// Loads it with this runtime; `None` if the build has none such.
fn open(kind: Kind, asked: &Asked<'_>) -> Option<Result<Box<dyn Runtime>, Refusal>> {
    match kind {
        #[cfg(feature = "tract")]
        Kind::Tract => Some(crate::runtime::tract::load(asked)),
        #[cfg(feature = "onnxruntime")]
        Kind::OnnxRuntime => Some(crate::runtime::onnxruntime::load(asked)),
        #[cfg(not(all(feature = "tract", feature = "onnxruntime")))]
        _ => {
            let _ = asked;
            None
        }
    }
}
