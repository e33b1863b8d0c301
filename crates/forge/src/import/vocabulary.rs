//! The tokens of a folder, as GGUF has them: texts, types, scores or merges.
//!
//! Three kinds of tokenizer come in, from four kinds of files: SentencePiece (tokenizer.model, or the tokenizer.json that
//! Hugging Face makes of one), byte-level BPE (tokenizer.json), WordPiece (tokenizer.json or vocab.txt). The rules for
//! types are llama.cpp's. One thing is done better than there: a SentencePiece model that comes only as tokenizer.json
//! gets scores from the order of its merges, where llama.cpp's converter gives every token the same and so splits text
//! differently from the original.

use std::collections::{BTreeMap, HashMap};

use lm::gguf::metadata::Metadata;
use lm::gguf::value::{Array, Strings};
use serde_json::Value;

use super::family::Family;
use super::folder::{Folder, FolderError};
use super::pretokenizer::{self, UnknownCut};
use super::sentencepiece::{self, SentencePiece, SentencePieceError};
use super::tokenizer_json::{AddedToken, TokenizerJson, added_tokens_decoder};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// A vocabulary that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// See [`FolderError`].
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// See [`SentencePieceError`].
    #[error(transparent)]
    SentencePiece(#[from] SentencePieceError),
    /// See [`UnknownCut`].
    #[error(transparent)]
    Cut(#[from] UnknownCut),
    /// No file we know.
    #[error("the folder has neither tokenizer.json nor tokenizer.model nor vocab.txt")]
    None,
    /// A kind of tokenizer we do not know.
    #[error(
        "a {found} tokenizer is not supported for {family} models; BPE, SentencePiece and (for BERT) WordPiece are"
    )]
    Kind {
        /// What tokenizer.json says.
        found: String,
        /// Of which family.
        family: &'static str,
    },
    /// A token past the end of the vocabulary.
    #[error("the token {text:?} has the id {id}, but the model has only {size} tokens")]
    PastEnd {
        /// Its text, shortened.
        text: String,
        /// Its id.
        id: u32,
        /// What config.json says.
        size: u32,
    },
}

/// The files that say what tokens there are.
pub struct TokenizerFiles {
    /// tokenizer.json.
    pub json: Option<TokenizerJson>,
    /// tokenizer_config.json, or null.
    pub config: Value,
}

impl TokenizerFiles {
    /// Reads them.
    pub fn open(folder: &Folder) -> Result<TokenizerFiles, FolderError> {
        let config = folder.json("tokenizer_config.json")?.unwrap_or(Value::Null);
        Ok(TokenizerFiles { json: folder.json("tokenizer.json")?, config })
    }

    /// Added tokens of both files.
    fn added(&self) -> Vec<AddedToken> {
        let mut added = self.json.as_ref().map(|json| json.added_tokens.clone()).unwrap_or_default();
        added.extend(added_tokens_decoder(&self.config));
        added
    }
}

/// The tokens of a model.
pub struct Vocabulary {
    /// `llama`, `gpt2`, `bert`.
    model: &'static str,
    pre: &'static str,
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
    merges: Vec<String>,
    space_prefix: Option<bool>,
}

impl Vocabulary {
    /// Reads the vocabulary of a folder, for a model of `size` tokens.
    pub fn read(
        folder: &Folder,
        files: &TokenizerFiles,
        family: Family,
        size: u32,
    ) -> Result<Vocabulary, VocabularyError> {
        if family == Family::Bert {
            return word_piece(folder, files, size);
        }
        let phi4 = family == Family::Phi3 && files.config["tokenizer_class"] == "GPT2Tokenizer";
        if !phi4 && let Some(bytes) = folder.bytes("tokenizer.model")? {
            match sentencepiece::read(&bytes) {
                Ok(model) => return sentence_piece(folder, files, family, &model, size),
                // Llama 3 has a tokenizer.model of another kind beside its tokenizer.json.
                Err(error) if files.json.is_none() => return Err(error.into()),
                Err(_) => {}
            }
        }
        let json = files.json.as_ref().ok_or(VocabularyError::None)?;
        match json.model.kind.as_deref() {
            Some("BPE") | None if json.model.byte_fallback => byte_fallback(json, files, family, size),
            Some("BPE") | None => byte_level(json, files, family, size),
            Some(found) => {
                let found = found.chars().take(40).collect();
                Err(VocabularyError::Kind { found, family: family.name() })
            }
        }
    }

