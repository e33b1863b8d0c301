//! WordPiece: words in lower case without accents, each cut into the longest pieces from its left.
//!
//! Stands after `special`. Words are made as the `tokenizers` library makes them for BERT (BertNormalizer,
//! BertPreTokenizer), which is what bge and MiniLM were trained with; llama.cpp differs where a letter decomposes into
//! more than one (Hangul), in marks that take room, and in words over 100 characters. In a GGUF file a piece that
//! begins a word is written `▁word`, one that continues it `word`.

use unicode_normalization::UnicodeNormalization;

use super::class::Class;
use super::vocabulary::Vocabulary;
use crate::gguf::metadata::{Metadata, MetadataError};
use crate::tokenizer::alphabet::BLANK;

/// Words of more characters are unknown: `max_input_chars_per_word` of BERT's tokenizer.
const LONGEST_WORD: usize = 100;

#[derive(Debug)]
pub(crate) struct WordPiece {
    unknown: Option<u32>,
    lowercase: bool,
    strip_accents: bool,
}

impl WordPiece {
    pub(crate) fn new(metadata: &Metadata, unknown: Option<u32>) -> Result<WordPiece, MetadataError> {
        let lowercase = metadata.find_bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strip_accents = metadata.find_bool("tokenizer.ggml.normalizer.strip_accents")?;
        Ok(WordPiece { unknown, lowercase, strip_accents: strip_accents.unwrap_or(lowercase) })
    }

    /// Adds the tokens of `text`, which holds no special tokens any more.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, tokens: &mut Vec<u32>) {
        let normal = self.normalise(text);
        // Each word after a `▁`, as the file writes it.
        let mut word = String::from(BLANK);
        for character in normal.chars() {
            let class = Class::of(character);
            let alone = class.meets(Class::PUNCTUATION) || character.is_ascii_punctuation();
            if alone || class.meets(Class::SPACE) {
                self.end_word(vocabulary, &mut word, tokens);
            }
            if !class.meets(Class::SPACE) {
                word.push(character);
            }
            if alone {
                self.end_word(vocabulary, &mut word, tokens);
            }
        }
        self.end_word(vocabulary, &mut word, tokens);
    }

    fn normalise(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        for character in text.chars() {
            let class = Class::of(character);
            if matches!(character, '\t' | '\n' | '\r') {
                clean.push(' ');
            } else if matches!(character, '\0' | char::REPLACEMENT_CHARACTER) || class.meets(Class::CONTROL) {
            } else if class.meets(Class::SPACE) {
                clean.push(' ');
            } else if is_ideograph(character) {
                clean.extend([' ', character, ' ']);
            } else {
                clean.push(character);
            }
        }
        if self.strip_accents && !clean.is_ascii() {
            clean =
                clean.nfd().filter(|&letter| !Class::of(letter).meets(Class::MARK_WITHOUT_WIDTH)).collect();
        }
        if self.lowercase {
            // Letter by letter: `str::to_lowercase` would turn a Greek sigma at the end of a word into another.
            clean = clean.chars().flat_map(char::to_lowercase).collect();
        }
        clean
    }

    /// Adds the tokens of a word and leaves `word` as the beginning of the next.
    fn end_word(&self, vocabulary: &Vocabulary, word: &mut String, tokens: &mut Vec<u32>) {
        let begun = tokens.len();
        let mut rest = word.as_str();
        if rest.len() > BLANK.len_utf8() {
            if rest.chars().count() > LONGEST_WORD + 1 {
                rest = "";
                tokens.extend(self.unknown);
            }
            while !rest.is_empty() {
                // Only the first piece of a word may be one that begins words, also where the text has a `▁` of its own.
                let begins = rest.len() == word.len();
                let found = if begins || !rest.starts_with(BLANK) { longest(vocabulary, rest) } else { None };
                let Some((token, length)) = found else {
                    tokens.truncate(begun);
                    tokens.extend(self.unknown);
                    break;
                };
                tokens.push(token);
                rest = &rest[length..];
            }
        }
        word.truncate(BLANK.len_utf8());
    }
}

/// The longest token that `text` begins with, and its length in bytes.
fn longest(vocabulary: &Vocabulary, text: &str) -> Option<(u32, usize)> {
    let most = text.len().min(vocabulary.longest);
    let lengths = (1..=most).rev().filter(|&length| text.is_char_boundary(length));
    lengths
        .map(|length| (vocabulary.find_made_of_text(&text.as_bytes()[..length]), length))
        .find_map(|(token, length)| Some((token?, length)))
}

/// What BERT's tokenizer takes for Chinese characters. The third block of extensions begins at 2B920 there, not at 2B820.
fn is_ideograph(character: char) -> bool {
    matches!(
        character,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}
