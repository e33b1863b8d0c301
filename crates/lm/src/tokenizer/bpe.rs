//! BPE by merges: pieces of text to tokens, the merge of the least rank first.
//!
//! Stands after `special` and `split`. A vocabulary is spelled in GPT-2's alphabet (`alphabet`), or as SentencePiece does
//! (blanks are `▁`, what is unknown becomes `<0x0A>`). Merges are kept as numbers: which two symbols become which third.
//! A merge may make a symbol that is no token; it then gets a number past the vocabulary, so that merges go through it.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU8, Ordering};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::alphabet;
use super::merge::{Joined, Part, merge};
use super::seams::Seams;
use super::split::split;
use super::texts::{Index, Texts};
use super::vocabulary::Vocabulary;
use crate::gguf::value::Strings;
use crate::tokenizer::refused::TokenizerError;
use crate::tokenizer::split::known::Known;

/// No symbol: a byte or character that the vocabulary does not have.
const NOTHING: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Bpe {
    known: Known,
    merges: HashTable<Merge>,
    hasher: DefaultHashBuilder,
    /// Symbols that merges speak of and that are no tokens; the first has the number after the last token.
    extra: (Texts, Index),
    /// The symbol of each byte, or `NOTHING`.
    bytes: Box<[u32; 256]>,
    seams: Seams,
    whole: Whole,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    left: u32,
    right: u32,
    rank: u32,
    into: u32,
}

/// Room to work in.
#[derive(Default)]
struct Scratch {
    spelled: String,
    parts: Vec<Part>,
    pairs: Vec<Option<Joined>>,
}

