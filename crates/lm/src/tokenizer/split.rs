//! Cuts a text into the pieces that byte-level BPE merges within: the pre-tokeniser.
//!
//! Stands between `special` (which has cut out the special tokens) and `bpe`. A pre-tokeniser is one or more stages;
//! each cuts every piece of the stage before. In tokenizer.json a stage is a regular expression whose matches become
//! pieces, as does what lies between two matches; here the expressions are scanners written out by hand (`words`,
//! `marked`, `runs`), because a backtracking engine gives up or goes quadratic on a megabyte of blanks.
//! Always: the pieces, in order, are the text; the time is linear in its length.

pub(crate) mod known;
mod marked;
mod runs;
mod scan;
mod words;

use marked::Marked;
use runs::Run;
use words::Words;

use crate::tokenizer::class::Class;
use crate::tokenizer::split::scan::{after, end_of_run};

/// One cut through all pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Words, numbers, symbols and space, as GPT-2 began it.
    Words(Words),
    /// The same where punctuation may lead a word, as DeepSeek-V3 has it.
    Marked(Marked),
    /// Runs of characters of a set; of several alternatives the first that matches.
    Runs(&'static [Run]),
    /// Runs of digits in groups of three counted from the right: `1 234 567`.
    Thousands(Digits),
    /// Space at the very end of the piece: `\s+$`.
    TrailingSpace,
}

/// What `Thousands` counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Digits {
    /// `0` to `9`
    Ascii,
    /// `\p{N}`
    All,
}

/// Gives the pieces of `text` to `take`, in order, none of them empty.
pub(crate) fn split<'t>(stages: &[Stage], text: &'t str, take: &mut dyn FnMut(&'t str)) {
    let Some((stage, later)) = stages.split_first() else {
        if !text.is_empty() {
            take(text);
        }
        return;
    };
    let mut piece = |start: usize, end: usize| {
        if start < end {
            split(later, &text[start..end], take);
        }
    };
    match stage {
        Stage::Words(words) => matches(text, |at| words.end(text, at), &mut piece),
        Stage::Marked(marked) => matches(text, |at| marked.end(text, at), &mut piece),
        Stage::Runs(runs) => {
            matches(text, |at| runs.iter().find_map(|run| run.end(text, at)), &mut piece);
        }
        Stage::Thousands(digits) => thousands(text, *digits, &mut piece),
        Stage::TrailingSpace => {
            let end = text.trim_end().len();
            piece(0, end);
            piece(end, text.len());
        }
    }
}

/// Pieces are what `end` matches from a place, and what lies between two matches.
fn matches(text: &str, end: impl Fn(usize) -> Option<usize>, piece: &mut dyn FnMut(usize, usize)) {
    let (mut at, mut unmatched) = (0, 0);
    while at < text.len() {
        match end(at) {
            Some(end) if end > at => {
                piece(unmatched, at);
                piece(at, end);
                (at, unmatched) = (end, end);
            }
            _ => at = after(text, at),
        }
    }
    piece(unmatched, at);
}

fn thousands(text: &str, digits: Digits, piece: &mut dyn FnMut(usize, usize)) {
    let is_digit = |character: char| match digits {
        Digits::Ascii => character.is_ascii_digit(),
        Digits::All => Class::of(character).meets(Class::NUMBER),
    };
    let (mut at, mut unmatched) = (0, 0);
    while at < text.len() {
        let end = end_of_run(text, at, is_digit);
        if end == at {
            at = after(text, at);
            continue;
        }
        piece(unmatched, at);
        let count = text[at..end].chars().count();
        let mut group = at;
        for (number, (place, _)) in text[at..end].char_indices().enumerate() {
            if number > 0 && (count - number).is_multiple_of(3) {
                piece(group, at + place);
                group = at + place;
            }
        }
        piece(group, end);
        (at, unmatched) = (end, end);
    }
    piece(unmatched, at);
}

#[cfg(test)]
mod tests;
