//! What other engines said of a tiny model, and what a GGUF file of that model says: one file of `goldens/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

/// The folder of the goldens.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// One file of `goldens/`, as `peers/goldens.py` writes it.
#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) metadata: BTreeMap<String, Value>,
    /// Shapes, rows first.
    pub(crate) tensors: BTreeMap<String, Vec<usize>>,
    /// Tensors that are settings, not weights.
    literals: BTreeMap<String, Numbers>,
    /// A LoRA adapter that both engines applied.
    pub(crate) adapter: Option<Adapter>,
    pub(crate) tokens: Vec<u32>,
    /// Logits `[tokens, vocabulary]`, or an encoder's pooled state `[width]`.
    pub(crate) transformers: Answer,
    /// The same for every fourth token: 3, 7, …
    pub(crate) llama_cpp: Answer,
}

/// What the file of an adapter says.
#[derive(Deserialize)]
pub(crate) struct Adapter {
    pub(crate) metadata: BTreeMap<String, Value>,
    /// Shapes, rows first.
    pub(crate) tensors: BTreeMap<String, Vec<usize>>,
}

/// What an engine said.
#[derive(Deserialize)]
pub(crate) struct Answer {
    values: Numbers,
    /// `agrees`, or why this engine says something else.
    #[serde(default)]
    pub(crate) stance: String,
}

/// f32, little endian, in Base64.
#[derive(Deserialize)]
#[serde(transparent)]
struct Numbers(String);

impl Numbers {
    fn decode(&self) -> Vec<f32> {
        let bytes = STANDARD.decode(&self.0).expect("goldens hold Base64");
        let (numbers, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty(), "a whole number of f32");
        numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

impl Golden {
    pub(crate) fn load(name: &str) -> Golden {
        let path = folder().join(name).with_extension("json");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let golden: Golden = serde_json::from_str(&text).expect("goldens are JSON of this form");
        assert_eq!(golden.name, name, "a golden lies under its name");
        golden
    }

    /// `general.architecture`.
    pub(crate) fn family(&self) -> &str {
        self.metadata["general.architecture"].as_str().expect("the family is text")
    }

    pub(crate) fn literals(&self) -> impl Iterator<Item = (&str, Vec<f32>)> {
        self.literals.iter().map(|(name, numbers)| (name.as_str(), numbers.decode()))
    }
}

impl Answer {
    pub(crate) fn values(&self) -> Vec<f32> {
        self.values.decode()
    }
}
