//! Words, numbers, symbols and space: the pattern that GPT-2 began and most vocabularies still vary.
//!
//! One expression of alternatives, tried in this order: contraction, letters, numbers, symbols, space. What varies is
//! what [`Words`] says. Each answer is the one that the greedy, backtracking expression in the field's doc would give.

use crate::tokenizer::class::Class;
use crate::tokenizer::split::scan::{after, character, class, end_of_class, end_of_run, end_of_space};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) contractions: Contractions,
    pub(crate) letters: Letters,
    pub(crate) numbers: Numbers,
    /// What may follow symbols, ` ?[^\s\p{L}\p{N}]+`, in their piece.
    pub(crate) tail: Tail,
    /// `\s*[\r\n]+` before `\s+(?!\S)|\s+`
    pub(crate) newlines: bool,
}

/// `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d` as pieces of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contractions {
    None,
    Lower,
    AnyCase,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Letters {
    /// ` ?\p{L}+`
    Spaced,
    /// `[^\r\n\p{L}\p{N}]?\p{L}+`
    Led,
    /// `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`
    LedWithMarks,
    /// With U for `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]` and L for `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`:
    /// `[^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?`, where C is a contraction if `contractions`.
    Cased { contractions: bool },
    /// `[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`
    Joined,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbers {
    /// ` ?\p{N}+`
    Spaced,
    /// `\p{N}{1,n}`
    UpTo(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    None,
    /// `[\r\n]*`
    Newlines,
    /// `[\r\n/]*`
    NewlinesAndSlashes,
    /// `[\r\n/]?`
    NewlineOrSlash,
}

/// `[^\r\n\p{L}\p{N}]` is what is none of these.
const NO_LEAD: Class = Class::NEWLINE.or(Class::LETTER).or(Class::NUMBER);

impl Words {
    /// The end of the piece that starts at `at`.
    pub(super) fn end(&self, text: &str, at: usize) -> Option<usize> {
        let first = character(text, at)?;
        if first == '\''
            && let Some(end) = self.contractions.end(text, at)
        {
            return Some(end);
        }
        if let Some(end) = self.letters.end(text, at, first) {
            return Some(end);
        }
        let start = if first == ' ' { at + 1 } else { at };
        match self.numbers {
            Numbers::Spaced => {
                let end = end_of_class(text, start, Class::NUMBER);
                if end > start {
                    return Some(end);
                }
            }
            Numbers::UpTo(most) => {
                let mut end = at;
                for _ in 0..most {
                    if !class(text, end).meets(Class::NUMBER) {
                        break;
                    }
                    end = after(text, end);
                }
                if end > at {
                    return Some(end);
                }
            }
        }
        let others = Class::SPACE.or(Class::NUMBER).or(self.letters.class());
        let end = end_of_run(text, start, |character| !Class::of(character).meets(others));
        if end > start {
            return Some(self.tail.end(text, end));
        }
        end_of_space(text, at, self.newlines)
    }
}

impl Contractions {
    /// The end of a contraction whose apostrophe is at `at`.
    fn end(self, text: &str, at: usize) -> Option<usize> {
        let bytes = text.as_bytes();
        let letter = |place: usize| match (self, bytes.get(place)) {
            (Contractions::AnyCase, Some(letter)) => letter.to_ascii_lowercase(),
            (Contractions::Lower, Some(&letter)) => letter,
            (Contractions::None, _) | (_, None) => 0,
        };
        match (letter(at + 1), letter(at + 2)) {
            (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
            (b'r' | b'v', b'e') | (b'l', b'l') => Some(at + 3),
            _ => None,
        }
    }
}

impl Letters {
    /// What counts as a letter.
    fn class(self) -> Class {
        match self {
            Letters::LedWithMarks => Class::LETTER.or(Class::MARK),
            _ => Class::LETTER,
        }
    }

    fn end(self, text: &str, at: usize, first: char) -> Option<usize> {
        let kind = Class::of(first);
        let next = at + first.len_utf8();
        match self {
            Letters::Spaced => {
                let start = if first == ' ' { next } else { at };
                Some(end_of_class(text, start, Class::LETTER)).filter(|&end| end > start)
            }
            Letters::Led | Letters::LedWithMarks => {
                let letters = self.class();
                let led = !kind.meets(NO_LEAD) && class(text, next).meets(letters);
                (kind.meets(letters) || led).then(|| end_of_class(text, next, letters))
            }
            Letters::Cased { contractions } => {
                let end = cased(text, at, (!kind.meets(NO_LEAD)).then_some(next))?;
                let contraction = if contractions && text.as_bytes().get(end) == Some(&b'\'') {
                    Contractions::AnyCase.end(text, end)
                } else {
                    None
                };
                Some(contraction.unwrap_or(end))
            }
            Letters::Joined => {
                let start = if kind.meets(NO_LEAD) { at } else { next };
                joined(text, start)
            }
        }
    }
}

/// Words that begin where their case rises. `led`: the place after the first character, if it may lead a word.
///
/// `U*L+` takes what can be upper, then what can be lower, and gives back of the first what the second lacks: without a
/// lower-case letter after it, the run ends with its last letter that has no case.
fn cased(text: &str, at: usize, led: Option<usize>) -> Option<usize> {
    const BOTH: Class = Class::CASELESS.or(Class::MARK);
    const UPPER: Class = Class::UPPER.or(BOTH);
    const LOWER: Class = Class::LOWER.or(BOTH);
    // For a start: where `U*` ends, and where `U*L+` does.
    let scan = |start: usize| {
        let (mut end, mut both) = (start, None);
        while let Some(character) = character(text, end) {
            let class = Class::of(character);
            if !class.meets(UPPER) {
                break;
            }
            end += character.len_utf8();
            if class.meets(BOTH) {
                both = Some(end);
            }
        }
        let lower = end_of_class(text, end, LOWER);
        (end, if lower > end { Some(lower) } else { both })
    };
    let led = led.map(|start| (start, scan(start)));
    if let Some((_, (_, Some(end)))) = led {
        return Some(end);
    }
    let (upper, rising) = scan(at);
    if let Some(end) = rising {
        return Some(end);
    }
    match led {
        Some((start, (end, _))) if end > start => Some(end),
        _ => Some(upper).filter(|&end| end > at),
    }
}

/// Words with single blanks between them, as one piece.
fn joined(text: &str, start: usize) -> Option<usize> {
    let mut end = start;
    loop {
        let word = if end > start && character(text, end) == Some(' ') { end + 1 } else { end };
        if !class(text, word).meets(Class::LETTER) {
            return (end > start).then_some(end);
        }
        end = end_of_class(text, after(text, word), Class::MARK);
    }
}

impl Tail {
    fn end(self, text: &str, at: usize) -> usize {
        let slash = matches!(self, Tail::NewlinesAndSlashes | Tail::NewlineOrSlash);
        let belongs = |character| matches!(character, '\r' | '\n') || (slash && character == '/');
        match self {
            Tail::None => at,
            Tail::Newlines | Tail::NewlinesAndSlashes => end_of_run(text, at, belongs),
            Tail::NewlineOrSlash => match character(text, at) {
                Some(character) if belongs(character) => at + 1,
                _ => at,
            },
        }
    }
}
