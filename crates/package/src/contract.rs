//! What goes into a variant and what comes out, as its layer `input` says it: enough to see whether two things belong
//! together before either is loaded.
//!
//! Made by `pack` from the file itself, read by whoever asks what a package is. Names are strangers' words: short, and without
//! control characters.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::form::{self, FormError, wrong_value};

/// The most entries of each list of a contract.
pub const ENTRIES_MAX: usize = 1024;
/// The longest name, in bytes.
pub const NAME_MAX_BYTES: usize = 256;
/// The form that is written and read.
const FORM: u32 = 1;
/// What `Display` tells of a list.
const TOLD: usize = 4;

/// What a variant that is no language model takes and gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Contract {
    /// Tensors to tensors.
    Net(Net),
    /// A correction of a model.
    Adapter(Adapter),
    /// Readings to scores.
    Detector(Detector),
    /// Sources, detectors and rules that belong together.
    Flow(Flow),
}

/// What a graph takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Net {
    /// What goes in, in the graph's order.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
    /// The version of each set of operators, by the set's name: `ai.onnx`.
    pub opsets: BTreeMap<String, u64>,
    /// The operators it is made of, sorted; those of other sets than `ai.onnx` as `set.Operator`.
    pub operators: Vec<String>,
}

/// A tensor with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What one element is: `float32`.
    #[serde(rename = "type")]
    pub element: String,
    /// The size of each dimension, slowest first; `None` if even their number is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<Extent>>,
}

/// The size of a dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Extent {
    /// Always this.
    Fixed(u64),
    /// Free, but the same wherever the name stands: `batch`.
    Named(String),
    /// Free.
    Free,
}

/// What an adapter corrects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// The family of its base: `llama`.
    pub architecture: String,
    /// The name of its base, as the file says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The largest rank of a correction.
    pub rank: u64,
    /// Corrections count `alpha / rank`; 0: as they stand.
    pub alpha: f32,
    /// Tensors that are corrected.
    pub tensors: u64,
}

/// What a detector looks at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// The channels of its source, in order.
    pub channels: Vec<String>,
    /// Readings that it looks at together.
    pub window: u64,
    /// Readings that it has learnt from.
    pub samples: u64,
    /// Whether it judges from its first reading on.
    pub learnt: bool,
}

/// What a flow is made of, and asks its place for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Where readings come from.
    pub sources: Vec<Source>,
    /// What watches them.
    pub detectors: Vec<Watch>,
    /// What is decided, by name.
    pub rules: Vec<String>,
}

/// Where a flow's readings come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// `http`, `replay`, `simulated`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its channels, if the flow says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// A file that must lie where the flow runs: it does not travel with the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A detector of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Its name.
    pub name: String,
    /// The source it watches.
    pub source: String,
    /// Readings that it looks at together.
    pub window: u64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    form: u32,
    #[serde(flatten)]
    contract: Contract,
}

impl Contract {
    /// Reads a contract of at most [`form::DOCUMENT_MAX_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Contract, FormError> {
        let Document { form, contract } = form::read("input contract", bytes)?;
        if form != FORM {
            let found = form.to_string();
            return Err(FormError::Unsupported { what: "form of an input contract", found, known: "1" });
        }
        contract.check()?;
        Ok(contract)
    }

    /// The contract as JSON. Equal contracts are equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        form::write(&Document { form: FORM, contract: self.clone() })
    }

    /// Names are short and plain, lists are not endless.
    pub fn check(&self) -> Result<(), FormError> {
        let few = |what: &'static str, found: usize| match found > ENTRIES_MAX {
            true => Err(FormError::TooMany { what, found, most: ENTRIES_MAX }),
            false => Ok(()),
        };
        let mut names: Vec<&String> = Vec::new();
        match self {
            Contract::Net(Net { inputs, outputs, opsets, operators }) => {
                few("inputs", inputs.len())?;
                few("outputs", outputs.len())?;
                few("sets of operators", opsets.len())?;
                few("operators", operators.len())?;
                names.extend(opsets.keys().chain(operators));
                for port in inputs.iter().chain(outputs) {
                    few("dimensions", port.shape.as_ref().map_or(0, Vec::len))?;
                    names.extend([&port.name, &port.element]);
                    names.extend(port.shape.iter().flatten().filter_map(|extent| match extent {
                        Extent::Named(name) => Some(name),
                        Extent::Fixed(_) | Extent::Free => None,
                    }));
                }
            }
            Contract::Adapter(Adapter { architecture, base, .. }) => {
                names.push(architecture);
                names.extend(base);
            }
            Contract::Detector(Detector { channels, .. }) => {
                few("channels", channels.len())?;
                names.extend(channels);
            }
            Contract::Flow(Flow { sources, detectors, rules }) => {
                few("sources", sources.len())?;
                few("detectors", detectors.len())?;
                few("rules", rules.len())?;
                for source in sources {
                    few("channels", source.channels.as_ref().map_or(0, Vec::len))?;
                    names.extend([&source.name, &source.kind]);
                    names.extend(source.channels.iter().flatten().chain(&source.file));
                }
                names.extend(detectors.iter().flat_map(|watch| [&watch.name, &watch.source]));
                names.extend(rules);
            }
        }
        let odd = |name: &&&String| name.len() > NAME_MAX_BYTES || name.chars().any(char::is_control);
        match names.iter().find(odd) {
            Some(name) => Err(wrong_value("a name of the input contract", name, "short and plain, please")),
            None => Ok(()),
        }
    }
}

