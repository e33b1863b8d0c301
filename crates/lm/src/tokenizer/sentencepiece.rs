//! SentencePiece's BPE: of all neighbours that together are a token, those of the best score are joined first.
//!
//! Stands after `special`. Blanks are spelled `▁`; what no token says becomes bytes, `<0x0A>`. A control token is never
//! made, though its letters may stand in the text: SentencePiece keeps those apart from its pieces too.

use super::bpe::Whole;
use super::merge::{Joined, Part, merge};
use super::seams::Seams;
use super::vocabulary::Vocabulary;
use crate::tokenizer::alphabet::{BLANK, spell_blanks};

/// No token: a character that the vocabulary does not have.
const NOTHING: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// A text that begins, or that follows a special token, begins with a blank.
    adds_blank: bool,
    /// The token of each byte; the unknown token, or none, for those that have none.
    bytes: Box<[Option<u32>; 256]>,
    seams: Seams,
    whole: Whole,
}

impl SentencePiece {
    pub(crate) fn new(vocabulary: &Vocabulary, adds_blank: bool, unknown: Option<u32>) -> SentencePiece {
        let mut bytes = Box::new([None; 256]);
        for byte in 0..=u8::MAX {
            bytes[usize::from(byte)] = vocabulary.find_byte(byte).or(unknown);
        }
        let mut seams = Seams::default();
        for token in (0..vocabulary.len()).filter(|&token| vocabulary.kind(token).is_made_of_text()) {
            if let Ok(text) = std::str::from_utf8(vocabulary.texts.get(token)) {
                seams.note(text);
            }
        }
        SentencePiece { adds_blank, bytes, seams, whole: Whole::new(vocabulary.len()) }
    }

    pub(crate) fn adds_blank(&self) -> bool {
        self.adds_blank
    }

    /// Adds the tokens of `text`, which holds no special tokens any more. `after_special`: nothing but a special token
    /// stands before it.
    pub(crate) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        after_special: bool,
        tokens: &mut Vec<u32>,
    ) {
        let mut spelled = String::with_capacity(text.len() + text.len() / 2 + 3);
        if self.adds_blank && after_special {
            spelled.push(BLANK);
        }
        spelled.push_str(&spell_blanks(text));
        let (mut parts, mut pairs) = (Vec::new(), Vec::new());
        self.seams.cut(&spelled, |word| {
            let bytes = word.as_bytes();
            let token = vocabulary.find_made_of_text(bytes);
            if let Some(token) = token
                && self.whole.get(token) == Some(true)
            {
                tokens.push(token);
                return;
            }
            parts.clear();
            parts.extend(word.char_indices().map(|(start, character)| {
                let end = start + character.len_utf8();
                let id = vocabulary.find_made_of_text(&bytes[start..end]).unwrap_or(NOTHING);
                Part { id, start, end }
            }));
            merge(&mut parts, &mut pairs, |left, right| {
                let id = vocabulary.find_made_of_text(&bytes[left.start..right.end])?;
                Some(Joined { order: order(vocabulary.scores[id as usize]), id })
            });
            if let Some(token) = token {
                self.whole.set(token, parts.len() == 1 && parts[0].id == token);
            }
            for part in &parts {
                if part.id == NOTHING {
                    let bytes = bytes[part.start..part.end].iter();
                    tokens.extend(bytes.filter_map(|&byte| self.bytes[usize::from(byte)]));
                } else {
                    tokens.push(part.id);
                }
            }
        });
    }
}

/// A number that is the smaller the better the score: IEEE's total order, turned round.
fn order(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { bits } else { !(bits | 1 << 31) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_better_score_has_a_smaller_order() {
        let scores = [f32::INFINITY, 3.5, 1e-30, 0.0, -1e-30, -1.0, -31738.0, f32::NEG_INFINITY];
        for pair in scores.windows(2) {
            assert!(order(pair[0]) < order(pair[1]), "{pair:?}");
        }
        assert_eq!(order(0.0), order(-0.0));
    }
}
