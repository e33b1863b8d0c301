//! Weights become fewer bits: a GGUF file in, a smaller one out.
//!
//! Stands after `import` and before `evaluate`. Tensors stream through a few rows at a time, so a model of any size fits
//! in little memory; the rows of a piece are encoded on all threads. What a tensor becomes is decided in `mix`; what its
//! numbers become by the format's own encoder in `kernels`. Always: tensors stay in their order, and so does metadata;
//! a file that could not be written whole is not there.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use kernels::compute::Compute;
use kernels::format::Format;
use kernels::format::encode::CannotEncode;
use lm::family;
use lm::family::keys::ShapeError;
use lm::gguf::Gguf;
use lm::gguf::tensor::{Tensor, TensorFormat};
use lm::gguf::write::{WriteError, Writer};

use crate::importance::Importance;
use crate::mix::{self, About, Mix};

/// How a model is compressed.
pub struct Options<'a> {
    /// To what.
    pub mix: Mix,
    /// Which inputs matter, where that was measured.
    pub importance: Option<&'a Importance>,
    /// Whether weights that were compressed before may be compressed again, which adds one error to another.
    pub again: bool,
}

/// What became of a model.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Compressed {
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// How many tensors became what: format names in order of their size.
    pub tensors: Vec<(String, usize)>,
    /// Tensors that the importance matrix says nothing of, among those that were compressed.
    pub without_importance: usize,
}

/// How far a compression has come.
pub struct Progress<'a> {
    /// The tensor under way.
    pub tensor: &'a str,
    /// Numbers done.
    pub done: u64,
    /// Numbers in all.
    pub total: u64,
}

/// Why a model was not compressed. No file is left then.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// It is of no family that is known here, or does not say what it is.
    #[error("the model cannot be understood")]
    Shape(#[from] ShapeError),
    /// A matrix in a format that cannot be read.
    #[error("the tensor `{name}` is {format}, which cannot be decoded here")]
    UnsupportedTensor {
        /// Its name.
        name: String,
        /// Its format.
        format: TensorFormat,
    },
    /// Numbers that the new format cannot hold: NaN, or too large.
    #[error("row {row} of the tensor `{name}` cannot be {format}")]
    CannotEncode {
        /// The tensor.
        name: String,
        /// Which of its rows.
        row: usize,
        /// What it was to become.
        format: &'static str,
        /// Why not.
        source: CannotEncode,
    },
    /// The weights were compressed before.
    #[error(
        "the tensor `{name}` is {format} already, and compressing again adds its error to the new one: start from the \
         F16 or BF16 file, or say that it may be compressed again"
    )]
    Compressed {
        /// The first such tensor.
        name: String,
        /// Its format.
        format: &'static str,
    },
    /// An importance matrix of another model.
    #[error(
        "the importance matrix has {found} numbers for `{name}`, which has {wanted} inputs: is it of another model?"
    )]
    Importance {
        /// The tensor.
        name: String,
        /// Its inputs.
        wanted: u64,
        /// Numbers in the matrix.
        found: usize,
    },
    /// An importance matrix that says nothing of any matrix.
    #[error(
        "the importance matrix has {entries} tensors, and the model has none of them: is it of another model?"
    )]
    NoImportance {
        /// Tensors in the matrix.
        entries: usize,
    },
    /// The new file.
    #[error("the compressed model cannot be written")]
    Write(#[from] WriteError),
}

/// What becomes of one tensor.
enum Job {
    /// It stays as it is.
    Copy,
    /// Its numbers are written anew.
    Recode { from: Format, to: Format },
}

/// A row that could not be encoded, on its way through the writer.
#[derive(Debug, thiserror::Error)]
#[error("row {row} cannot be {format}")]
struct BadRow {
    row: usize,
    format: &'static str,
    source: CannotEncode,
}

