//! What the readers of all kinds of parts share: names, inputs, and where a piece of a text stands in the file.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeValue};
use wire::id::PartName;

use crate::config::part::{Part, Placed};
use crate::config::problem::Problems;

/// A part with the place of its name.
pub(super) struct Named<T> {
    pub(super) part: T,
    pub(super) name: PartName,
    pub(super) span: Range<usize>,
}

/// A part's name can stand in a condition, so it is a word: `pump_2`, not `pump-2`.
pub(super) fn part_name(name: &str, span: &Range<usize>, problems: &mut Problems) -> Option<PartName> {
    let word = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if let (true, Ok(name)) = (word, PartName::new(name)) {
        return Some(name);
    }
    let mut mended: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' })
        .take(64)
        .collect();
    if !mended.starts_with(|c: char| c.is_ascii_lowercase()) {
        mended.insert(0, 'p');
    }
    let message = format!(
        "the name {name:?} cannot be used: a name begins with a letter and has at most 64 of a-z, 0-9 and _"
    );
    problems.add_with_help(span.clone(), message, format!("write `{mended}`"));
    None
}

/// Where a piece of a string's value stands in the file: exact for a plain string, otherwise the whole string.
pub(super) fn inside(problems: &Problems, string: &Placed<String>, within: &Range<usize>) -> Range<usize> {
    let written = problems.text_at(&string.span);
    if written.get(1..written.len().saturating_sub(1)) == Some(string.value.as_str()) {
        let begin = string.span.start + 1;
        begin + within.start..begin + within.end
    } else {
        string.span.clone()
    }
}

/// The parts that feed this one, as they are written.
pub(super) fn inputs(part: &mut Part<'_, '_>) -> Vec<Placed<String>> {
    if !part.has("inputs") {
        let (span, message) = (part.span.clone(), format!("`{}` has no `inputs`", part.path));
        part.problem(span, message, "add `inputs = [\"source.…\"]`: a flow says what feeds what");
        return Vec::new();
    }
    let Some(value) = part.take_raw("inputs") else { return Vec::new() };
    let span = value.span();
    let strings = |array: DeArray<'_>| -> Option<Vec<Placed<String>>> {
        array
            .into_iter()
            .map(|item: Spanned<DeValue<'_>>| {
                let span = item.span();
                Some(Placed { value: item.get_ref().as_str()?.to_owned(), span })
            })
            .collect()
    };
    let read = match value.into_inner() {
        DeValue::Array(array) => strings(array),
        _ => None,
    };
    match read {
        Some(inputs) if !inputs.is_empty() => inputs,
        _ => {
            let message = format!("`inputs` of `{}` must be a list of parts", part.path);
            part.problem(span, message, "write `inputs = [\"source.pump\"]`");
            Vec::new()
        }
    }
}

/// A span of time that is not nothing.
pub(super) fn positive(ms: i64) -> Result<i64, String> {
    if ms > 0 { Ok(ms) } else { Err("must be longer than nothing".to_owned()) }
}
