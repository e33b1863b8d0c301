//! Guesses at the next tokens, which a model then checks all in one step.
//!
//! A step with a few tokens costs little more than one with one, as both read the same weights. So what probably comes next
//! is put through the model beside the token that is certain, and of the guess as much is taken as the model would have
//! written by itself: each token is chosen from the model's own logits, in order, by the same draws, up to the first that
//! the guess had otherwise. The text is the same with and without (Leviathan et al. 2023 draw otherwise, and keep only the
//! distribution). Three sources: what followed the last few tokens when they stood there before ([`lookup`], Saxena 2023);
//! what a form leaves little choice about; and a small model with the same vocabulary, a [`Draft`]. How long a guess may be
//! depends on how often its source was right (`Trust`).

use std::sync::Arc;

use kernels::page::{CacheFormat, PageError, PageShape};

use crate::cache::Cache;
use crate::forward::{Part, Scratch, StepError, Wanted};
use crate::model::Model;
use crate::sample::highest;
use crate::signal::Distribution;
use crate::tokenizer::Tokenizer;

/// Where guesses come from. By default there are none.
#[derive(Clone, Default)]
pub struct Speculation {
    /// Guess what a constraint leaves no choice about.
    pub forced: bool,
    /// Guess what followed the last tokens when they stood in the sequence before.
    pub lookup: bool,
    /// Guess what a small model would write.
    pub draft: Option<Draft>,
}

/// A small model that guesses for a larger one.
#[derive(Clone)]
pub struct Draft {
    model: Arc<Model>,
    pages: PageShape,
    /// It goes on while it thinks that all it has written is right with this chance.
    least_chance: f32,
}

/// Why a model cannot guess for another.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum DraftError {
    /// Its tokens would mean something else.
    #[error("the draft model has another vocabulary than the model it would guess for")]
    OtherVocabulary,
    /// It is an encoder.
    #[error("the draft model is an encoder: it writes nothing")]
    NoOutput,
    /// Its sequences cannot be kept so.
    #[error(transparent)]
    Pages(#[from] PageError),
}

/// The most tokens guessed in a step, with those that are certain and over all sequences: as many as pass by a panel of
/// weights in one go (`LARGEST` in `kernels/src/matmul/blocks.rs`). Beyond, a step costs as much more as it has tokens.
const STEP_MOST: usize = 12;
/// The fewest last tokens that must have stood in the sequence before, and the most that are compared.
const ALIKE: std::ops::RangeInclusive<usize> = 2..=8;
/// A token costs about this share of a step beside others: it is guessed while it is right as often.
const WORTH: f32 = 0.25;
/// The same for a draft's tokens, which the draft must write first.
const DRAFT_WORTH: f32 = 0.4;
/// Tokens written without a guess after its source was wrong too often; each time twice as many, up to the most.
const PAUSE: (u32, u32) = (8, 128);

impl Draft {
    /// `model` guesses for `target`, whose vocabulary it must share; its sequences are kept in `cache`.
    pub fn new(model: Arc<Model>, target: &Model, cache: CacheFormat) -> Result<Draft, DraftError> {
        if !model.network.writes() {
            return Err(DraftError::NoOutput);
        }
        if !alike(&model.tokenizer, &target.tokenizer) {
            return Err(DraftError::OtherVocabulary);
        }
        let pages = model.network.page_shape(cache)?;
        Ok(Draft { model, pages, least_chance: DRAFT_WORTH })
    }

    /// The same, which goes on however unsure it is.
    pub fn unsure(self) -> Draft {
        Draft { least_chance: 0.0, ..self }
    }

