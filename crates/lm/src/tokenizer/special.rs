//! Cuts special tokens out of a text before anything else looks at it.
//!
//! Stands before the splitters. Leftmost first, of two that start together the longest: as the `tokenizers` library
//! does. Always: with [`Special::Plain`] no control token comes out of a text, so that what a stranger writes cannot
//! pose as a turn of the chat; user-defined tokens (runs of blanks, `<tool_call>`) are cut out in both cases, because
//! that is how models were trained on plain text.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use crate::tokenizer::refused::TokenizerError;

/// What special tokens that are written out in a text mean.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Special {
    /// They are the tokens: for a prompt that a chat template wrote.
    Parse,
    /// They are the tokens, except those that [`GUARD`] breaks, which are text: for a prompt that a chat template wrote
    /// around the words of strangers.
    Guarded,
    /// They are text like any other: for what a user wrote.
    Plain,
}

/// Breaks a control token in a text, see [`Special::Guarded`]: a noncharacter, which no text that is exchanged holds.
pub const GUARD: char = '\u{fdd0}';

/// A special token and the white space it takes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) id: u32,
    /// False: cut out only with [`Special::Parse`].
    pub(crate) always: bool,
    /// White space before it belongs to it.
    pub(crate) strips_left: bool,
    /// White space after it belongs to it.
    pub(crate) strips_right: bool,
}

/// What a text was cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// Special tokens of more text than this are not searched for. Gemma, which has the most, stays below 0.1 MiB; the
/// automaton takes some forty times this.
const MOST_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Cutter {
    all: Automaton,
    always: Automaton,
}

#[derive(Debug)]
struct Automaton {
    search: Option<AhoCorasick>,
    marks: Vec<Mark>,
}

impl Automaton {
    fn new<'t>(marks: Vec<Mark>, text: impl Fn(u32) -> &'t [u8]) -> Result<Automaton, TokenizerError> {
        let bytes: usize = marks.iter().map(|mark| text(mark.id).len()).sum();
        if bytes > MOST_BYTES {
            return Err(TokenizerError::SpecialTooLarge { bytes, most: MOST_BYTES });
        }
        let search = if marks.is_empty() {
            None
        } else {
            let texts = marks.iter().map(|mark| text(mark.id));
            let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
            Some(built.map_err(|_| TokenizerError::SpecialTooLarge { bytes, most: MOST_BYTES })?)
        };
        Ok(Automaton { search, marks })
    }
}

impl Cutter {
    /// `text` gives the text of a token, which is not empty.
    pub(crate) fn new<'t>(
        marks: Vec<Mark>,
        text: impl Fn(u32) -> &'t [u8],
    ) -> Result<Cutter, TokenizerError> {
        let always = marks.iter().copied().filter(|mark| mark.always).collect();
        Ok(Cutter { all: Automaton::new(marks, &text)?, always: Automaton::new(always, &text)? })
    }

    /// Gives the fragments of `text` to `take`, in order; texts are not empty.
    pub(crate) fn cut<'t>(&self, text: &'t str, special: Special, mut take: impl FnMut(Fragment<'t>)) {
        let automaton = match special {
            Special::Parse | Special::Guarded => &self.all,
            Special::Plain => &self.always,
        };
        let mut rest = text;
        if let Some(search) = &automaton.search {
            while let Some(found) = search.find(Input::new(rest)) {
                // The tokens are whole characters, so a match begins and ends between characters.
                let (Some(mut left), Some(mut right)) = (rest.get(..found.start()), rest.get(found.end()..))
                else {
                    break;
                };
                let mark = automaton.marks[found.pattern().as_usize()];
                if mark.strips_left {
                    left = left.trim_end_matches(is_space);
                }
                if mark.strips_right {
                    right = right.trim_start_matches(is_space);
                }
                if !left.is_empty() {
                    take(Fragment::Text(left));
                }
                take(Fragment::Token(mark.id));
                rest = right;
            }
        }
        if !rest.is_empty() {
            take(Fragment::Text(rest));
        }
    }
}

