//! What stands behind `network`: runtimes of others, each in a file that only translates.
//!
//! `tract` is plain Rust and always there; `onnxruntime` is a shared library that its users install, for what the first refuses
//! and for accelerators. Which is the default, and why: `docs/decisions/0018-onnx-runtime.md`.

use std::path::PathBuf;

use package::contract::Port;
use serde::{Deserialize, Serialize};

use crate::tensor::Tensor;

#[cfg(feature = "onnxruntime")]
pub(crate) mod onnxruntime;
#[cfg(feature = "tract")]
pub(crate) mod tract;

/// The most of a runtime's own words that are told on.
const SAID_MAX: usize = 400;

/// A runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// tract, in this binary.
    Tract,
    /// ONNX Runtime, a library on this machine.
    #[serde(rename = "onnxruntime")]
    OnnxRuntime,
}

impl Kind {
    /// Its name, as configuration says it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Tract => "tract",
            Kind::OnnxRuntime => "onnxruntime",
        }
    }

    /// The runtimes in this build, the default first.
    pub fn built() -> Vec<Kind> {
        let mut kinds = Vec::new();
        if cfg!(feature = "tract") {
            kinds.push(Kind::Tract);
        }
        if cfg!(feature = "onnxruntime") {
            kinds.push(Kind::OnnxRuntime);
        }
        kinds
    }
}

/// What a runtime is given to load.
#[cfg_attr(
    not(feature = "onnxruntime"),
    allow(dead_code, reason = "some of it only ONNX Runtime asks for, and a build without runtimes nothing")
)]
pub(crate) struct Asked<'a> {
    /// The file, checked by `graph`.
    pub(crate) bytes: &'a [u8],
    /// The graph's inputs.
    pub(crate) inputs: &'a [Port],
    /// Its outputs.
    pub(crate) outputs: &'a [Port],
    /// Its operators, as `Net` names them.
    pub(crate) operators: &'a [String],
    /// The shapes that inputs will have, where they are known.
    pub(crate) shapes: &'a [Option<Vec<usize>>],
    /// Threads to compute with.
    pub(crate) threads: usize,
    /// Bytes that all values between two operators may take.
    pub(crate) value_bytes_max: u64,
    /// The library of ONNX Runtime.
    pub(crate) library: Option<&'a PathBuf>,
}

/// A network that is loaded.
pub(crate) trait Runtime: Send {
    /// Inputs and outputs in the graph's order; inputs fit what the graph declares.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Refusal>;

    /// Whether inputs of shapes that it has not had before cost it time and memory.
    fn compiles_for_shapes(&self) -> bool;
}

/// What a runtime does not do.
#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "tract", feature = "onnxruntime")),
    expect(dead_code, reason = "a runtime says so")
)]
pub(crate) enum Refusal {
    /// It lacks this: an operator, a kind of element.
    Lacks(String),
    /// It failed, with these words.
    Failed(String),
}

#[cfg(any(feature = "tract", feature = "onnxruntime"))]
impl Refusal {
    /// In its own words: one line, and not many.
    pub(crate) fn said(words: impl std::fmt::Display) -> Refusal {
        Refusal::Failed(short(&words.to_string()))
    }
}

/// A stranger's words as one line that is not long.
pub(crate) fn short(words: &str) -> String {
    let mut line: String = words
        .split(|letter: char| letter.is_control() || letter == ' ')
        .filter(|word| !word.is_empty())
        .fold(String::new(), |mut line, word| {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            line
        });
    if let Some((end, _)) = line.char_indices().nth(SAID_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}