    /// Writes at most `most` tokens after `tokens`, of which `cache` holds the first: always the most probable one, while
    /// it is sure of all together. Reads `read_most` of the tokens at most, and writes nothing while there are more.
    fn write(
        &self,
        scratch: &mut Scratch,
        cache: &mut Cache,
        tokens: &[u32],
        most: usize,
        read_most: usize,
    ) -> Result<Vec<u32>, StepError> {
        let network = &self.model.network;
        let mut new = &tokens[cache.len()..];
        if new.len() > read_most {
            new = &new[..read_most];
            let part = Part { tokens: new, cache, adapter: None, wanted: Wanted::Nothing };
            return network.step(scratch, &mut [part]).map(|_| Vec::new());
        }
        let mut guess: Vec<u32> = Vec::with_capacity(most);
        let mut chance = 1.0;
        while guess.len() < most {
            let last = guess.last().copied();
            let new = last.as_ref().map_or(new, std::slice::from_ref);
            let part = Part { tokens: new, cache: &mut *cache, adapter: None, wanted: Wanted::Last };
            let logits = network.step(scratch, &mut [part])?;
            let words = &logits[..self.model.tokenizer.vocabulary_size()];
            let Ok(token) = highest(words) else { break };
            chance *= Distribution::of(&logits).signal(words[token as usize]).logprob.exp();
            scratch.keep(logits);
            if chance < self.least_chance {
                break;
            }
            guess.push(token);
        }
        Ok(guess)
    }
}

/// Whether each token is the same in both.
fn alike(one: &Tokenizer, other: &Tokenizer) -> bool {
    let count = one.vocabulary_size();
    count == other.vocabulary_size()
        && one.ends() == other.ends()
        && (0..count as u32).all(|token| {
            one.is_special(token) == other.is_special(token) && one.bytes_of(token) == other.bytes_of(token)
        })
}

/// Tokens that each of so many sequences may have guessed in a step.
pub(crate) fn most_each(sequences: usize) -> usize {
    (STEP_MOST / sequences.max(1)).saturating_sub(1)
}

/// At most `most` tokens that followed the last ones when they stood in `tokens` before: where most of them were alike; of
/// equals the last place.
pub fn lookup(tokens: &[u32], most: usize) -> &[u32] {
    let Some((&last, before)) = tokens.split_last() else { return &[] };
    let mut best = (ALIKE.start() - 1, 0);
    for end in (1..tokens.len()).rev().filter(|end| tokens[end - 1] == last) {
        let pairs = tokens[..end - 1].iter().rev().zip(before.iter().rev());
        let same = 1 + pairs.take(ALIKE.end() - 1).take_while(|(a, b)| a == b).count();
        if same > best.0 {
            best = (same, end);
        }
        if same == *ALIKE.end() {
            break;
        }
    }
    match best {
        (_, 0) => &[],
        (_, end) => &tokens[end..tokens.len().min(end + most)],
    }
}

/// How far a source of guesses is trusted.
#[derive(Clone, Debug)]
struct Trust {
    /// The share of its tokens that were right, the last ones weighing most.
    rate: f32,
    /// A token is worth guessing while it is right as often.
    worth: f32,
    /// Tokens to be written before it may guess again.
    rest: u32,
    /// How many that are the next time.
    pause: u32,
}

impl Trust {
    fn new(worth: f32) -> Trust {
        Trust { rate: worth.sqrt(), worth, rest: 0, pause: PAUSE.0 }
    }

    /// Tokens that it may guess now.
    fn length(&self, most: usize) -> usize {
        match self.rest {
            // `length` tokens are all right with a chance of `rate^length`.
            0 => ((self.worth.ln() / self.rate.ln()) as usize).clamp(1, most.max(1)).min(most),
            _ => 0,
        }
    }

    fn learn(&mut self, guessed: usize, accepted: usize) {
        let tell = |rate: &mut f32, right: f32| *rate += (right - *rate) / 8.0;
        (0..accepted).for_each(|_| tell(&mut self.rate, 1.0));
        if accepted < guessed {
            tell(&mut self.rate, 0.0);
        }
        // Never so sure that it could not learn.
        self.rate = self.rate.min(0.98);
        if accepted > 0 {
            self.pause = PAUSE.0;
        }
        if self.rate < self.worth {
            (self.rest, self.pause) = (self.pause, (2 * self.pause).min(PAUSE.1));
            // One token more decides.
            self.rate = self.worth;
        }
    }

    fn written(&mut self, tokens: usize) {
        self.rest = self.rest.saturating_sub(tokens as u32);
    }
}

/// Guesses for one sequence.
pub(crate) struct Guesser {
    form: Trust,
    lookup: Trust,
    draft: Trust,
    /// What the draft model has read.
    cache: Option<Cache>,
    /// Where the guess under way is from.
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Form,
    Lookup,
    Draft,
}

