//! Where a run of characters ends: what all scanners are made of.
//!
//! Places are bytes from the start of the text; each function is linear in what it passes over.

use crate::tokenizer::class::Class;

/// The character at a place.
#[inline]
pub(super) fn character(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

/// The class of the character at a place; none at the end.
#[inline]
pub(super) fn class(text: &str, at: usize) -> Class {
    character(text, at).map_or(Class::NONE, Class::of)
}

/// The place after the character at `at`.
#[inline]
pub(super) fn after(text: &str, at: usize) -> usize {
    at + character(text, at).map_or(1, char::len_utf8)
}

/// Where a run that starts at `at` ends; `at` itself if there is none.
#[inline]
pub(super) fn end_of_run(text: &str, at: usize, belongs: impl Fn(char) -> bool) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    rest.char_indices()
        .find(|&(_, character)| !belongs(character))
        .map_or(text.len(), |(place, _)| at + place)
}

/// Where a run of a class that starts at `at` ends; `at` itself if there is none.
#[inline]
pub(super) fn end_of_class(text: &str, at: usize, class: Class) -> usize {
    end_of_run(text, at, |character| Class::of(character).meets(class))
}

/// Where space that starts at `at` is cut, as `\s*[\r\n]+|\s+(?!\S)|\s+` says: after its last newline (if `newlines`),
/// else before its last character if something follows, else at its end. `None` if there is none.
pub(super) fn end_of_space(text: &str, at: usize, newlines: bool) -> Option<usize> {
    let (mut end, mut last, mut newline) = (at, at, None);
    for (place, character) in text.get(at..)?.char_indices() {
        let class = Class::of(character);
        if !class.meets(Class::SPACE) {
            break;
        }
        last = at + place;
        end = last + character.len_utf8();
        if class.meets(Class::NEWLINE) {
            newline = Some(end);
        }
    }
    match newline {
        Some(newline) if newlines => Some(newline),
        _ if end == at => None,
        _ if end < text.len() && last > at => Some(last),
        _ => Some(end),
    }
}