    fn empty(model: &'static str, pre: &'static str, size: u32) -> Vocabulary {
        let (tokens, scores) = ((0..size).map(|id| format!("[PAD{id}]")).collect(), Vec::new());
        let types = vec![UNUSED; size as usize];
        Vocabulary { model, pre, tokens, scores, types, merges: Vec::new(), space_prefix: None }
    }

    fn with_scores(mut self) -> Vocabulary {
        self.scores = vec![-10_000.0; self.tokens.len()];
        self
    }

    /// Sets a token.
    fn set(&mut self, id: u32, text: &str, kind: i32, score: f32) -> Result<(), VocabularyError> {
        let Some(token) = self.tokens.get_mut(id as usize) else {
            let size = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
            return Err(VocabularyError::PastEnd { text: text.chars().take(40).collect(), id, size });
        };
        text.clone_into(token);
        self.types[id as usize] = kind;
        if let Some(place) = self.scores.get_mut(id as usize) {
            *place = score;
        }
        Ok(())
    }

    /// Sets a token that stands outside of the splitting; one past the end is left out, as converters do.
    fn add(&mut self, token: &AddedToken) {
        if token.special || looks_special(&token.content) {
            drop(self.set(token.id, &token.content, CONTROL, -1000.0));
        } else {
            // Readers compare these with plain text, where a space is a space.
            drop(self.set(token.id, &token.content.replace('▁', " "), USER_DEFINED, -1000.0));
        }
    }

    /// Writes all of it.
    pub fn describe(self, metadata: &mut Metadata) {
        metadata.set("tokenizer.ggml.model", self.model);
        metadata.set("tokenizer.ggml.pre", self.pre);
        metadata.set("tokenizer.ggml.tokens", Array::Strings(self.tokens.iter().collect::<Strings>()));
        if !self.scores.is_empty() {
            metadata.set("tokenizer.ggml.scores", Array::F32(self.scores));
        }
        metadata.set("tokenizer.ggml.token_type", Array::I32(self.types));
        if !self.merges.is_empty() {
            metadata.set("tokenizer.ggml.merges", Array::Strings(self.merges.iter().collect::<Strings>()));
        }
    }

    /// What `tokenizer.ggml.add_space_prefix` must say, if it is not what readers take for granted.
    pub fn space_prefix(&self) -> Option<bool> {
        self.space_prefix
    }
}

