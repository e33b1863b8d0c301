//! The words that all families share: metadata keys under the family's name, read with their bounds.
//!
//! Every number is checked here, before anything is allocated by it: a file cannot ask for a billion layers.

use kernels::rope::Pairing;

use crate::gguf::metadata::{Metadata, MetadataError};
use crate::gguf::value::{Array, Strings, Value};
use crate::shape::{Activation, Heads, Norm, Rope, Scaling, Shape};

/// The most that any width or count of a model may be: far above what runs on a device, far below what overflows.
const MOST: usize = 1 << 24;
/// The most layers.
const MOST_LAYERS: usize = 1 << 12;

/// Why a file's metadata gives no model that can run.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// A key is missing or of another type.
    #[error("the file does not say what the model is")]
    Metadata(#[from] MetadataError),
    /// No file of this crate knows the family.
    #[error("models of the family `{name}` are not supported; supported are {supported}")]
    UnsupportedFamily {
        /// What the file says.
        name: String,
        /// The names of all families there are.
        supported: String,
    },
    /// A known family, with a part that the forward pass does not have.
    #[error("{what} of `{family}` models is not supported")]
    UnsupportedPart {
        /// The family.
        family: String,
        /// What it is.
        what: String,
    },
    /// A number that cannot be.
    #[error("`{key}` is {value}: {why}")]
    Nonsense {
        /// The key, or what it stands for.
        key: String,
        /// What the file says.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Metadata under a family's name: `llama.block_count` is `count("block_count")`.
pub struct Keys<'a> {
    metadata: &'a Metadata,
    /// The family's name.
    pub family: &'static str,
}

impl<'a> Keys<'a> {
    /// The keys of a family.
    pub fn new(metadata: &'a Metadata, family: &'static str) -> Keys<'a> {
        Keys { metadata, family }
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.family)
    }

    /// A value that may be absent.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.metadata.get(&self.full(key))
    }

    /// A count above zero and below any size that makes sense.
    pub fn count(&self, key: &str) -> Result<usize, ShapeError> {
        self.count_if(key)?.ok_or_else(|| MetadataError::Missing { key: self.full(key) }.into())
    }

    /// The same, where the file may leave it out. An array (one entry a layer) counts when all entries agree.
    pub fn count_if(&self, key: &str) -> Result<Option<usize>, ShapeError> {
        let full = self.full(key);
        let value = match self.metadata.get(&full) {
            None => return Ok(None),
            Some(Value::Array(list)) => match list.integers::<u64>().unwrap_or_default().as_slice() {
                [first, rest @ ..] if rest.iter().all(|count| count == first) => *first,
                _ => return Err(self.unsupported(format!("`{full}` that differs from layer to layer"))),
            },
            Some(_) => self.metadata.u64(&full)?,
        };
        match usize::try_from(value) {
            Ok(count) if (1..=MOST).contains(&count) => Ok(Some(count)),
            _ => Err(ShapeError::Nonsense {
                key: full,
                value: value.to_string(),
                why: "not a size a model can have",
            }),
        }
    }

    /// How many positions a window spans; files say 0, or nothing, where there is none.
    pub fn window_len(&self) -> Result<Option<usize>, ShapeError> {
        let key = "attention.sliding_window";
        match self.get(key).and_then(Value::integer) {
            Some(0) => Ok(None),
            _ => self.count_if(key),
        }
    }

    /// A number, where the file may leave it out. NaN and infinity make no sense anywhere.
    pub fn number_if(&self, key: &str) -> Result<Option<f32>, ShapeError> {
        let full = self.full(key);
        match self.metadata.find_f32(&full)? {
            Some(value) if !value.is_finite() => {
                Err(ShapeError::Nonsense { key: full, value: value.to_string(), why: "not a number" })
            }
            value => Ok(value),
        }
    }

    /// A number above zero.
    pub fn positive_if(&self, key: &str) -> Result<Option<f32>, ShapeError> {
        match self.number_if(key)? {
            Some(value) if value <= 0.0 => Err(ShapeError::Nonsense {
                key: self.full(key),
                value: value.to_string(),
                why: "not above zero",
            }),
            value => Ok(value),
        }
    }

    /// A word, where the file may leave it out.
    pub fn word_if(&self, key: &str) -> Result<Option<&'a str>, ShapeError> {
        Ok(self.metadata.find_string(&self.full(key))?)
    }

    /// An error that names a part of this family which is not there.
    pub fn unsupported(&self, what: impl Into<String>) -> ShapeError {
        ShapeError::UnsupportedPart { family: self.family.to_owned(), what: what.into() }
    }

    /// A mixture of experts has weights that the forward pass does not know.
    pub fn refuse_experts(&self) -> Result<(), ShapeError> {
        match self.get("expert_count").and_then(Value::integer) {
            Some(experts) if experts > 0 => {
                Err(self.unsupported(format!("the mixture of {experts} experts")))
            }
            _ => Ok(()),
        }
    }

    /// The shape that most families share: causal, RMS norm, SiLU, rotary positions on the whole head.
    pub fn decoder(&self, pairing: Pairing) -> Result<Shape, ShapeError> {
        let width = self.count("embedding_length")?;
        let layers = self.count("block_count")?;
        if layers > MOST_LAYERS {
            let key = self.full("block_count");
            return Err(ShapeError::Nonsense {
                key,
                value: layers.to_string(),
                why: "more layers than any model has",
            });
        }
        let queries = self.count("attention.head_count")?;
        let head = self.count_if("attention.key_length")?.unwrap_or(width / queries);
        if let Some(values) = self.count_if("attention.value_length")?.filter(|values| *values != head) {
            return Err(self.unsupported(format!("values of {values} numbers beside keys of {head}")));
        }
        let heads = Heads {
            queries,
            keys: self.count_if("attention.head_count_kv")?.unwrap_or(queries),
            width: head,
            scale: self.positive_if("attention.scale")?.unwrap_or(1.0 / (head as f32).sqrt()),
            softcap: self.positive_if("attn_logit_softcapping")?,
        };
        Ok(Shape {
            family: self.family,
            vocabulary: self.vocabulary()?,
            context: self.count("context_length")?,
            width,
            layers,
            feed_forward: self.count("feed_forward_length")?,
            heads,
            norm: self.norm()?,
            rope: Some(self.rope(head, pairing)?),
            local_rope: None,
            window: None,
            causal: true,
            activation: Activation::Silu,
            parallel: false,
            embedding_scale: 1.0,
            logit_softcap: self.positive_if("final_logit_softcapping")?,
            pooling: None,
        })
    }

    /// Tokens in the vocabulary; zero where only the embedding's tensor tells.
    fn vocabulary(&self) -> Result<usize, ShapeError> {
        if let Some(size) = self.count_if("vocab_size")? {
            return Ok(size);
        }
        Ok(self.metadata.find_strings("tokenizer.ggml.tokens")?.map_or(0, Strings::len))
    }

    fn norm(&self) -> Result<Norm, ShapeError> {
        if let Some(eps) = self.positive_if("attention.layer_norm_rms_epsilon")? {
            return Ok(Norm::Rms(eps));
        }
        if let Some(eps) = self.positive_if("attention.layer_norm_epsilon")? {
            return Ok(Norm::Layer(eps));
        }
        Err(MetadataError::Missing { key: self.full("attention.layer_norm_rms_epsilon") }.into())
    }

    fn rope(&self, head: usize, pairing: Pairing) -> Result<Rope, ShapeError> {
        let dims = self.count_if("rope.dimension_count")?.unwrap_or(head);
        if dims > head || !dims.is_multiple_of(2) {
            let key = self.full("rope.dimension_count");
            return Err(ShapeError::Nonsense {
                key,
                value: dims.to_string(),
                why: "odd, or more than a head holds",
            });
        }
        let base = self.positive_if("rope.freq_base")?.unwrap_or(10_000.0);
        Ok(Rope { dims, base, pairing, scaling: self.scaling()? })
    }

    /// What `rope.scaling.*` says. Factors in tensors (llama3) are found when the weights are loaded.
    fn scaling(&self) -> Result<Scaling, ShapeError> {
        let factor = match self.positive_if("rope.scaling.factor")? {
            Some(factor) => factor,
            // What old files call it.
            None => self.positive_if("rope.scale_linear")?.unwrap_or(1.0),
        };
        let attention = self.positive_if("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let original = self.count_if("rope.scaling.original_context_length")?;
        match self.word_if("rope.scaling.type")? {
            None | Some("linear") if factor != 1.0 => Ok(Scaling::Linear { factor }),
            None | Some("linear" | "none") => Ok(Scaling::None),
            Some("yarn") => Ok(Scaling::Yarn {
                factor,
                original: match original {
                    Some(original) => original,
                    None => self.count("context_length")?,
                },
                beta_fast: self.positive_if("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.positive_if("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                attention: self.positive_if("rope.scaling.yarn_attn_factor")?.unwrap_or(1.0) * attention,
            }),
            Some("longrope") => Ok(Scaling::Long { original: self.long_original()?, attention }),
            Some(other) => Err(self.unsupported(format!("rope scaling `{other}`"))),
        }
    }

    /// The context up to which the short factors of a longrope hold.
    pub fn long_original(&self) -> Result<usize, ShapeError> {
        match self.count_if("rope.scaling.original_context_length")? {
            Some(original) => Ok(original),
            None => self.count("context_length"),
        }
    }

    /// Which layers have a window: the file's own list, or all but each `period`-th.
    pub fn windowed_layers(&self, layers: usize, period: usize) -> Result<Vec<bool>, ShapeError> {
        let key = "attention.sliding_window_pattern";
        let period = match self.get(key) {
            None => period,
            Some(Value::Array(Array::Bool(list))) if list.len() == layers => return Ok(list.clone()),
            Some(Value::Array(list)) => {
                let (key, value) = (self.full(key), format!("a list of {}", list.len()));
                return Err(ShapeError::Nonsense { key, value, why: "one truth value a layer is needed" });
            }
            Some(_) => self.count(key)?,
        };
        Ok((0..layers).map(|layer| (layer + 1) % period != 0).collect())
    }
}

/// What must hold between the numbers of any shape, so that no later file divides by zero or reads past a row.
pub fn check(shape: &Shape) -> Result<(), ShapeError> {
    let nonsense = |key: &str, value: usize, why| {
        Err(ShapeError::Nonsense { key: format!("{}.{key}", shape.family), value: value.to_string(), why })
    };
    let heads = &shape.heads;
    if heads.width == 0 {
        return nonsense("attention.head_count", heads.queries, "more heads than the state has numbers");
    }
    if !heads.queries.is_multiple_of(heads.keys) {
        return nonsense("attention.head_count_kv", heads.keys, "does not divide the heads of queries");
    }
    if heads.queries.saturating_mul(heads.width) > MOST {
        return nonsense("attention.head_count", heads.queries, "queries wider than any model's");
    }
    for rope in [&shape.rope, &shape.local_rope].into_iter().flatten() {
        if rope.dims > heads.width {
            return nonsense("rope.dimension_count", rope.dims, "more than a head holds");
        }
    }
    Ok(())
}
