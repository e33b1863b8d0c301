//! The one forward pass, which reads like the paper.
//!
//! A step takes new tokens of several sequences, puts them through all blocks together, appends their keys and values
//! to each sequence's [`Cache`], and gives logits where they are wanted. What differs between families is in
//! [`shape`](crate::shape) as a value, or in [`weights`](crate::weights) as a tensor that is there or not. Beside each array stands its shape; `tokens`
//! are the new tokens of all parts, one part after the other.

use std::ops::Range;
use std::sync::Arc;

use kernels::activation::{Curve, bend};
use kernels::attention::{Attention, Sequence, attend};
use kernels::matmul::{Input, matmul, matmul_each};
use kernels::matrix::Matrix;
use kernels::norm::{self, add_norm};
use kernels::page::Page;
use kernels::quantised::{Quantised, SHARED};
use kernels::rope::turn;

use crate::adapter::Adapter;
use crate::cache::{Cache, Outgrown};
use crate::network::Network;
use crate::rope::Turner;
use crate::shape::{Activation, Norm};
use crate::weights::{Layer, Linear, NormWeights};

/// What one sequence brings to a step.
pub struct Part<'a> {
    /// The new tokens, which follow those in the cache.
    pub tokens: &'a [u32],
    /// The sequence so far; the step appends to it.
    pub cache: &'a mut Cache,
    /// Corrections for this sequence alone.
    pub adapter: Option<&'a Adapter>,
    /// Which of the new tokens' logits are wanted.
    pub wanted: Wanted,
}

/// Which tokens' logits, or states, a step should give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: the tokens are only read.
    Nothing,
    /// The last token's, to go on from.
    Last,
    /// Every token's.
    All,
}

/// Why a step was not taken. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A sequence would outgrow its cache.
    #[error(transparent)]
    Outgrown(#[from] Outgrown),
    /// A token that is not in the vocabulary.
    #[error("the token {token} is not in the vocabulary of {vocabulary}")]
    NoSuchToken {
        /// The token.
        token: u32,
        /// Tokens in the vocabulary.
        vocabulary: usize,
    },
    /// More positions than the model has embeddings for.
    #[error("a sequence of {wanted} tokens is longer than the {context} positions that the model knows")]
    TooLong {
        /// Tokens of the sequence.
        wanted: usize,
        /// Positions of the model.
        context: usize,
    },
    /// An encoder was asked for logits.
    #[error("the model is an encoder: it gives embeddings, not text")]
    NoOutput,
}

/// A step under way.
struct Step<'s, 'p, 'o> {
    parts: &'s mut [Part<'p>],
    observer: Option<&'o mut dyn Observe>,
}

/// Watches a forward pass.
pub trait Observe {
    /// What enters a linear: `rows` of `cols` numbers, one row a token. `linear` is the tensor's name without `.weight`.
    fn input(&mut self, linear: &str, rows: &[f32], cols: usize);
}

/// Room to compute in, which grows to the largest step and is kept between steps.
#[derive(Default)]
pub struct Scratch {
    /// `[tokens, width]`: the states, from embedding to output.
    states: Vec<f32>,
    /// `[tokens, width]`: what a half of a block adds.
    added: Vec<f32>,
    /// Whether that is still to be added to the states: the next norm does it in passing.
    owed: bool,
    /// `[tokens, width]`
    normed: Input,
    /// `[tokens, queries * head]`
    queries: Vec<f32>,
    /// `[tokens, keys * head]`
    keys: Vec<f32>,
    /// `[tokens, keys * head]`
    values: Vec<f32>,
    /// `[tokens, queries * head]`
    attended: Input,
    /// `[tokens, feed_forward]`: the middle of the feed-forward block.
    middle: Input,
    /// `[tokens, feed_forward]`: what it is multiplied by, where the block is gated.
    up: Vec<f32>,
    /// `[tokens, dims / 2]`: cosine and sine of each pair.
    turns: Vec<(f32, f32)>,
    /// The same for windowed layers that turn differently.
    local_turns: Vec<(f32, f32)>,
    /// `[wanted tokens, vocabulary]`, if they came back.
    logits: Vec<f32>,
}

