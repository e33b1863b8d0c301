//! The tensors of a model, by role, with their shapes checked.
//!
//! What differs between families is whether a tensor is there; fused tensors (phi3's `attn_qkv`, its gate in `ffn_up`)
//! are cut into views, so the forward pass knows one layout. A tensor that nothing here asks for is an error: a model
//! that is run without one of its tensors gives wrong answers, not fewer.

mod place;

use std::collections::HashSet;
use std::ops::Range;

use kernels::format::Format;
use kernels::matrix::{Matrix, MatrixError};

use crate::gguf::Gguf;
use crate::gguf::tensor::{Tensor, TensorFormat};
use crate::rope::Factors;
use crate::shape::{Scaling, Shape};

/// All tensors of a model.
pub struct Weights {
    /// `[vocabulary, width]`.
    pub token_embedding: Matrix,
    /// `[context, width]`, where positions are embedded.
    pub position_embedding: Option<Matrix>,
    /// `[width]`: the embedding of the first sentence, the only kind there is here.
    pub type_embedding: Option<Vec<f32>>,
    /// Norm of the embeddings.
    pub embedding_norm: Option<NormWeights>,
    /// The blocks, first to last.
    pub layers: Vec<Layer>,
    /// Norm of the last states.
    pub output_norm: Option<NormWeights>,
    /// `[vocabulary, width]`; `None` for encoders. The token embedding again where the file ties them.
    pub output: Option<Linear>,
    /// Factors of the rope.
    pub factors: Factors,
}

/// The tensors of one block.
pub struct Layer {
    /// Before attention.
    pub attention_norm: Option<NormWeights>,
    /// `[queries * head, width]`.
    pub query: Linear,
    /// `[keys * head, width]`.
    pub key: Linear,
    /// `[keys * head, width]`.
    pub value: Linear,
    /// On each head of queries: `[head]`.
    pub query_norm: Option<NormWeights>,
    /// On each head of keys: `[head]`.
    pub key_norm: Option<NormWeights>,
    /// `[width, queries * head]`.
    pub output: Linear,
    /// On what attention gives, before it is added.
    pub attention_post_norm: Option<NormWeights>,
    /// On the state, after attention was added.
    pub attention_sum_norm: Option<NormWeights>,
    /// Before the feed-forward block.
    pub feed_norm: Option<NormWeights>,
    /// `[feed_forward, width]`, where the block is gated.
    pub gate: Option<Linear>,
    /// `[feed_forward, width]`.
    pub up: Linear,
    /// `[width, feed_forward]`.
    pub down: Linear,
    /// On what the feed-forward block gives, before it is added.
    pub feed_post_norm: Option<NormWeights>,
    /// On the state, after the feed-forward block was added.
    pub feed_sum_norm: Option<NormWeights>,
}

/// A matrix, and what is added after it.
pub struct Linear {
    /// The tensor's name without `.weight`, as adapters refer to it.
    pub name: String,
    /// The rows of that tensor which this is; a part where the file fuses several.
    pub rows: Range<usize>,
    /// `[out, in]`.
    pub weight: Matrix,
    /// `[out]`.
    pub bias: Option<Vec<f32>>,
}

/// What a normalised state is multiplied by, and what is added.
pub struct NormWeights {
    /// As wide as what is normalised.
    pub weight: Vec<f32>,
    /// The same, where there is one.
    pub bias: Option<Vec<f32>>,
}

/// Why a file's tensors do not make the model that its metadata says.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A tensor that the model needs.
    #[error("the tensor `{name}` is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor of another size.
    #[error("the tensor `{name}` is {found:?} (columns first), and should be {wanted:?}")]
    WrongShape {
        /// Its name.
        name: String,
        /// What the metadata asks for.
        wanted: Vec<usize>,
        /// What the file holds.
        found: Vec<u64>,
    },
    /// Numbers in a format that no kernel computes with.
    #[error("the tensor `{name}` is {format}, which is not supported; supported are {supported}")]
    UnsupportedFormat {
        /// Its name.
        name: String,
        /// What the file holds.
        format: String,
        /// The formats there are.
        supported: String,
    },
    /// Rows that are no whole number of blocks, or fewer bytes than the matrix needs.
    #[error("the tensor `{name}` cannot be a matrix")]
    Matrix {
        /// Its name.
        name: String,
        /// Why not.
        source: MatrixError,
    },
    /// Tensors without a place in the model.
    #[error(
        "the model has tensors that are not supported, `{first}` the first of {count}: without them it would answer wrongly"
    )]
    Unknown {
        /// The first of them.
        first: String,
        /// How many there are.
        count: usize,
    },
}

/// Tensors that may lie in a file and change nothing here: the classifier and pooler on top of encoders, and frequencies
/// that old converters wrote although they follow from the metadata.
const WITHOUT_EFFECT: [&str; 4] = ["cls.", "cls_out.", "pooler.", "attn_rot_embd."];