impl Guesser {
    pub(crate) fn new() -> Guesser {
        let (lookup, draft) = (Trust::new(WORTH), Trust::new(DRAFT_WORTH));
        // What a form forces is right, but where the tokenizer could not say which tokens spell it.
        let form = Trust { rate: 0.95, ..Trust::new(WORTH) };
        Guesser { form, lookup, draft, cache: None, source: Source::Lookup }
    }

    /// At most `most` of the tokens that a form leaves no choice about, for a guess.
    pub(crate) fn forced(&mut self, mut tokens: Vec<u32>, most: usize) -> Vec<u32> {
        self.source = Source::Form;
        tokens.truncate(self.form.length(most));
        tokens
    }

    /// At most `most` tokens that may follow `tokens`, of a sequence that may have `reach`. `read_most`: tokens of it that
    /// a draft may read now.
    pub(crate) fn guess(
        &mut self,
        speculation: &Speculation,
        scratch: &mut Scratch,
        tokens: &[u32],
        (most, reach, read_most): (usize, usize, usize),
    ) -> Vec<u32> {
        self.source = Source::Lookup;
        let length = if speculation.lookup { self.lookup.length(most) } else { 0 };
        let known = if length > 0 { lookup(tokens, length) } else { &[] };
        if !known.is_empty() {
            return known.to_vec();
        }
        let Some(draft) = &speculation.draft else { return Vec::new() };
        self.source = Source::Draft;
        let network = &draft.model.network;
        let most = self.draft.length(most);
        let room = reach.min(network.shape().context);
        if most == 0 || tokens.len() + most > room {
            return Vec::new();
        }
        let cache = self.cache.get_or_insert_with(|| network.sequence(draft.pages, room));
        // The answer can do without a draft that fails.
        draft.write(scratch, cache, tokens, most, read_most).unwrap_or_default()
    }

    /// Learns how much of its last guess was right.
    pub(crate) fn learn(&mut self, guessed: usize, accepted: usize) {
        match self.source {
            Source::Form => self.form.learn(guessed, accepted),
            Source::Lookup => self.lookup.learn(guessed, accepted),
            Source::Draft => self.draft.learn(guessed, accepted),
        }
    }

    /// Takes note that so many tokens were written, and that the sequence's first `len` are as the draft has read them.
    pub(crate) fn written(&mut self, tokens: usize, len: usize) {
        self.form.written(tokens);
        self.lookup.written(tokens);
        self.draft.written(tokens);
        if let Some(cache) = &mut self.cache {
            cache.truncate(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_found_where_most_is_alike() {
        let check = |tokens: &[u32], most: usize, expected: &[u32]| {
            assert_eq!(lookup(tokens, most), expected, "{tokens:?}");
        };
        check(&[], 4, &[]);
        check(&[1], 4, &[]);
        check(&[1, 2, 3, 4], 4, &[]);
        // One token alike is chance.
        check(&[1, 2, 3, 2], 4, &[]);
        check(&[1, 2, 3, 4, 1, 2], 4, &[3, 4, 1, 2]);
        check(&[1, 2, 3, 4, 1, 2], 1, &[3]);
        // Three alike before two alike, though these stand nearer.
        check(&[7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2], 2, &[3, 8]);
        check(&[1, 2, 3, 1, 2, 4, 1, 2], 1, &[4]);
        // A run goes on.
        check(&[5, 5, 5], 3, &[5]);
    }

    #[test]
    fn trust_grows_with_what_was_right_and_rests_after_what_was_wrong() {
        let mut trust = Trust::new(WORTH);
        assert_eq!((trust.length(16), trust.length(0), trust.length(1)), (2, 0, 1));
        (0..20).for_each(|_| trust.learn(2, 2));
        assert_eq!(trust.length(16), 16);
        // Half of all tokens: two are together right a quarter of the time.
        (0..200).for_each(|turn| trust.learn(1, turn % 2));
        assert!((1..=2).contains(&trust.length(16)), "{trust:?}");
        let mut tokens = Vec::new();
        for _ in 0..6 {
            let mut written = 0;
            while trust.length(16) == 0 {
                trust.written(1);
                written += 1;
            }
            tokens.push(written);
            while trust.length(16) > 0 {
                trust.learn(1, 0);
            }
        }
        assert_eq!(tokens, [0, 8, 16, 32, 64, 128]);
    }
}
