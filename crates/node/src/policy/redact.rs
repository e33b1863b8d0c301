//! Takes out of a record's body what may not stand there. Works on any body, of kinds that are not known here as well: what is not
//! known to be ours is not shown.

use std::collections::BTreeMap;

use serde_json::Value;

use super::pseudonym::Pseudonyms;

/// Fields whose texts come from the node's own settings and vocabulary. Whatever else is a text came with the data.
const OURS: [&str; 28] = [
    "source", "model", "rule", "actuator", "state", "severity", "ran", "input", "digest", "index",
    "manifest", "version", "flow", "variant", "kind", "id", "outcome", "phase", "part", "release", "rollout",
    "boot", "subject", "asked", "feature", "sink", "class", "stream",
];

/// Tables whose names are a flow's or a network's: a name of ours that stands there says nothing of whose the word is.
const THEIRS: [&str; 2] = ["fields", "labels"];

/// Free texts, which may say anything.
const TEXTS: [&str; 7] = ["reason", "why", "when", "text", "message", "note", "told"];

/// What stands in place of a free text.
pub(super) const WITHHELD: &str = "withheld by the node's policy";

/// Hides every word that is not ours. `source`: whose record it is, if it is of one.
pub(super) fn hide(body: &mut Value, source: Option<&str>, pseudonyms: Option<&Pseudonyms>) {
    let channel = channel_of_part(body, source);
    hide_at(body, "", "", pseudonyms);
    // A part's name is ours, but for that of a channel behind it.
    if let Some(channel) = channel
        && let Some(Value::String(part)) = body.get_mut("part")
        && let Some(begin) = part.strip_suffix(channel.as_str())
    {
        *part = format!("{begin}{}", hidden(&channel, pseudonyms));
    }
}

/// What stands behind `source.` in the name of a part: `bed`, `bed.pulse`.
pub(super) fn of_source(body: &Value) -> Option<&str> {
    body.get("part")?.as_str()?.strip_prefix("source.")
}

/// The channel that a part is: `pulse` of `source.bed.pulse`. What was learnt of a source's sensors, `source.bed.health`, is none.
pub(super) fn channel_of_part(body: &Value, source: Option<&str>) -> Option<String> {
    let part = of_source(body)?;
    let channel = match source.and_then(|source| part.strip_prefix(source)) {
        Some("") => return None,
        Some(rest) => rest.strip_prefix('.'),
        None => None,
    };
    let channel = channel.or_else(|| part.split_once('.').map(|(_, channel)| channel))?;
    (channel != "health").then(|| channel.to_owned())
}

/// Whether a channel is one of these. A source's name may have dots in it, and a part of it may have been taken for the channel's.
pub(super) fn is_named(channel: &str, names: &[String]) -> bool {
    let is_it = |name: &String| {
        channel.strip_suffix(name.as_str()).is_some_and(|begin| begin.is_empty() || begin.ends_with('.'))
    };
    names.iter().any(is_it)
}

