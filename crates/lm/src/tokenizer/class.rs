//! What kind of character a character is, as the patterns of pre-tokenisers ask: letter, number, mark, space.
//!
//! Stands below `split` and `wordpiece`. The general categories come from `unicode-general-category`, white space from
//! `char::is_whitespace` (Unicode's White_Space, which is what `\s` means in tokenizer.json). A page of 256 characters
//! is worked out when the first of it is met, so that a text pays only for the scripts it is written in.

use std::sync::OnceLock;

use unicode_general_category::{GeneralCategory, get_general_category};

/// A set of kinds of characters; also what one character is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class(u16);

impl Class {
    /// `\p{Lu}`, `\p{Lt}`
    pub(crate) const UPPER: Class = Class(1);
    /// `\p{Ll}`
    pub(crate) const LOWER: Class = Class(2);
    /// `\p{Lm}`, `\p{Lo}`
    pub(crate) const CASELESS: Class = Class(4);
    /// `\p{Mn}`
    pub(crate) const MARK_WITHOUT_WIDTH: Class = Class(8);
    /// `\p{Mc}`, `\p{Me}`
    pub(crate) const MARK_WITH_WIDTH: Class = Class(16);
    /// `\p{N}`
    pub(crate) const NUMBER: Class = Class(32);
    /// `\p{P}`
    pub(crate) const PUNCTUATION: Class = Class(64);
    /// `\p{S}`
    pub(crate) const SYMBOL: Class = Class(128);
    /// `\p{Cc}`, `\p{Cf}`, `\p{Co}`
    pub(crate) const CONTROL: Class = Class(256);
    /// `\s`
    pub(crate) const SPACE: Class = Class(512);
    /// `\r`, `\n`
    pub(crate) const NEWLINE: Class = Class(1024);

    /// `\p{L}`
    pub(crate) const LETTER: Class = Class::UPPER.or(Class::LOWER).or(Class::CASELESS);
    /// `\p{M}`
    pub(crate) const MARK: Class = Class::MARK_WITHOUT_WIDTH.or(Class::MARK_WITH_WIDTH);
    /// Nothing.
    pub(crate) const NONE: Class = Class(0);

    /// What is in either.
    pub(crate) const fn or(self, other: Class) -> Class {
        Class(self.0 | other.0)
    }

    /// True if the two share a kind.
    #[inline]
    pub(crate) fn meets(self, other: Class) -> bool {
        self.0 & other.0 != 0
    }

    /// The kind of a character; a code point that is not assigned has none.
    #[inline]
    pub(crate) fn of(character: char) -> Class {
        let code = character as usize;
        Class(PAGES[code >> 8].get_or_init(|| page(code >> 8))[code & 0xff])
    }
}

type Page = Box<[u16; 256]>;

/// Unicode has 0x110000 code points.
static PAGES: [OnceLock<Page>; 0x1100] = [const { OnceLock::new() }; 0x1100];

#[cold]
fn page(number: usize) -> Page {
    let mut page = Box::new([0; 256]);
    for (low, place) in (0..256).zip(page.iter_mut()) {
        if let Some(character) = char::from_u32(number as u32 * 256 + low) {
            *place = classify(character).0;
        }
    }
    page
}

fn classify(character: char) -> Class {
    use GeneralCategory as Category;
    let mut class = match get_general_category(character) {
        Category::UppercaseLetter | Category::TitlecaseLetter => Class::UPPER,
        Category::LowercaseLetter => Class::LOWER,
        Category::ModifierLetter | Category::OtherLetter => Class::CASELESS,
        Category::NonspacingMark => Class::MARK_WITHOUT_WIDTH,
        Category::SpacingMark | Category::EnclosingMark => Class::MARK_WITH_WIDTH,
        Category::DecimalNumber | Category::LetterNumber | Category::OtherNumber => Class::NUMBER,
        Category::ConnectorPunctuation
        | Category::DashPunctuation
        | Category::OpenPunctuation
        | Category::ClosePunctuation
        | Category::InitialPunctuation
        | Category::FinalPunctuation
        | Category::OtherPunctuation => Class::PUNCTUATION,
        Category::MathSymbol
        | Category::CurrencySymbol
        | Category::ModifierSymbol
        | Category::OtherSymbol => Class::SYMBOL,
        Category::Control | Category::Format | Category::PrivateUse => Class::CONTROL,
        _ => Class::NONE,
    };
    if character.is_whitespace() {
        class = class.or(Class::SPACE);
    }
    if matches!(character, '\r' | '\n') {
        class = class.or(Class::NEWLINE);
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_what_its_category_says() {
        for character in '\0'..=char::MAX {
            assert_eq!(Class::of(character), classify(character), "{character:?}");
        }
    }

    #[test]
    fn letters_numbers_marks_and_spaces() {
        let cases = [
            ('A', Class::UPPER),
            ('ǅ', Class::UPPER),
            ('ß', Class::LOWER),
            ('中', Class::CASELESS),
            ('ʰ', Class::CASELESS),
            ('\u{301}', Class::MARK_WITHOUT_WIDTH),
            ('\u{93e}', Class::MARK_WITH_WIDTH),
            ('٣', Class::NUMBER),
            ('Ⅷ', Class::NUMBER),
            ('½', Class::NUMBER),
            ('_', Class::PUNCTUATION),
            ('。', Class::PUNCTUATION),
            ('$', Class::SYMBOL),
            ('🦙', Class::SYMBOL),
            ('\u{200b}', Class::CONTROL),
            ('\u{a0}', Class::SPACE),
            ('\t', Class::SPACE.or(Class::CONTROL)),
            ('\n', Class::SPACE.or(Class::CONTROL).or(Class::NEWLINE)),
            ('\u{378}', Class::NONE),
        ];
        for (character, class) in cases {
            assert_eq!(Class::of(character), class, "{character:?}");
        }
    }
}
