//! LoRA: a low-rank correction beside frozen weights, from a GGUF adapter file (Hu et al. 2021).
//!
//! For a linear `y = W x` an adapter holds `A: [rank, in]` and `B: [out, rank]`, and the corrected linear is
//! `y = W x + scale · alpha / rank · B (A x)`. The weights stay as they are, so that sequences with different adapters
//! go through the model together.

use std::collections::HashMap;

use kernels::compute::Compute;
use kernels::matmul::{Input, matmul};
use kernels::matrix::{Matrix, MatrixError};

use crate::gguf::Gguf;
use crate::gguf::metadata::MetadataError;
use crate::gguf::tensor::TensorFormat;
use crate::weights::{Linear, Weights};

/// The corrections of one adapter, by the name of the tensor they correct.
pub struct Adapter {
    /// Multiplies every correction; 1 applies the adapter as it was trained.
    pub scale: f32,
    corrections: HashMap<String, Correction>,
}

struct Correction {
    /// `[rank, in]`.
    down: Matrix,
    /// `[out, rank]`.
    up: Matrix,
    /// `alpha / rank`; 1 where alpha is 0.
    strength: f32,
}

/// Why a file is no adapter for a model.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A key is missing or of another type.
    #[error("the file does not say how strong the adapter is")]
    Metadata(#[from] MetadataError),
    /// The file is something else.
    #[error("the file is {found}, not a LoRA adapter (`general.type` `adapter`, `adapter.type` `lora`)")]
    NotAnAdapter {
        /// What it says it is.
        found: String,
    },
    /// Made for another family of models.
    #[error("the adapter is for `{adapter}` models, and this model is `{model}`")]
    OtherFamily {
        /// The adapter's family.
        adapter: String,
        /// The model's.
        model: String,
    },
    /// Corrects something that the model does not have, or that cannot be corrected at run time.
    #[error("the adapter corrects `{name}`, which this model {why}")]
    Unsupported {
        /// The tensor.
        name: String,
        /// What is in the way.
        why: &'static str,
    },
    /// Half of a correction, or one of another size.
    #[error("the correction of `{name}` does not fit: {why}")]
    WrongShape {
        /// The tensor.
        name: String,
        /// What does not fit.
        why: String,
    },
    /// Not a matrix.
    #[error("the correction of `{name}` cannot be a matrix")]
    Matrix {
        /// The tensor.
        name: String,
        /// Why not.
        source: MatrixError,
    },
}

impl Adapter {
    /// Reads an adapter and checks that each of its corrections fits `model`, a model of `family`.
    pub fn load(file: &Gguf, family: &str, model: &Weights, scale: f32) -> Result<Adapter, AdapterError> {
        let metadata = file.metadata();
        let kind = metadata.string("general.type").unwrap_or("a model");
        if kind != "adapter" || metadata.string("adapter.type")? != "lora" {
            return Err(AdapterError::NotAnAdapter { found: kind.to_owned() });
        }
        let found = metadata.string("general.architecture")?;
        if found != family {
            return Err(AdapterError::OtherFamily { adapter: found.to_owned(), model: family.to_owned() });
        }
        let alpha = metadata.f32("adapter.lora.alpha")?;
        let mut corrections = HashMap::new();
        for tensor in file.tensors() {
            let Some(name) = tensor.name.strip_suffix(".weight.lora_a") else {
                if !tensor.name.ends_with(".weight.lora_b") {
                    let name = tensor.name.clone();
                    return Err(AdapterError::Unsupported { name, why: "has no low-rank form of" });
                }
                continue;
            };
            let (rows, cols) = corrected(model, name)?;
            let wrong = |why: String| AdapterError::WrongShape { name: name.to_owned(), why };
            let rank = tensor.dims.get(1).copied().and_then(|rank| usize::try_from(rank).ok()).unwrap_or(1);
            if rank == 0 || rank > rows.min(cols) {
                return Err(wrong(format!("its rank is {rank}")));
            }
            let matrix = |name: &str, rows: usize, cols: usize| {
                let tensor = file.tensor(name).ok_or_else(|| wrong(format!("`{name}` is missing")))?;
                let dim = |at: usize| tensor.dims.get(at).copied().unwrap_or(1);
                if dim(0) != cols as u64 || dim(1) != rows as u64 {
                    let found = &tensor.dims;
                    return Err(wrong(format!("`{name}` is {found:?}, and should be [{cols}, {rows}]")));
                }
                let TensorFormat::Known(format) = tensor.format else {
                    return Err(wrong(format!("`{name}` is {}", tensor.format)));
                };
                Matrix::new(format, rows, cols, file.bytes_of(tensor))
                    .map_err(|source| AdapterError::Matrix { name: name.to_owned(), source })
            };
            let down = matrix(&tensor.name, rank, cols)?;
            let up = matrix(&format!("{name}.weight.lora_b"), rows, rank)?;
            // Without an alpha the correction stands as it is.
            let strength = if alpha == 0.0 { 1.0 } else { alpha / rank as f32 };
            corrections.insert(name.to_owned(), Correction { down, up, strength });
        }
        Ok(Adapter { scale, corrections })
    }

    /// Tensors that the adapter corrects.
    pub fn len(&self) -> usize {
        self.corrections.len()
    }

    /// Whether it corrects nothing.
    pub fn is_empty(&self) -> bool {
        self.corrections.is_empty()
    }

    /// Adds the correction of `linear` to `out: [tokens, rows]`, for inputs `[tokens, in]`.
    pub(crate) fn correct(&self, compute: &Compute, linear: &Linear, inputs: &[f32], out: &mut [f32]) {
        let Some(Correction { down, up, strength }) = self.corrections.get(&linear.name) else { return };
        let up = up.rows_range(linear.rows.clone());
        let tokens = inputs.len() / down.cols();
        let mut narrow = vec![0.0; tokens * down.rows()];
        matmul(compute, down, &Input::new(inputs, down.cols()), &mut narrow);
        let mut wide = vec![0.0; tokens * up.rows()];
        matmul(compute, &up, &Input::new(&narrow, up.cols()), &mut wide);
        let factor = self.scale * strength;
        out.iter_mut().zip(&wide).for_each(|(out, wide)| *out += factor * wide);
    }
}

/// Rows and columns of the whole tensor that a name means: a fused one is as high as its parts together.
fn corrected(model: &Weights, name: &str) -> Result<(usize, usize), AdapterError> {
    let parts = model.linears().filter(|linear| linear.name == name);
    let whole = parts.map(|linear| (linear.rows.end, linear.weight.cols())).max();
    whole.ok_or_else(|| {
        let why = match name {
            "token_embd" => "cannot correct at run time: merge the adapter into the model first",
            _ => "does not have",
        };
        AdapterError::Unsupported { name: name.to_owned(), why }
    })
}
