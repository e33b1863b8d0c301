//! Text to tokens and back, from the vocabulary in the file.
//!
//! Stands between what people write and what `forward` computes with. Three kinds of vocabulary: SentencePiece by score
//! (llama, mistral, gemma, phi-3), BPE by merges with the model's own pre-tokeniser (gpt-2, llama-3, qwen, phi-4, …),
//! WordPiece (BERT); others are refused by name. In reading order: [`vocabulary`] reads and checks the file, `marks`
//! finds the tokens with a part to play, [`special`] cuts special tokens out of a text, `split` cuts the rest into
//! pieces, `bpe`, `sentencepiece` or `wordpiece` makes tokens of them, [`decoder`] makes text of tokens again.
//!
//! Always: the ids are those of llama.cpp for the same file (what differs, and why, is said in `split::known` and
//! `wordpiece`); time and memory are linear in the text but for a logarithm; a tokenizer never changes what it answers.

mod alphabet;
mod bpe;
mod class;
pub mod decoder;
mod marks;
mod merge;
pub mod refused;
mod seams;
mod sentencepiece;
pub mod special;
mod split;
mod texts;
pub mod vocabulary;
mod wordpiece;

use std::borrow::Cow;

use crate::gguf::metadata::Metadata;
use crate::tokenizer::alphabet::BLANK;
use crate::tokenizer::bpe::Bpe;
use crate::tokenizer::marks::Marks;
use crate::tokenizer::refused::TokenizerError;
use crate::tokenizer::sentencepiece::SentencePiece;
use crate::tokenizer::special::{Cutter, Fragment, GUARD, Special};
use crate::tokenizer::vocabulary::{Kind, Model, Vocabulary};
use crate::tokenizer::wordpiece::WordPiece;

/// Text to tokens and back.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    marks: Marks,
    cutter: Cutter,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    SentencePiece(SentencePiece),
    Bpe(Bpe),
    WordPiece(WordPiece),
}

impl Tokenizer {
    /// The tokenizer of a file, from its `tokenizer.ggml.*` entries.
    ///
    /// # Errors
    /// If a kind of vocabulary or a pre-tokenizer is not supported, by name; if the entries contradict each other.
    pub fn from_metadata(metadata: &Metadata) -> Result<Tokenizer, TokenizerError> {
        let mut vocabulary = Vocabulary::read(metadata)?;
        let marks = Marks::read(metadata, &mut vocabulary)?;
        let special = marks::special(metadata, &vocabulary)?;
        let cutter = Cutter::new(special, |token| vocabulary.texts.get(token))?;
        let engine = match (vocabulary.model, vocabulary.known) {
            (Model::Merges, Some(known)) => {
                Engine::Bpe(Bpe::new(&vocabulary, known, metadata.strings("tokenizer.ggml.merges")?)?)
            }
            (Model::WordPiece, _) => Engine::WordPiece(WordPiece::new(metadata, marks.unknown)?),
            (Model::SentencePiece | Model::Merges, _) => {
                let adds_blank = metadata.find_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
                Engine::SentencePiece(SentencePiece::new(&vocabulary, adds_blank, marks.unknown))
            }
        };
        Ok(Tokenizer { vocabulary, marks, cutter, engine })
    }

