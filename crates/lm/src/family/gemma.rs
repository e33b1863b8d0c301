//! Gemma 1 to 3: scaled embeddings, GELU gates, norms after each half of a block, windows in most layers.
//!
//! The `1 +` of Gemma's norms is already in the file's weights.

use kernels::rope::Pairing;

use crate::family::Family;
use crate::family::keys::{Keys, ShapeError};
use crate::shape::{Activation, Rope, Scaling, Shape, Window};

/// `gemma`.
pub(super) const GEMMA: Family = Family { name: "gemma", models: "Gemma", shape: gemma };

/// `gemma2`.
pub(super) const GEMMA2: Family = Family { name: "gemma2", models: "Gemma 2", shape: gemma2 };

/// `gemma3`.
pub(super) const GEMMA3: Family = Family { name: "gemma3", models: "Gemma 3 (text)", shape: gemma3 };

fn gemma(keys: &Keys) -> Result<Shape, ShapeError> {
    let mut shape = keys.decoder(Pairing::Halves)?;
    shape.embedding_scale = (shape.width as f32).sqrt();
    shape.activation = Activation::GeluTanh;
    Ok(shape)
}

fn gemma2(keys: &Keys) -> Result<Shape, ShapeError> {
    let mut shape = gemma(keys)?;
    scale_of_the_largest(keys, &mut shape, 46)?;
    let len = keys.window_len()?.unwrap_or(4096);
    let layers = keys.windowed_layers(shape.layers, 2)?;
    shape.window = Some(Window { len, layers });
    Ok(shape)
}

fn gemma3(keys: &Keys) -> Result<Shape, ShapeError> {
    let mut shape = gemma(keys)?;
    scale_of_the_largest(keys, &mut shape, 62)?;
    if let Some(len) = keys.window_len()? {
        let layers = keys.windowed_layers(shape.layers, 6)?;
        shape.window = Some(Window { len, layers });
        let base = keys.positive_if("rope.freq_base_swa")?.unwrap_or(10_000.0);
        shape.local_rope =
            shape.rope.as_ref().map(|rope| Rope { base, scaling: Scaling::None, ..rope.clone() });
    }
    Ok(shape)
}

/// The 27 B models scale scores by the width of a head as it would be without its own; the file does not say so, only
/// the number of layers tells (google/gemma_pytorch, `query_pre_attn_scalar`). A file that gives a scale is believed.
fn scale_of_the_largest(keys: &Keys, shape: &mut Shape, layers: usize) -> Result<(), ShapeError> {
    if shape.layers == layers && keys.number_if("attention.scale")?.is_none() {
        shape.heads.scale = 1.0 / ((shape.width / shape.heads.queries) as f32).sqrt();
    }
    Ok(())
}
