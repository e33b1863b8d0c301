//! Phi-2, with attention and feed-forward side by side, and Phi-3, 3.5 and 4-mini, which are llama with fused tensors.

use kernels::rope::Pairing;

use crate::family::Family;
use crate::family::keys::{Keys, ShapeError};
use crate::shape::{Activation, Scaling, Shape, Window};

/// `phi2`.
pub(super) const PHI2: Family = Family { name: "phi2", models: "Phi-1.5, Phi-2", shape: phi2 };

/// `phi3`.
pub(super) const PHI3: Family = Family { name: "phi3", models: "Phi-3, Phi-3.5, Phi-4-mini", shape: phi3 };

fn phi2(keys: &Keys) -> Result<Shape, ShapeError> {
    let mut shape = keys.decoder(Pairing::Halves)?;
    shape.parallel = true;
    shape.activation = Activation::GeluTanh;
    Ok(shape)
}

/// Phi-3's window holds in every layer (transformers' `Phi3Attention`); llama.cpp leaves it out.
fn phi3(keys: &Keys) -> Result<Shape, ShapeError> {
    let mut shape = keys.decoder(Pairing::Halves)?;
    if let Some(len) = keys.window_len()? {
        shape.window = Some(Window { len, layers: vec![true; shape.layers] });
    }
    if let Some(rope) = &mut shape.rope
        && rope.scaling == Scaling::None
    {
        // Files do not name the scaling: factors in tensors alone tell, and where there are none nothing is scaled.
        let attention = keys.positive_if("rope.scaling.attn_factor")?.unwrap_or(1.0);
        rope.scaling = Scaling::Long { original: keys.long_original()?, attention };
    }
    Ok(shape)
}
