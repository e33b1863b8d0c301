//! What a model is, as data: everything the forward pass asks of a family.
//!
//! A [`Shape`] is read from a file's metadata by the file of its family (`family/`) and never changes. The forward
//! pass has no branch on a family's name: what differs between families stands here as a value, or in
//! `weights` as a tensor that is there or not.

/// What a model is. Widths are counts of numbers, not of bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The family's name as the file says it: `llama`, `qwen2`, …
    pub family: &'static str,
    /// Tokens in the vocabulary: the rows of the embedding.
    pub vocabulary: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Numbers in the state of one token.
    pub width: usize,
    /// Blocks of attention and feed-forward.
    pub layers: usize,
    /// Numbers in the middle of the feed-forward block.
    pub feed_forward: usize,
    /// How queries meet keys.
    pub heads: Heads,
    /// How states are brought to one size.
    pub norm: Norm,
    /// How positions turn queries and keys; `None`: positions are embedded, or not told at all.
    pub rope: Option<Rope>,
    /// The other rope of models whose windowed layers turn differently (gemma3).
    pub local_rope: Option<Rope>,
    /// Which layers see only the last few positions.
    pub window: Option<Window>,
    /// Whether a token sees only what came before it. Encoders see all.
    pub causal: bool,
    /// What stands between the two halves of the feed-forward block.
    pub activation: Activation,
    /// Attention and feed-forward start from the same state and are added together (phi2).
    pub parallel: bool,
    /// Embeddings are multiplied by this (gemma: the root of the width).
    pub embedding_scale: f32,
    /// Logits are squeezed to ±cap: `cap * tanh(x / cap)` (gemma2).
    pub logit_softcap: Option<f32>,
    /// What becomes of an encoder's states; `None` for models that only write.
    pub pooling: Option<Pooling>,
}

/// How queries meet keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Heads of queries.
    pub queries: usize,
    /// Heads of keys and values; each serves `queries / keys` heads of queries.
    pub keys: usize,
    /// Numbers in a head.
    pub width: usize,
    /// Scores are multiplied by this before the softmax, usually `1 / sqrt(width)`.
    pub scale: f32,
    /// Scores are squeezed to ±cap: `cap * tanh(x / cap)` (gemma2).
    pub softcap: Option<f32>,
}

/// How states are brought to one size; the number keeps the division from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// Divided by the root of the mean square (Zhang & Sennrich 2019).
    Rms(f32),
    /// Mean taken off, divided by the standard deviation (Ba et al. 2016).
    Layer(f32),
}

/// How positions turn queries and keys (Su et al. 2021, RoFormer).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// How many of a head's numbers turn; the rest stay as they are.
    pub dims: usize,
    /// The longest wave is about `2π · base` positions.
    pub base: f32,
    /// Which two numbers of a head make a pair.
    pub pairing: kernels::rope::Pairing,
    /// How the waves were stretched for longer contexts.
    pub scaling: Scaling,
}

/// How waves were stretched for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Each position counts `1 / factor`.
    Linear {
        /// How much longer the context became.
        factor: f32,
    },
    /// YaRN (Peng et al. 2023): long waves are stretched, short ones kept, with a ramp between.
    Yarn {
        /// How much longer the context became.
        factor: f32,
        /// The context before.
        original: usize,
        /// Waves that turn more often than this within `original` are kept.
        beta_fast: f32,
        /// Waves that turn less often than this within `original` are stretched in full.
        beta_slow: f32,
        /// Multiplies cosines and sines, on top of YaRN's own `1 + 0.1 ln factor`.
        attention: f32,
    },
    /// Each wave is divided by a factor of its own, from the tensor `rope_freqs` (llama3).
    Factors,
    /// One set of factors up to the original context, another beyond it, from tensors (phi3).
    Long {
        /// The context up to which the short factors hold.
        original: usize,
        /// Multiplies cosines and sines.
        attention: f32,
    },
}

/// Which layers see only the last few positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Positions a query sees, itself included.
    pub len: usize,
    /// One entry a layer: whether the window holds there.
    pub layers: Vec<bool>,
}

/// What stands between the two halves of the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// The Gaussian error linear unit, by its tanh approximation.
    GeluTanh,
    /// The Gaussian error linear unit, by the error function.
    GeluErf,
}

/// What becomes of an encoder's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The state of the first token.
    First,
    /// The state of the last token.
    Last,
}

impl Shape {
    /// Numbers in the queries of one token.
    pub fn query_width(&self) -> usize {
        self.heads.queries * self.heads.width
    }

    /// Numbers in the keys, and in the values, of one token.
    pub fn key_width(&self) -> usize {
        self.heads.keys * self.heads.width
    }

    /// The window of a layer, if it has one.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        self.window.as_ref().filter(|window| window.layers[layer]).map(|window| window.len)
    }

    /// The rope of a layer.
    pub fn rope_of(&self, layer: usize) -> Option<&Rope> {
        let local = self.window_of(layer).and(self.local_rope.as_ref());
        local.or(self.rope.as_ref())
    }
}
