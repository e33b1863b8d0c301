//! The tokens of a model as constraints want them: a tree over their bytes.
//!
//! Built once per tokenizer, when the first constraint is asked for, and shared by every [`Constraint`]. It takes bytes
//! rather than a tokenizer, so that any source of tokens will do.
//!
//! [`Constraint`]: crate::constraint::Constraint

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use thiserror::Error;

use crate::tokenizer::Tokenizer;
use crate::tokenizer::special::Special;

/// The tree keeps a token's length in 10 bits.
const MAX_TOKEN_BYTES: usize = 1000;
/// The tree keeps its size in 22 bits.
const MAX_NODES: usize = (1 << 22) - 2;
/// Tokens with the same bytes stand in one list that is walked for each of them.
const MAX_SAME: usize = 64;
/// No UTF-8 has this byte; the tree marks special tokens with it.
const SPECIAL: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenBytes<'a> {
    /// Text, or a part of a character.
    Text(&'a [u8]),
    /// A control token, which no text makes: a grammar reaches it only by its number.
    Special(&'a str),
    /// Never to be written under a constraint.
    Unused,
}

/// From bytes to the tokens that the model's own tokenizer makes of them.
pub type Encode = Arc<dyn Fn(&[u8]) -> Vec<u32> + Send + Sync>;

/// Why tokens make no vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VocabularyError {
    /// There must be one.
    #[error("no token of the vocabulary ends a turn, so a constrained answer could not end")]
    NoEnd,
    /// A number past the last token.
    #[error("token {token} is said to end a turn, but there are {count} tokens")]
    NoSuchToken {
        /// The number.
        token: u32,
        /// How many tokens there are.
        count: usize,
    },
    /// More than the tree can hold.
    #[error(
        "the vocabulary is too large for constraints: {count} tokens with {nodes} different beginnings, at most {MAX_NODES}"
    )]
    TooLarge {
        /// How many tokens there are.
        count: usize,
        /// How many nodes the tree would need.
        nodes: usize,
    },
    /// Building it failed.
    #[error("the vocabulary cannot be used for constraints: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

/// The tokens of a model.
pub struct Vocabulary {
    factory: ParserFactory,
    specials: HashMap<String, u32>,
    ends: Arc<[u32]>,
    len: usize,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Vocabulary").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// From all tokens in order, those that end a turn, and if at hand the tokenizer's own encoding, which lets a
    /// constraint say which tokens are forced.
    pub fn new<'a>(
        tokens: impl Iterator<Item = TokenBytes<'a>>,
        ends: &[u32],
        encode: Option<Encode>,
    ) -> Result<Vocabulary, VocabularyError> {
        let mut specials = HashMap::new();
        let mut words: Vec<Vec<u8>> = Vec::new();
        for (token, bytes) in (0u32..).zip(tokens) {
            words.push(match bytes {
                // A single byte 255 would look like the mark of a special token.
                TokenBytes::Text(bytes)
                    if bytes.len() <= MAX_TOKEN_BYTES && bytes.first() != Some(&SPECIAL) =>
                {
                    bytes.to_vec()
                }
                TokenBytes::Special(text) if !text.is_empty() && text.len() < MAX_TOKEN_BYTES => {
                    specials.entry(text.to_string()).or_insert(token);
                    [&[SPECIAL], text.as_bytes()].concat()
                }
                _ => Vec::new(),
            });
        }
        let (Some(first_end), count) = (ends.first().copied(), words.len()) else {
            return Err(VocabularyError::NoEnd);
        };
        if let Some(token) = ends.iter().copied().find(|token| *token as usize >= count) {
            return Err(VocabularyError::NoSuchToken { token, count });
        }
        let nodes = thin(&mut words);
        if nodes > MAX_NODES || count > MAX_NODES {
            return Err(VocabularyError::TooLarge { count, nodes });
        }
        let info = TokRxInfo::new(u32::try_from(count).unwrap_or(u32::MAX), first_end);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(ends);
        let environment: TokEnv = Arc::new(Environment { trie, encode });
        let failed = |error: &dyn fmt::Display| VocabularyError::Failed { reason: error.to_string() };
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| failed(&error))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Vocabulary { factory, specials, ends: Arc::from(ends), len: count })
    }

    /// Of a model's tokenizer, which the constraints then share.
    pub fn of(tokenizer: &Arc<Tokenizer>) -> Result<Vocabulary, VocabularyError> {
        let count = u32::try_from(tokenizer.vocabulary_size()).unwrap_or(u32::MAX);
        let bytes: Vec<(Cow<'_, [u8]>, bool)> = (0..count)
            .map(|token| match tokenizer.text_of(token).filter(|_| tokenizer.is_special(token)) {
                Some(text) => (Cow::Borrowed(text.as_bytes()), true),
                None => (tokenizer.bytes_of(token), false),
            })
            .collect();
        let tokens = bytes.iter().map(|(bytes, special)| match std::str::from_utf8(bytes) {
            Ok(text) if *special => TokenBytes::Special(text),
            _ => TokenBytes::Text(bytes),
        });
        let encoder = tokenizer.clone();
        let encode: Encode = Arc::new(move |bytes| match std::str::from_utf8(bytes) {
            Ok(text) => encoder.encode(text, Special::Plain),
            Err(_) => Vec::new(),
        });
        // Some put a space before every text; they cannot say how a text goes on in the middle of an answer.
        let exact = tokenizer
            .encode("a", Special::Plain)
            .iter()
            .map(|token| tokenizer.bytes_of(*token))
            .eq([&b"a"[..]]);
        let encode = exact.then_some(encode);
        Vocabulary::new(tokens, tokenizer.ends(), encode)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: there is at least the token that ends a turn.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The control token that is written so.
    pub fn special(&self, text: &str) -> Option<u32> {
        self.specials.get(text).copied()
    }

    /// The tokens that end a turn.
    pub fn ends(&self) -> Arc<[u32]> {
        self.ends.clone()
    }

    pub(super) fn factory(&self) -> &ParserFactory {
        &self.factory
    }
}

/// Empties tokens that repeat the bytes of too many others; gives the number of nodes of the tree over the rest.
fn thin(words: &mut [Vec<u8>]) -> usize {
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.sort_by(|left, right| words[*left].cmp(&words[*right]));
    let (mut nodes, mut same, mut empty) = (1usize, 0, Vec::new());
    for pair in order.windows(2) {
        let (before, after) = (&words[pair[0]], &words[pair[1]]);
        let shared = before.iter().zip(after).take_while(|(left, right)| left == right).count();
        same = if before == after { same + 1 } else { 0 };
        if same >= MAX_SAME {
            empty.push(pair[1]);
        } else {
            nodes = nodes.saturating_add((after.len() - shared).max(1));
        }
    }
    nodes = nodes.saturating_add(order.first().map_or(0, |first| words[*first].len()));
    for token in empty {
        words[token].clear();
    }
    nodes
}

struct Environment {
    trie: TokTrie,
    encode: Option<Encode>,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        // What is cut inside a character is no text to a tokenizer: its tokens would be other bytes.
        let tokens = self.encode.as_ref().map(|encode| encode(bytes)).filter(|tokens| {
            let count = self.trie.vocab_size();
            tokens.iter().all(|token| (*token as usize) < count)
                && tokens.iter().flat_map(|token| self.trie.token(*token)).eq(bytes)
        });
        tokens.unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.encode.is_some()
    }
}