impl Scratch {
    /// Takes back what [`Network::step`] gave: room for the next logits, which would otherwise be asked of the system.
    pub fn keep(&mut self, logits: Vec<f32>) {
        self.logits = logits;
    }
}

impl Network {
    /// Puts new tokens of several sequences through the model.
    ///
    /// Gives logits `[wanted tokens, vocabulary]`, in the order of the parts and of their tokens.
    pub fn step(&self, scratch: &mut Scratch, parts: &mut [Part]) -> Result<Vec<f32>, StepError> {
        let Some(output) = &self.weights.output else { return Err(StepError::NoOutput) };
        let wanted = self.states(scratch, parts, None)?;
        let (width, vocabulary) = (self.shape.width, self.shape.vocabulary);
        let count: usize = wanted.iter().map(ExactSizeIterator::len).sum();
        let Scratch { states, normed, logits, .. } = scratch;
        let mut logits = std::mem::take(logits);
        logits.resize(count * vocabulary, 0.0);
        if count == 0 {
            return Ok(logits);
        }
        let mut room = normed.begin(count, width);
        for rows in &wanted {
            let (mine, others) = room.split_at_mut(rows.len() * width);
            mine.copy_from_slice(&states[rows.start * width..rows.end * width]);
            room = others;
        }
        normed.finish(&self.compute);
        matmul(&self.compute, &output.weight, normed, &mut logits);
        add_bias(&mut logits, output.bias.as_deref());
        let mut from = 0;
        for (part, rows) in parts.iter().zip(&wanted) {
            let to = from + rows.len();
            if let Some(adapter) = part.adapter {
                let out = &mut logits[from * vocabulary..to * vocabulary];
                adapter.correct(&self.compute, output, &normed.rows()[from * width..to * width], out);
            }
            from = to;
        }
        if let Some(cap) = self.shape.logit_softcap {
            logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
        }
        Ok(logits)
    }

    /// Puts new tokens through all blocks while `observer` watches. Gives no logits.
    pub fn observe(
        &self,
        scratch: &mut Scratch,
        parts: &mut [Part],
        observer: &mut dyn Observe,
    ) -> Result<(), StepError> {
        self.states(scratch, parts, Some(observer)).map(drop)
    }

    /// The same as a step up to the last norm: leaves states `[tokens, width]` in the scratch, and tells which rows are
    /// wanted.
    pub(crate) fn states(
        &self,
        scratch: &mut Scratch,
        parts: &mut [Part],
        observer: Option<&mut dyn Observe>,
    ) -> Result<Vec<Range<usize>>, StepError> {
        self.check(parts)?;
        for part in parts.iter_mut() {
            part.cache.grow(part.tokens.len())?;
        }
        self.embed(scratch, parts);
        self.turn_tables(scratch, parts);
        let mut step = Step { parts, observer };
        for (index, layer) in self.weights.layers.iter().enumerate() {
            self.block(index, layer, scratch, &mut step);
        }
        let parts = step.parts;
        scratch.settle();
        self.norm(self.weights.output_norm.as_ref(), &mut scratch.states);
        let mut from = 0;
        let rows = parts.iter().map(|part| {
            let all = from..from + part.tokens.len();
            from = all.end;
            match part.wanted {
                Wanted::Nothing => all.end..all.end,
                Wanted::Last => all.end.saturating_sub(1).max(all.start)..all.end,
                Wanted::All => all,
            }
        });
        Ok(rows.collect())
    }