/// Compresses a model into a new file at `to`. Calls `progress` a few times a second.
pub fn compress(
    compute: &Compute,
    model: &Gguf,
    to: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Compressed, CompressError> {
    let jobs = plan(model, options)?;
    let writer = declare(model, options, &jobs)?;
    let mut summary = summarise(model, &writer, &jobs, options.importance);
    let (mut next, mut done) = (jobs.iter().zip(model.tensors()), 0);
    model.sequential();
    let written = writer.write(to, &mut |tensor, sink| {
        let (job, source) = next.next().ok_or("more tensors are written than were planned")?;
        let bytes = model.bytes_of(source);
        let mut tell = |numbers: u64| {
            progress(Progress { tensor: &tensor.name, done: done + numbers, total: summary.parameters });
        };
        tell(0);
        match *job {
            Job::Copy => sink.write_all(&bytes)?,
            Job::Recode { from, to } => {
                let importance = options.importance.and_then(|importance| importance.of(&tensor.name));
                let recoding = Recoding { from, to, cols: usize::try_from(source.columns())?, importance };
                recoding.run(compute, &bytes, sink, &mut tell)?;
            }
        }
        done += source.len();
        Ok(())
    });
    written.map_err(|error| match error {
        WriteError::Data { name, source } => match source.downcast::<BadRow>() {
            Ok(bad) => {
                let BadRow { row, format, source } = *bad;
                CompressError::CannotEncode { name, row, format, source }
            }
            Err(source) => WriteError::Data { name, source }.into(),
        },
        other => other.into(),
    })?;
    progress(Progress { tensor: "", done, total: summary.parameters });
    summary.tensors.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    Ok(summary)
}

/// What becomes of each tensor, or why nothing may.
fn plan(model: &Gguf, options: &Options) -> Result<Vec<Job>, CompressError> {
    let about = About::of(&family::shape(model.metadata())?, options.importance.is_some());
    let tensors: Vec<(&str, &[u64])> =
        model.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.dims.as_slice())).collect();
    let chosen = mix::choose(options.mix, &about, &tensors);
    let planned = model.tensors().iter().zip(chosen).map(|(tensor, to)| job(tensor, to, options));
    let jobs = planned.collect::<Result<Vec<Job>, CompressError>>()?;
    if let Some(importance) = options.importance
        && !model.tensors().iter().any(|tensor| importance.of(&tensor.name).is_some())
    {
        return Err(CompressError::NoImportance { entries: importance.len() });
    }
    Ok(jobs)
}

fn job(tensor: &Tensor, to: Option<Format>, options: &Options) -> Result<Job, CompressError> {
    let Some(to) = to else { return Ok(Job::Copy) };
    let name = || tensor.name.clone();
    let Some(from) = tensor.format.known() else {
        return Err(CompressError::UnsupportedTensor { name: name(), format: tensor.format });
    };
    if from == to {
        return Ok(Job::Copy);
    }
    if from.is_quantised() && !options.again {
        return Err(CompressError::Compressed { name: name(), format: from.name() });
    }
    if let Some(row) = options.importance.and_then(|importance| importance.of(&tensor.name))
        && row.len() as u64 != tensor.columns()
    {
        return Err(CompressError::Importance { name: name(), wanted: tensor.columns(), found: row.len() });
    }
    Ok(Job::Recode { from, to })
}

/// The new file: what it says of itself, and its tensors.
fn declare(model: &Gguf, options: &Options, jobs: &[Job]) -> Result<Writer, WriteError> {
    let mut metadata = model.metadata().clone();
    metadata.set("general.quantization_version", QUANTIZATION_VERSION);
    metadata.set("general.file_type", options.mix.name().1);
    // The parts of a split model become one file.
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
    if let Some(importance) = options.importance {
        metadata.set("quantize.imatrix.file", importance.source.as_str());
        if !importance.datasets.is_empty() {
            metadata.set("quantize.imatrix.dataset", importance.datasets.join(", ").as_str());
        }
        metadata.set("quantize.imatrix.entries_count", u32::try_from(importance.len()).unwrap_or(u32::MAX));
        metadata.set("quantize.imatrix.chunks_count", importance.chunks);
    }
    let mut writer = Writer::new(metadata)?;
    for (tensor, job) in model.tensors().iter().zip(jobs) {
        match job {
            Job::Copy => writer.tensor(&tensor.name, &tensor.dims, tensor.format)?,
            Job::Recode { to, .. } => writer.tensor(&tensor.name, &tensor.dims, *to)?,
        }
    }
    Ok(writer)
}

