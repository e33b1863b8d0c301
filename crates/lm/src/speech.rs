//! What a model's file says about talking: its chat template, and its words as constraints want them.
//!
//! Joins `tokenizer` with `chat` and `constraint`, which know nothing of each other.

use std::borrow::Cow;

use crate::chat::template::{ChatError, Template, TemplateTexts};
use crate::constraint::vocabulary::{TokenBytes, Vocabulary, VocabularyError};
use crate::gguf::metadata::Metadata;
use crate::tokenizer::Tokenizer;

/// Named templates that are looked at; files have two or three.
const NAMED_MAX: usize = 16;

/// The chat template of a model: the one in its file, or one that its vocabulary gives away.
pub fn template(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Template, ChatError> {
    let text =
        |token: Option<u32>| token.and_then(|token| tokenizer.text_of(token)).unwrap_or_default().to_owned();
    let read = |key: &str| metadata.string(key).ok().map(str::to_owned);
    let names: Vec<String> = match metadata.strings("tokenizer.chat_templates") {
        Ok(names) => {
            (0..names.len().min(NAMED_MAX)).filter_map(|at| names.get(at).map(str::to_owned)).collect()
        }
        Err(_) => Vec::new(),
    };
    let named = names.into_iter().filter_map(|name| {
        let text = read(&format!("tokenizer.chat_template.{name}"))?;
        Some((name, text))
    });
    let texts = TemplateTexts {
        default: read("tokenizer.chat_template"),
        named: named.collect(),
        bos: text(tokenizer.bos()),
        eos: text(tokenizer.eos()),
    };
    let is_control = |text: &str| tokenizer.id_of(text).is_some_and(|token| tokenizer.is_special(token));
    Template::new(&texts, is_control)
}

/// The words of a model as constraints want them. A tenth of a second for 128 000 tokens.
pub fn vocabulary(tokenizer: &Tokenizer) -> Result<Vocabulary, VocabularyError> {
    let count = u32::try_from(tokenizer.vocabulary_size()).unwrap_or(u32::MAX);
    let bytes: Vec<Cow<'_, [u8]>> = (0..count).map(|token| tokenizer.bytes_of(token)).collect();
    let words = (0..count).zip(&bytes).map(|(token, bytes)| match tokenizer.text_of(token) {
        Some(text) if tokenizer.is_special(token) => TokenBytes::Special(text),
        _ if bytes.is_empty() || tokenizer.is_special(token) => TokenBytes::Unused,
        _ => TokenBytes::Text(bytes),
    });
    Vocabulary::new(words, tokenizer.ends(), None)
}
