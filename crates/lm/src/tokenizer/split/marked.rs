//! Words that a punctuation mark may lead: the pattern of DeepSeek-V3 and those after it.
//!
//! `[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
//! tried in this order. Numbers are in none of them: a stage before has cut them out.

use crate::tokenizer::class::Class;
use crate::tokenizer::split::scan::{character, class, end_of_class, end_of_run, end_of_space};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked {
    /// Newlines are pieces of one character, and none follows symbols in their piece: Spark 2.5.
    pub(crate) single_newlines: bool,
}

impl Marked {
    /// The end of the piece that starts at `at`, if one does.
    pub(super) fn end(&self, text: &str, at: usize) -> Option<usize> {
        const LETTERS: Class = Class::LETTER.or(Class::MARK);
        const MARKS: Class = Class::PUNCTUATION.or(Class::SYMBOL);
        const NO_LEAD: Class = Class::NEWLINE.or(Class::LETTER).or(MARKS);
        let first = character(text, at)?;
        let kind = Class::of(first);
        let next = at + first.len_utf8();
        if first.is_ascii_punctuation() {
            let end = end_of_run(text, next, |character| character.is_ascii_alphabetic());
            if end > next {
                return Some(end);
            }
        }
        if kind.meets(LETTERS) || (!kind.meets(NO_LEAD) && class(text, next).meets(LETTERS)) {
            return Some(end_of_class(text, next, LETTERS));
        }
        let start = if first == ' ' { next } else { at };
        let end = end_of_class(text, start, MARKS);
        if end > start {
            return Some(if self.single_newlines { end } else { end_of_class(text, end, Class::NEWLINE) });
        }
        if self.single_newlines && kind.meets(Class::NEWLINE) {
            return Some(next);
        }
        end_of_space(text, at, !self.single_newlines)
    }
}
