//! What a variant asks of a device and what was measured of it, as annotations and as types.
//!
//! Annotations are strings that a signature covers; here is the one place that knows what they mean. A value that cannot
//! be read is an error, never a requirement less.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::form::{Annotations, FormError, decimal, wrong_value};
use crate::media;
use crate::name::is_part;

/// The most alternatives of instruction sets, and the most measurements of one annotation.
const LIST_MAX: usize = 64;

/// What kind of thing a variant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A language model.
    Lm,
    /// A network with tensors in and out.
    Net,
    /// Weights that change those of a base.
    Adapter,
    /// Parameters of an anomaly detector.
    Detector,
    /// Sources, models and rules that belong together.
    Flow,
    /// A word of a later version.
    Other(Box<str>),
}

/// What runs a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Our engine for language models.
    Lm,
    /// A runtime for ONNX graphs.
    Onnx,
    /// Our detectors.
    Signal,
    /// The node's pipeline.
    Flow,
    /// A word of a later version.
    Other(Box<str>),
}

impl Kind {
    /// Reads what `Display` writes.
    pub fn of_word(word: &str) -> Kind {
        match word {
            "lm" => Kind::Lm,
            "net" => Kind::Net,
            "adapter" => Kind::Adapter,
            "detector" => Kind::Detector,
            "flow" => Kind::Flow,
            other => Kind::Other(other.into()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Lm => "lm",
            Kind::Net => "net",
            Kind::Adapter => "adapter",
            Kind::Detector => "detector",
            Kind::Flow => "flow",
            Kind::Other(word) => word,
        })
    }
}

impl Runtime {
    /// Reads what `Display` writes.
    pub fn of_word(word: &str) -> Runtime {
        match word {
            "lm" => Runtime::Lm,
            "onnx" => Runtime::Onnx,
            "signal" => Runtime::Signal,
            "flow" => Runtime::Flow,
            other => Runtime::Other(other.into()),
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Runtime::Lm => "lm",
            Runtime::Onnx => "onnx",
            Runtime::Signal => "signal",
            Runtime::Flow => "flow",
            Runtime::Other(word) => word,
        })
    }
}

/// A version of ours: three numbers, compared from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `1.2.3`. `None` for anything else, pre-releases too.
    pub fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split('.').map(|part| u32::try_from(decimal(part)?).ok());
        let version = Version(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// One set of instructions that is enough: `x86_64+avx2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsaNeed {
    /// The architecture, in Rust's word.
    pub arch: String,
    /// What it must have, in the words of `kernels::cpu`.
    pub isa: Vec<String>,
}

impl IsaNeed {
    fn parse(text: &str) -> Option<IsaNeed> {
        let word = |word: &str| {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            ((1..=32).contains(&word.len()) && word.chars().all(known)).then(|| word.to_owned())
        };
        let mut words = text.split('+').map(word);
        Some(IsaNeed { arch: words.next()??, isa: words.collect::<Option<_>>()? })
    }
}

impl fmt::Display for IsaNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arch)?;
        self.isa.iter().try_for_each(|word| write!(f, "+{word}"))
    }
}

/// What a variant asks of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requires {
    /// Memory that running takes at `context`, in bytes.
    pub ram_bytes: u64,
    /// Disk that its blobs take, in bytes.
    pub disk_bytes: u64,
    /// Instruction sets, one of which is enough. Empty: any processor will do.
    pub isa: Vec<IsaNeed>,
    /// An accelerator, such as `cuda`.
    pub accelerator: Option<String>,
    /// The least version of ours.
    pub selvedge: Version,
    /// Tokens that `ram_bytes` is reckoned with; `None` for what has no context.
    pub context: Option<u64>,
}

impl Requires {
    /// Reads a manifest's annotations.
    pub fn read(annotations: &Annotations) -> Result<Requires, FormError> {
        let text = |key| required(annotations, key);
        Ok(Requires {
            ram_bytes: number(media::REQUIRES_RAM, text(media::REQUIRES_RAM)?)?,
            disk_bytes: number(media::REQUIRES_DISK, text(media::REQUIRES_DISK)?)?,
            isa: isa(text(media::REQUIRES_ISA)?)?,
            accelerator: accelerator(text(media::REQUIRES_ACCELERATOR)?)?,
            selvedge: version(text(media::REQUIRES_SELVEDGE)?)?,
            context: annotations.get(media::CONTEXT).map(|text| number(media::CONTEXT, text)).transpose()?,
        })
    }