    /// The tokens of a text, without BOS and EOS.
    pub fn encode(&self, text: &str, special: Special) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(text.len() / 4 + 2);
        self.encode_into(text, special, &mut tokens);
        tokens
    }

    /// The tokens of a text as the model wants its input: with BOS, EOS, `[CLS]` and `[SEP]` where the file asks.
    pub fn encode_for_model(&self, text: &str, special: Special) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(text.len() / 4 + 4);
        tokens.extend(self.marks.bos.filter(|_| self.marks.adds_bos));
        self.encode_into(text, special, &mut tokens);
        tokens.extend(self.marks.eos.filter(|_| self.marks.adds_eos));
        tokens.extend(self.marks.separator.filter(|_| self.marks.adds_separator));
        tokens
    }

    /// The words of a stranger, to be put into a prompt that is encoded with [`Special::Guarded`]: the control tokens
    /// that are written out in them are broken, and stay text.
    pub fn guard<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.cutter.guard(text)
    }

    fn encode_into(&self, text: &str, special: Special, tokens: &mut Vec<u32>) {
        let vocabulary = &self.vocabulary;
        let mut after_special = true;
        self.cutter.cut(text, special, |fragment| match fragment {
            Fragment::Token(token) => {
                tokens.push(token);
                after_special = true;
            }
            Fragment::Text(text) => {
                let whole = match special {
                    Special::Guarded if text.contains(GUARD) => Cow::Owned(text.replace(GUARD, "")),
                    _ => Cow::Borrowed(text),
                };
                let text = &*whole;
                match &self.engine {
                    Engine::SentencePiece(engine) => engine.encode(vocabulary, text, after_special, tokens),
                    Engine::Bpe(engine) => engine.encode(vocabulary, text, tokens),
                    Engine::WordPiece(engine) => engine.encode(vocabulary, text, tokens),
                }
                after_special = false;
            }
        });
    }

    /// The bytes that a token stands for; a control token for its own name, a hole or no token for nothing.
    pub fn bytes_of(&self, token: u32) -> Cow<'_, [u8]> {
        let text = self.vocabulary.texts.get(token);
        match self.vocabulary.kind(token) {
            Kind::Control | Kind::Unknown | Kind::UserDefined => Cow::Borrowed(text),
            Kind::Unused | Kind::Undefined => Cow::Borrowed(&[]),
            Kind::Byte => match byte_named(text) {
                Some(byte) => Cow::Owned(vec![byte]),
                None => Cow::Borrowed(&[]),
            },
            Kind::Normal => {
                if self.vocabulary.known.is_some_and(|known| !known.sentencepiece) {
                    return Cow::Owned(read_alphabet(text));
                }
                match std::str::from_utf8(text) {
                    Ok(text) if text.contains(BLANK) => Cow::Owned(text.replace(BLANK, " ").into_bytes()),
                    _ => Cow::Borrowed(text),
                }
            }
        }
    }

    /// How many tokens there are; ids are below this.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.kinds.len()
    }

    /// A token as it stands in the file: `▁the`, `Ġthe`. `None` if there is no such token, or it is not UTF-8.
    pub fn text_of(&self, token: u32) -> Option<&str> {
        if token < self.vocabulary.len() {
            std::str::from_utf8(self.vocabulary.texts.get(token)).ok()
        } else {
            None
        }
    }

    /// The token whose text in the file is this.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        self.vocabulary.find(text.as_bytes())
    }

    /// True for control tokens and the unknown token: what is no text.
    pub fn is_special(&self, token: u32) -> bool {
        matches!(self.vocabulary.kind(token), Kind::Control | Kind::Unknown)
    }

    /// True for a token of the file's own making that stands in text: `<tool_call>`, runs of blanks.
    pub fn is_user_defined(&self, token: u32) -> bool {
        self.vocabulary.kind(token) == Kind::UserDefined
    }

    /// What begins a text. For BERT: `[CLS]`.
    pub fn bos(&self) -> Option<u32> {
        self.marks.bos
    }

    /// What ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.marks.eos
    }

    /// What ends a turn of a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.marks.eot
    }

    /// What ends a message of a turn that goes on: a tool is called.
    pub fn eom(&self) -> Option<u32> {
        self.marks.eom
    }

    /// Every token after which a model has no more to say, ascending: EOS, EOT, EOM and their like.
    pub fn ends(&self) -> &[u32] {
        &self.marks.ends
    }

    /// What stands for what the vocabulary cannot say.
    pub fn unknown(&self) -> Option<u32> {
        self.marks.unknown
    }

    /// What stands between two texts. For BERT: `[SEP]`.
    pub fn separator(&self) -> Option<u32> {
        self.marks.separator
    }

    /// What fills up a batch.
    pub fn padding(&self) -> Option<u32> {
        self.marks.padding
    }

    /// What stands for a word to be guessed.
    pub fn mask(&self) -> Option<u32> {
        self.marks.mask
    }

    /// True if the model's input begins with BOS.
    pub fn adds_bos(&self) -> bool {
        self.marks.adds_bos && self.marks.bos.is_some()
    }

    /// True if the model's input ends with EOS.
    pub fn adds_eos(&self) -> bool {
        self.marks.adds_eos && self.marks.eos.is_some()
    }

    /// The kind of vocabulary.
    pub fn model(&self) -> Model {
        self.vocabulary.model
    }

    /// The pre-tokenizer by its name in the file; `default` if it has none.
    pub fn pre(&self) -> &str {
        &self.vocabulary.pre
    }
}

/// The byte of `<0x0A>`.
fn byte_named(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    match digits {
        [_, _] => u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok(),
        _ => None,
    }
}

/// The bytes of a text in GPT-2's alphabet; what is not of the alphabet stands for itself.
fn read_alphabet(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match alphabet::byte_of(character) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes.extend_from_slice(chunk.invalid());
    }
    bytes
}

#[cfg(test)]
mod tests;
