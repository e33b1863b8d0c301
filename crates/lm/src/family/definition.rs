//! What a family is: a name, and how its metadata is read.

use crate::family::keys::{Keys, ShapeError};
use crate::shape::Shape;

/// A family of models that the forward pass can run.
#[derive(Clone, Copy)]
pub struct Family {
    /// What `general.architecture` says.
    pub name: &'static str,
    /// Models that come under this name, for people.
    pub models: &'static str,
    /// Reads what a model of this family is.
    pub(super) shape: fn(&Keys) -> Result<Shape, ShapeError>,
}
