//! What compression cost, as perplexity: how surprised a model is by text it did not write.
//!
//! Stands after `compress`. Two ways to cut a text, since figures can be compared only when they were cut alike: windows
//! of a fixed length, of which the second half counts (llama.cpp's way), or documents that each begin afresh.

use kernels::page::{CacheFormat, PageError};
use lm::forward::{Part, Scratch, StepError, Wanted};
use lm::network::Network;
use lm::signal::Distribution;

/// How a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Windows of so many tokens; the first half of each is only read.
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

/// Tokens that go through the model at once.
const STEP: usize = 256;

/// Perplexity of a model on texts of tokens, each cut as asked. `begin` stands before each piece, where the model has such
/// a token. Calls `progress` with the tokens read, their number, and the figure so far.
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
    let total: usize = pieces.iter().map(|(tokens, _)| tokens.len()).sum();
    if pieces.is_empty() {
        let (tokens, needed) = (
            texts.iter().map(Vec::len).sum(),
            match cut {
                Cut::Windows(len) => len,
                Cut::Documents => 2,
            },
        );
        return Err(EvaluateError::TooShort { tokens, needed });
    }
    let vocabulary = network.shape().vocabulary;
    let (mut scratch, mut sum, mut read) = (Scratch::default(), Sum::default(), 0);
    for (tokens, counted_from) in &pieces {
        let mut sequence = network.sequence(pages, tokens.len());
        for step in tokens.chunks(STEP) {
            let first = sequence.len();
            let part = Part { tokens: step, cache: &mut sequence, adapter: None, wanted: Wanted::All };
            let logits = network.step(&mut scratch, &mut [part])?;
            for (index, row) in logits.chunks_exact(vocabulary).enumerate() {
                let next = first + index + 1;
                if next >= *counted_from
                    && let Some(token) = tokens.get(next)
                {
                    sum.add(f64::from(-Distribution::of(row).signal(row[*token as usize]).logprob));
                }
            }
            read += step.len();
            progress(read, total, &sum.perplexity());
        }
    }
    Ok(sum.perplexity())
}

/// Pieces that go through the model one by one, each with the first token that counts.
fn pieces(texts: &[Vec<u32>], begin: Option<u32>, cut: Cut) -> Vec<(Vec<u32>, usize)> {
    match cut {
        Cut::Windows(len) => {
            let windows = texts.iter().flat_map(|tokens| tokens.chunks_exact(len.max(2)));
            let begun = windows.map(|window| {
                let mut window = window.to_vec();
                // As llama.cpp does: the beginning takes the place of the window's first token.
                window[0] = begin.unwrap_or(window[0]);
                (window, len / 2)
            });
            begun.collect()
        }
        Cut::Documents => {
            let whole = texts
                .iter()
                .map(|tokens| begin.into_iter().chain(tokens.iter().copied()).collect::<Vec<_>>());
            whole.filter(|tokens| tokens.len() > 1).map(|tokens| (tokens, 1)).collect()
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
    use super::*;

    #[test]
    fn texts_are_cut_as_asked() {
        let texts = vec![(10..20).collect::<Vec<u32>>(), vec![7]];
        let windows = pieces(&texts, Some(1), Cut::Windows(4));
        assert_eq!(windows, [(vec![1, 11, 12, 13], 2), (vec![1, 15, 16, 17], 2)]);
        let documents = pieces(&texts, Some(1), Cut::Documents);
        assert_eq!(documents[1], (vec![1, 7], 1));
        assert_eq!(pieces(&texts, None, Cut::Documents).len(), 1);
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
