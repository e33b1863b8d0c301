//! The vocabulary of a file, read and checked: the middle step between metadata and a tokenizer.
//!
//! Always: kinds and scores are as many as tokens, no two tokens have one text, every id is one of a token. What a token
//! is for (kinds, the tokens that end a turn) is in `marks`.

use crate::gguf::metadata::Metadata;
use crate::gguf::value::{Array, Value};
use crate::tokenizer::refused::TokenizerError;
use crate::tokenizer::split::known::{Known, NAMES, known};
use crate::tokenizer::texts::{Index, Texts};

/// How a vocabulary is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Model {
    /// SentencePiece BPE, by score: llama, mistral, gemma, phi-3. In a file: `llama`.
    SentencePiece,
    /// BPE by merges, over bytes or over SentencePiece's spelling. In a file: `gpt2`, `gemma4`.
    Merges,
    /// The longest piece first, over lower-cased words: BERT. In a file: `bert`.
    WordPiece,
}

/// What a token is for: `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    /// A hole in the numbering.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
    /// A number that means nothing.
    Undefined,
}

impl Kind {
    fn from_number(number: i32) -> Kind {
        match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => Kind::Undefined,
        }
    }

    /// True if text can become this token piece by piece. Control tokens must be asked for, or be cut out before.
    pub(crate) fn is_made_of_text(self) -> bool {
        !matches!(self, Kind::Control | Kind::Unknown | Kind::Byte)
    }
}

/// Tokens by id, and what the file says of them.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) model: Model,
    /// What the file calls its pre-tokeniser; `default` if it says nothing.
    pub(crate) pre: String,
    pub(crate) known: Option<Known>,
    pub(crate) texts: Texts,
    pub(crate) index: Index,
    pub(crate) kinds: Vec<Kind>,
    /// For SentencePiece; else empty.
    pub(crate) scores: Vec<f32>,
    /// Bytes of the longest text.
    pub(crate) longest: usize,
}

impl Vocabulary {
    pub(crate) fn read(metadata: &Metadata) -> Result<Vocabulary, TokenizerError> {
        let named = metadata.string("tokenizer.ggml.model")?;
        let pre = metadata.find_string("tokenizer.ggml.pre")?.filter(|pre| !pre.is_empty());
        let (model, pre) = match named {
            "llama" => (Model::SentencePiece, "default"),
            "gpt2" => (Model::Merges, pre.unwrap_or("default")),
            "gemma4" => (Model::Merges, "gemma4"),
            "bert" => (Model::WordPiece, "default"),
            _ => return Err(TokenizerError::UnsupportedModel { model: named.to_owned() }),
        };
        let known = match model {
            Model::Merges => Some(known(pre).ok_or_else(|| TokenizerError::UnsupportedPre {
                name: pre.to_owned(),
                known: NAMES.iter().flat_map(|names| names.iter()).copied().collect::<Vec<_>>().join(", "),
            })?),
            _ => None,
        };
        if model == Model::Merges && metadata.get("tokenizer.ggml.pre").is_none() && named == "gpt2" {
            tracing::warn!("the file names no pre-tokeniser; `default` is used, and text may be cut wrongly");
        }

        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let count = tokens.len();
        if count == 0 || u32::try_from(count).is_err() {
            return Err(TokenizerError::WrongCount { count });
        }
        let of_each = |key: &'static str, found: usize| match found {
            _ if found == count => Ok(()),
            _ => Err(TokenizerError::WrongLength { key, found, wanted: count }),
        };
        let kinds = match metadata.find_i32s("tokenizer.ggml.token_type")? {
            None => vec![Kind::Normal; count],
            Some(numbers) => {
                of_each("tokenizer.ggml.token_type", numbers.len())?;
                numbers.iter().map(|&number| Kind::from_number(number)).collect()
            }
        };
        let scores = match metadata.get("tokenizer.ggml.scores") {
            _ if model != Model::SentencePiece => Vec::new(),
            // Some writers have scores as integers.
            Some(Value::Array(Array::I32(scores))) => scores.iter().map(|&score| score as f32).collect(),
            _ => metadata.f32s("tokenizer.ggml.scores")?.to_vec(),
        };
        if model == Model::SentencePiece {
            of_each("tokenizer.ggml.scores", scores.len())?;
        }

        let bytes = (0..count).filter_map(|token| tokens.bytes(token)).map(<[u8]>::len).sum();
        let mut texts = Texts::with_capacity(count, bytes);
        let mut index = Index::with_capacity(count);
        let mut longest = 0;
        for token in 0..count {
            let text = tokens.bytes(token).unwrap_or_default();
            texts.push(text).ok_or(TokenizerError::TooLarge { bytes })?;
            longest = longest.max(text.len());
            // An empty token is a hole: nothing becomes it, and it becomes nothing.
            if !text.is_empty() {
                index.insert(&texts, token as u32).map_err(|first| TokenizerError::SameText {
                    first,
                    second: token as u32,
                    text: String::from_utf8_lossy(text).into_owned(),
                })?;
            }
        }
        Ok(Vocabulary { model, pre: pre.to_owned(), known, texts, index, kinds, scores, longest })
    }

    /// How many tokens.
    pub(crate) fn len(&self) -> u32 {
        self.kinds.len() as u32
    }

    /// What a token is for; `Undefined` for no token.
    #[inline]
    pub(crate) fn kind(&self, token: u32) -> Kind {
        self.kinds.get(token as usize).copied().unwrap_or(Kind::Undefined)
    }

    /// The token of a text.
    #[inline]
    pub(crate) fn find(&self, text: &[u8]) -> Option<u32> {
        if text.len() > self.longest { None } else { self.index.find(&self.texts, text) }
    }

    /// The token of a text, if text can become it.
    #[inline]
    pub(crate) fn find_made_of_text(&self, text: &[u8]) -> Option<u32> {
        self.find(text).filter(|&token| self.kind(token).is_made_of_text())
    }

    /// The token that stands for a byte in SentencePiece's way: `<0x0A>`, else the byte itself as a token.
    pub(crate) fn find_byte(&self, byte: u8) -> Option<u32> {
        let named = self
            .find(format!("<0x{byte:02X}>").as_bytes())
            .filter(|&token| self.kind(token) != Kind::Control);
        named.or_else(|| self.find_made_of_text(&[byte]))
    }
}
