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
        "the importance matrix cannot be read: it is no GGUF file (older tools wrote `.dat` files: measure anew, or \
         convert with `llama-imatrix --in-file OLD.dat -o NEW.gguf`)"
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
    /// Two that were measured on different models.
    #[error(
        "`{name}` has {one} inputs in one importance matrix and {other} in another: are they of one model?"
    )]
    Different {
        /// The tensor.
        name: String,
        /// Its inputs in the one.
        one: usize,
        /// And in the other.
        other: usize,
    },
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
    /// the model has such a token; the text comes without it. Calls `progress` with the pieces done and their number.
    pub fn measure(
        network: &Network,
        tokens: &[u32],
        begin: Option<u32>,
        chunk_tokens: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Importance, ImportanceError> {
        let tokens: Vec<u32> = begin.into_iter().chain(tokens.iter().copied()).collect();
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

    /// Adds what was measured on other texts, as if both had been measured in one go. Refused, and nothing is changed,
    /// where a tensor has other inputs there.
    pub fn merge(&mut self, other: &Importance) -> Result<(), ImportanceError> {
        for (name, entry) in &other.entries {
            if let Some(own) = self.entries.get(name)
                && own.sums.len() != entry.sums.len()
            {
                let (one, other) = (own.sums.len(), entry.sums.len());
                return Err(ImportanceError::Different { name: name.clone(), one, other });
            }
        }
        for (name, entry) in &other.entries {
            match self.entries.get_mut(name) {
                Some(own) => {
                    let sums = own.sums.iter().zip(&entry.sums).map(|(one, other)| one + other).collect();
                    *own = Entry::new(sums, own.count + entry.count);
                }
                None => {
                    self.entries.insert(name.clone(), entry.clone());
                }
            }
        }
        // Pieces of another length count by their tokens, as far as they fill pieces of ours.
        let tokens = |matrix: &Importance| u64::from(matrix.chunks) * u64::from(matrix.chunk_tokens);
        self.chunk_tokens = if self.chunks == 0 { other.chunk_tokens } else { self.chunk_tokens };
        let chunks = (tokens(self) + tokens(other)) / u64::from(self.chunk_tokens.max(1));
        self.chunks = u32::try_from(chunks).unwrap_or(u32::MAX);
        self.datasets.extend(other.datasets.iter().cloned());
        Ok(())
    }

    /// The sums of squares that a tensor's means are of, and over how many tokens.
    pub fn sums_of(&self, tensor: &str) -> Option<(&[f32], u64)> {
        self.entries.get(tensor).map(|entry| (entry.sums.as_slice(), entry.count))
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
            chunks: metadata.find_u32("imatrix.chunk_count")?.unwrap_or(0),
            chunk_tokens: metadata.find_u32("imatrix.chunk_size")?.unwrap_or(0),
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
            let sums = numbers(tensor)?;
            if !sums.iter().all(|sum| sum.is_finite() && *sum >= 0.0) {
                return Err(wrong("whose sums of squares are no numbers, or negative"));
            }
            importance.entries.insert(name.to_owned(), Entry::new(sums, count as u64));
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use kernels::compute::Compute;
    use kernels::cpu::Isa;
    use lm::specimen::Specimen;

    use super::*;

    fn measure(tokens: &[u32]) -> Importance {
        let file = Specimen::SMALL.gguf().expect("a specimen is a model");
        let compute = Compute::new(Isa::best(), NonZeroUsize::MIN);
        let network = Network::load(&file, Arc::new(compute)).expect("a specimen is a model");
        Importance::measure(&network, tokens, None, 32, &mut |_, _| ()).expect("enough tokens")
    }

    fn tokens(from: u32, count: u32) -> Vec<u32> {
        (from..from + count).map(|at| 5 + at * at % 256).collect()
    }

    #[test]
    fn every_matrix_of_a_block_is_measured_and_no_other() {
        let measured = measure(&tokens(0, 70));
        assert_eq!((measured.len(), measured.chunks, measured.chunk_tokens), (2 * 7, 2, 32));
        let (sums, count) = measured.sums_of("blk.1.ffn_down.weight").expect("it is a matrix");
        assert_eq!((sums.len(), count), (96, 64));
        // What enters the first matrices left a norm with weights near 1: its mean square is near 1.
        let queries = measured.of("blk.0.attn_q.weight").expect("it is a matrix");
        let mean = queries.iter().sum::<f32>() / queries.len() as f32;
        assert!((0.7..1.3).contains(&mean), "{mean}");
        assert_eq!(measured.of("blk.0.attn_v.weight"), Some(queries), "they share their input");
        for other in ["output.weight", "token_embd.weight", "blk.0.attn_norm.weight"] {
            assert_eq!(measured.of(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_merged_is_as_if_measured_in_one_go() {
        let (one, other) = (tokens(0, 64), tokens(64, 32));
        let mut merged = measure(&one);
        merged.merge(&measure(&other)).expect("both are of one model");
        let whole = measure(&[one, other].concat());
        assert_eq!((merged.chunks, merged.len()), (whole.chunks, whole.len()));
        let (a, count) = merged.sums_of("blk.1.ffn_up.weight").expect("it was measured");
        let (b, whole_count) = whole.sums_of("blk.1.ffn_up.weight").expect("it was measured");
        assert_eq!(count, whole_count);
        a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-4 * b, "{a} {b}"));
    }

    #[test]
    fn those_of_different_models_are_not_merged() {
        let mut merged = measure(&tokens(0, 32));
        let before = merged.clone();
        let entries = BTreeMap::from([("blk.1.ffn_up.weight".to_owned(), Entry::new(vec![1.0; 3], 1))]);
        let error = merged.merge(&Importance { entries, ..Importance::default() }).expect_err("3 are not 64");
        assert!(matches!(error, ImportanceError::Different { one: 64, other: 3, .. }), "{error}");
        assert_eq!(merged, before);
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("matrix.gguf");
        let mut measured = measure(&tokens(0, 32));
        measured.datasets = vec!["a.txt".to_owned(), "b.txt".to_owned()];
        measured.write(&path).expect("the folder can be written");
        measured.source = "matrix.gguf".to_owned();
        assert_eq!(Importance::open(&path).expect("it was just written"), measured);
    }

    #[test]
    fn what_is_no_matrix_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("old.dat");
        std::fs::write(&path, [7u8; 64]).expect("the folder can be written");
        let error = Importance::open(&path).expect_err("it is no GGUF file").to_string();
        assert!(error.contains("llama-imatrix --in-file"), "{error}");
        let mut model = Vec::new();
        Specimen::SMALL.write(&mut model).expect("a specimen is a model");
        std::fs::write(&path, model).expect("the folder can be written");
        let error = Importance::open(&path).expect_err("it is a model");
        assert!(matches!(error, ImportanceError::NotImportance { .. }), "{error}");
    }
}