    /// Adds the annotations that [`Requires::read`] reads.
    pub fn write(&self, annotations: &mut Annotations) {
        let alternatives: Vec<String> = self.isa.iter().map(ToString::to_string).collect();
        let isa = if alternatives.is_empty() { "any".to_owned() } else { alternatives.join(",") };
        let mut note = |key: &str, value: String| drop(annotations.insert(key.to_owned(), value));
        note(media::REQUIRES_RAM, self.ram_bytes.to_string());
        note(media::REQUIRES_DISK, self.disk_bytes.to_string());
        note(media::REQUIRES_ISA, isa);
        note(media::REQUIRES_ACCELERATOR, self.accelerator.clone().unwrap_or_else(|| "none".to_owned()));
        note(media::REQUIRES_SELVEDGE, self.selvedge.to_string());
        if let Some(context) = self.context {
            note(media::CONTEXT, context.to_string());
        }
    }
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// As of an error or a perplexity.
    Lower,
    /// As of a share of right answers.
    Higher,
}

/// How good answers are, by one measure on one set of inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// What was measured: `perplexity`, `f1`.
    pub metric: String,
    /// The figure.
    pub value: f64,
    /// Which way is good.
    pub better: Better,
    /// What it was measured on.
    pub on: Digest,
}

impl Quality {
    /// Whether the two can be compared: one measure, one set of inputs.
    pub fn is_comparable(&self, other: &Quality) -> bool {
        (&self.metric, self.better, self.on) == (&other.metric, other.better, other.on)
    }
}

/// What answers cost on one machine. What was not measured there is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The fingerprint of the machine.
    pub machine: Digest,
    /// Its processor, for people.
    pub cpu: String,
    /// Milliseconds until the first token of the golden prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_ms: Option<f64>,
    /// Milliseconds of a token or a window, which 95 of 100 did not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_p95_ms: Option<f64>,
    /// Energy of a token or a window, in joules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
}

/// The fingerprint of machines like one with this processor: what was measured on one of them holds for the others.
pub fn fingerprint(cpu: &str, arch: &str, isa: &[&str], cores: usize) -> Digest {
    let mut isa = isa.to_vec();
    isa.sort_unstable();
    Digest::of(format!("{cpu}\n{arch}\n{}\n{cores}", isa.join(",")).as_bytes())
}

/// Reads a quality; `None` if there is none.
pub fn quality(annotations: &Annotations) -> Result<Option<Quality>, FormError> {
    let Some(text) = annotations.get(media::QUALITY) else { return Ok(None) };
    let quality = serde_json::from_str(text).map_err(|error| wrong_value(media::QUALITY, text, error))?;
    Ok(Some(quality))
}

/// Reads the measurements under [`media::LATENCY`] or [`media::ENERGY`]; none if the key is not there.
pub fn measurements(annotations: &Annotations, key: &'static str) -> Result<Vec<Measurement>, FormError> {
    let Some(text) = annotations.get(key) else { return Ok(Vec::new()) };
    let list: Vec<Measurement> = serde_json::from_str(text).map_err(|error| wrong_value(key, text, error))?;
    let honest = |figure: &Option<f64>| figure.is_none_or(|figure| figure >= 0.0);
    if list.len() > LIST_MAX {
        return Err(FormError::TooMany { what: "measurements", found: list.len(), most: LIST_MAX });
    }
    for one in &list {
        if ![one.prompt_ms, one.token_p95_ms, one.joules].iter().all(honest) {
            return Err(wrong_value(key, text, "nothing takes less than no time and no energy"));
        }
    }
    Ok(list)
}

/// A value that must be there.
pub fn required<'a>(annotations: &'a Annotations, key: &'static str) -> Result<&'a str, FormError> {
    annotations.get(key).map(String::as_str).ok_or(FormError::Missing { key })
}

/// A number of an annotation.
pub fn number(key: &'static str, text: &str) -> Result<u64, FormError> {
    decimal(text).ok_or_else(|| wrong_value(key, text, "must be a number, digits alone"))
}

fn version(text: &str) -> Result<Version, FormError> {
    Version::parse(text)
        .ok_or_else(|| wrong_value(media::REQUIRES_SELVEDGE, text, "must be a version as 1.2.3"))
}

fn accelerator(text: &str) -> Result<Option<String>, FormError> {
    match text {
        "none" => Ok(None),
        word if word.len() <= 32 && is_part(word) => Ok(Some(word.to_owned())),
        _ => Err(wrong_value(media::REQUIRES_ACCELERATOR, text, "must be none, or one word such as cuda")),
    }
}

