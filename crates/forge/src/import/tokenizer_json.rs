//! The tokenizer.json of a folder: vocabulary, merges and added tokens typed, the rest as it is.
//!
//! Vocabularies have up to 260 000 entries: they are read straight into lists, not into a tree of JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A tokenizer.json.
#[derive(Deserialize)]
pub struct TokenizerJson {
    /// Vocabulary and merges.
    pub model: Model,
    /// Tokens that stand outside of the model's splitting.
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    /// What happens to text first.
    #[serde(default)]
    pub normalizer: Value,
    /// How text is cut into words.
    #[serde(default)]
    pub pre_tokenizer: Value,
    /// What is put around a sequence.
    #[serde(default)]
    pub post_processor: Value,
}

/// The model of a tokenizer.
#[derive(Deserialize)]
pub struct Model {
    /// `BPE`, `WordPiece`, `Unigram`, `WordLevel`. Files of the first versions leave it out.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Tokens and ids.
    #[serde(default)]
    pub vocab: Vocab,
    /// Pairs that are joined, most wanted first.
    #[serde(default)]
    pub merges: Vec<Merge>,
    /// Unknown characters become their bytes.
    #[serde(default)]
    pub byte_fallback: bool,
    /// The token of what is not in the vocabulary.
    #[serde(default)]
    pub unk_token: Option<String>,
}

/// A token that stands outside of the model's splitting.
#[derive(Deserialize, Clone, Debug)]
pub struct AddedToken {
    /// Its number.
    pub id: u32,
    /// Its text.
    pub content: String,
    /// It steers; it is no text.
    #[serde(default)]
    pub special: bool,
}

/// Tokens and ids, in the order of the file.
#[derive(Default)]
pub struct Vocab(pub Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Vocab, D::Error> {
        struct Pairs(PhantomData<()>);
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Vocab(pairs))
            }

            // A Unigram model has a list here. It is refused by its kind, which reads better than a JSON error.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocab::default())
            }
        }
        deserializer.deserialize_any(Pairs(PhantomData))
    }
}

/// Two tokens that are joined: older files write them in one text with a space between.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Merge {
    /// `"t h"`.
    Joined(String),
    /// `["t", "h"]`.
    Pair(String, String),
}

impl Merge {
    /// The two tokens.
    pub fn pair(&self) -> Option<(&str, &str)> {
        match self {
            Merge::Joined(text) => text.split_once(' '),
            Merge::Pair(left, right) => Some((left, right)),
        }
    }

    /// One text, as GGUF has it. A space inside a token becomes `Ġ`, byte-level BPE's sign for it.
    pub fn joined(&self) -> String {
        match self {
            Merge::Joined(text) => text.clone(),
            Merge::Pair(left, right) => format!("{} {}", left.replace(' ', "Ġ"), right.replace(' ', "Ġ")),
        }
    }
}

/// The `added_tokens_decoder` of a tokenizer_config.json, by id.
pub fn added_tokens_decoder(config: &Value) -> Vec<AddedToken> {
    let Some(entries) = config.get("added_tokens_decoder").and_then(Value::as_object) else {
        return Vec::new();
    };
    let entry = |(id, token): (&String, &Value)| {
        let content = token.get("content")?.as_str()?.to_owned();
        let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
        Some(AddedToken { id: id.parse().ok()?, content, special })
    };
    let by_id: BTreeMap<u32, AddedToken> =
        entries.iter().filter_map(entry).map(|token| (token.id, token)).collect();
    by_id.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_merges_and_all_kinds_of_models_are_read() {
        let read = |json: &str| serde_json::from_str::<TokenizerJson>(json);
        let old = read(r#"{"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#).unwrap();
        let new = read(
            r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a","b c"]]},"added_tokens":[{"id":3,"content":"<s>","special":true}]}"#,
        );
        let new = new.unwrap();
        assert_eq!(old.model.merges[0].pair(), Some(("a", "b")));
        assert_eq!(new.model.merges[0].joined(), "a bĠc");
        assert_eq!((old.model.vocab.0.len(), new.added_tokens[0].id), (3, 3));
        let unigram = read(r#"{"model":{"type":"Unigram","vocab":[["a",-1.5]],"unk_id":0}}"#).unwrap();
        assert_eq!(unigram.model.kind.as_deref(), Some("Unigram"));
        for broken in
            ["{}", r#"{"model":{"vocab":{"a":-1}}}"#, r#"{"model":{"vocab":{"a":0},"merges":[["a"]]}}"#]
        {
            assert!(read(broken).is_err(), "{broken}");
        }
    }
}