    /// The states that the last call of [`states`](Network::states) left, `[tokens, width]`.
    pub(crate) fn last_states<'s>(&self, scratch: &'s Scratch) -> &'s [f32] {
        &scratch.states
    }

    /// Refuses a step before anything has changed.
    fn check(&self, parts: &[Part]) -> Result<(), StepError> {
        let vocabulary = self.shape.vocabulary;
        for part in parts {
            let wanted = part.cache.len() + part.tokens.len();
            if wanted > part.cache.reach() {
                return Err(Outgrown { wanted, reach: part.cache.reach() }.into());
            }
            if self.weights.position_embedding.is_some() && wanted > self.shape.context {
                return Err(StepError::TooLong { wanted, context: self.shape.context });
            }
            if let Some(token) = part.tokens.iter().find(|token| **token as usize >= vocabulary) {
                return Err(StepError::NoSuchToken { token: *token, vocabulary });
            }
        }
        Ok(())
    }

    /// Tokens to states: a row of the embedding each, with what encoders add to it.
    fn embed(&self, scratch: &mut Scratch, parts: &[Part]) {
        let (width, weights) = (self.shape.width, &self.weights);
        let tokens: usize = parts.iter().map(|part| part.tokens.len()).sum();
        scratch.states.resize(tokens * width, 0.0);
        let positions = parts.iter().flat_map(|part| {
            let first = part.cache.len() - part.tokens.len();
            part.tokens.iter().enumerate().map(move |(index, token)| (*token as usize, first + index))
        });
        let mut spare = vec![0.0; if weights.position_embedding.is_some() { width } else { 0 }];
        for (row, (token, position)) in scratch.states.chunks_exact_mut(width).zip(positions) {
            weights.token_embedding.decode_row(token, row);
            if self.shape.embedding_scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= self.shape.embedding_scale);
            }
            if let Some(kind) = &weights.type_embedding {
                add(row, kind);
            }
            if let Some(embedding) = &weights.position_embedding {
                embedding.decode_row(position, &mut spare);
                add(row, &spare);
            }
        }
        self.norm(weights.embedding_norm.as_ref(), &mut scratch.states);
    }

    /// Cosines and sines of every new token's position, once for all layers.
    fn turn_tables(&self, scratch: &mut Scratch, parts: &[Part]) {
        let fill = |turner: &Option<Turner>, table: &mut Vec<(f32, f32)>| {
            let Some(turner) = turner else { return };
            let tokens: usize = parts.iter().map(|part| part.tokens.len()).sum();
            table.resize(tokens * turner.pairs(), (0.0, 0.0));
            let positions = parts.iter().flat_map(|part| {
                let len = part.cache.len();
                (len - part.tokens.len()..len).map(|position| (position, part.cache.reach()))
            });
            for (row, (position, reach)) in table.chunks_exact_mut(turner.pairs()).zip(positions) {
                turner.turns(position, reach, row);
            }
        };
        fill(&self.turner, &mut scratch.turns);
        fill(&self.local_turner, &mut scratch.local_turns);
    }

    /// One block: attention, then the feed-forward block, each added to the states (or both at once, in phi2). What the second
    /// adds is left to the next block's norm.
    fn block(&self, index: usize, layer: &Layer, scratch: &mut Scratch, step: &mut Step) {
        self.enter(layer.attention_norm.as_ref(), scratch);
        self.attention(index, layer, scratch, step);
        scratch.owed = true;
        self.norm(layer.attention_post_norm.as_ref(), &mut scratch.added);
        if self.shape.parallel {
            scratch.settle();
        } else {
            if layer.attention_sum_norm.is_some() {
                scratch.settle();
                self.norm(layer.attention_sum_norm.as_ref(), &mut scratch.states);
            }
            self.enter(layer.feed_norm.as_ref(), scratch);
        }
        self.feed_forward(layer, scratch, step);
        scratch.owed = true;
        self.norm(layer.feed_post_norm.as_ref(), &mut scratch.added);
        if layer.feed_sum_norm.is_some() {
            scratch.settle();
            self.norm(layer.feed_sum_norm.as_ref(), &mut scratch.states);
        }
    }

    /// `states += added` if that is owed, `normed = norm(states)`.
    fn enter(&self, weights: Option<&NormWeights>, scratch: &mut Scratch) {
        let Scratch { states, added, owed, normed, .. } = scratch;
        let added: &[f32] = if std::mem::take(owed) { added } else { &[] };
        let norm = weights.map(|weights| self.norm_of(weights));
        add_norm(&self.compute, states, self.shape.width, added, norm, normed);
    }

    /// `added = O softmax(q·k) v`, from the normed states (Vaswani et al. 2017).
    fn attention(&self, index: usize, layer: &Layer, scratch: &mut Scratch, step: &mut Step) {
        let Scratch { normed, queries, keys, values, attended, added, turns, local_turns, .. } = scratch;
        let (shape, compute, tokens) = (&self.shape, &self.compute, normed.tokens());
        let (query_width, key_width) = (shape.query_width(), shape.key_width());

        queries.resize(tokens * query_width, 0.0);
        keys.resize(tokens * key_width, 0.0);
        values.resize(tokens * key_width, 0.0);
        let each = [(&layer.query, &mut **queries), (&layer.key, keys), (&layer.value, values)];
        self.linears(each, normed, step);
        self.norm(layer.query_norm.as_ref(), queries);
        self.norm(layer.key_norm.as_ref(), keys);

        let local = shape.window_of(index).is_some() && self.local_turner.is_some();
        let turns = if local { local_turns } else { turns };
        if let Some(rope) = shape.rope_of(index) {
            turn(compute, rope.pairing, turns, shape.heads.width, queries, query_width);
            turn(compute, rope.pairing, turns, shape.heads.width, keys, key_width);
        }

        let mut rows = keys.chunks_exact(key_width).zip(values.chunks_exact(key_width));
        for part in step.parts.iter_mut() {
            for position in part.cache.len() - part.tokens.len()..part.cache.len() {
                let (keys, values) = rows.next().expect("a row of keys and values for each new token");
                part.cache.write(index, position, keys, values);
            }
        }

        let mut rest = (queries.as_slice(), attended.begin(tokens, query_width));
        let mut sequences: Vec<Sequence> = Vec::with_capacity(step.parts.len());
        for part in step.parts.iter() {
            let (mine, others) = rest.0.split_at(part.tokens.len() * query_width);
            let (out, other_outs) = std::mem::take(&mut rest.1).split_at_mut(mine.len());
            rest = (others, other_outs);
            let len = part.cache.len();
            let first = len - part.tokens.len();
            let pages: &[Arc<Page>] = part.cache.pages();
            sequences.push(Sequence { queries: mine, first, len, pages, layer: index, out });
        }
        let attention = Attention {
            heads: shape.heads.queries,
            kv_heads: shape.heads.keys,
            head_dim: shape.heads.width,
            scale: shape.heads.scale,
            softcap: shape.heads.softcap,
            window: shape.window_of(index),
            causal: shape.causal,
        };
        attend(compute, &attention, &mut sequences);

        attended.finish(compute);
        added.resize(tokens * shape.width, 0.0);
        self.linears([(&layer.output, added)], attended, step);
    }

    /// `added = D (act(G x) · U x)`, or `D act(U x)` without a gate, from the normed states (Shazeer 2020).
    fn feed_forward(&self, layer: &Layer, scratch: &mut Scratch, step: &mut Step) {
        let Scratch { normed, middle, up, added, .. } = scratch;
        let (tokens, width, feed) = (normed.tokens(), self.shape.width, self.shape.feed_forward);
        let curve = match self.shape.activation {
            Activation::Silu => Curve::Silu,
            Activation::GeluTanh => Curve::GeluTanh,
            Activation::GeluErf => Curve::GeluErf,
        };
        let begun = middle.begin(tokens, feed);
        match &layer.gate {
            Some(gate) => {
                up.resize(tokens * feed, 0.0);
                self.linears([(&layer.up, &mut **up), (gate, begun)], normed, step);
                bend(&self.compute, curve, middle, Some(up));
            }
            None => {
                self.linears([(&layer.up, begun)], normed, step);
                bend(&self.compute, curve, middle, None);
            }
        }
        added.resize(tokens * width, 0.0);
        self.linears([(&layer.down, added)], middle, step);
    }

    /// `out = W x + b` of linears that share their input, with each part's own corrections. Each `out`: `[tokens, rows]`.
    fn linears<const N: usize>(&self, mut each: [(&Linear, &mut [f32]); N], input: &Input, step: &mut Step) {
        let rows = input.rows();
        for (linear, _) in &each {
            // Of linears that share a tensor only the first is told: their input is the same.
            if let Some(observer) = step.observer.as_deref_mut().filter(|_| linear.rows.start == 0) {
                observer.input(&linear.name, rows, linear.weight.cols());
            }
        }
        let mut products = each.each_mut().map(|(linear, out)| (&linear.weight, &mut **out));
        matmul_each(&self.compute, input, &mut products);
        for (linear, out) in each {
            self.correct(linear, rows, out, step);
        }
    }

    /// What comes on top of a product: an encoder's remainder, the bias, the parts' adapters.
    fn correct(&self, linear: &Linear, rows: &[f32], out: &mut [f32], step: &Step) {
        let (outs, ins) = (linear.weight.rows(), linear.weight.cols());
        if !self.shape.causal && linear.weight.format().is_quantised() {
            self.add_remainder(&linear.weight, rows, out);
        }
        add_bias(out, linear.bias.as_deref());
        let mut from = 0;
        for part in step.parts.iter() {
            let to = from + part.tokens.len();
            if let Some(adapter) = part.adapter {
                let (rows, out) = (&rows[from * ins..to * ins], &mut out[from * outs..to * outs]);
                adapter.correct(&self.compute, linear, rows, out);
            }
            from = to;
        }
    }

    /// What `rows` lost when they were rounded to int8, through the same matrix. A vector is all that an encoder gives, and
    /// one rounding costs it more than its weights' own: 0.9983 instead of 0.9995 of cosine for MiniLM's shortest sentence.
    fn add_remainder(&self, weight: &Matrix, rows: &[f32], out: &mut [f32]) {
        let cols = weight.cols();
        let rounded = Quantised::new(rows, cols);
        let mut rest = rows.to_vec();
        for (index, rest) in rest.chunks_exact_mut(cols).enumerate() {
            let row = rounded.row(index);
            for ((rest, codes), d) in rest.chunks_mut(SHARED).zip(row.q.chunks_exact(SHARED)).zip(row.d) {
                rest.iter_mut().zip(codes).for_each(|(rest, code)| *rest -= d * f32::from(*code));
            }
        }
        let mut remainder = vec![0.0; out.len()];
        matmul(&self.compute, weight, &Input::new(&rest, cols), &mut remainder);
        add(out, &remainder);
    }

    /// `x = norm(x)`, over rows as wide as the weights; nothing where there is no norm.
    fn norm(&self, weights: Option<&NormWeights>, x: &mut [f32]) {
        if let Some(weights) = weights {
            self.norm_of(weights).apply(&self.compute, x);
        }
    }

    fn norm_of<'w>(&self, weights: &'w NormWeights) -> norm::Norm<'w> {
        let NormWeights { weight, bias } = weights;
        match self.shape.norm {
            Norm::Rms(eps) => norm::Norm::Rms { weight, eps },
            Norm::Layer(eps) => norm::Norm::Layer { weight, bias: bias.as_deref(), eps },
        }
    }
}

impl Scratch {
    /// `states += added`, if that is owed.
    fn settle(&mut self) {
        if std::mem::take(&mut self.owed) {
            add(&mut self.states, &self.added);
        }
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += what);
}

fn add_bias(rows: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        rows.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
    }
}
