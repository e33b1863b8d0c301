//! Where a text in SentencePiece's spelling can be cut before a `▁` without changing a single merge.
//!
//! Stands before `merge`. SentencePiece merges over the whole text. But if no token holds some character with a `▁`
//! after it, nothing ever merges across such a place, and the words on both sides can be worked on alone: short, and
//! each known after the first time.

use std::collections::HashSet;

use crate::tokenizer::alphabet::BLANK;

/// The characters that stand before a `▁` in some token.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seams {
    joined: HashSet<char>,
}

impl Seams {
    /// Takes note of a token that merges can make.
    pub(crate) fn note(&mut self, token: &str) {
        let mut before = None;
        for character in token.chars() {
            if character == BLANK
                && let Some(before) = before
            {
                self.joined.insert(before);
            }
            before = Some(character);
        }
    }

    /// Gives the words of `text` to `take`, in order.
    pub(crate) fn cut(&self, text: &str, mut take: impl FnMut(&str)) {
        let mut start = 0;
        for (place, _) in text.match_indices(BLANK) {
            let before = text[..place].chars().next_back();
            if before.is_some_and(|before| !self.joined.contains(&before)) {
                take(&text[start..place]);
                start = place;
            }
        }
        if start < text.len() {
            take(&text[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_where_no_token_joins_them() {
        let mut seams = Seams::default();
        for token in ["▁the", "▁▁", "e", "x▁y", "grün"] {
            seams.note(token);
        }
        let words = |text| {
            let mut words = Vec::new();
            seams.cut(text, |word| words.push(word.to_owned()));
            words.join("|")
        };
        assert_eq!(words("▁the▁end▁▁▁x▁y▁x"), "▁the|▁end|▁▁▁x▁y|▁x");
        assert_eq!((words(""), words("a"), words("▁")), (String::new(), "a".to_owned(), "▁".to_owned()));
    }
}