impl Weights {
    /// Finds the tensors of a model in its file. Reads only the small ones; matrices stay where they lie.
    pub fn load(file: &Gguf, shape: &mut Shape) -> Result<Weights, WeightsError> {
        let mut finder = Finder { file, taken: HashSet::new() };
        let width = shape.width;
        if shape.vocabulary == 0 {
            let tensor = finder.find("token_embd.weight")?;
            shape.vocabulary = tensor.dims.get(1).and_then(|rows| usize::try_from(*rows).ok()).unwrap_or(0);
        }
        let token_embedding = finder.matrix("token_embd.weight", shape.vocabulary, width)?;
        let position_embedding = match finder.has("position_embd.weight") {
            true => Some(finder.matrix("position_embd.weight", shape.context, width)?),
            false => None,
        };
        let type_embedding = match finder.file.tensor("token_types.weight").map(|tensor| tensor.dims.clone())
        {
            Some(dims) => {
                let rows = dims.get(1).map_or(1, |rows| usize::try_from(*rows).unwrap_or(0));
                let types = finder.matrix("token_types.weight", rows, width)?;
                let mut first = vec![0.0; width];
                types.decode_row(0, &mut first);
                Some(first)
            }
            None => None,
        };
        let embedding_norm = finder.norm("token_embd_norm", width)?;
        let layers =
            (0..shape.layers).map(|layer| finder.layer(layer, shape)).collect::<Result<Vec<_>, _>>()?;
        let output_norm = finder.norm("output_norm", width)?;
        let output = match (shape.pooling, finder.has("output.weight")) {
            (_, true) => Some(finder.linear("output", shape.vocabulary, width)?),
            (None, false) if shape.causal => Some(Linear {
                name: "output".to_owned(),
                rows: 0..shape.vocabulary,
                weight: token_embedding.clone(),
                bias: finder.vector("output.bias", shape.vocabulary)?,
            }),
            _ => None,
        };
        let factors = finder.factors(shape)?;
        finder.refuse_the_rest()?;
        Ok(Weights {
            token_embedding,
            position_embedding,
            type_embedding,
            embedding_norm,
            layers,
            output_norm,
            output,
            factors,
        })
    }

    /// Every matrix that adapters may correct.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let layers = self.layers.iter().flat_map(|layer| {
            let Layer { query, key, value, output, gate, up, down, .. } = layer;
            [query, key, value, output, up, down].into_iter().chain(gate)
        });
        layers.chain(&self.output)
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let layers = self.layers.iter_mut().flat_map(|layer| {
            let Layer { query, key, value, output, gate, up, down, .. } = layer;
            [query, key, value, output, up, down].into_iter().chain(gate)
        });
        layers.chain(&mut self.output)
    }
}

/// Takes tensors out of a file by name, and knows which were never asked for.
struct Finder<'a> {
    file: &'a Gguf,
    taken: HashSet<String>,
}