/// `key`: where the value stands; `above`: where the object stands that it is in.
fn hide_at(value: &mut Value, key: &str, above: &str, pseudonyms: Option<&Pseudonyms>) {
    match value {
        Value::Object(fields) => {
            // Who is refused may have asked for anything; what was done is a word of the flow.
            let is_refused = fields.get("outcome").and_then(Value::as_str) == Some("refused");
            let hidden = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                let of = if is_refused && name == "asked" { "" } else { name.as_str() };
                hide_at(&mut value, of, key, pseudonyms);
                // Names of fields are ours, but for those of tables that data brought: there they are words, too.
                let is_ours = name.len() <= 24 && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
                let name = if is_ours { name } else { hidden(&name, pseudonyms) };
                (name, value)
            });
            *fields = hidden.collect();
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| hide_at(item, key, above, pseudonyms));
        }
        Value::String(text) => {
            let is_ours =
                OURS.contains(&key) && !THEIRS.contains(&above) || key == "name" && above == "model";
            if TEXTS.contains(&key) {
                WITHHELD.clone_into(text);
            } else if !is_ours {
                *text = hidden(text, pseudonyms);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn hidden(word: &str, pseudonyms: Option<&Pseudonyms>) -> String {
    pseudonyms.map_or_else(|| WITHHELD.to_owned(), |pseudonyms| pseudonyms.of(word))
}

/// Takes channels out: their entries, their columns, and values of rules that speak of them.
pub(super) fn drop_channels(body: &mut Value, drop: &[String]) {
    if drop.is_empty() {
        return;
    }
    let is_dropped = |name: &Value| name.as_str().is_some_and(|name| drop.iter().any(|drop| drop == name));
    // Readings: names and columns side by side.
    if let Some(names) = body.get("channels").and_then(Value::as_array).cloned()
        && names.iter().any(Value::is_string)
    {
        for key in ["channels", "values"] {
            if let Some(items) = body.get_mut(key).and_then(Value::as_array_mut) {
                let mut at = 0;
                items.retain(|_| {
                    at += 1;
                    names.get(at - 1).is_none_or(|name| !is_dropped(name))
                });
            }
        }
    }
    each_object(body, &mut |value| {
        for (key, item) in value.iter_mut() {
            match item {
                Value::Array(items) => items.retain(|item| !item.get("channel").is_some_and(is_dropped)),
                Value::String(text) => {
                    // A condition is the flow's word, and is looked at below.
                    let is_free = key != "when" && TEXTS.contains(&key.as_str());
                    if is_free && speaks_of_any(text.as_str(), drop) {
                        WITHHELD.clone_into(text);
                    }
                }
                _ => {}
            }
        }
        if value
            .get("when")
            .and_then(Value::as_str)
            .is_some_and(|when| drop.iter().any(|it| speaks_of(when, it)))
        {
            value.insert("value".to_owned(), Value::Null);
            // It names the value.
            value.insert("why".to_owned(), Value::String(WITHHELD.to_owned()));
        }
    });
}

/// Rounds values of channels to a step. `part`: the channel that the record is about, if it is about one.
pub(super) fn round(body: &mut Value, steps: &BTreeMap<String, f64>, part: Option<&str>) {
    if steps.is_empty() {
        return;
    }
    if part.is_some_and(|part| steps.keys().any(|name| is_named(part, std::slice::from_ref(name))))
        && let Some(reason) = body.get_mut("reason")
    {
        // It names values.
        *reason = Value::String(WITHHELD.to_owned());
    }
    let names: Vec<Value> = body.get("channels").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(columns) = body.get_mut("values").and_then(Value::as_array_mut) {
        for (name, column) in names.iter().zip(columns) {
            if let Some(step) = name.as_str().and_then(|name| steps.get(name)) {
                each_number(column, &|number| to_step(number, *step));
            }
        }
    }
    each_object(body, &mut |value| {
        let step =
            value.get("channel").and_then(Value::as_str).and_then(|channel| steps.get(channel)).copied();
        if let Some(step) = step {
            for (_, value) in
                value.iter_mut().filter(|(key, _)| !["share", "missing", "count"].contains(&key.as_str()))
            {
                each_number(value, &|number| to_step(number, step));
            }
        }
        let when = value.get("when").and_then(Value::as_str).unwrap_or_default();
        let coarsest =
            steps.iter().filter(|(name, _)| speaks_of(when, name)).map(|(_, step)| *step).reduce(f64::max);
        if let Some(step) = coarsest {
            if let Some(value) = value.get_mut("value") {
                each_number(value, &|number| to_step(number, step));
            }
            // It names the value.
            value.insert("why".to_owned(), Value::String(WITHHELD.to_owned()));
        }
    });
}

/// Whether a text speaks of any of these channels.
pub(super) fn speaks_of_any(text: &str, channels: &[String]) -> bool {
    channels.iter().any(|channel| speaks_of(text, channel))
}

/// Whether a text speaks of a channel, as a word of its own.
pub(super) fn speaks_of(text: &str, channel: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(channel).any(|(at, _)| {
        !is_word(text[..at].chars().next_back()) && !is_word(text[at + channel.len()..].chars().next())
    })
}

/// Rounds a value to a step.
pub(super) fn round_one(value: &mut Value, step: f64) {
    each_number(value, &|number| to_step(number, step));
}

fn to_step(number: f64, step: f64) -> f64 {
    // As few digits as the step has: 20.3, and not 20.300000000000001.
    let rounded = (number / step).round();
    if step < 1.0 && (1.0 / step).fract() == 0.0 { rounded / (1.0 / step) } else { rounded * step }
}

fn each_number(value: &mut Value, change: &impl Fn(f64) -> f64) {
    match value {
        Value::Number(number) => {
            if let Some(changed) = number.as_f64().map(change).and_then(serde_json::Number::from_f64) {
                *number = changed;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_number(item, change)),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Object(_) => {}
    }
}

fn each_object(value: &mut Value, change: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            change(fields);
            fields.values_mut().for_each(|value| each_object(value, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
