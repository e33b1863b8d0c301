//! The bill of materials of a variant: CycloneDX 1.6, with a model card inside.
//!
//! Its fields stand in the order in which they are written. CycloneDX's field for energy asks for a provider and
//! kilowatt-hours, which nobody measured; joules stand among the properties, as do digests.

use serde::Serialize;

use crate::digest::Digest;
use crate::form;
use crate::requirement::Quality;

/// What a bill is made from.
#[derive(Clone, Debug)]
pub struct BomFacts {
    /// The model's name.
    pub model: String,
    /// The release.
    pub release: u64,
    /// The variant's name.
    pub variant: String,
    /// When it was packed, RFC 3339.
    pub created: Option<String>,
    /// SPDX, or the licence's own name.
    pub licence: Option<String>,
    /// The digest of the weights.
    pub weights: Digest,
    /// What it is for: `text-generation`, `text-embedding`, `anomaly-detection`.
    pub task: String,
    /// What it is one of: `llama`.
    pub family: Option<String>,
    /// How it is built: `LlamaForCausalLM`.
    pub architecture: Option<String>,
    /// What goes in: `text`.
    pub inputs: Vec<String>,
    /// What comes out: `text`.
    pub outputs: Vec<String>,
    /// How good it is.
    pub quality: Option<Quality>,
    /// What it should not be used for, or cannot do.
    pub limitations: Vec<String>,
    /// Further facts: key and value.
    pub properties: Vec<(String, String)>,
    /// The layers.
    pub files: Vec<BomFile>,
}

/// A layer.
#[derive(Clone, Debug)]
pub struct BomFile {
    /// Its name.
    pub name: String,
    /// What names its bytes.
    pub digest: Digest,
}