/// The first of a list, and how many more there are.
fn few<T: fmt::Display>(list: impl ExactSizeIterator<Item = T>) -> String {
    let more = list.len().saturating_sub(TOLD);
    let mut words: Vec<String> = list.take(TOLD).map(|one| format!("{one}")).collect();
    if more > 0 {
        words.push(format!("{more} more"));
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contract::Net(Net { inputs, outputs, opsets, operators }) => {
                write!(f, "{} → {}", few(inputs.iter()), few(outputs.iter()))?;
                write!(f, "; {} operators of ", operators.len())?;
                f.write_str(&few(opsets.iter().map(|(set, version)| format!("{set} {version}"))))
            }
            Contract::Adapter(Adapter { architecture, base, rank, tensors, .. }) => {
                let base = base.as_deref().unwrap_or("a base that it does not name");
                write!(f, "LoRA of rank {rank} on {tensors} tensors of {architecture} models, for {base}")
            }
            Contract::Detector(Detector { channels, window, samples, learnt }) => {
                let state = if *learnt { "learnt" } else { "still learning" };
                write!(f, "{} channels ({}), ", channels.len(), few(channels.iter()))?;
                write!(f, "{window} readings at once; {state}, from {samples} readings")
            }
            Contract::Flow(Flow { sources, detectors, rules }) => {
                let source = |source: &Source| format!("{} ({})", source.name, source.kind);
                write!(f, "sources {}; ", few(sources.iter().map(source)))?;
                write!(f, "detectors {}; ", few(detectors.iter().map(|watch| &watch.name)))?;
                write!(f, "rules {}", few(rules.iter()))?;
                let files: Vec<&String> = sources.iter().filter_map(|source| source.file.as_ref()).collect();
                match files.is_empty() {
                    true => Ok(()),
                    false => write!(f, "; it reads {}, not in the package", few(files.into_iter())),
                }
            }
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Port { name, element, shape } = self;
        let shape = shape.as_ref().map(|shape| shape.iter().map(ToString::to_string).collect::<Vec<_>>());
        let shape = shape.map_or_else(|| "…".to_owned(), |shape| shape.join("×"));
        write!(f, "{name} {element}[{shape}]")
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Fixed(size) => size.fmt(f),
            Extent::Named(name) => f.write_str(name),
            Extent::Free => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Contract; 4] {
        let shape = vec![Extent::Named("batch".into()), Extent::Fixed(3), Extent::Free];
        let port = |name: &str, shape| Port { name: name.into(), element: "float32".into(), shape };
        [
            Contract::Net(Net {
                inputs: vec![port("x", Some(shape))],
                outputs: vec![port("y", None), port("z", Some(vec![]))],
                opsets: BTreeMap::from([("ai.onnx".into(), 17)]),
                operators: vec!["Conv".into(), "Relu".into()],
            }),
            Contract::Adapter(Adapter {
                architecture: "llama".into(),
                rank: 8,
                tensors: 3,
                ..Adapter::default()
            }),
            Contract::Detector(Detector {
                channels: vec!["a".into(); 6],
                window: 10,
                samples: 7,
                learnt: true,
            }),
            Contract::Flow(Flow {
                sources: vec![Source {
                    name: "pump".into(),
                    kind: "replay".into(),
                    channels: None,
                    file: Some("pump.csv".into()),
                }],
                detectors: vec![Watch { name: "health".into(), source: "pump".into(), window: 10 }],
                rules: vec![],
            }),
        ]
    }

    #[test]
    fn contracts_read_back_and_speak() {
        let said = [
            "x float32[batch×3×?] → y float32[…], z float32[]; 2 operators of ai.onnx 17",
            "LoRA of rank 8 on 3 tensors of llama models, for a base that it does not name",
            "6 channels (a, a, a, a, 2 more), 10 readings at once; learnt, from 7 readings",
            "sources pump (replay); detectors health; rules nothing; it reads pump.csv, not in the package",
        ];
        for (contract, said) in all().into_iter().zip(said) {
            assert_eq!(Contract::parse(&contract.to_bytes()).unwrap(), contract);
            assert_eq!(contract.to_string(), said);
        }
        assert!(all()[0].to_bytes().starts_with(br#"{"form":1,"kind":"net","inputs":[{"name":"x""#));
    }

    #[test]
    fn strangers_contracts_are_bounded() {
        let refused = |bytes: &[u8]| assert!(Contract::parse(bytes).is_err(), "{}", bytes.escape_ascii());
        for bytes in [&b""[..], b"{}", br#"{"form":1,"kind":"song"}"#, br#"{"form":2,"kind":"flow"}"#] {
            refused(bytes);
        }
        for name in ["\u{1b}[2J".to_owned(), "x".repeat(NAME_MAX_BYTES + 1)] {
            let detector = Detector { channels: vec![name], ..Detector::default() };
            refused(&Contract::Detector(detector).to_bytes());
        }
        let many = Detector { channels: vec!["a".into(); ENTRIES_MAX + 1], ..Detector::default() };
        refused(&Contract::Detector(many).to_bytes());
        let deep = Contract::Flow(Flow::default()).to_bytes();
        let later = String::from_utf8(deep).unwrap().replace(r#""form":1"#, r#""form":2"#);
        assert!(matches!(Contract::parse(later.as_bytes()), Err(FormError::Unsupported { .. })));
    }
}
