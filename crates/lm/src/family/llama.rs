//! Llama and what was built like it: Llama 1 to 3.x, TinyLlama, SmolLM2, Mistral (Touvron et al. 2023).
//!
//! The file's query and key rows are permuted so that neighbours turn together, hence [`Pairing::Interleaved`].

use kernels::rope::Pairing;

use crate::family::Family;
use crate::family::keys::{Keys, ShapeError};
use crate::shape::{Shape, Window};

/// `llama`.
pub(super) const LLAMA: Family =
    Family { name: "llama", models: "Llama, TinyLlama, SmolLM2, Mistral", shape };

fn shape(keys: &Keys) -> Result<Shape, ShapeError> {
    let mut shape = keys.decoder(Pairing::Interleaved)?;
    // Mistral 7B v0.1 sees 4 096 positions back, in every layer.
    if let Some(len) = keys.window_len()? {
        let layers = match keys.get("attention.sliding_window_pattern") {
            Some(_) => keys.windowed_layers(shape.layers, 1)?,
            None => vec![true; shape.layers],
        };
        shape.window = Some(Window { len, layers });
    }
    Ok(shape)
}
