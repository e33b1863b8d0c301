//! What a model and its cache will need, before it is loaded.
//!
//! Weights take as many bytes in memory as in the file, wherever they lie; pages of the cache are allocated as sequences
//! grow.

use kernels::page::{CacheFormat, PAGE, PageError};

use crate::gguf::Gguf;
use crate::network::page_shape;
use crate::shape::Shape;

pub mod machine;

/// Bytes that a model will need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The weights, as they lie in the file.
    pub weights: u64,
    /// Keys and values of one full sequence.
    pub cache: u64,
    /// Room to compute in for a step of [`STEP`] tokens.
    pub scratch: u64,
}

/// Tokens in a step that room is reckoned for.
pub const STEP: u64 = 512;

impl Needed {
    /// For one sequence of `context` tokens.
    pub fn reckon(
        file: &Gguf,
        shape: &Shape,
        context: usize,
        cache: CacheFormat,
    ) -> Result<Needed, PageError> {
        let pages = page_shape(shape, cache);
        pages.check()?;
        let weights = file.tensors().iter().map(|tensor| tensor.bytes).sum();
        let (width, queries, keys) =
            (shape.width as u64, shape.query_width() as u64, shape.key_width() as u64);
        let numbers = 4 * width + 2 * queries + 2 * keys + 2 * shape.feed_forward as u64;
        // Beside the numbers themselves: the widest of them once more as 8-bit activations.
        let quantised = STEP * queries.max(width).max(shape.feed_forward as u64) * 5 / 4;
        let logits = 4 * shape.vocabulary as u64;
        Ok(Needed {
            weights,
            cache: (context.div_ceil(PAGE) * pages.bytes()) as u64,
            scratch: 4 * STEP.min(context as u64) * numbers + quantised + logits,
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.scratch
    }
}
