//! How each family's metadata says what a model is: one file per family, over one forward pass.
//!
//! A family is a name and a function from metadata to a [`Shape`]. What all families say in the same words is read in
//! `family/keys.rs`; a family's own file holds only what is its own. How to add one: `docs/adding-a-family.md`.

pub mod keys;

mod bert;
mod gemma;
mod llama;
mod phi;
mod qwen;

use crate::family::keys::{Keys, ShapeError};
use crate::gguf::metadata::Metadata;
use crate::shape::Shape;

/// A family of models that the forward pass can run.
#[derive(Clone, Copy)]
pub struct Family {
    /// What `general.architecture` says.
    pub name: &'static str,
    /// Models that come under this name, for people.
    pub models: &'static str,
    /// Reads what a model of this family is.
    shape: fn(&Keys) -> Result<Shape, ShapeError>,
}

/// Every family, in the order in which it is shown to people.
pub const FAMILIES: [Family; 9] = [
    llama::LLAMA,
    qwen::QWEN2,
    qwen::QWEN3,
    gemma::GEMMA,
    gemma::GEMMA2,
    gemma::GEMMA3,
    phi::PHI2,
    phi::PHI3,
    bert::BERT,
];

/// What a model is, from the metadata of its file.
///
/// Errors: a family that is not in [`FAMILIES`], or one of its members that the forward pass cannot run (a mixture of
/// experts), is refused by name; a key that is missing or makes no sense is named.
pub fn shape(metadata: &Metadata) -> Result<Shape, ShapeError> {
    let name = metadata.string("general.architecture")?;
    let Some(family) = FAMILIES.iter().find(|family| family.name == name) else {
        let supported = FAMILIES.map(|family| family.name).join(", ");
        return Err(ShapeError::UnsupportedFamily { name: name.to_owned(), supported });
    };
    let keys = Keys::new(metadata, family.name);
    keys.refuse_experts()?;
    let shape = (family.shape)(&keys)?;
    keys::check(&shape)?;
    Ok(shape)
}
