//! Reads `[policy]` of `node.toml`: what leaves the node.
//!
//! ```toml
//! [policy]
//! leaves = "features"           # or "everything", "events", "nothing", or a list of classes
//! words = "plain"               # or "hidden": names of channels and free texts; with "events" it is hidden
//! keep = { raw = "7d" }         # without it as long as there is room
//! [policy.source.bed_7]
//! leaves = "events"
//! drop = ["ecg"]
//! round = { temperature = 0.5 }
//! subject = "patient-17"
//! [policy.region.eu]            # where the node's label `region` is "eu"
//! leaves = "events"
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use wire::class::Class;
use wire::id::PartName;

use super::part::{Part, Placed};
use super::problem::did_you_mean;
use super::quantity::duration_ms;
use crate::policy::{Policy, Say};

/// What leaves without a policy, as it would be written.
pub const LEAVES_SHOWN: &str = "[\"audit\", \"event\", \"metric\"]";

/// Records of class audit are kept at least so long: half a year, as the law on high-risk systems has it.
const AUDIT_LEAST_MS: u64 = 183 * 86_400_000;

/// `leaves`, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"everything\", \"features\", \"events\", \"nothing\", or a list of classes"
)]
enum Leaves {
    Word(String),
    Classes(Vec<String>),
}

/// One say, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    leaves: Option<Leaves>,
    words: Option<String>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    round: BTreeMap<String, f64>,
    subject: Option<String>,
}

/// `[policy]`, before it is known in which region the node is.
#[derive(Debug, Clone, Default)]
pub struct PolicyConfig {
    usual: Option<Say>,
    sources: BTreeMap<PartName, Say>,
    regions: BTreeMap<String, Say>,
    keep_ms: BTreeMap<Class, u64>,
}

impl PolicyConfig {
    /// The policy of a node in this region.
    pub fn of(self, region: Option<&String>) -> Policy {
        let PolicyConfig { usual, sources, mut regions, keep_ms } = self;
        let usual = region.and_then(|region| regions.remove(region)).or(usual).unwrap_or_else(Say::usual);
        Policy { usual, sources, keep_ms, pseudonyms: None }
    }

    /// The sources that it speaks of.
    pub fn sources(&self) -> impl Iterator<Item = &PartName> {
        self.sources.keys()
    }
}

/// Reads the table.
pub(super) fn read(mut part: Part<'_, '_>) -> PolicyConfig {
    if !part.has("leaves") {
        part.note("leaves", LEAVES_SHOWN.to_owned(), super::part::Origin::Default);
    }
    let leaves = part.take::<Leaves>("leaves");
    let words = part.take::<String>("words");
    let dropped = part.take::<Vec<String>>("drop").map(|placed| placed.value).unwrap_or_default();
    let round = part.take::<BTreeMap<String, f64>>("round").map(|placed| placed.value).unwrap_or_default();
    let span = leaves.as_ref().map_or(part.span.clone(), |placed| placed.span.clone());
    let words_span = words.as_ref().map(|placed| placed.span.clone());
    let table = Table {
        leaves: leaves.map(|placed| placed.value),
        words: words.map(|placed| placed.value),
        drop: dropped,
        round,
        subject: None,
    };
    let at = words_span.unwrap_or_else(|| span.clone());
    let usual = match say(&table, &Say::usual()) {
        Ok(say) => say,
        Err((message, help)) => {
            // A problem of `words` is the only one that is not of `leaves`.
            part.problem(if message.contains("words") { at } else { span }, message, help);
            Say::usual()
        }
    };
    let mut config = PolicyConfig { usual: Some(usual.clone()), ..PolicyConfig::default() };
    for (name, table, span) in tables(&mut part, "source") {
        match (PartName::new(&name), say(&table, &usual)) {
            (Ok(name), Ok(say)) => drop(config.sources.insert(name, say)),
            (Err(bad), _) => part.problem(span, bad.to_string(), "give the name of a source of the flow"),
            (_, Err((message, help))) => {
                part.problem(span, format!("`policy.source.{name}`: {message}"), help);
            }
        }
    }
    for (name, table, span) in tables(&mut part, "region") {
        match say(&table, &usual) {
            Ok(say) => drop(config.regions.insert(name, say)),
            Err((message, help)) => part.problem(span, format!("`policy.region.{name}`: {message}"), help),
        }
    }
    config.keep_ms = keep(&mut part);
    part.finish();
    config
}

