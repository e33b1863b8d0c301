//! The data policy: what of this node's records leaves it, and in which words. Enforced at one door, where drafts enter the
//! journal: what a sender could send has been through here.
//!
//! What always holds:
//!
//! - a record of a class that may not leave never stands in a stream that does;
//! - where words are hidden, only words that come from the node's own settings and vocabulary stand in a record; everything else,
//!   of kinds that are not known yet as well, is a pseudonym or withheld;
//! - a pseudonym is a keyed hash: whoever has the key, which never leaves the node, finds a name again, and nobody else.

pub mod panics;
pub mod pseudonym;
mod redact;
mod state;
pub mod subject;

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use wire::class::Class;
use wire::id::{PartName, StreamName};
use wire::record::Draft;

use self::pseudonym::Pseudonyms;

/// What may leave, and how, of one source or of everything else.
#[derive(Debug, Clone, PartialEq)]
pub struct Say {
    /// The classes that leave.
    pub leaves: Vec<Class>,
    /// Names of channels, free texts and whatever else comes with the data are not readable.
    pub hides_words: bool,
    /// Channels of which nothing stands in records, raw readings excepted.
    pub drop: Vec<String>,
    /// The step to which values of a channel are rounded, raw readings excepted.
    pub round: BTreeMap<String, f64>,
    /// Whom the data are about: it stands in their records, as a pseudonym.
    pub subject: Option<String>,
}

impl Say {
    /// As it is without a policy: everything but raw readings leaves.
    pub fn usual() -> Say {
        Say {
            leaves: vec![Class::Audit, Class::Event, Class::Metric],
            hides_words: false,
            drop: Vec::new(),
            round: BTreeMap::new(),
            subject: None,
        }
    }

    /// Whether records stay as they are.
    fn is_plain(&self) -> bool {
        !self.hides_words && self.drop.is_empty() && self.round.is_empty() && self.subject.is_none()
    }
}

/// The policy of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// For everything that no other says something of.
    pub usual: Say,
    /// By source.
    pub sources: BTreeMap<PartName, Say>,
    /// For how long records of a class are kept, in milliseconds; absent: as long as there is room.
    pub keep_ms: BTreeMap<Class, u64>,
    /// Names for what is hidden.
    pub pseudonyms: Option<Pseudonyms>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { usual: Say::usual(), sources: BTreeMap::new(), keep_ms: BTreeMap::new(), pseudonyms: None }
    }
}

/// What stays is in streams whose names begin so.
const STAYS: &str = "private.";

/// What was erased is named by numbers and hashes, which must stay what they are.
const ERASED: &str = "erased";

/// Raw readings that leave, but not as they came, are in streams whose names begin so.
const SHOWN: &str = "shown.";

impl Policy {
    /// Whether pseudonyms are needed, and with them a key.
    pub fn needs_key(&self) -> bool {
        self.all().any(|say| say.hides_words || say.subject.is_some())
    }

    fn all(&self) -> impl Iterator<Item = &Say> {
        self.sources.values().chain([&self.usual])
    }

    fn of(&self, source: Option<&str>) -> &Say {
        let found = source.and_then(|source| self.sources.iter().find(|(name, _)| name.as_str() == source));
        found.map_or(&self.usual, |(_, say)| say)
    }

    /// Whether the records of a stream leave the node.
    pub fn leaves(&self, stream: &StreamName, class: Class) -> bool {
        let name = stream.as_str();
        if name.starts_with(STAYS) {
            return false;
        }
        let say = self.of(source_of_stream(name));
        let is_as_it_came = class == Class::Raw && !name.starts_with(SHOWN);
        say.leaves.contains(&class) && (say.is_plain() || !is_as_it_came)
            // A stream of many sources leaves if any of them lets it; what of the others stays is in another one.
            || source_of_stream(name).is_none() && self.all().any(|say| say.leaves.contains(&class))
    }

