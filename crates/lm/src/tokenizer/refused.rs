//! Why a vocabulary cannot be used.

use crate::gguf::metadata::MetadataError;

/// A vocabulary that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenizerError {
    /// An entry is missing or of the wrong type.
    #[error("the file's tokenizer cannot be read")]
    Metadata(#[from] MetadataError),
    /// A kind of vocabulary that is not supported.
    #[error(
        "tokenizer model {model:?} is not supported; supported are llama (SentencePiece BPE), gpt2 and gemma4 (BPE by merges) and bert (WordPiece)"
    )]
    UnsupportedModel {
        /// What the file says.
        model: String,
    },
    /// A pre-tokeniser that is not supported.
    #[error("pre-tokenizer {name:?} is not supported; supported are {known}")]
    UnsupportedPre {
        /// What the file says.
        name: String,
        /// Every name that is known.
        known: String,
    },
    /// No tokens, or more than numbers.
    #[error("the vocabulary has {count} tokens; it must have between 1 and 2^32-1")]
    WrongCount {
        /// How many the file has.
        count: usize,
    },
    /// Not one entry for each token.
    #[error("{key} has {found} entries for {wanted} tokens")]
    WrongLength {
        /// The metadata entry.
        key: &'static str,
        /// How many entries it has.
        found: usize,
        /// How many tokens there are.
        wanted: usize,
    },
    /// Two tokens of the same text.
    #[error("tokens {first} and {second} have the same text {text:?}")]
    SameText {
        /// The token that came first.
        first: u32,
        /// The other one.
        second: u32,
        /// Their text.
        text: String,
    },
    /// An id past the vocabulary.
    #[error("{key} is {id}, but the vocabulary has {count} tokens")]
    NoSuchToken {
        /// The metadata entry.
        key: &'static str,
        /// What it says.
        id: i128,
        /// How many tokens there are.
        count: u32,
    },
    /// A merge that is not two symbols with a blank between.
    #[error("merge {index} is {text:?}, not two symbols with a blank between them")]
    WrongMerge {
        /// Which, counted from 0.
        index: u32,
        /// What the file says.
        text: String,
    },
    /// More text than can be numbered.
    #[error("the vocabulary has {bytes} bytes of text, which is more than can be numbered")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// More special text than is searched for.
    #[error("the special tokens have {bytes} bytes of text; {most} are searched for at most")]
    SpecialTooLarge {
        /// How many.
        bytes: usize,
        /// How many there may be.
        most: usize,
    },
}
