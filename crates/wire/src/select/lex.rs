//! The words of an expression, each with its place; and what is told where an expression cannot be read.

use std::ops::Range;

use super::tree::{Op, Unit};

/// The longest expression, in bytes.
pub const TEXT_MAX: usize = 4096;
/// The longest number, in characters.
const NUMBER_MAX: usize = 24;

/// An expression that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression has {found} at byte {}; expected {expected}", at.start)]
pub struct BadSelector {
    /// Where, in bytes of the text; both ends lie between characters.
    pub at: Range<usize>,
    /// What stands there.
    pub found: String,
    /// What could stand there.
    pub expected: String,
}

impl BadSelector {
    /// The line in question, and a second line with carets under what is wrong.
    pub fn caret(&self, text: &str) -> String {
        let at = self.at.start.min(text.len());
        let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[begin..].lines().next().unwrap_or("");
        let before = text[begin..at].chars().count();
        let under =
            text[at..self.at.end.clamp(at, text.len())].chars().take_while(|c| *c != '\n').count().max(1);
        let shown: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{shown}\n{}{}", " ".repeat(before), "^".repeat(under))
    }
}

/// One word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A fact's name, or a word of the language.
    Name(String),
    Text(String),
    Number(f64, Option<Unit>),
    Compare(Op),
    /// `~`
    Like,
    And,
    Or,
    Not,
    Open,
    Close,
    ListOpen,
    ListClose,
    Comma,
    End,
}

/// All words of a text, `End` last, each with its place.
pub(super) fn lex(text: &str) -> Result<Vec<(Token, Range<usize>)>, BadSelector> {
    if text.len() > TEXT_MAX {
        let cut = text.floor_char_boundary(TEXT_MAX);
        return Err(bad(cut..text.len(), format!("{} bytes in all", text.len()), "at most 4096 bytes"));
    }
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let (token, len) = match first {
            'a'..='z' | 'A'..='Z' => {
                let len = run(&text[at..], |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
                (Token::Name(text[at..at + len].to_owned()), len)
            }
            '0'..='9' | '-' => number(text, at)?,
            '"' => quoted(text, at)?,
            _ => mark(text, at, first)?,
        };
        words.push((token, at..at + len));
        at += len;
    }
    words.push((Token::End, at..at));
    Ok(words)
}

fn mark(text: &str, at: usize, first: char) -> Result<(Token, usize), BadSelector> {
    let marks = [
        ("&&", Token::And),
        ("||", Token::Or),
        ("==", Token::Compare(Op::Same)),
        ("!=", Token::Compare(Op::Other)),
        ("<=", Token::Compare(Op::AtMost)),
        (">=", Token::Compare(Op::AtLeast)),
        ("<", Token::Compare(Op::Less)),
        (">", Token::Compare(Op::More)),
        ("!", Token::Not),
        ("~", Token::Like),
        ("(", Token::Open),
        (")", Token::Close),
        ("[", Token::ListOpen),
        ("]", Token::ListClose),
        (",", Token::Comma),
    ];
    if let Some((mark, token)) = marks.into_iter().find(|(mark, _)| text[at..].starts_with(mark)) {
        return Ok((token, mark.len()));
    }
    let expected = match first {
        '=' => "==",
        '&' => "&&",
        '|' => "||",
        '\'' => "a text in double quotes",
        _ => "a name, a value or an operator",
    };
    Err(bad(at..at + first.len_utf8(), format!("{first:?}"), expected))
}

fn number(text: &str, at: usize) -> Result<(Token, usize), BadSelector> {
    let sign = usize::from(text[at..].starts_with('-'));
    let mut len = sign + run(&text[at + sign..], |c| c.is_ascii_digit());
    let whole = len > sign;
    let after_point = text[at + len..].strip_prefix('.').map_or(0, |rest| run(rest, |c| c.is_ascii_digit()));
    if after_point > 0 {
        len += 1 + after_point;
    }
    let value = text[at..at + len].parse::<f64>().ok().filter(|_| whole && len <= NUMBER_MAX);
    let Some(value) = value else {
        return Err(bad(
            at..at + len.max(1),
            "a number that cannot be read".into(),
            "one such as 12, -3 or 0.5",
        ));
    };
    // A unit may stand a little apart; nothing else that begins with a letter may follow a number.
    let rest = &text[at + len..];
    let gap = run(rest, |c| c == ' ');
    let word = run(&rest[gap..], |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '%'));
    if word == 0 {
        return Ok((Token::Number(value, None), len));
    }
    let written = &rest[gap..gap + word];
    let Some(unit) = Unit::ALL.iter().find(|unit| unit.text() == written) else {
        let units: Vec<_> = Unit::ALL.iter().map(|unit| unit.text()).collect();
        let place = at + len + gap..at + len + gap + word;
        return Err(bad(place, format!("{written:?}"), &format!("a unit: {}", units.join(" "))));
    };
    Ok((Token::Number(value, Some(*unit)), len + gap + word))
}

fn quoted(text: &str, at: usize) -> Result<(Token, usize), BadSelector> {
    let mut value = String::new();
    let mut chars = text[at + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        let here = at + 1 + offset;
        match c {
            '"' => return Ok((Token::Text(value), offset + 2)),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                _ => return Err(bad(here..here + 1, "a backslash".into(), "\\\" or \\\\")),
            },
            c if c.is_control() => {
                return Err(bad(
                    here..here + c.len_utf8(),
                    format!("{c:?}"),
                    "no control characters in a text",
                ));
            }
            c => value.push(c),
        }
    }
    Err(bad(at..text.len(), "a text without an end".into(), "a closing \""))
}

/// How many bytes at the beginning are of one kind; of ASCII kinds only.
fn run(text: &str, kind: impl Fn(char) -> bool) -> usize {
    text.find(|c| !kind(c)).unwrap_or(text.len())
}

pub(super) fn bad(at: Range<usize>, found: String, expected: &str) -> BadSelector {
    BadSelector { at, found, expected: expected.to_owned() }
}