    /// The draft as it enters the journal; with it, where evidence was changed so that it may leave, the draft as it was, which
    /// stays: whom a decision is about has a right to all of its words.
    pub fn pass(&self, draft: Draft) -> (Draft, Option<Draft>) {
        if self.sources.is_empty() && self.usual.is_plain() || draft.kind.as_str() == ERASED {
            return (draft, None);
        }
        let Draft { stream, class, kind, body } = draft;
        let of_stream = source_of_stream(stream.as_str()).map(str::to_owned);
        let mut json = serde_json::from_str::<Value>(body.get()).unwrap_or_default();
        let source = of_stream.clone().or_else(|| self.source_of_body(&json));
        let say = self.of(source.as_deref());
        // A part that is no source may speak of any of them: the strictest words hold.
        let hides_words = match &source {
            Some(_) => say.hides_words,
            None => self.all().any(|say| say.hides_words),
        };
        let leaves = say.leaves.contains(&class);
        let stays_as_it_came = class == Class::Raw && (!leaves || say.is_plain());
        let mut body = body;
        if let Some((subject, pseudonyms)) = say.subject.as_ref().zip(self.pseudonyms.as_ref())
            && let Value::Object(fields) = &mut json
        {
            fields.insert("subject".to_owned(), Value::String(pseudonyms.of(subject)));
            body = written(&json);
        }
        if stays_as_it_came {
            return (Draft { stream, class, kind, body }, None);
        }
        let before = json.clone();
        let channel = redact::channel_of_part(&json, source.as_deref());
        let is_of_dropped = channel.as_ref().is_some_and(|channel| redact::is_named(channel, &say.drop));
        redact::drop_channels(&mut json, &say.drop);
        redact::round(&mut json, &say.round, channel.as_deref());
        if hides_words {
            redact::hide(&mut json, source.as_deref(), self.pseudonyms.as_ref());
        }
        let is_changed = json != before;
        let original = (class == Class::Audit && leaves && is_changed).then(|| {
            let (stream, kind) = (renamed(STAYS, &stream), kind.clone());
            Draft { stream, class, kind, body: body.clone() }
        });
        let stream = match () {
            () if class == Class::Raw => renamed(SHOWN, &stream),
            // All of it is about what may not be spoken of.
            () if is_of_dropped => renamed(STAYS, &stream),
            // Its stream leaves for the sake of others.
            () if !leaves && of_stream.is_none() && self.leaves(&stream, class) => renamed(STAYS, &stream),
            () => stream,
        };
        let body = if is_changed { written(&json) } else { body };
        (Draft { stream, class, kind, body }, original)
    }

    /// What may be said of a source, or of a part, outside of records: `None` where words are hidden, or where the text speaks of a
    /// channel that is dropped.
    pub fn text<'a>(&self, source: Option<&str>, text: &'a str) -> Option<&'a str> {
        let hides = |say: &Say| say.hides_words || redact::speaks_of_any(text, &say.drop);
        let hides = match source {
            Some(_) => hides(self.of(source)),
            None => self.all().any(hides),
        };
        (!hides).then_some(text)
    }

    /// Records of many sources name theirs, and so do parts of one: `source.bed.pulse` is of `bed`.
    fn source_of_body(&self, body: &Value) -> Option<String> {
        if let Some(named) = body.get("source").and_then(Value::as_str) {
            return Some(named.to_owned());
        }
        let part = redact::of_source(body)?;
        // A name may have dots in it: the longest that the policy speaks of is meant.
        let is_meant = |name: &&str| {
            part.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let known = self.sources.keys().map(PartName::as_str).filter(is_meant).max_by_key(|name| name.len());
        Some(known.unwrap_or_else(|| part.split('.').next().unwrap_or(part)).to_owned())
    }
}

/// `readings.pump`, `summary.pump` and their like are of one source.
fn source_of_stream(name: &str) -> Option<&str> {
    let name = name.strip_prefix(STAYS).or_else(|| name.strip_prefix(SHOWN)).unwrap_or(name);
    let (kind, source) = name.split_once('.')?;
    ["readings", "summary"].contains(&kind).then_some(source)
}

fn written(json: &Value) -> Box<RawValue> {
    // A value that was read writes.
    serde_json::to_string(json).ok().and_then(|text| RawValue::from_string(text).ok()).unwrap_or_default()
}

fn renamed(prefix: &str, stream: &StreamName) -> StreamName {
    // A stream's name may have 128 characters, and ours have at most 64 behind their kind.
    StreamName::new(&format!("{prefix}{stream}")).unwrap_or_else(|_| stream.clone())
}

#[cfg(test)]
mod tests;
