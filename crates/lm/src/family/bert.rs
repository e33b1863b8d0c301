//! BERT and sentence encoders made from it: MiniLM, BGE, E5 (Devlin et al. 2019).
//!
//! Positions are embedded, every token sees every other, and norms stand after each half of a block: the tensors say so.

use kernels::rope::Pairing;

use crate::family::Family;
use crate::family::keys::{Keys, ShapeError};
use crate::shape::{Activation, Pooling, Shape};

/// `bert`.
pub(super) const BERT: Family = Family { name: "bert", models: "BERT, MiniLM, BGE, E5", shape };

fn shape(keys: &Keys) -> Result<Shape, ShapeError> {
    let mut shape = keys.decoder(Pairing::Halves)?;
    shape.rope = None;
    shape.causal = false;
    shape.activation = Activation::GeluErf;
    // 0 none, 1 mean, 2 first (CLS), 3 last, 4 rank: the numbers of llama.cpp's `pooling_type`.
    shape.pooling = match keys.get("pooling_type").map(|kind| kind.integer().unwrap_or(-1)) {
        None | Some(1) => Some(Pooling::Mean),
        Some(2) => Some(Pooling::First),
        Some(3) => Some(Pooling::Last),
        Some(0) => None,
        Some(other) => return Err(keys.unsupported(format!("pooling type {other}"))),
    };
    Ok(shape)
}
