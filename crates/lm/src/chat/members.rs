//! Finds the members of JSON objects in text that comes in pieces.
//!
//! Below `answer.rs`: a tool call is JSON that the model is still writing, and its arguments are passed on while they
//! grow. Each byte is looked at once, however small the pieces. It finds where things begin and end; whether the JSON
//! between is right is for `serde_json` to say.

use std::ops::Range;

/// What was found; places are bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A key of an object, with its quotes.
    Key(Range<usize>),
    /// The first byte of a member's value.
    ValueBegins(usize),
    /// A whole value.
    Value(Range<usize>),
    /// One past an object's brace.
    ObjectEnds(usize),
    /// One past the bracket of the list of objects.
    ListEnds(usize),
    /// This byte is no JSON.
    Broken(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Before an object, or a list of them.
    #[default]
    Outside,
    BeforeKey,
    Key(usize),
    AfterKey,
    BeforeValue,
    /// In a value that began here.
    Value(usize),
    AfterValue,
    Done,
}

/// The scanner of one object, list of objects, or value.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    phase: Phase,
    place: usize,
    in_list: bool,
    /// Only a value is expected, no object round it.
    alone: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Members {
    /// Of an object, or of each object in a list, which begins at this byte of the text.
    pub(super) fn new(place: usize) -> Members {
        Members { place, ..Members::default() }
    }

    /// Of a single value.
    pub(super) fn value(place: usize) -> Members {
        Members { phase: Phase::BeforeValue, alone: true, ..Members::new(place) }
    }

    /// How far the text has been looked at.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Whether the objects stand in a list.
    pub(super) fn in_list(&self) -> bool {
        self.in_list
    }

    /// The next thing in the text, which is the text of before with more at its end.
    pub(super) fn next(&mut self, text: &str) -> Option<Event> {
        while self.phase != Phase::Done {
            let byte = *text.as_bytes().get(self.place)?;
            let place = self.place;
            self.place += 1;
            if let Some(event) = self.step(byte, place) {
                return Some(event);
            }
        }
        None
    }

    fn broken(&mut self, place: usize) -> Option<Event> {
        self.phase = Phase::Done;
        Some(Event::Broken(place))
    }

    fn step(&mut self, byte: u8, place: usize) -> Option<Event> {
        let space = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        match self.phase {
            Phase::Done => None,
            Phase::Value(begin) => self.in_value(byte, place, begin),
            Phase::Key(begin) => {
                if self.escaped {
                    self.escaped = false;
                } else if byte == b'\\' {
                    self.escaped = true;
                } else if byte == b'"' {
                    self.phase = Phase::AfterKey;
                    return Some(Event::Key(begin..place + 1));
                }
                None
            }
            _ if space => None,
            Phase::Outside => match byte {
                b'[' if !self.in_list => {
                    self.in_list = true;
                    None
                }
                b'{' => {
                    self.phase = Phase::BeforeKey;
                    None
                }
                b',' if self.in_list => None,
                b']' if self.in_list => {
                    self.phase = Phase::Done;
                    Some(Event::ListEnds(place + 1))
                }
                _ => self.broken(place),
            },
            Phase::BeforeKey => match byte {
                b'"' => {
                    self.phase = Phase::Key(place);
                    None
                }
                b'}' => self.object_ends(place),
                _ => self.broken(place),
            },
            Phase::AfterKey => match byte {
                b':' => {
                    self.phase = Phase::BeforeValue;
                    None
                }
                _ => self.broken(place),
            },
            Phase::BeforeValue => {
                if matches!(byte, b',' | b'}' | b']' | b':') {
                    return self.broken(place);
                }
                self.phase = Phase::Value(place);
                self.depth = usize::from(matches!(byte, b'{' | b'['));
                self.in_string = byte == b'"';
                self.escaped = false;
                Some(Event::ValueBegins(place))
            }
            Phase::AfterValue => match byte {
                b',' => {
                    self.phase = Phase::BeforeKey;
                    None
                }
                b'}' => self.object_ends(place),
                _ => self.broken(place),
            },
        }
    }

    fn object_ends(&mut self, place: usize) -> Option<Event> {
        self.phase = if self.in_list { Phase::Outside } else { Phase::Done };
        Some(Event::ObjectEnds(place + 1))
    }

    fn value_ends(&mut self, value: Range<usize>) -> Option<Event> {
        self.phase = if self.alone { Phase::Done } else { Phase::AfterValue };
        Some(Event::Value(value))
    }

    fn in_value(&mut self, byte: u8, place: usize, begin: usize) -> Option<Event> {
        if self.in_string {
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_string = false;
                if self.depth == 0 {
                    return self.value_ends(begin..place + 1);
                }
            }
            return None;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                if self.depth == 0 {
                    return self.value_ends(begin..place + 1);
                }
            }
            // After a number or a word comes something else, which is looked at again.
            b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' if self.depth == 0 => {
                self.place = place;
                return self.value_ends(begin..place);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events as text, the same in one piece and byte by byte.
    fn check(mut scanner: Members, text: &str, expected: &[&str]) {
        let show = |text: &str, event: Event| match event {
            Event::Key(range) => format!("key {}", &text[range]),
            Event::ValueBegins(_) => "value".to_string(),
            Event::Value(range) => format!("= {}", &text[range]),
            Event::ObjectEnds(_) => "}".to_string(),
            Event::ListEnds(_) => "]".to_string(),
            Event::Broken(place) => format!("broken {place}"),
        };
        let mut again = scanner.clone();
        let mut whole = Vec::new();
        while let Some(event) = scanner.next(text) {
            whole.push(show(text, event));
        }
        let mut pieces = Vec::new();
        for end in 0..=text.len() {
            if text.is_char_boundary(end) {
                while let Some(event) = again.next(&text[..end]) {
                    pieces.push(show(text, event));
                }
            }
        }
        assert_eq!(whole, expected, "{text}");
        assert_eq!(pieces, expected, "{text}, byte by byte");
    }

    #[test]
    fn members_are_found_in_one_piece_and_byte_by_byte() {
        check(Members::new(0), r#" {"a": 1}"#, &["key \"a\"", "value", "= 1", "}"]);
        check(
            Members::new(0),
            r#"{"n\"": "x}]\"", "b":{"c":["}"]},"d" : null }tail"#,
            &[
                r#"key "n\"""#,
                "value",
                r#"= "x}]\"""#,
                "key \"b\"",
                "value",
                r#"= {"c":["}"]}"#,
                "key \"d\"",
                "value",
                "= null",
                "}",
            ],
        );
        check(Members::new(0), r#"[{"a":[]}, {}]x"#, &["key \"a\"", "value", "= []", "}", "}", "]"]);
        check(Members::new(0), "[]", &["]"]);
        check(Members::new(0), "{a: 1}", &["broken 1"]);
        check(Members::new(0), r#"{"a" 1}"#, &["key \"a\"", "broken 5"]);
        check(Members::new(0), r#"{"a": }"#, &["key \"a\"", "broken 6"]);
        check(Members::new(0), "x", &["broken 0"]);
        check(Members::new(2), r#"ab{"é":"ß"}"#, &["key \"é\"", "value", "= \"ß\"", "}"]);
        check(Members::value(0), r#" {"a": [1, {"b": 2}]} </x>"#, &["value", r#"= {"a": [1, {"b": 2}]}"#]);
        check(Members::value(0), "12 ", &["value", "= 12"]);
    }
}