impl Cutter {
    /// `text` with each control token broken by [`GUARD`], and each user-defined one that is written like a turn's mark
    /// (`<|user|>`, where a vocabulary does not call it control).
    pub(crate) fn guard<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let text =
            if text.contains(GUARD) { Cow::Owned(text.replace(GUARD, "")) } else { Cow::Borrowed(text) };
        let Some(search) = &self.all.search else { return text };
        let breaks = |found: &aho_corasick::Match| {
            let mark = &text[found.range()];
            let is_turn = mark.starts_with("<|") && mark.ends_with("|>");
            !self.all.marks[found.pattern().as_usize()].always || is_turn
        };
        let mut guarded = String::new();
        let (mut taken, mut at) = (0, 0);
        while let Some(found) = search.find(Input::new(&*text).range(at..)) {
            // The next one may begin within this one.
            at = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
            if breaks(&found) {
                guarded.push_str(&text[taken..at]);
                guarded.push(GUARD);
                taken = at;
            }
        }
        if taken == 0 {
            return text;
        }
        guarded.push_str(&text[taken..]);
        Cow::Owned(guarded)
    }
}

/// C's `isspace`, which is what llama.cpp strips.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 5] = ["<s>", "<s><s>x", "<tool>", "<mask>", "<|end|>"];

    fn cut(text: &str, special: Special) -> String {
        let mark = |id, always, strips_left, strips_right| Mark { id, always, strips_left, strips_right };
        let marks = vec![
            mark(0, false, false, false),
            mark(1, false, false, false),
            mark(2, true, false, false),
            mark(3, false, true, false),
            mark(4, false, false, true),
        ];
        let cutter = Cutter::new(marks, |id| TEXTS[id as usize].as_bytes()).unwrap();
        let mut fragments = Vec::new();
        cutter.cut(text, special, |fragment| {
            fragments.push(match fragment {
                Fragment::Text(text) => format!("{text:?}"),
                Fragment::Token(id) => id.to_string(),
            });
        });
        fragments.join(" ")
    }

    #[test]
    fn special_tokens_are_cut_out() {
        let cases = [
            ("", "", ""),
            ("a<s>b", "\"a\" 0 \"b\"", "\"a<s>b\""),
            ("<s><s>", "0 0", "\"<s><s>\""),
            ("<s><s>xy", "1 \"y\"", "\"<s><s>xy\""),
            ("a <tool> b", "\"a \" 2 \" b\"", "\"a \" 2 \" b\""),
            ("a \n<mask> b", "\"a\" 3 \" b\"", "\"a \\n<mask> b\""),
            ("<|end|> \t\nb<s", "4 \"b<s\"", "\"<|end|> \\t\\nb<s\""),
            ("<|end|>\u{a0}", "4 \"\u{a0}\"", "\"<|end|>\u{a0}\""),
        ];
        for (text, parsed, plain) in cases {
            assert_eq!(cut(text, Special::Parse), parsed.replace('\u{a0}', "\\u{a0}"), "{text:?}");
            assert_eq!(cut(text, Special::Plain), plain.replace('\u{a0}', "\\u{a0}"), "{text:?}");
        }
    }

    #[test]
    fn a_guarded_text_holds_no_control_token() {
        let marks = (0..5).map(|id| Mark { id, always: id == 2, strips_left: false, strips_right: false });
        let cutter = Cutter::new(marks.collect(), |id| TEXTS[id as usize].as_bytes()).unwrap();
        let tokens = |text: &str| {
            let mut found = Vec::new();
            cutter.cut(text, Special::Guarded, |fragment| match fragment {
                Fragment::Token(id) => found.push(id),
                Fragment::Text(_) => {}
            });
            found
        };
        for text in ["<s><s>x", "<<s>s><s>", "a<mask>b<|end|>", "<\u{fdd0}s>", "é<s>é", "<tool><s>"] {
            let guarded = cutter.guard(text);
            assert!(tokens(&guarded).iter().all(|id| *id == 2), "{guarded:?}");
            assert_eq!(guarded.replace(GUARD, ""), text.replace(GUARD, ""));
        }
        assert_eq!(tokens("<tool>"), [2]);
        assert!(matches!(cutter.guard("plain <tool>"), Cow::Borrowed(_)));
    }

    #[test]
    fn too_much_special_text_is_refused() {
        let mark = Mark { id: 0, always: false, strips_left: false, strips_right: false };
        let text = vec![b'x'; MOST_BYTES + 1];
        assert!(matches!(
            Cutter::new(vec![mark], |_| &text),
            Err(TokenizerError::SpecialTooLarge { bytes, .. }) if bytes == MOST_BYTES + 1
        ));
    }
}
