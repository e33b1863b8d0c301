//! Crockford's base32: numbers that people read aloud and type. No I, L, O or U; small letters count as large ones.

use crate::world::Entropy;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The first `chars` characters of `bytes`, five bits each; `bytes` has at least as many bits.
pub fn encode(bytes: &[u8], chars: usize) -> String {
    assert!(bytes.len() * 8 >= chars * 5, "as many bits as characters take");
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let value = |first: usize| (first..first + 5).fold(0, |value, at| value << 1 | bit(at));
    (0..chars).map(|at| char::from(ALPHABET[usize::from(value(at * 5))])).collect()
}

/// So many random characters.
pub fn draw(entropy: &mut dyn Entropy, chars: usize) -> String {
    let mut bytes = vec![0; (chars * 5).div_ceil(8)];
    entropy.fill(&mut bytes);
    encode(&bytes, chars)
}

/// What somebody typed, as it was written: large letters, O for 0, I and L for 1, without dashes and blanks. `None` if it
/// has anything else.
pub fn normal(typed: &str) -> Option<String> {
    let kept = typed.chars().filter(|c| !matches!(c, '-' | ' '));
    let letter = |c: char| match c.to_ascii_uppercase() {
        'O' => Some('0'),
        'I' | 'L' => Some('1'),
        c if c.is_ascii() && ALPHABET.contains(&(c as u8)) => Some(c),
        _ => None,
    };
    kept.map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Simulated;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(encode(&[0xff, 0x00, 0x0f], 4), "ZW00");
        assert_eq!(encode(&[0; 5], 8), "00000000");
        let drawn = draw(&mut Simulated::new(1), 20);
        assert_eq!((drawn.len(), normal(&drawn)), (20, Some(drawn.clone())));
        assert_eq!(normal("k7qm2-9dxtf o1il"), Some("K7QM29DXTF0111".into()));
        assert_eq!(normal("U"), None);
        assert_eq!(normal("é"), None);
    }
}