fn isa(text: &str) -> Result<Vec<IsaNeed>, FormError> {
    if text == "any" {
        return Ok(Vec::new());
    }
    let found = text.split(',').count();
    if found > LIST_MAX {
        return Err(FormError::TooMany { what: "instruction sets", found, most: LIST_MAX });
    }
    let needs: Option<Vec<IsaNeed>> = text.split(',').map(IsaNeed::parse).collect();
    needs.ok_or_else(|| {
        wrong_value(
            media::REQUIRES_ISA,
            text,
            "must be any, or alternatives such as x86_64+avx2,aarch64+neon",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Requires {
        Requires {
            ram_bytes: 1_500_000_000,
            disk_bytes: 0,
            isa: vec![
                IsaNeed { arch: "x86_64".into(), isa: vec!["avx2".into()] },
                IsaNeed { arch: "riscv64".into(), isa: vec![] },
            ],
            accelerator: None,
            selvedge: Version(0, 2, 10),
            context: Some(2048),
        }
    }

    #[test]
    fn requirements_read_back() {
        let mut annotations = Annotations::new();
        some().write(&mut annotations);
        assert_eq!(annotations[media::REQUIRES_ISA], "x86_64+avx2,riscv64");
        assert_eq!(annotations[media::REQUIRES_ACCELERATOR], "none");
        assert_eq!(Requires::read(&annotations).unwrap(), some());
        let any = Requires { isa: vec![], accelerator: Some("cuda".into()), context: None, ..some() };
        let mut annotations = Annotations::new();
        any.write(&mut annotations);
        assert_eq!(annotations[media::REQUIRES_ISA], "any");
        assert_eq!(Requires::read(&annotations).unwrap(), any);
    }

    #[test]
    fn an_unreadable_requirement_is_not_none() {
        let mut annotations = Annotations::new();
        some().write(&mut annotations);
        let keys: Vec<String> = annotations.keys().filter(|key| *key != media::CONTEXT).cloned().collect();
        for key in &keys {
            let mut without = annotations.clone();
            without.remove(key);
            assert!(matches!(Requires::read(&without), Err(FormError::Missing { .. })), "{key}");
        }
        fn check(annotations: &Annotations, key: &str, value: &str) {
            let mut changed = annotations.clone();
            changed.insert(key.into(), value.into());
            assert!(matches!(Requires::read(&changed), Err(FormError::Value { .. })), "{key} {value}");
        }
        for value in ["", "-1", "1e9", "1 GiB"] {
            check(&annotations, media::REQUIRES_RAM, value);
        }
        for value in ["", "x86_64+", "+avx2", "x86_64 avx2", "X86_64", "x86_64,,aarch64"] {
            check(&annotations, media::REQUIRES_ISA, value);
        }
        for value in ["", "None", "cuda,rocm", "\u{1b}[2J"] {
            check(&annotations, media::REQUIRES_ACCELERATOR, value);
        }
        for value in ["1", "1.2", "1.2.3.4", "1.2.3-rc1", "v1.2.3", "1.2.4294967296"] {
            check(&annotations, media::REQUIRES_SELVEDGE, value);
        }
    }

    #[test]
    fn versions_are_numbers() {
        assert!(Version::parse("0.10.0") > Version::parse("0.9.9"));
        assert_eq!(Version(1, 2, 3).to_string(), "1.2.3");
    }

    #[test]
    fn qualities_read_back() {
        let on = Digest::of(b"text");
        let text = format!(r#"{{"metric":"perplexity","value":12.31,"better":"lower","on":"{on}"}}"#);
        let annotations = Annotations::from([(media::QUALITY.to_owned(), text.clone())]);
        let read = quality(&annotations).unwrap().unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(read.is_comparable(&Quality { value: 1.0, ..read.clone() }));
        assert!(!read.is_comparable(&Quality { better: Better::Higher, ..read.clone() }));
        let wrong = Annotations::from([(media::QUALITY.to_owned(), text.replace("12.31", "null"))]);
        assert!(quality(&wrong).is_err());
        assert_eq!(quality(&Annotations::new()).unwrap(), None);
    }

    #[test]
    fn measurements_are_never_negative() {
        let machine = Digest::of(b"m");
        let read = |figure: &str| {
            let text = format!(r#"[{{"machine":"{machine}","cpu":"n100","token_p95_ms":{figure}}}]"#);
            measurements(&Annotations::from([(media::LATENCY.to_owned(), text)]), media::LATENCY)
        };
        assert_eq!(read("41.5").unwrap()[0].token_p95_ms, Some(41.5));
        assert!(read("-1").is_err());
        assert!(read("1e999").is_err());
        assert!(measurements(&Annotations::new(), media::ENERGY).unwrap().is_empty());
    }
}
