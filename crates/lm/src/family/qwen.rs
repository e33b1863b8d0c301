//! Qwen2, Qwen2.5 and Qwen3: llama's block with biases on queries, keys and values (2), or a norm on each head (3).
//!
//! Both are tensors that are there or not, so nothing but the pairing differs here.

use kernels::rope::Pairing;

use crate::family::Family;
use crate::family::keys::{Keys, ShapeError};
use crate::shape::Shape;

/// `qwen2`.
pub(super) const QWEN2: Family = Family { name: "qwen2", models: "Qwen2, Qwen2.5", shape };

/// `qwen3`.
pub(super) const QWEN3: Family = Family { name: "qwen3", models: "Qwen3 (dense)", shape };

fn shape(keys: &Keys) -> Result<Shape, ShapeError> {
    keys.decoder(Pairing::Halves)
}
