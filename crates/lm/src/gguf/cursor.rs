//! A place in a stranger's bytes, which only moves forward and never past the end.
//!
//! Stands below `header`. Every read is checked against the bytes that are left before anything is allocated, so that
//! memory is bounded by the file.

/// The bytes end before what is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the file ends within {what}: {needed} bytes are needed at byte {at}, {left} are left")]
pub struct Truncated {
    /// What was being read.
    pub what: &'static str,
    /// Where in the file.
    pub at: u64,
    /// How many bytes it takes.
    pub needed: u64,
    /// How many there are.
    pub left: u64,
}

/// Bytes and a place in them.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes from the beginning.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }

    /// Bytes to the end.
    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `needed` bytes.
    pub(super) fn take(&mut self, what: &'static str, needed: u64) -> Result<&'a [u8], Truncated> {
        let truncated = Truncated { what, at: self.at(), needed, left: self.left() };
        let end =
            usize::try_from(needed).ok().and_then(|needed| self.at.checked_add(needed)).ok_or(truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(truncated)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Truncated> {
        let taken = self.take(what, N as u64)?;
        Ok(taken.try_into().expect("take gives as many bytes as it was asked for"))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Truncated> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Truncated> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length and as many bytes.
    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a [u8], Truncated> {
        let length = self.u64(what)?;
        self.take(what, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'h', b'i', 9]);
        assert_eq!(cursor.u32("a"), Ok(1));
        assert_eq!(cursor.string("b"), Ok(&b"hi"[..]));
        assert_eq!((cursor.at(), cursor.left()), (14, 1));
        assert_eq!(cursor.u32("c"), Err(Truncated { what: "c", at: 14, needed: 4, left: 1 }));
        for needed in [2, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(cursor.take("d", needed), Err(Truncated { what: "d", at: 14, needed, left: 1 }));
        }
        assert_eq!(cursor.take("e", 1), Ok(&[9][..]));
        assert_eq!(cursor.take("f", 0), Ok(&[][..]));
    }
}
