//! A loaded model: its network and its words as one value that can be asked, and what its file says about it.

use std::path::Path;
use std::sync::Arc;

use kernels::compute::Compute;

use crate::gguf::metadata::Metadata;
use crate::gguf::tensor::Tensor;
use crate::gguf::{Gguf, GgufError};
use crate::network::{Network, NetworkError};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::refused::TokenizerError;

/// A model that can be asked.
pub struct Model {
    /// Tokens in, logits or states out.
    pub network: Network,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// What the file says about it.
    pub facts: Facts,
}

/// What a file says about its model, for people.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Facts {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its family: `llama`, `qwen2`, …
    pub family: String,
    /// Numbers in all its tensors.
    pub parameters: u64,
    /// Most numbers' format, as people say it: `Q4_K_M`, `F16`, …
    pub quantisation: String,
    /// Positions it was trained for.
    pub context: Option<u64>,
    /// Its licence, as the file names it.
    pub licence: Option<String>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why a file is no model that can be asked.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file itself.
    #[error("the file cannot be read as GGUF")]
    File(#[from] GgufError),
    /// Its shape or tensors.
    #[error("the model cannot run")]
    Network(#[from] NetworkError),
    /// Its vocabulary.
    #[error("the model's vocabulary cannot be used")]
    Tokenizer(#[from] TokenizerError),
    /// The vocabulary has tokens that the network has no row for.
    #[error("the vocabulary has {words} tokens, and the network knows {rows}")]
    Vocabulary {
        /// Tokens of the vocabulary.
        words: usize,
        /// Rows of the embedding.
        rows: usize,
    },
}

impl Model {
    /// Maps a file and loads its model.
    pub fn open(path: &Path, compute: Arc<Compute>) -> Result<Model, LoadError> {
        Model::load(&Gguf::open(path)?, compute)
    }

    /// Loads the model of a file that is open.
    pub fn load(file: &Gguf, compute: Arc<Compute>) -> Result<Model, LoadError> {
        let network = Network::load(file, compute)?;
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        let (words, rows) = (tokenizer.vocabulary_size(), network.shape().vocabulary);
        // Fewer words than rows is common: embeddings are padded to a round number.
        if words > rows {
            return Err(LoadError::Vocabulary { words, rows });
        }
        Ok(Model { network, tokenizer, facts: Facts::of(file) })
    }
}

impl Facts {
    /// What a file says; what it does not say is absent.
    pub fn of(file: &Gguf) -> Facts {
        let metadata = file.metadata();
        let text = |key: &str| metadata.string(key).ok().map(str::to_owned);
        let family = text("general.architecture").unwrap_or_default();
        Facts {
            name: text("general.name"),
            parameters: file.tensors().iter().map(Tensor::len).fold(0, u64::saturating_add),
            quantisation: quantisation(file, metadata),
            context: metadata.u64(&format!("{family}.context_length")).ok(),
            licence: text("general.license"),
            bytes: file.file_bytes(),
            family,
        }
    }
}

/// `general.file_type` as its usual name; where it is absent, the format that most numbers are in.
fn quantisation(file: &Gguf, metadata: &Metadata) -> String {
    // The numbers that quantisers write (llama.h, `llama_ftype`).
    let named = metadata.u32("general.file_type").ok().and_then(|number| {
        Some(match number {
            0 => "F32",
            1 => "F16",
            2 => "Q4_0",
            3 => "Q4_1",
            7 => "Q8_0",
            8 => "Q5_0",
            9 => "Q5_1",
            10 => "Q2_K",
            11 => "Q3_K_S",
            12 => "Q3_K_M",
            13 => "Q3_K_L",
            14 => "Q4_K_S",
            15 => "Q4_K_M",
            16 => "Q5_K_S",
            17 => "Q5_K_M",
            18 => "Q6_K",
            25 => "IQ4_NL",
            30 => "IQ4_XS",
            32 => "BF16",
            _ => return None,
        })
    });
    if let Some(name) = named {
        return name.to_owned();
    }
    let mut counts: Vec<(String, u64)> = Vec::new();
    for tensor in file.tensors() {
        let name = tensor.format.to_string();
        match counts.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count = count.saturating_add(tensor.len()),
            None => counts.push((name, tensor.len())),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name).unwrap_or_default()
}
