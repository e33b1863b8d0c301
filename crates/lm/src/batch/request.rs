//! What is said to a batch and heard from it: requests, and what becomes of each, step by step.

use std::sync::Arc;

use crate::adapter::Adapter;
use crate::constraint::Constraint;
use crate::sample::{Chosen, Settings};

/// A sequence to be written.
pub struct Request {
    /// What the model reads first; at least one token.
    pub prompt: Vec<u32>,
    /// Tokens to write at most; `None`: as many as the context holds.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Settings,
    /// How many of the most probable tokens are told beside each written one.
    pub top: usize,
    /// Whether the prompt's own tokens are told too, with what the model thought of each.
    pub echo: bool,
    /// What the answer must follow.
    pub constraint: Option<Constraint>,
    /// Write on after a token that ends a turn.
    pub ignore_end: bool,
    /// Corrections for this sequence alone.
    pub adapter: Option<Arc<Adapter>>,
}

/// A sequence in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(super) u64);

/// Why a request was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// Nothing to read.
    #[error("the prompt has no tokens")]
    Empty,
    /// Prompt and answer do not fit.
    #[error(
        "the prompt has {prompt} tokens and the answer may have {answer}: together more than the {context} of the context"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that the answer may have; at least 1.
        answer: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// Nobody may wait any more.
    #[error("{waiting} requests wait already")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// A token that is not in the vocabulary.
    #[error("the token {token} is not in the vocabulary of {vocabulary}")]
    NoSuchToken {
        /// The token.
        token: u32,
        /// Tokens in the vocabulary.
        vocabulary: usize,
    },
    /// The model is an encoder.
    #[error("the model is an encoder: it gives embeddings, not text")]
    NoOutput,
}

/// What happened to a sequence in a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The sequence began: so many tokens of its prompt were known already.
    Begun {
        /// Which.
        id: Id,
        /// Tokens of the prompt that need not be read again.
        reused: usize,
    },
    /// What the model thought of a token of the prompt, given those before it. Only for requests with `echo`; the first
    /// token of a prompt has none before it and is not told.
    Read {
        /// Which.
        id: Id,
        /// The token.
        chosen: Chosen,
    },
    /// Tokens were guessed ahead, and checked in this step. Those that were right are told after this as all are.
    Guessed {
        /// Which.
        id: Id,
        /// Tokens guessed.
        guessed: usize,
        /// How many of them, from the first, were right.
        accepted: usize,
    },
    /// A token was written.
    Token {
        /// Which.
        id: Id,
        /// The token.
        chosen: Chosen,
    },
    /// The sequence ended.
    Finished {
        /// Which.
        id: Id,
        /// Why.
        finish: Finish,
    },
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model wrote a token that ends a turn, which was told as the last token.
    End(u32),
    /// What it had to follow is complete.
    Complete,
    /// As many tokens as it might have.
    Length,
    /// It cannot go on: no token is allowed, or the constraint broke; the text says how.
    Stuck(String),
}
