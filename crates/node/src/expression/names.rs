//! What names mean where an expression stands: whoever has an expression read says it.

use crate::board::{Kind, Slot};

/// What a name means where an expression stands.
pub trait Names {
    /// The slot of a part's field, and what kind of value it holds.
    fn slot(&self, part: &str, field: &str) -> Result<(Slot, Kind), Unknown>;
}

/// A name that means nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Whether it is the part that is not known, or a field of it.
    pub what: Half,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// A half of `part.field`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Before the dot.
    Part,
    /// After it.
    Field,
}
