//! Many short texts in one buffer, and the way from a text back to its number.
//!
//! What `vocabulary` keeps its tokens in: 152 000 tokens cost two allocations for the texts and one for the index. The
//! index hashes with a seed that differs from process to process, so that a file cannot be made to collide.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Texts by number, as bytes.
#[derive(Clone, Default, Debug)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Texts {
        Texts { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds a text. `None`, and nothing added, if the buffer would pass 4 GiB.
    pub(crate) fn push(&mut self, text: &[u8]) -> Option<()> {
        let end = u32::try_from(self.bytes.len() + text.len()).ok()?;
        self.bytes.extend_from_slice(text);
        self.ends.push(end);
        Some(())
    }

    /// The text of a number; empty past the end.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let Some(&end) = self.ends.get(number) else {
            return &[];
        };
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start as usize..end as usize]
    }
}

/// From a text to its number in a [`Texts`].
#[derive(Clone, Default, Debug)]
pub(crate) struct Index {
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Index {
    pub(crate) fn with_capacity(count: usize) -> Index {
        Index { numbers: HashTable::with_capacity(count), hasher: DefaultHashBuilder::default() }
    }

    #[inline]
    pub(crate) fn find(&self, texts: &Texts, text: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.numbers.find(hash, |&number| texts.get(number) == text).copied()
    }

    /// Takes up the text of `number`; if an equal one is there already, gives that one's number instead.
    pub(crate) fn insert(&mut self, texts: &Texts, number: u32) -> Result<(), u32> {
        let text = texts.get(number);
        if let Some(other) = self.find(texts, text) {
            return Err(other);
        }
        let hash = self.hasher.hash_one(text);
        self.numbers.insert_unique(hash, number, |&number| self.hasher.hash_one(texts.get(number)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_again_and_doubles_are_told() {
        let mut texts = Texts::with_capacity(4, 16);
        for text in ["a", "", "grün", "aa"] {
            texts.push(text.as_bytes()).unwrap();
        }
        let mut index = Index::with_capacity(2);
        for number in 0..4 {
            assert_eq!(index.insert(&texts, number), Ok(()));
        }
        texts.push("grün".as_bytes()).unwrap();
        assert_eq!(index.insert(&texts, 4), Err(2));
        assert_eq!(index.find(&texts, "grün".as_bytes()), Some(2));
        assert_eq!(index.find(&texts, b""), Some(1));
        assert_eq!(index.find(&texts, b"aaa"), None);
        assert_eq!(texts.get(99), b"");
    }
}
