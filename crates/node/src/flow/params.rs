//! `[params]`: values with names, `${params.limit}` wherever a string stands, and other values for them on each node.
//!
//! A string that is nothing but a parameter takes its kind: `lag = "${params.lag}"` is a number if the parameter is one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::part::part_name;
use crate::config::part::{Effective, Origin, in_text_order};
use crate::config::problem::{Problems, did_you_mean};

/// What a use of a parameter begins with.
const OPENS: &str = "${";
/// The most parameters of one flow.
const MAX_PARAMS: usize = 256;

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// A text.
    Text(String),
    /// A number, as it is written in TOML.
    Number(String),
    /// True or false.
    Truth(bool),
}

/// Parameters by their names.
pub type Params = BTreeMap<String, Param>;

impl Param {
    /// Takes a value of a config file, if it can be a parameter.
    pub fn of(value: &DeValue<'_>, written: &str) -> Option<Param> {
        match value {
            DeValue::String(text) => Some(Param::Text(text.to_string())),
            DeValue::Integer(_) | DeValue::Float(_) => Some(Param::Number(written.to_owned())),
            DeValue::Boolean(truth) => Some(Param::Truth(*truth)),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        }
    }

    /// The kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Param::Text(_) => "a text",
            Param::Number(_) => "a number",
            Param::Truth(_) => "true or false",
        }
    }

    /// As it would be written in TOML.
    pub fn written(&self) -> String {
        match self {
            Param::Text(text) => format!("{text:?}"),
            Param::Number(_) | Param::Truth(_) => self.within().into_owned(),
        }
    }

    /// As it stands within a text.
    fn within(&self) -> Cow<'_, str> {
        match self {
            Param::Text(text) => text.into(),
            Param::Number(written) => written.into(),
            Param::Truth(truth) => if *truth { "true" } else { "false" }.into(),
        }
    }

    /// As a value of its kind.
    fn value(&self) -> DeValue<'_> {
        match self {
            Param::Text(text) => DeValue::String(text.into()),
            Param::Truth(truth) => DeValue::Boolean(*truth),
            Param::Number(written) => {
                DeValue::parse(written).expect("it was read as a number before").into_inner()
            }
        }
    }
}

/// Reads `[params]`. `others`: the values that this node has in their place.
pub(super) fn read(
    value: Spanned<DeValue<'_>>,
    others: &Params,
    problems: &mut Problems,
    effective: &mut Vec<Effective>,
) -> Params {
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        problems.add_with_help(span, "`params` must be a table", "write `[params]` on a line of its own");
        return Params::new();
    };
    if table.len() > MAX_PARAMS {
        problems.add(span, format!("the flow has {} parameters, the most is {MAX_PARAMS}", table.len()));
        return Params::new();
    }
    let mut params = Params::new();
    for (name, name_at, value) in in_text_order(table) {
        let Some(name) = part_name(&name, &name_at, problems) else { continue };
        let written = problems.text_at(&value.span()).to_owned();
        let Some(param) = Param::of(value.get_ref(), &written) else {
            let message = format!("the parameter `{name}` is no text, number, true or false");
            problems.add_with_help(value.span(), message, "write `limit = 80.0`");
            continue;
        };
        let (param, origin) = match others.get(name.as_str()) {
            Some(other) if other.kind() == param.kind() => (other.clone(), Origin::Node),
            // That it is of another kind is told where it stands.
            _ => (param, Origin::File),
        };
        effective.push(Effective { key: format!("params.{name}"), value: param.written(), origin });
        params.insert(name.to_string(), param);
    }
    params
}

/// Puts the parameters' values into every string that names them.
pub(super) fn expand<'i>(table: &mut DeTable<'i>, params: &'i Params, problems: &mut Problems) {
    for (_, value) in table.iter_mut() {
        expand_value(value, params, problems);
    }
}

fn expand_value<'i>(value: &mut Spanned<DeValue<'i>>, params: &'i Params, problems: &mut Problems) {
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => expand(table, params, problems),
        DeValue::Array(array) => array.iter_mut().for_each(|item| expand_value(item, params, problems)),
        DeValue::String(text) if text.contains(OPENS) => match replaced(text, params) {
            Ok(new) => *value.get_mut() = new,
            Err((within, message, help)) => {
                // Exact where the string is written plainly.
                let plain = problems.text_at(&span).get(1..).is_some_and(|rest| rest.starts_with(&**text));
                let at =
                    if plain { span.start + 1 + within.start..span.start + 1 + within.end } else { span };
                problems.add_with_help(at, message, help);
            }
        },
        _ => {}
    }
}

/// Shows a value as it is once its parameters stand in it.
pub(super) fn shown(written: &str, params: &Params) -> Option<String> {
    if !written.contains(OPENS) {
        return None;
    }
    let inner = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(written);
    match replaced(inner, params).ok()? {
        DeValue::String(_) => {
            let whole = replaced(&format!(" {written}"), params).ok()?;
            Some(whole.as_str()?.trim_start().to_owned())
        }
        _ => params.get(inner.strip_prefix("${params.")?.strip_suffix('}')?).map(Param::written),
    }
}

type Wrong = (Range<usize>, String, String);

fn replaced<'i>(text: &str, params: &'i Params) -> Result<DeValue<'i>, Wrong> {
    let mut new = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = text[at..].find(OPENS) {
        let open = at + found;
        new.push_str(&text[at..open]);
        let inner = open + OPENS.len();
        let Some(len) = text[inner..].find('}') else {
            let help = "write `${params.limit}`".to_owned();
            return Err((open..text.len(), "nothing closes `${`".to_owned(), help));
        };
        let (name, end) = (&text[inner..inner + len], inner + len + 1);
        let Some(name) = name.trim().strip_prefix("params.") else {
            let message = format!("`${{{name}}}` is no parameter");
            return Err((open..end, message, "write `${params.limit}`".to_owned()));
        };
        let Some(param) = params.get(name) else {
            let help = match params.is_empty() {
                true => format!("add `[params]` and `{name} = …`"),
                false => did_you_mean(name, params.keys().map(String::as_str)),
            };
            return Err((open..end, format!("there is no parameter `{name}`"), help));
        };
        if (open, end) == (0, text.len()) {
            return Ok(param.value());
        }
        new.push_str(&param.within());
        at = end;
    }
    new.push_str(&text[at..]);
    Ok(DeValue::String(new.into()))
}