impl<'a> Finder<'a> {
    fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    fn find(&mut self, name: &str) -> Result<&'a Tensor, WeightsError> {
        let tensor = self.file.tensor(name).ok_or_else(|| WeightsError::Missing { name: name.to_owned() })?;
        self.taken.insert(name.to_owned());
        Ok(tensor)
    }

    fn format(tensor: &Tensor) -> Result<Format, WeightsError> {
        match &tensor.format {
            TensorFormat::Known(format) => Ok(*format),
            other => Err(WeightsError::UnsupportedFormat {
                name: tensor.name.clone(),
                format: other.to_string(),
                supported: Format::ALL.map(Format::name).join(", "),
            }),
        }
    }

    /// A matrix of `rows` outputs and `cols` inputs.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, WeightsError> {
        let tensor = self.find(name)?;
        let is = |at: usize, wanted: usize| tensor.dims.get(at).copied().unwrap_or(1) == wanted as u64;
        if !is(0, cols) || !is(1, rows) || tensor.dims.iter().skip(2).any(|dim| *dim != 1) {
            let (name, found) = (name.to_owned(), tensor.dims.clone());
            return Err(WeightsError::WrongShape { name, wanted: vec![cols, rows], found });
        }
        let bytes = self.file.bytes_of(tensor);
        Matrix::new(Self::format(tensor)?, rows, cols, bytes)
            .map_err(|source| WeightsError::Matrix { name: name.to_owned(), source })
    }

    /// A row of numbers, if the file has it.
    fn vector(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>, WeightsError> {
        if !self.has(name) {
            return Ok(None);
        }
        let row = self.matrix(name, 1, len)?;
        let mut numbers = vec![0.0; len];
        row.decode_row(0, &mut numbers);
        Ok(Some(numbers))
    }

    fn norm(&mut self, name: &str, len: usize) -> Result<Option<NormWeights>, WeightsError> {
        let weight = self.vector(&format!("{name}.weight"), len)?;
        let bias = self.vector(&format!("{name}.bias"), len)?;
        Ok(weight.map(|weight| NormWeights { weight, bias }))
    }

    fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Linear, WeightsError> {
        let weight = self.matrix(&format!("{name}.weight"), rows, cols)?;
        let bias = self.vector(&format!("{name}.bias"), rows)?;
        Ok(Linear { name: name.to_owned(), rows: 0..rows, weight, bias })
    }

    /// Several linears that the file keeps as one tensor, in this order.
    fn fused<const N: usize>(
        &mut self,
        name: &str,
        rows: [usize; N],
        cols: usize,
    ) -> Result<[Linear; N], WeightsError> {
        let whole = self.linear(name, rows.iter().sum(), cols)?;
        let mut from = 0;
        Ok(rows.map(|rows| {
            let range = from..from + rows;
            from = range.end;
            Linear {
                name: name.to_owned(),
                weight: whole.weight.rows_range(range.clone()),
                bias: whole.bias.as_ref().map(|bias| bias[range.clone()].to_vec()),
                rows: range,
            }
        }))
    }

    fn layer(&mut self, layer: usize, shape: &Shape) -> Result<Layer, WeightsError> {
        let (width, feed) = (shape.width, shape.feed_forward);
        let (queries, keys, head) = (shape.query_width(), shape.key_width(), shape.heads.width);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let [query, key, value] = match self.has(&name("attn_qkv.weight")) {
            true => self.fused(&name("attn_qkv"), [queries, keys, keys], width)?,
            false => [
                self.linear(&name("attn_q"), queries, width)?,
                self.linear(&name("attn_k"), keys, width)?,
                self.linear(&name("attn_v"), keys, width)?,
            ],
        };
        let up_rows = self.file.tensor(&name("ffn_up.weight")).and_then(|up| up.dims.get(1).copied());
        let (gate, up) = if self.has(&name("ffn_gate.weight")) {
            let gate = self.linear(&name("ffn_gate"), feed, width)?;
            (Some(gate), self.linear(&name("ffn_up"), feed, width)?)
        } else if up_rows == Some(2 * feed as u64) {
            let [gate, up] = self.fused(&name("ffn_up"), [feed, feed], width)?;
            (Some(gate), up)
        } else {
            (None, self.linear(&name("ffn_up"), feed, width)?)
        };
        Ok(Layer {
            attention_norm: self.norm(&name("attn_norm"), width)?,
            query,
            key,
            value,
            query_norm: self.norm(&name("attn_q_norm"), head)?,
            key_norm: self.norm(&name("attn_k_norm"), head)?,
            output: self.linear(&name("attn_output"), width, queries)?,
            attention_post_norm: self.norm(&name("post_attention_norm"), width)?,
            attention_sum_norm: self.norm(&name("attn_output_norm"), width)?,
            feed_norm: self.norm(&name("ffn_norm"), width)?,
            gate,
            up,
            down: self.linear(&name("ffn_down"), width, feed)?,
            feed_post_norm: self.norm(&name("post_ffw_norm"), width)?,
            feed_sum_norm: self.norm(&name("layer_output_norm"), width)?,
        })
    }

    /// Factors of the rope, once for all layers; a file without them scales nothing.
    fn factors(&mut self, shape: &mut Shape) -> Result<Factors, WeightsError> {
        let Some(rope) = &mut shape.rope else { return Ok(Factors::default()) };
        let half = rope.dims / 2;
        let factors = Factors {
            all: self.vector("rope_freqs.weight", half)?,
            short: self.vector("rope_factors_short.weight", half)?,
            long: self.vector("rope_factors_long.weight", half)?,
        };
        match rope.scaling {
            Scaling::None if factors.all.is_some() => rope.scaling = Scaling::Factors,
            Scaling::Long { .. } if factors.short.is_none() || factors.long.is_none() => {
                rope.scaling = Scaling::None;
            }
            _ => {}
        }
        Ok(factors)
    }

    fn refuse_the_rest(self) -> Result<(), WeightsError> {
        let mut rest = self.file.tensors().iter().filter(|tensor| {
            let plain =
                tensor.name.split('.').skip_while(|part| *part == "blk" || part.parse::<u32>().is_ok());
            let plain = plain.collect::<Vec<_>>().join(".");
            !self.taken.contains(&tensor.name) && !WITHOUT_EFFECT.iter().any(|name| plain.starts_with(name))
        });
        match rest.next() {
            None => Ok(()),
            Some(first) => Err(WeightsError::Unknown { first: first.name.clone(), count: 1 + rest.count() }),
        }
    }
}