/// Writes the bill. Equal facts are equal bytes.
pub fn bom(facts: &BomFacts) -> Vec<u8> {
    let formats = |words: &[String]| words.iter().map(|format| Format { format: format.clone() }).collect();
    let metrics = facts.quality.iter().map(|quality| Metric {
        metric: quality.metric.clone(),
        value: quality.value.to_string(),
        slice: quality.on.to_string(),
    });
    let limits = &facts.limitations;
    let card = ModelCard {
        model_parameters: Parameters {
            task: &facts.task,
            architecture_family: facts.family.as_deref(),
            model_architecture: facts.architecture.as_deref(),
            inputs: formats(&facts.inputs),
            outputs: formats(&facts.outputs),
        },
        quantitative_analysis: Analysis { performance_metrics: metrics.collect() },
        considerations: (!limits.is_empty()).then_some(Considerations { technical_limitations: limits }),
        properties: facts.properties.iter().map(|(name, value)| Property { name, value }).collect(),
    };
    let model = Component {
        kind: "machine-learning-model",
        bom_ref: "model".to_owned(),
        name: format!("{} {}", facts.model, facts.variant),
        version: Some(facts.release.to_string()),
        hashes: [Hashed::of(facts.weights)],
        licenses: facts.licence.iter().map(|licence| Licence::of(licence)).collect(),
        model_card: Some(card),
    };
    let file = |(at, file): (usize, &BomFile)| Component {
        kind: "file",
        bom_ref: format!("file-{at}"),
        name: file.name.clone(),
        version: None,
        hashes: [Hashed::of(file.digest)],
        licenses: Vec::new(),
        model_card: None,
    };
    form::write(&Bom {
        bom_format: "CycloneDX",
        spec_version: "1.6",
        version: 1,
        metadata: Metadata { timestamp: facts.created.as_deref(), component: model },
        components: facts.files.iter().enumerate().map(file).collect(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom<'a> {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    metadata: Metadata<'a>,
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<&'a str>,
    component: Component<'a>,
}

#[derive(Serialize)]
struct Component<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    bom_ref: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    hashes: [Hashed; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence>,
    #[serde(rename = "modelCard", skip_serializing_if = "Option::is_none")]
    model_card: Option<ModelCard<'a>>,
}

#[derive(Serialize)]
struct Hashed {
    alg: &'static str,
    content: String,
}

impl Hashed {
    fn of(digest: Digest) -> Hashed {
        Hashed { alg: "SHA-256", content: digest.hex() }
    }
}

/// CycloneDX takes ids that SPDX lists, expressions of them, and any name.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Licence {
    License(Named),
    #[serde(untagged)]
    Expression {
        expression: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Named {
    Id(String),
    Name(String),
}

impl Licence {
    fn of(text: &str) -> Licence {
        /// Those that models have most often; others are valid as names.
        const LISTED: [&str; 12] = [
            "Apache-2.0",
            "MIT",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "CC0-1.0",
            "CC-BY-4.0",
            "CC-BY-SA-4.0",
            "CC-BY-NC-4.0",
            "CC-BY-NC-SA-4.0",
            "GPL-3.0-only",
            "AGPL-3.0-only",
            "MPL-2.0",
        ];
        match text {
            id if LISTED.contains(&id) => Licence::License(Named::Id(id.to_owned())),
            terms if [" OR ", " AND ", " WITH "].iter().any(|word| terms.contains(word)) => {
                Licence::Expression { expression: terms.to_owned() }
            }
            name => Licence::License(Named::Name(name.to_owned())),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelCard<'a> {
    model_parameters: Parameters<'a>,
    quantitative_analysis: Analysis,
    #[serde(skip_serializing_if = "Option::is_none")]
    considerations: Option<Considerations<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    task: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture_family: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_architecture: Option<&'a str>,
    inputs: Vec<Format>,
    outputs: Vec<Format>,
}

#[derive(Serialize)]
struct Format {
    format: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Analysis {
    performance_metrics: Vec<Metric>,
}

#[derive(Serialize)]
struct Metric {
    #[serde(rename = "type")]
    metric: String,
    value: String,
    slice: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Considerations<'a> {
    technical_limitations: &'a [String],
}

#[derive(Serialize)]
struct Property<'a> {
    name: &'a str,
    value: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::requirement::Better;

    fn facts() -> BomFacts {
        let on = Digest::of(b"text");
        BomFacts {
            model: "smollm2".into(),
            release: 7,
            variant: "q4_k_m".into(),
            created: Some("2026-11-21T20:00:00Z".into()),
            licence: Some("Apache-2.0".into()),
            weights: Digest::of(b"GGUF"),
            task: "text-generation".into(),
            family: Some("llama".into()),
            architecture: None,
            inputs: vec!["text".into()],
            outputs: vec!["text".into()],
            quality: Some(Quality { metric: "perplexity".into(), value: 12.31, better: Better::Lower, on }),
            limitations: vec!["It may be wrong.".into()],
            properties: vec![("dev.selvedge.joules".into(), "0.5".into())],
            files: vec![BomFile { name: "model.gguf".into(), digest: Digest::of(b"GGUF") }],
        }
    }

    #[test]
    fn written_as_cyclonedx_has_it() {
        let bytes = bom(&facts());
        assert!(
            bytes.starts_with(br#"{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"metadata":"#)
        );
        let gguf = Digest::of(b"GGUF").hex();
        let expected = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "timestamp": "2026-11-21T20:00:00Z",
                "component": {
                    "type": "machine-learning-model",
                    "bom-ref": "model",
                    "name": "smollm2 q4_k_m",
                    "version": "7",
                    "hashes": [{"alg": "SHA-256", "content": gguf}],
                    "licenses": [{"license": {"id": "Apache-2.0"}}],
                    "modelCard": {
                        "modelParameters": {
                            "task": "text-generation",
                            "architectureFamily": "llama",
                            "inputs": [{"format": "text"}],
                            "outputs": [{"format": "text"}],
                        },
                        "quantitativeAnalysis": {"performanceMetrics": [
                            {"type": "perplexity", "value": "12.31", "slice": Digest::of(b"text").to_string()},
                        ]},
                        "considerations": {"technicalLimitations": ["It may be wrong."]},
                        "properties": [{"name": "dev.selvedge.joules", "value": "0.5"}],
                    },
                },
            },
            "components": [
                {"type": "file", "bom-ref": "file-0", "name": "model.gguf",
                 "hashes": [{"alg": "SHA-256", "content": gguf}]},
            ],
        });
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    }

    #[test]
    fn licences_in_the_three_ways() {
        fn check(licence: &str, expected: Value) {
            assert_eq!(serde_json::to_value(Licence::of(licence)).unwrap(), expected);
        }
        check("MIT", json!({"license": {"id": "MIT"}}));
        check("MIT OR Apache-2.0", json!({"expression": "MIT OR Apache-2.0"}));
        check("llama3.2", json!({"license": {"name": "llama3.2"}}));
    }
}
