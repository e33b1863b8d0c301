//! Which inputs matter, measured on text: the importance matrix that `compress` weighs errors by.
//!
//! For each matrix of a model, the mean square of each of its inputs over a text. An error in a weight counts as much as
//! the input it is multiplied with. The file is llama.cpp's GGUF form of it (`imatrix`), which its tools read too.

use std::collections::BTreeMap;
use std::path::Path;

use kernels::format::Format;
use kernels::page::{CacheFormat, PageError};
use lm::forward::{Observe, Part, Scratch, StepError, Wanted};
use lm::gguf::metadata::{Metadata, MetadataError};
use lm::gguf::value::{Array, Strings};
use lm::gguf::write::{WriteError, Writer};
use lm::gguf::{Gguf, GgufError};
use lm::network::Network;

/// Sums of squared inputs, by the name of the tensor they enter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    /// Where it came from, for the record.
    pub source: String,
    /// Names of the texts it was measured on.
    pub datasets: Vec<String>,
    /// Pieces of text.
    pub chunks: u32,
    /// Tokens in a piece.
    pub chunk_tokens: u32,
    entries: BTreeMap<String, Entry>,
}

/// Of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    /// Sum over all tokens of the square of each input.
    sums: Vec<f32>,
    /// Tokens.
    count: u64,
    /// Their quotient.
    means: Vec<f32>,
}