/// Of the formats of blocks: ggml's `GGML_QNT_VERSION` has been 2 since 2023-05.
const QUANTIZATION_VERSION: u32 = 2;

fn summarise(model: &Gguf, writer: &Writer, jobs: &[Job], importance: Option<&Importance>) -> Compressed {
    let mut summary = Compressed {
        bytes_before: model.tensors().iter().map(|tensor| tensor.bytes).sum(),
        bytes_after: writer.tensors().iter().map(|tensor| tensor.bytes).sum(),
        parameters: model.tensors().iter().map(Tensor::len).sum(),
        ..Compressed::default()
    };
    for (tensor, job) in writer.tensors().iter().zip(jobs) {
        let format = tensor.format.to_string();
        match summary.tensors.iter_mut().find(|(name, _)| *name == format) {
            Some((_, count)) => *count += 1,
            None => summary.tensors.push((format, 1)),
        }
        let to_blocks = matches!(job, Job::Recode { to, .. } if to.is_quantised());
        // Nobody measures what enters these: the embedding is only looked up, and the output is better without.
        let never_measured = matches!(tensor.name.as_str(), "token_embd.weight" | "output.weight");
        if to_blocks && !never_measured && importance.is_some_and(|known| known.of(&tensor.name).is_none()) {
            summary.without_importance += 1;
        }
    }
    summary
}

/// Numbers that one piece may have: read and encoded at most 16 MB each.
const PIECE: usize = 1 << 22;

/// How the numbers of a tensor are written anew.
struct Recoding<'a> {
    from: Format,
    to: Format,
    cols: usize,
    importance: Option<&'a [f32]>,
}

impl Recoding<'_> {
    /// Decodes and encodes a tensor, a piece at a time; `tell` hears of the numbers done.
    fn run(
        &self,
        compute: &Compute,
        bytes: &[u8],
        sink: &mut dyn Write,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let whole = "rows of a tensor that is written are whole blocks";
        let (row_in, row_out) =
            (self.from.row_bytes(self.cols).expect(whole), self.to.row_bytes(self.cols).expect(whole));
        let piece = (PIECE / self.cols).max(1);
        let mut encoded = vec![0u8; (bytes.len() / row_in).min(piece) * row_out];
        for (index, rows) in bytes.chunks(piece * row_in).enumerate() {
            let count = rows.len() / row_in;
            let encoded = &mut encoded[..count * row_out];
            let failed: Mutex<Option<BadRow>> = Mutex::new(None);
            // Row by row, because some formats weigh by the mean square of a whole row.
            compute.pool().rows(encoded, row_out, |row, out| {
                let mut numbers = vec![0.0; self.cols];
                self.from.decode(&rows[row * row_in..(row + 1) * row_in], &mut numbers);
                if let Err(source) = self.to.encode(&numbers, self.importance, out) {
                    let bad = BadRow { row: index * piece + row, format: self.to.name(), source };
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    // The first of the piece, whoever came to it first.
                    if failed.as_ref().is_none_or(|known| bad.row < known.row) {
                        *failed = Some(bad);
                    }
                }
            });
            if let Some(bad) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(Box::new(bad));
            }
            sink.write_all(encoded)?;
            tell(((index * piece + count) * self.cols) as u64);
        }
        Ok(())
    }
}
