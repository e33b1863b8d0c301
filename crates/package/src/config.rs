//! A model's config in ModelPack's words: what it is, for catalogues and people. We decide nothing by it.
//!
//! The published schema knows these fields and no others, so what we write has no others; what strangers write may.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::form::{self, FormError};

/// `application/vnd.cncf.model.config.v1+json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Where the model comes from.
    pub descriptor: About,
    /// What kind of model it is.
    pub config: Shape,
    /// Its layers.
    pub modelfs: ModelFs,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct About {
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// What it is one of: `llama3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where to read about it.
    #[serde(rename = "docURL", skip_serializing_if = "Option::is_none")]
    pub doc_url: Option<String>,
    /// Where it was built from.
    #[serde(rename = "sourceURL", skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// What it was trained on.
    #[serde(rename = "datasetsURL", skip_serializing_if = "Vec::is_empty")]
    pub datasets_url: Vec<String>,
    /// Its version; ours is the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it was built from, in the words of its source control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Who hands it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// SPDX expressions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<String>,
    /// Its name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What kind of model it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Shape {
    /// `transformer`, `cnn`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// `gguf`, `onnx`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// How many weights, see [`param_size`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param_size: Option<String>,
    /// What one number is computed as: `float16`. Absent where blocks share a scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// How weights are packed: `Q4_K_M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// What it takes and gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
}

/// What a model takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    /// What goes in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input_types: Vec<Modality>,
    /// What comes out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output_types: Vec<Modality>,
    /// Until when it knows of the world, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knowledge_cutoff: Option<String>,
    /// Whether it thinks before it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<bool>,
    /// Whether it calls functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_usage: Option<bool>,
    /// Whether it judges others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<bool>,
    /// ISO 639 codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
}

/// What can go into a model or come out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// Words.
    Text,
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// Pictures that move.
    Video,
    /// A vector that stands for something.
    Embedding,
    /// Anything else, a word of a later version too.
    #[serde(other)]
    Other,
}

/// A model's layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of what is in the layers, in order. Raw layers hold just that, so these are their own digests.
    #[serde(rename = "diffIds")]
    pub diff_ids: Vec<Digest>,
}

impl Default for ModelFs {
    fn default() -> ModelFs {
        ModelFs { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

impl ModelConfig {
    /// Reads a config of at most [`form::DOCUMENT_MAX_BYTES`], with fields of others left out.
    pub fn parse(bytes: &[u8]) -> Result<ModelConfig, FormError> {
        form::read("ModelPack config", bytes)
    }

    /// The config as JSON: compact, with the fields that the schema allows.
    pub fn to_bytes(&self) -> Vec<u8> {
        form::write(self)
    }
}

/// How many weights, as ModelPack writes it: `135m`, `1.7b`; one decimal at most, and not below a thousand.
pub fn param_size(weights: u64) -> String {
    let scales = [(1_000_000_000_000, "t"), (1_000_000_000, "b"), (1_000_000, "m")];
    let (scale, letter) = scales.into_iter().find(|(scale, _)| weights >= *scale).unwrap_or((1_000, "k"));
    let (weights, scale) = (u128::from(weights), u128::from(scale));
    let tenths = (weights * 10 + scale / 2) / scale;
    match tenths % 10 {
        0 => format!("{}{letter}", tenths / 10),
        tenth => format!("{}.{tenth}{letter}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Everything that can be said.
    fn full() -> ModelConfig {
        let word = || Some("x".to_owned());
        ModelConfig {
            descriptor: About {
                created_at: Some("2026-11-21T20:00:00Z".into()),
                authors: vec!["x".into()],
                family: word(),
                name: word(),
                doc_url: word(),
                source_url: word(),
                datasets_url: vec!["x".into()],
                version: word(),
                revision: word(),
                vendor: word(),
                licenses: vec!["Apache-2.0".into()],
                title: word(),
                description: word(),
            },
            config: Shape {
                architecture: word(),
                format: Some("gguf".into()),
                param_size: Some(param_size(134_515_008)),
                precision: Some("float16".into()),
                quantization: Some("Q4_K_M".into()),
                capabilities: Some(Capabilities {
                    input_types: vec![Modality::Text],
                    output_types: vec![Modality::Text, Modality::Embedding],
                    knowledge_cutoff: Some("2025-01-01T00:00:00Z".into()),
                    reasoning: Some(false),
                    tool_usage: Some(true),
                    reward: Some(false),
                    languages: vec!["en".into()],
                }),
            },
            modelfs: ModelFs { diff_ids: vec![Digest::of(b"x")], ..ModelFs::default() },
        }
    }

    /// The fields of the published schema, which allows no others.
    #[test]
    fn the_fields_are_those_of_the_schema() {
        let value: Value = serde_json::from_slice(&full().to_bytes()).unwrap();
        fn check(value: &Value, at: &str, fields: &str) {
            let mut found: Vec<&str> =
                value.pointer(at).unwrap().as_object().unwrap().keys().map(String::as_str).collect();
            let mut expected: Vec<&str> = fields.split(' ').collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{at}");
        }
        check(&value, "", "descriptor config modelfs");
        check(
            &value,
            "/descriptor",
            "createdAt authors family name docURL sourceURL datasetsURL version revision vendor licenses title \
             description",
        );
        check(&value, "/config", "architecture format paramSize precision quantization capabilities");
        check(
            &value,
            "/config/capabilities",
            "inputTypes outputTypes knowledgeCutoff reasoning toolUsage reward languages",
        );
        check(&value, "/modelfs", "type diffIds");
        assert_eq!(value["modelfs"]["type"], "layers");
        assert_eq!(value["config"]["paramSize"], "134.5m");
        assert_eq!(value["config"]["capabilities"]["outputTypes"], json!(["text", "embedding"]));
        assert_eq!(ModelConfig::parse(&full().to_bytes()).unwrap(), full());
    }

    #[test]
    fn what_is_not_said_is_not_written() {
        let config = ModelConfig { modelfs: full().modelfs, ..ModelConfig::default() };
        let digest = Digest::of(b"x");
        let expected = format!(
            r#"{{"descriptor":{{}},"config":{{}},"modelfs":{{"type":"layers","diffIds":["{digest}"]}}}}"#
        );
        assert_eq!(String::from_utf8(config.to_bytes()).unwrap(), expected);
    }

    #[test]
    fn strangers_may_say_more() {
        let text = br#"{"descriptor":{"mood":"good"},"config":{"capabilities":{"inputTypes":["smell"]}},"modelfs":{"type":"layers","diffIds":[]},"more":1}"#;
        let read = ModelConfig::parse(text).unwrap();
        assert_eq!(read.config.capabilities.unwrap().input_types, [Modality::Other]);
        assert!(ModelConfig::parse(b"{}").is_err());
    }

    #[test]
    fn sizes_in_their_words() {
        fn check(weights: u64, expected: &str) {
            assert_eq!(param_size(weights), expected);
        }
        check(134_515_008, "134.5m");
        check(1_711_376_384, "1.7b");
        check(8_000_000_000, "8b");
        check(260_000, "260k");
        check(0, "0k");
        check(u64::MAX, "18446744.1t");
    }
}
