//! Reads a table of names and texts inside of a part: `values = { pressure = "data.p" }`.

use std::ops::Range;

use toml::de::DeValue;

use crate::config::part::{Part, in_text_order};

/// One entry.
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// The entries in the order of the text; none after a problem, or where there is no such key.
pub(super) fn pairs(part: &mut Part<'_, '_>, key: &'static str, example: &str) -> Vec<Pair> {
    let Some(value) = part.take_raw(key) else { return Vec::new() };
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        let message = format!("`{key}` of `{}` must be a table of names and texts", part.path);
        part.problem(span, message, format!("write `{key} = {example}`"));
        return Vec::new();
    };
    let mut pairs = Vec::new();
    for (name, _, value) in in_text_order(table) {
        let span = value.span();
        match value.get_ref().as_str() {
            Some(text) => pairs.push(Pair { name, text: text.to_owned(), span }),
            None => {
                let message = format!("`{name}` in `{key}` of `{}` must be a text", part.path);
                part.problem(span, message, format!("write `{key} = {example}`"));
            }
        }
    }
    pairs
}