impl Bpe {
    /// `merges`: two symbols with a blank between them, the first merge first.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        known: Known,
        merges: &Strings,
    ) -> Result<Bpe, TokenizerError> {
        let mut bpe = Bpe {
            known,
            merges: HashTable::with_capacity(merges.len()),
            hasher: DefaultHashBuilder::default(),
            extra: (Texts::default(), Index::default()),
            bytes: Box::new([NOTHING; 256]),
            seams: Seams::default(),
            whole: Whole::new(vocabulary.len()),
        };
        let mut both = Vec::new();
        for (rank, merge) in (0_u32..).zip(merges.iter()) {
            // A symbol may be a blank, but not empty: so the blank between is not the first character.
            let blank = merge.as_bytes().iter().skip(1).position(|&byte| byte == b' ').map(|place| place + 1);
            let wrong = || TokenizerError::WrongMerge { index: rank, text: merge.to_owned() };
            let (left, right) = merge.split_at_checked(blank.ok_or_else(wrong)?).ok_or_else(wrong)?;
            let right = &right[1..];
            if right.is_empty() {
                return Err(wrong());
            }
            both.clear();
            both.extend_from_slice(left.as_bytes());
            both.extend_from_slice(right.as_bytes());
            let merge = Merge {
                left: bpe.symbol_or_new(vocabulary, left.as_bytes())?,
                right: bpe.symbol_or_new(vocabulary, right.as_bytes())?,
                rank,
                into: bpe.symbol_or_new(vocabulary, &both)?,
            };
            bpe.insert(merge);
        }
        for byte in 0..=u8::MAX {
            let symbol = if known.sentencepiece {
                vocabulary.find_byte(byte)
            } else {
                let mut text = [0; 4];
                bpe.symbol(vocabulary, alphabet::character_of(byte).encode_utf8(&mut text).as_bytes())
            };
            bpe.bytes[usize::from(byte)] = symbol.unwrap_or(NOTHING);
        }
        if known.sentencepiece {
            let tokens = (0..vocabulary.len()).map(|token| vocabulary.texts.get(token));
            let extra = (0..bpe.extra.0.len() as u32).map(|symbol| bpe.extra.0.get(symbol));
            for text in tokens.chain(extra).filter_map(|text| std::str::from_utf8(text).ok()) {
                bpe.seams.note(text);
            }
        }
        Ok(bpe)
    }

    /// The first merge of two symbols counts.
    fn insert(&mut self, merge: Merge) {
        let hasher = &self.hasher;
        let hash = |merge: &Merge| hasher.hash_one((merge.left, merge.right));
        let same = |other: &Merge| (other.left, other.right) == (merge.left, merge.right);
        if self.merges.find(hash(&merge), same).is_none() {
            self.merges.insert_unique(hash(&merge), merge, hash);
        }
    }

    fn symbol(&self, vocabulary: &Vocabulary, text: &[u8]) -> Option<u32> {
        vocabulary.find_made_of_text(text).or_else(|| {
            let (texts, index) = &self.extra;
            index.find(texts, text).map(|symbol| vocabulary.len() + symbol)
        })
    }

    fn symbol_or_new(&mut self, vocabulary: &Vocabulary, text: &[u8]) -> Result<u32, TokenizerError> {
        if let Some(symbol) = self.symbol(vocabulary, text) {
            return Ok(symbol);
        }
        let (texts, index) = &mut self.extra;
        let symbol = texts.len() as u32;
        let number = vocabulary.len().checked_add(symbol).filter(|&number| number != NOTHING);
        let number = number.ok_or(TokenizerError::TooLarge { bytes: text.len() })?;
        texts.push(text).ok_or(TokenizerError::TooLarge { bytes: text.len() })?;
        // It was looked for above.
        let _ = index.insert(texts, symbol);
        Ok(number)
    }

    /// Adds the tokens of `text`, which holds no special tokens any more.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, tokens: &mut Vec<u32>) {
        let mut scratch = Scratch::default();
        if !self.known.sentencepiece {
            split(self.known.stages, text, &mut |piece| {
                let mut spelled = std::mem::take(&mut scratch.spelled);
                spelled.clear();
                alphabet::spell(piece.as_bytes(), &mut spelled);
                self.encode_piece(vocabulary, piece, &spelled, &mut scratch, tokens);
                scratch.spelled = spelled;
            });
            return;
        }
        let spelled = alphabet::spell_blanks(text);
        split(self.known.stages, &spelled, &mut |line| {
            // Newlines together are one token if there is one: their merges are not in the file.
            if line.starts_with('\n')
                && let Some(token) = vocabulary.find_made_of_text(line.as_bytes())
            {
                tokens.push(token);
                return;
            }
            self.seams.cut(line, |word| self.encode_piece(vocabulary, word, word, &mut scratch, tokens));
        });
    }

    /// `spelled`: the piece as the vocabulary spells it.
    fn encode_piece(
        &self,
        vocabulary: &Vocabulary,
        piece: &str,
        spelled: &str,
        scratch: &mut Scratch,
        tokens: &mut Vec<u32>,
    ) {
        let token = vocabulary.find_made_of_text(spelled.as_bytes());
        if let Some(token) = token
            && (self.known.ignore_merges || self.whole.get(token) == Some(true))
        {
            tokens.push(token);
            return;
        }
        let parts = &mut scratch.parts;
        parts.clear();
        if self.known.sentencepiece {
            parts.extend(piece.char_indices().map(|(start, character)| {
                let end = start + character.len_utf8();
                let id = self.symbol(vocabulary, &piece.as_bytes()[start..end]).unwrap_or(NOTHING);
                Part { id, start, end }
            }));
        } else {
            let symbols =
                piece.bytes().enumerate().map(|(start, byte)| (start, self.bytes[usize::from(byte)]));
            parts.extend(symbols.map(|(start, id)| Part { id, start, end: start + 1 }));
        }
        merge(parts, &mut scratch.pairs, |left, right| self.join(left.id, right.id));
        if let Some(token) = token {
            self.whole.set(token, parts.len() == 1 && parts[0].id == token);
        }
        for part in parts.iter() {
            if part.id < vocabulary.len() {
                tokens.push(part.id);
                continue;
            }
            // No token says it: byte by byte. A byte that has no token either is left out, as llama.cpp does.
            let bytes = piece.as_bytes()[part.start..part.end].iter();
            let symbols = bytes.map(|&byte| self.bytes[usize::from(byte)]);
            tokens.extend(symbols.filter(|&symbol| symbol < vocabulary.len()));
        }
    }

    #[inline]
    fn join(&self, left: u32, right: u32) -> Option<Joined> {
        let hash = self.hasher.hash_one((left, right));
        let merge = self.merges.find(hash, |merge| (merge.left, merge.right) == (left, right))?;
        Some(Joined { order: merge.rank, id: merge.into })
    }
}

/// For each token, whether its own text becomes it and nothing else: found out when it is first met, then remembered,
/// so that a word seen before costs one look-up.
#[derive(Debug)]
pub(crate) struct Whole(Vec<AtomicU8>);

impl Whole {
    pub(crate) fn new(tokens: u32) -> Whole {
        Whole((0..tokens).map(|_| AtomicU8::new(0)).collect())
    }

    #[inline]
    pub(crate) fn get(&self, token: u32) -> Option<bool> {
        // Relaxed: the answer is the same whoever finds it.
        match self.0.get(token as usize)?.load(Ordering::Relaxed) {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn set(&self, token: u32, whole: bool) {
        if let Some(answer) = self.0.get(token as usize) {
            answer.store(1 + u8::from(whole), Ordering::Relaxed);
        }
    }
}
