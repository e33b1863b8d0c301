//! The alphabet that byte-level vocabularies are written in: a printable character for each of the 256 bytes.
//!
//! GPT-2 made it (encoder.py, `bytes_to_unicode`): the bytes that Latin-1 prints stand for themselves, the other 68 for
//! U+0100 upwards in their order. So a space is `Ġ` and a newline `Ċ` in the file, and no token holds a blank.

use std::borrow::Cow;

/// SentencePiece's spelling of a blank.
pub(crate) const BLANK: char = '▁';

/// A text with `▁` for every blank.
pub(crate) fn spell_blanks(text: &str) -> Cow<'_, str> {
    if text.contains(' ') {
        Cow::Owned(text.replace(' ', BLANK.encode_utf8(&mut [0; 4])))
    } else {
        Cow::Borrowed(text)
    }
}

/// The character that stands for a byte.
pub(crate) const fn character_of(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => byte as u32,
        0x00..=0x20 => 0x100 + byte as u32,
        0x7f..=0xa0 => 0x121 + (byte - 0x7f) as u32,
        0xad => 0x143,
    };
    match char::from_u32(code) {
        Some(character) => character,
        None => '\0',
    }
}

/// The byte that a character stands for, if it is of the alphabet.
pub(crate) const fn byte_of(character: char) -> Option<u8> {
    let code = character as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121) as u8 + 0x7f),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Writes bytes in the alphabet, at the end of `text`.
pub(crate) fn spell(bytes: &[u8], text: &mut String) {
    text.extend(bytes.iter().map(|&byte| character_of(byte)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_characters_are_one_to_one() {
        let mut characters = std::collections::BTreeSet::new();
        for byte in 0..=u8::MAX {
            let character = character_of(byte);
            assert_eq!(byte_of(character), Some(byte));
            assert!(!character.is_whitespace() && !character.is_control());
            characters.insert(character);
        }
        assert_eq!(characters.len(), 256);
        let back = ('\0'..=char::MAX).filter(|&character| byte_of(character).is_some()).count();
        assert_eq!(back, 256);
    }

    #[test]
    fn the_famous_ones() {
        for (byte, character) in
            [(b' ', 'Ġ'), (b'\n', 'Ċ'), (b'\t', 'ĉ'), (b'a', 'a'), (0xad, 'Ń'), (0x7f, 'ġ')]
        {
            assert_eq!(character_of(byte), character);
        }
    }
}