/// Tokens that steer, though the file does not mark them: those of deepseek-coder, gemma and command-r.
fn looks_special(text: &str) -> bool {
    let between = |start, end| text.starts_with(start) && text.ends_with(end);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

fn sentence_piece(
    folder: &Folder,
    files: &TokenizerFiles,
    family: Family,
    model: &SentencePiece,
    size: u32,
) -> Result<Vocabulary, VocabularyError> {
    let mut vocabulary = Vocabulary::empty("llama", "default", size).with_scores();
    for (id, piece) in (0..size).zip(&model.pieces) {
        // Converters do not look for user-defined pieces: they are normal ones with a score of 0.
        let kind = if piece.kind == USER_DEFINED { NORMAL } else { piece.kind };
        vocabulary.set(id, &piece.text, kind, piece.score)?;
    }
    vocabulary.space_prefix = (!model.space_prefix).then_some(false);
    let added: BTreeMap<String, u32> = folder.json("added_tokens.json")?.unwrap_or_default();
    for (text, id) in added.iter().filter(|(_, id)| **id < size) {
        vocabulary.set(*id, text, USER_DEFINED, -1000.0)?;
    }
    let listed = added_tokens_decoder(&files.config);
    if family == Family::Phi3 {
        let also = files.json.iter().flat_map(|json| &json.added_tokens);
        for token in listed.iter().chain(also).filter(|token| token.id < size) {
            let kind = if token.special { CONTROL } else { USER_DEFINED };
            vocabulary.set(token.id, &token.content, kind, -1000.0)?;
        }
    } else {
        listed.iter().for_each(|token| vocabulary.add(token));
    }
    Ok(vocabulary)
}

/// A SentencePiece model in a tokenizer.json.
fn byte_fallback(
    json: &TokenizerJson,
    files: &TokenizerFiles,
    family: Family,
    size: u32,
) -> Result<Vocabulary, VocabularyError> {
    let mut vocabulary = Vocabulary::empty("llama", "default", size).with_scores();
    // Hugging Face writes the merges of a SentencePiece model in the order of its scores. The earliest that makes a token
    // is the token's rank; what nothing makes comes after all of them.
    let mut ranks = HashMap::new();
    for (rank, (left, right)) in json.model.merges.iter().filter_map(|merge| merge.pair()).enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let last = -(json.model.merges.len() as f32) - 1000.0;
    for (text, id) in &json.model.vocab.0 {
        let (kind, score) = match ranks.get(text) {
            _ if is_byte(text) => (BYTE, 0.0),
            _ if json.model.unk_token.as_ref() == Some(text) => (UNKNOWN, 0.0),
            Some(rank) => (NORMAL, -(*rank as f32)),
            None => (NORMAL, last),
        };
        vocabulary.set(*id, text, kind, score)?;
    }
    files.added().iter().for_each(|token| vocabulary.add(token));
    if family != Family::Gemma2
        && family != Family::Gemma3
        && !prepends(&json.normalizer, &json.pre_tokenizer)
    {
        vocabulary.space_prefix = Some(false);
    }
    Ok(vocabulary)
}

/// `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// True if a space is put before the text.
fn prepends(normalizer: &Value, pre_tokenizer: &Value) -> bool {
    let steps = normalizer["normalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let prepend = std::iter::once(normalizer).chain(steps).any(|step| step["type"] == "Prepend");
    let steps = pre_tokenizer["pretokenizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let metaspace = std::iter::once(pre_tokenizer).chain(steps).find(|step| step["type"] == "Metaspace");
    prepend
        || metaspace
            .is_some_and(|step| step["prepend_scheme"] != "never" && step["add_prefix_space"] != false)
}

fn byte_level(
    json: &TokenizerJson,
    files: &TokenizerFiles,
    family: Family,
    size: u32,
) -> Result<Vocabulary, VocabularyError> {
    let pre = match pretokenizer::name(&json.pre_tokenizer)? {
        // The same cuts, another name.
        "gpt-2" if family == Family::Phi2 => "phi-2",
        name => name,
    };
    let mut vocabulary = Vocabulary::empty("gpt2", pre, size);
    for (text, id) in &json.model.vocab.0 {
        vocabulary.set(*id, text, NORMAL, 0.0)?;
    }
    for token in files.added() {
        if token.id >= size {
            let text = token.content.chars().take(40).collect();
            return Err(VocabularyError::PastEnd { text, id: token.id, size });
        }
        vocabulary.add(&token);
    }
    vocabulary.merges = json.model.merges.iter().map(super::tokenizer_json::Merge::joined).collect();
    Ok(vocabulary)
}

fn word_piece(folder: &Folder, files: &TokenizerFiles, size: u32) -> Result<Vocabulary, VocabularyError> {
    // WordPiece has no pre-tokeniser to choose; the name is the one llama.cpp gives most of its encoders.
    let mut vocabulary = Vocabulary::empty("bert", "bert-bge", size);
    match &files.json {
        Some(json) => {
            if let Some(found) = json.model.kind.as_deref().filter(|kind| *kind != "WordPiece") {
                let found = found.chars().take(40).collect();
                return Err(VocabularyError::Kind { found, family: Family::Bert.name() });
            }
            for (text, id) in &json.model.vocab.0 {
                vocabulary.set(*id, text, NORMAL, 0.0)?;
            }
        }
        None => {
            let text = folder.text("vocab.txt")?.ok_or(VocabularyError::None)?;
            for (id, line) in (0..).zip(text.lines()) {
                let special = matches!(line, "[PAD]" | "[UNK]" | "[CLS]" | "[SEP]" | "[MASK]");
                vocabulary.set(id, line, if special { CONTROL } else { NORMAL }, 0.0)?;
            }
        }
    }
    files.added().iter().for_each(|token| vocabulary.add(token));
    // GGUF marks beginnings of words, WordPiece marks what continues them.
    for (token, kind) in vocabulary.tokens.iter_mut().zip(&vocabulary.types) {
        if *kind != CONTROL {
            *token = token.strip_prefix("##").map_or_else(|| format!("▁{token}"), str::to_owned);
        }
    }
    Ok(vocabulary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(family: Family, size: u32, files: &[(&str, &str)]) -> Result<Vocabulary, String> {
        let place = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(place.path().join(name), content).unwrap();
        }
        let folder = Folder::open(place.path()).unwrap();
        let files = TokenizerFiles::open(&folder).map_err(|error| error.to_string())?;
        Vocabulary::read(&folder, &files, family, size).map_err(|error| error.to_string())
    }

    #[test]
    fn scores_follow_the_order_of_merges() {
        let json = r#"{"model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>",
            "vocab":{"<unk>":0,"<0x0A>":1,"a":2,"b":3,"ab":4,"aba":5},"merges":["a b","ab a","a ba"]},
            "added_tokens":[{"id":6,"content":"<s>","special":true},{"id":7,"content":"▁x","special":false}]}"#;
        let vocabulary = read(Family::Llama, 9, &[("tokenizer.json", json)]).unwrap();
        assert_eq!(vocabulary.scores, [0.0, 0.0, -1003.0, -1003.0, 0.0, -1.0, -1000.0, -1000.0, -10_000.0]);
        assert_eq!(
            vocabulary.types,
            [UNKNOWN, BYTE, NORMAL, NORMAL, NORMAL, NORMAL, CONTROL, USER_DEFINED, UNUSED]
        );
        assert_eq!(vocabulary.tokens[7..], [" x", "[PAD8]"]);
        assert_eq!(vocabulary.space_prefix, Some(false));
    }

    #[test]
    fn word_pieces_become_words_and_continuations() {
        let vocabulary = read(Family::Bert, 5, &[("vocab.txt", "[PAD]\n[CLS]\nthe\n##ing\n!\n")]).unwrap();
        assert_eq!(vocabulary.tokens, ["[PAD]", "[CLS]", "▁the", "ing", "▁!"]);
        assert_eq!(vocabulary.types, [CONTROL, CONTROL, NORMAL, NORMAL, NORMAL]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let unigram = r#"{"model":{"type":"Unigram","vocab":[]}}"#;
        let bpe = r#"{"model":{"type":"BPE","vocab":{"a":5}},"pre_tokenizer":{"type":"ByteLevel"}}"#;
        let cut = r#"{"model":{"type":"BPE","vocab":{"a":0}},"pre_tokenizer":{"type":"Whitespace"}}"#;
        let cases = [
            (Family::Llama, vec![], "the folder has neither tokenizer.json"),
            (
                Family::Llama,
                vec![("tokenizer.json", unigram)],
                "a Unigram tokenizer is not supported for llama models",
            ),
            (Family::Bert, vec![("tokenizer.json", bpe)], "a BPE tokenizer is not supported for bert models"),
            (
                Family::Qwen2,
                vec![("tokenizer.json", bpe)],
                "the token \"a\" has the id 5, but the model has only 3",
            ),
            (
                Family::Qwen2,
                vec![("tokenizer.json", cut)],
                "tokenizer.json cuts text in a way that is not supported",
            ),
            (Family::Llama, vec![("tokenizer.model", "x")], "tokenizer.model is not a SentencePiece model"),
            (Family::Llama, vec![("tokenizer.json", "{")], ""),
        ];
        for (family, files, expected) in cases {
            let error = read(family, 3, &files).err().unwrap();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
