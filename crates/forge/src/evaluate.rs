//! What compression cost, as perplexity: how surprised a model is by text it did not write.
//!
//! Stands after `compress`. Two ways to cut a text, since figures can be compared only when they were cut alike: windows
//! of a fixed length, of which the second half counts (llama.cpp's way), or documents that each begin afresh.

use kernels::page::{CacheFormat, PageError};
use kernels::softmax::log_sum_exp;
use lm::cache::Cache;
use lm::forward::{Part, Scratch, StepError, Wanted};
use lm::network::Network;

/// How a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Windows of so many tokens, of which what follows the middle counts; a last one that is not full is left out.
    Windows(usize),
    /// Whole documents, each with the model's own beginning; every token after the first counts.
    Documents,
}

/// How surprised a model was.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Perplexity {
    /// Mean negative log probability of a token, in nats.
    pub nll: f64,
    /// The exponential of it: the perplexity.
    pub perplexity: f64,
    /// One standard error of the perplexity.
    pub error: f64,
    /// Tokens that counted.
    pub tokens: usize,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Too little text.
    #[error("the text has {tokens} tokens, and {needed} are needed")]
    TooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens needed.
        needed: usize,
    },
    /// The model could not read it.
    #[error("the model cannot read the text")]
    Step(#[from] StepError),
    /// Its cache.
    #[error("the model's keys and values cannot be kept")]
    Page(#[from] PageError),
}

/// Tokens that go through the model at once. Each may leave a row of logits, 0.6 MB for a vocabulary of 150 000.
const STEP: usize = 256;

/// Perplexity of a model on texts of tokens, each cut as asked. `begin` stands before each piece, where the model has such
/// a token; the texts come without it. Calls `progress` with the tokens read, their number, and the figure so far.
///
/// Short pieces go through the model together, a long one in several steps; the figure is the same.
pub fn perplexity(
    network: &Network,
    texts: &[Vec<u32>],
    begin: Option<u32>,
    cut: Cut,
    cache: CacheFormat,
    progress: &mut dyn FnMut(usize, usize, &Perplexity),
) -> Result<Perplexity, EvaluateError> {
    let pages = network.page_shape(cache)?;
    let pieces = pieces(texts, begin, cut);
    let total: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
    if pieces.is_empty() {
        let needed = match cut {
            Cut::Windows(len) => len.max(SHORTEST) - usize::from(begin.is_some()),
            Cut::Documents => 2 - usize::from(begin.is_some()),
        };
        return Err(EvaluateError::TooShort { tokens: texts.iter().map(Vec::len).sum(), needed });
    }
    let (mut scratch, mut sum, mut read) = (Scratch::default(), Sum::default(), 0);
    let mut left = pieces.as_slice();
    while !left.is_empty() {
        let group;
        (group, left) = left.split_at(together(left));
        let mut caches: Vec<Cache> =
            group.iter().map(|piece| network.sequence(pages, piece.tokens.len())).collect();
        // A group is one long piece, which takes several steps, or short ones, which take one.
        let longest = group.iter().map(|piece| piece.tokens.len()).max().unwrap_or(0);
        for first in (0..longest).step_by(STEP) {
            let mut parts: Vec<Part> = Vec::with_capacity(group.len());
            for (piece, cache) in group.iter().zip(&mut caches) {
                let tokens = &piece.tokens[first..piece.tokens.len().min(first + STEP)];
                // The logits that say what comes at `counted_from` are those of the token before.
                let wanted =
                    if first + tokens.len() < piece.counted_from { Wanted::Nothing } else { Wanted::All };
                parts.push(Part { tokens, cache, adapter: None, wanted });
                read += tokens.len();
            }
            let logits = network.step(&mut scratch, &mut parts)?;
            let mut rows = logits.chunks_exact(network.shape().vocabulary);
            for (piece, part) in group.iter().zip(&parts).filter(|(_, part)| part.wanted == Wanted::All) {
                for (row, next) in rows.by_ref().take(part.tokens.len()).zip(first + 1..) {
                    if let Some(token) = piece.tokens.get(next).filter(|_| next >= piece.counted_from) {
                        sum.add(f64::from(log_sum_exp(row) - row[*token as usize]));
                    }
                }
            }
            progress(read, total, &sum.perplexity());
        }
    }
    Ok(sum.perplexity())
}

/// A run of tokens that goes through the model from an empty cache.
#[derive(Debug, PartialEq)]
struct Piece {
    tokens: Vec<u32>,
    /// The first token whose probability counts.
    counted_from: usize,
}

/// How many of the first pieces make up one step: at least one.
fn together(pieces: &[Piece]) -> usize {
    let mut tokens = 0;
    let fitting = pieces.iter().take_while(|piece| {
        tokens += piece.tokens.len();
        tokens <= STEP
    });
    fitting.count().max(1)
}

/// The shortest window of which a token counts.
const SHORTEST: usize = 3;

/// Pieces that go through the model on their own.
fn pieces(texts: &[Vec<u32>], begin: Option<u32>, cut: Cut) -> Vec<Piece> {
    let begun = texts.iter().map(|text| begin.into_iter().chain(text.iter().copied()).collect::<Vec<u32>>());
    match cut {
        Cut::Windows(len) => {
            let len = len.max(SHORTEST);
            let windows = begun.flat_map(|tokens| {
                let windows = tokens.chunks_exact(len).map(|window| {
                    let mut window = window.to_vec();
                    // As llama.cpp does: the beginning takes the place of the window's first token.
                    window[0] = begin.unwrap_or(window[0]);
                    // It looks at the logits from the middle on, which speak of the token after.
                    Piece { tokens: window, counted_from: len / 2 + 1 }
                });
                windows.collect::<Vec<Piece>>()
            });
            windows.collect()
        }
        Cut::Documents => {
            begun.filter(|tokens| tokens.len() > 1).map(|tokens| Piece { tokens, counted_from: 1 }).collect()
        }
    }
}

#[derive(Default)]
struct Sum {
    nll: f64,
    squares: f64,
    tokens: usize,
}

impl Sum {
    fn add(&mut self, nll: f64) {
        self.nll += nll;
        self.squares += nll * nll;
        self.tokens += 1;
    }

    fn perplexity(&self) -> Perplexity {
        let count = self.tokens.max(1) as f64;
        let nll = self.nll / count;
        let variance = (self.squares / count - nll * nll).max(0.0);
        let perplexity = nll.exp();
        // First order: the exponential carries an error of the mean over, times itself.
        let error = perplexity * (variance / (count - 1.0).max(1.0)).sqrt();
        Perplexity { nll, perplexity, error, tokens: self.tokens }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use kernels::compute::Compute;
    use kernels::cpu::Isa;
    use lm::specimen::Specimen;

    use super::*;

    #[test]
    fn texts_are_cut_as_asked() {
        let piece = |tokens: &[u32], counted_from| Piece { tokens: tokens.to_vec(), counted_from };
        let texts = vec![(10..20).collect::<Vec<u32>>(), vec![7], vec![]];
        // The text begins with the model's beginning, and so does each window, over what stood there.
        let windows = pieces(&texts, Some(1), Cut::Windows(4));
        assert_eq!(windows, [piece(&[1, 10, 11, 12], 3), piece(&[1, 14, 15, 16], 3)]);
        let bare = pieces(&texts, None, Cut::Windows(5));
        assert_eq!(bare, [piece(&[10, 11, 12, 13, 14], 3), piece(&[15, 16, 17, 18, 19], 3)]);
        let documents = pieces(&texts, Some(1), Cut::Documents);
        assert_eq!(documents[1..], [piece(&[1, 7], 1)]);
        assert_eq!(pieces(&texts, None, Cut::Documents).len(), 1);
    }

    #[test]
    fn short_pieces_go_together_and_long_ones_alone() {
        let lengths = |lengths: &[usize]| -> Vec<Piece> {
            lengths.iter().map(|len| Piece { tokens: vec![0; *len], counted_from: 1 }).collect()
        };
        for (pieces, expected) in
            [(&[100, 100, 56, 1][..], 3), (&[100, 157], 1), (&[2000, 1], 1), (&[256, 1], 1), (&[1], 1)]
        {
            assert_eq!(together(&lengths(pieces)), expected, "{pieces:?}");
        }
    }

    /// Cutting work into steps and groups must not change what is measured.
    #[test]
    fn a_model_is_as_surprised_however_its_text_is_grouped() {
        let compute = Compute::new(Isa::best(), NonZeroUsize::MIN);
        let file = Specimen { context: 2048, ..Specimen::SMALL }.gguf().expect("a specimen is a model");
        let network = Network::load(&file, Arc::new(compute)).expect("a specimen is a model");
        let texts: Vec<Vec<u32>> =
            [3, 700, 40, 0, 1100].iter().map(|len| (0..*len).map(|at| 5 + at * at % 256).collect()).collect();
        let measure = |texts: &[Vec<u32>]| {
            let found =
                perplexity(&network, texts, Some(1), Cut::Documents, CacheFormat::F32, &mut |_, _, _| ());
            found.expect("tokens of the vocabulary")
        };
        let all = measure(&texts);
        let one_by_one: Vec<Perplexity> = texts
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| measure(std::slice::from_ref(text)))
            .collect();
        let sum: f64 = one_by_one.iter().map(|one| one.nll * one.tokens as f64).sum();
        assert_eq!(all.tokens, 3 + 700 + 40 + 1100);
        assert!((all.nll - sum / all.tokens as f64).abs() < 1e-6, "{all:?} {one_by_one:?}");
        // Random weights know nothing: every token is as likely as another, more or less.
        assert!((200.0..600.0).contains(&all.perplexity), "{all:?}");
    }

    #[test]
    fn too_little_text_is_said_so() {
        let compute = Compute::new(Isa::best(), NonZeroUsize::MIN);
        let file = Specimen::SMALL.gguf().expect("a specimen is a model");
        let network = Network::load(&file, Arc::new(compute)).expect("a specimen is a model");
        let found = perplexity(
            &network,
            &[vec![5; 62]],
            Some(1),
            Cut::Windows(64),
            CacheFormat::F32,
            &mut |_, _, _| (),
        );
        let error = found.expect_err("62 tokens and a beginning are no window of 64");
        assert_eq!(error.to_string(), "the text has 62 tokens, and 63 are needed");
    }

    #[test]
    fn the_error_is_that_of_a_mean() {
        let mut sum = Sum::default();
        (0..100).for_each(|index| sum.add(if index % 2 == 0 { 1.0 } else { 3.0 }));
        let found = sum.perplexity();
        assert!((found.nll - 2.0).abs() < 1e-12);
        assert!((found.error - 2f64.exp() * (1.0f64 / 99.0).sqrt()).abs() < 1e-9, "{found:?}");
    }
}