fn tables(part: &mut Part<'_, '_>, key: &'static str) -> Vec<(String, Table, std::ops::Range<usize>)> {
    let Some(Placed { value, span }) = part.take::<BTreeMap<String, Table>>(key) else { return Vec::new() };
    value.into_iter().map(|(name, table)| (name, table, span.clone())).collect()
}

/// What a table says; `usual` where it says nothing.
fn say(table: &Table, usual: &Say) -> Result<Say, (String, String)> {
    let mut hides_by_itself = usual.hides_words;
    let leaves = match &table.leaves {
        None => usual.leaves.clone(),
        Some(Leaves::Word(word)) => {
            let words = [
                ("everything", &Class::ALL[..]),
                ("features", &Class::ALL[..3]),
                ("events", &Class::ALL[..2]),
                ("nothing", &[]),
            ];
            let Some((_, classes)) = words.iter().find(|(name, _)| name == word) else {
                let help = did_you_mean(word, words.map(|(name, _)| name));
                return Err((format!("{word:?} is not what may leave"), help));
            };
            hides_by_itself |= word == "events";
            classes.to_vec()
        }
        Some(Leaves::Classes(words)) => {
            let mut classes = Vec::new();
            for word in words {
                let Some(class) = Class::parse(word) else {
                    let help = did_you_mean(word, Class::ALL.map(Class::as_str));
                    return Err((format!("there is no class {word:?}"), help));
                };
                classes.push(class);
            }
            classes.sort();
            classes.dedup();
            classes
        }
    };
    let hides_words = match table.words.as_deref() {
        None => hides_by_itself,
        Some("plain") => false,
        Some("hidden") => true,
        Some(other) => {
            return Err((
                format!("words are \"plain\" or \"hidden\", not {other:?}"),
                "write `words = \"hidden\"`".into(),
            ));
        }
    };
    if let Some((name, step)) = table.round.iter().find(|(_, step)| !(**step > 0.0 && step.is_finite())) {
        let message = format!("`{name}` would be rounded to steps of {step}");
        return Err((message, format!("write `round = {{ {name} = 0.5 }}`")));
    }
    let (drop, round) = (table.drop.clone(), table.round.clone());
    let merged = |own: Vec<String>| if own.is_empty() { usual.drop.clone() } else { own };
    let round = if round.is_empty() { usual.round.clone() } else { round };
    Ok(Say { leaves, hides_words, drop: merged(drop), round, subject: table.subject.clone() })
}

fn keep(part: &mut Part<'_, '_>) -> BTreeMap<Class, u64> {
    let Some(Placed { value, span }) = part.take::<BTreeMap<String, String>>("keep") else {
        return BTreeMap::new();
    };
    let mut keep_ms = BTreeMap::new();
    for (word, text) in value {
        let read = || {
            let class = Class::parse(&word).ok_or_else(|| format!("there is no class {word:?}"))?;
            let ms = u64::try_from(duration_ms(&text)?).unwrap_or_default();
            match class {
                Class::Audit if ms < AUDIT_LEAST_MS => {
                    Err("records of class audit are kept at least 183 days".to_owned())
                }
                _ if ms < 60_000 => Err(format!("{text:?} is shorter than a minute")),
                class => Ok((class, ms)),
            }
        };
        match read() {
            Ok((class, ms)) => drop(keep_ms.insert(class, ms)),
            Err(message) => {
                part.problem(span.clone(), format!("`keep`: {message}"), "write `keep = { raw = \"7d\" }`");
            }
        }
    }
    keep_ms
}
