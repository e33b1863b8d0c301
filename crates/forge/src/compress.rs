//! Weights become fewer bits: a GGUF file in, a smaller one out.
//!
//! Stands after `import` and before `evaluate`. Tensors stream through a few rows at a time, so a model of any size fits
//! in little memory; the rows of a piece are encoded on all threads. What a tensor becomes is decided by [`Plan`];
//! what its numbers become by the format's own encoder in `kernels`.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use kernels::compute::Compute;
use kernels::format::{CannotEncode, Format};
use lm::family::keys::ShapeError;
use lm::gguf::Gguf;
use lm::gguf::metadata::MetadataError;
use lm::gguf::tensor::Tensor;
use lm::gguf::write::{WriteError, Writer};

use crate::importance::Importance;
use crate::mix::{Mix, Plan, is_values};

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
    /// The file does not say what the model is.
    #[error("the model cannot be understood")]
    Metadata(#[from] MetadataError),
    /// It is of no family that is known here.
    #[error("the model cannot be understood")]
    Shape(#[from] ShapeError),
    /// A tensor in a format that cannot be read.
    #[error("the tensor `{name}` is {format}, which cannot be decoded here")]
    UnsupportedTensor {
        /// Its name.
        name: String,
        /// Its format.
        format: String,
    },
    /// A format that can be read but not made.
    #[error("{mix} cannot be made here")]
    CannotEncode {
        /// What was asked for.
        mix: &'static str,
        /// Which of its formats.
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
    /// The new file.
    #[error("the compressed model cannot be written")]
    Write(#[from] WriteError),
}

/// What becomes of one tensor.
struct Job {
    from: Format,
    to: Format,
}

/// Compresses a model into a new file at `to`.
pub fn compress(
    compute: &Compute,
    model: &Gguf,
    to: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Compressed, CompressError> {
    let (mix, file_type) = options.mix.name();
    let jobs = plan(model, options)?;
    let mut metadata = model.metadata().clone();
    metadata.set("general.file_type", file_type);
    metadata.set("general.quantization_version", 2u32);
    if let Some(importance) = options.importance {
        metadata.set("quantize.imatrix.file", importance.source.as_str());
        metadata.set("quantize.imatrix.dataset", importance.datasets.join(", ").as_str());
        metadata.set("quantize.imatrix.entries_count", u32::try_from(importance.len()).unwrap_or(u32::MAX));
        metadata.set("quantize.imatrix.chunks_count", importance.chunks);
    }
    // The parts of a split model become one file.
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
    let mut writer = Writer::new(metadata)?;
    let mut summary = Compressed::default();
    for (tensor, job) in model.tensors().iter().zip(&jobs) {
        writer.tensor(&tensor.name, &tensor.dims, job.to)?;
        summary.bytes_before += tensor.bytes;
        summary.parameters += tensor.len();
        let rows = summary.tensors.iter_mut().find(|(name, _)| name == job.to.name());
        match rows {
            Some((_, count)) => *count += 1,
            None => summary.tensors.push((job.to.name().to_owned(), 1)),
        }
    }
    summary.bytes_after = writer.tensors().iter().map(|tensor| tensor.bytes).sum();
    summary.tensors.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));

    let mut next = jobs.iter().zip(model.tensors());
    let mut done = 0;
    writer
        .write(to, &mut |tensor, sink| {
            let (job, source) = next.next().ok_or("more tensors are written than were planned")?;
            progress(Progress { tensor: &tensor.name, done, total: summary.parameters });
            let importance = options.importance.and_then(|importance| importance.of(&tensor.name));
            let changed = job.from != job.to;
            if changed && is_block(job.to) && options.importance.is_some() && importance.is_none() {
                summary.without_importance += 1;
            }
            if changed {
                let cols = usize::try_from(source.columns())?;
                let bytes = model.bytes_of(source);
                let mut tell = |rows: usize| {
                    let done = done + (rows * cols) as u64;
                    progress(Progress { tensor: &tensor.name, done, total: summary.parameters });
                };
                recode(compute, job, cols, &bytes, importance, sink, &mut tell)?;
            } else {
                sink.write_all(&model.bytes_of(source))?;
            }
            done += source.len();
            Ok(())
        })
        .map_err(|error| match error {
            WriteError::Data { name, source } => match source.downcast::<CannotEncode>() {
                Ok(source) => CompressError::CannotEncode { mix, source: *source },
                Err(source) => WriteError::Data { name, source }.into(),
            },
            other => other.into(),
        })?;
    progress(Progress { tensor: "", done, total: summary.parameters });
    Ok(summary)
}

/// What becomes of each tensor, or why nothing may.
fn plan(model: &Gguf, options: &Options) -> Result<Vec<Job>, CompressError> {
    let layers =
        model.tensors().iter().filter_map(|tensor| layer_of(&tensor.name)).max().map_or(0, |most| most + 1);
    let plan = Plan {
        mix: options.mix,
        layers,
        values: model.tensors().iter().filter(|tensor| is_values(&tensor.name)).count(),
        has_output: model.tensor("output.weight").is_some(),
        has_importance: options.importance.is_some(),
    };
    let mut jobs = Vec::with_capacity(model.tensors().len());
    for tensor in model.tensors() {
        let Some(from) = tensor.format.known() else {
            let (name, format) = (tensor.name.clone(), tensor.format.to_string());
            return Err(CompressError::UnsupportedTensor { name, format });
        };
        let layer = layer_of(&tensor.name).unwrap_or(0);
        let before = |other: &&Tensor| is_values(&other.name) && layer_of(&other.name).unwrap_or(0) < layer;
        let values_before =
            if is_values(&tensor.name) { model.tensors().iter().filter(before).count() } else { 0 };
        let to = plan.choose(&tensor.name, &tensor.dims, layer, values_before).unwrap_or(from);
        if to != from && is_block(from) && !options.again {
            return Err(CompressError::Compressed { name: tensor.name.clone(), format: from.name() });
        }
        if let Some(row) = options.importance.and_then(|importance| importance.of(&tensor.name))
            && row.len() as u64 != tensor.columns()
        {
            let (name, wanted, found) = (tensor.name.clone(), tensor.columns(), row.len());
            return Err(CompressError::Importance { name, wanted, found });
        }
        jobs.push(Job { from, to });
    }
    Ok(jobs)
}

/// Numbers that one piece may have: with both encodings about 20 MB.
const PIECE: usize = 1 << 22;
/// Rows that one thread takes at a time.
const ROWS: usize = 8;

/// Decodes and encodes a tensor, a few rows at a time.
fn recode(
    compute: &Compute,
    job: &Job,
    cols: usize,
    bytes: &[u8],
    importance: Option<&[f32]>,
    sink: &mut dyn Write,
    tell: &mut dyn FnMut(usize),
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let whole = "rows of a tensor that is written are whole blocks";
    let (row_in, row_out) = (job.from.row_bytes(cols).expect(whole), job.to.row_bytes(cols).expect(whole));
    let rows = bytes.len() / row_in;
    let piece = (PIECE / cols).clamp(1, rows.max(1));
    let mut encoded = vec![0u8; piece * row_out];
    let failed = std::sync::Mutex::new(None);
    for first in (0..rows).step_by(piece) {
        let count = piece.min(rows - first);
        let encoded = &mut encoded[..count * row_out];
        compute.pool().rows(encoded, ROWS * row_out, |chunk, out| {
            let mut numbers = vec![0.0; cols];
            for (index, out) in out.chunks_exact_mut(row_out).enumerate() {
                let row = first + chunk * ROWS + index;
                job.from.decode(&bytes[row * row_in..(row + 1) * row_in], &mut numbers);
                if let Err(error) = job.to.encode(&numbers, importance, out) {
                    *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                }
            }
        });
        if let Some(error) = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            return Err(Box::new(error));
        }
        sink.write_all(encoded)?;
        tell(first + count);
    }
    Ok(())
}

/// The block that a tensor's name places it in: `blk.7.…` is in 7.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

fn is_block(format: Format) -> bool {
    format.block_len() > 1
}