/// Why there is no importance matrix.
#[derive(Debug, thiserror::Error)]
pub enum ImportanceError {
    /// The file is no GGUF.
    #[error(
        "the importance matrix cannot be read (a `.dat` file of older tools must be converted to GGUF first)"
    )]
    File(#[from] GgufError),
    /// It is something else.
    #[error("the file is no importance matrix: its `general.type` is {found:?}, not \"imatrix\"")]
    NotImportance {
        /// What it says it is.
        found: String,
    },
    /// A key is missing.
    #[error("the importance matrix cannot be understood")]
    Metadata(#[from] MetadataError),
    /// A tensor that should not be there.
    #[error("the importance matrix has a tensor `{name}`, {why}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The text is too short.
    #[error(
        "the text has {tokens} tokens, and one piece needs {needed}: take a longer text or smaller pieces"
    )]
    TooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of a piece.
        needed: usize,
    },
    /// The model.
    #[error("the model cannot read the text")]
    Step(#[from] StepError),
    /// Its cache.
    #[error("the model's keys and values cannot be kept")]
    Page(#[from] PageError),
    /// The file to write.
    #[error("the importance matrix cannot be written")]
    Write(#[from] WriteError),
}

impl Importance {
    /// Runs pieces of a text through a model and sums up what enters each matrix. `begin` stands before each piece, where
    /// the model has such a token. Calls `progress` with the pieces done and their number.
    pub fn measure(
        network: &Network,
        tokens: &[u32],
        begin: Option<u32>,
        chunk_tokens: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Importance, ImportanceError> {
        let chunks = tokens.chunks_exact(chunk_tokens.max(1));
        let total = chunks.len();
        if total == 0 {
            return Err(ImportanceError::TooShort { tokens: tokens.len(), needed: chunk_tokens });
        }
        let pages = network.page_shape(CacheFormat::F32)?;
        let mut sums = Sums::default();
        let mut scratch = Scratch::default();
        for (index, chunk) in chunks.enumerate() {
            progress(index, total);
            let mut chunk = chunk.to_vec();
            // As llama.cpp does: the beginning takes the place of the piece's first token.
            if let (Some(begin), Some(first)) = (begin, chunk.first_mut()) {
                *first = begin;
            }
            let mut cache = network.sequence(pages, chunk.len());
            let part = Part { tokens: &chunk, cache: &mut cache, adapter: None, wanted: Wanted::Nothing };
            network.observe(&mut scratch, &mut [part], &mut sums)?;
        }
        progress(total, total);
        let entries = sums.entries.into_iter().map(|(name, (sums, count))| {
            let sums = sums.into_iter().map(|sum| sum as f32).collect();
            (format!("{name}.weight"), Entry::new(sums, count))
        });
        Ok(Importance {
            source: String::new(),
            datasets: Vec::new(),
            chunks: u32::try_from(total).unwrap_or(u32::MAX),
            chunk_tokens: u32::try_from(chunk_tokens).unwrap_or(u32::MAX),
            entries: entries.collect(),
        })
    }

    /// The mean square of each input of a tensor, if it was measured.
    pub fn of(&self, tensor: &str) -> Option<&[f32]> {
        self.entries.get(tensor).map(|entry| entry.means.as_slice())
    }

    /// Tensors that were measured.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads a file that this or llama.cpp wrote.
    pub fn open(path: &Path) -> Result<Importance, ImportanceError> {
        let file = Gguf::open(path)?;
        let metadata = file.metadata();
        let kind = metadata.find_string("general.type")?.unwrap_or("nothing");
        if kind != "imatrix" {
            return Err(ImportanceError::NotImportance { found: kind.to_owned() });
        }
        let mut importance = Importance {
            source: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            chunks: metadata.u32("imatrix.chunk_count")?,
            chunk_tokens: metadata.u32("imatrix.chunk_size")?,
            ..Importance::default()
        };
        if let Some(datasets) = metadata.find_strings("imatrix.datasets")? {
            importance.datasets = datasets.iter().map(str::to_owned).collect();
        }
        for tensor in file.tensors() {
            let wrong = |why| ImportanceError::Tensor { name: tensor.name.clone(), why };
            let Some(name) = tensor.name.strip_suffix(".in_sum2") else { continue };
            let counts = file.tensor(&format!("{name}.counts")).ok_or_else(|| wrong("without its counts"))?;
            if tensor.rows() != 1 || counts.len() != 1 {
                return Err(wrong("of a mixture of experts, which is not supported"));
            }
            let numbers = |tensor: &lm::gguf::tensor::Tensor| match tensor.format.known() {
                Some(Format::F32) => {
                    let mut numbers = vec![0.0; usize::try_from(tensor.len()).unwrap_or(0)];
                    Format::F32.decode(&file.bytes_of(tensor), &mut numbers);
                    Ok(numbers)
                }
                _ => Err(wrong("which is not F32")),
            };
            let count = numbers(counts)?[0];
            if !(count.is_finite() && count >= 0.0) {
                return Err(wrong("whose count is no number"));
            }
            importance.entries.insert(name.to_owned(), Entry::new(numbers(tensor)?, count as u64));
        }
        Ok(importance)
    }

    /// Writes a file that this and llama.cpp read.
    pub fn write(&self, path: &Path) -> Result<(), ImportanceError> {
        let mut metadata = Metadata::new();
        metadata.set("general.type", "imatrix");
        let mut names = Strings::default();
        self.datasets.iter().for_each(|name| names.push(name));
        metadata.set("imatrix.datasets", Array::Strings(names));
        metadata.set("imatrix.chunk_count", self.chunks);
        metadata.set("imatrix.chunk_size", self.chunk_tokens);
        let mut writer = Writer::new(metadata)?;
        for (name, entry) in &self.entries {
            writer.tensor(&format!("{name}.in_sum2"), &[entry.sums.len() as u64, 1], Format::F32)?;
            writer.tensor(&format!("{name}.counts"), &[1, 1], Format::F32)?;
        }
        let mut entries =
            self.entries.values().flat_map(|entry| [entry.sums.clone(), vec![entry.count as f32]]);
        writer.write(path, &mut |_, sink| {
            let numbers = entries.next().ok_or("more tensors than entries")?;
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            Ok(sink.write_all(&bytes)?)
        })?;
        Ok(())
    }
}

impl Entry {
    fn new(sums: Vec<f32>, count: u64) -> Entry {
        let means = match count {
            // What was never met is as important as anything else.
            0 => vec![1.0; sums.len()],
            count => sums.iter().map(|sum| sum / count as f32).collect(),
        };
        Entry { sums, count, means }
    }
}

/// What the forward pass is watched with.
#[derive(Default)]
struct Sums {
    entries: BTreeMap<String, (Vec<f64>, u64)>,
}

impl Observe for Sums {
    fn input(&mut self, linear: &str, rows: &[f32], cols: usize) {
        // The output is better compressed without: its inputs differ too little from token to token.
        if linear == "output" {
            return;
        }
        let (sums, count) = match self.entries.get_mut(linear) {
            Some(entry) => entry,
            None => self.entries.entry(linear.to_owned()).or_insert((vec![0.0; cols], 0)),
        };
        for row in rows.chunks_exact(cols) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x * x));
            *count += 1;
        }
    }
}
