//! The weights of a model with what they are multiplied by: all that a forward pass needs.

use std::sync::Arc;

use kernels::compute::Compute;
use kernels::page::{CacheFormat, PageError, PageShape};

use crate::adapter::{Adapter, AdapterError};
use crate::cache::Cache;
use crate::family;
use crate::family::keys::ShapeError;
use crate::gguf::Gguf;
use crate::rope::{Factors, Turner};
use crate::shape::Shape;
use crate::weights::{Weights, WeightsError};

/// A model without its words: tokens in, logits or states out.
pub struct Network {
    pub(crate) shape: Shape,
    pub(crate) weights: Weights,
    /// Angles of most layers.
    pub(crate) turner: Option<Turner>,
    /// Angles of windowed layers that turn differently.
    pub(crate) local_turner: Option<Turner>,
    pub(crate) compute: Arc<Compute>,
}

/// Why a file is no model that can run here.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The metadata.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The tensors.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Network {
    /// Loads the model of a file. Quantised matrices are interleaved in memory, others stay where they lie in it.
    pub fn load(file: &Gguf, compute: Arc<Compute>) -> Result<Network, NetworkError> {
        let mut shape = family::shape(file.metadata())?;
        let mut weights = Weights::load(file, &mut shape)?;
        weights.interleave(file, &compute);
        let turner = shape.rope.as_ref().map(|rope| Turner::new(rope, &weights.factors));
        let local_turner = shape.local_rope.as_ref().map(|rope| Turner::new(rope, &Factors::default()));
        Ok(Network { shape, weights, turner, local_turner, compute })
    }

    /// What the model is.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the model computes on.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The same, for another model that computes on it too.
    pub fn shared_compute(&self) -> Arc<Compute> {
        Arc::clone(&self.compute)
    }

    /// Its tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Whether it writes text; encoders do not.
    pub fn writes(&self) -> bool {
        self.weights.output.is_some()
    }

    /// The pages that its sequences are kept in. Refused where a head's numbers are no whole blocks of the format.
    pub fn page_shape(&self, format: CacheFormat) -> Result<PageShape, PageError> {
        let shape = page_shape(&self.shape, format);
        shape.check()?;
        Ok(shape)
    }

    /// An empty sequence that may grow to `reach` tokens.
    pub fn sequence(&self, pages: PageShape, reach: usize) -> Cache {
        Cache::new(pages, reach)
    }

    /// Whether a sequence begun for one reach may go on under another: rope factors may depend on it.
    pub fn same_angles(&self, one: usize, other: usize) -> bool {
        self.turner.as_ref().is_none_or(|turner| turner.alike(one, other))
    }

    /// Reads an adapter that fits this model.
    pub fn adapter(&self, file: &Gguf, scale: f32) -> Result<Adapter, AdapterError> {
        Adapter::load(file, self.shape.family, &self.weights, scale)
    }
}

/// The pages that sequences of a model are kept in.
pub(crate) fn page_shape(shape: &Shape, format: CacheFormat) -> PageShape {
    PageShape { layers: shape.layers, kv_heads: shape.heads.keys, head_dim: shape.heads.width, format }
}
