//! JSON that is signed: a strict reader, and the one form of a value whose bytes are signed and hashed.
//!
//! Metadata comes from strangers and two readers must never see two meanings in it, so what JSON leaves open is refused
//! here: a name twice in an object, numbers that are no integers, half of a surrogate pair, depth and size without end.
//! The canonical form is OLPC's, as TUF's other implementations write it: names sorted by code point, no white space,
//! only `"` and `\` escaped, everything else raw UTF-8.

use std::collections::BTreeMap;

/// The deepest nesting that is read.
const DEPTH_MAX: usize = 64;
/// The most bytes of a document; each role has a smaller limit of its own.
const BYTES_MAX: usize = 8 << 20;
/// The most bytes of one string.
const TEXT_MAX: usize = 64 << 10;
/// The most values of a document: an empty list costs two bytes of text, but 32 of memory.
const VALUES_MAX: usize = 500_000;

/// A JSON value without fractions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent.
    Integer(i64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object; a `BTreeMap` of UTF-8 sorts by code point.
    Object(BTreeMap<String, Value>),
}

/// A document that is not strict JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    /// The bytes are not JSON.
    #[error("not JSON at byte {at}: {expected} was expected")]
    Syntax {
        /// Where.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// The bytes are not UTF-8.
    #[error("not UTF-8 at byte {at}")]
    Utf8 {
        /// The first byte that is wrong.
        at: usize,
    },
    /// A name stands twice in one object.
    #[error("the name {name:?} stands twice in one object, at byte {at}")]
    DuplicateName {
        /// The name, shortened.
        name: String,
        /// Where it stands for the second time.
        at: usize,
    },
    /// A fraction, an exponent, or an integer beyond 64 bits.
    #[error("the number at byte {at} is not a 64-bit integer; signed documents have no others")]
    Number {
        /// Where.
        at: usize,
    },
    /// A limit is passed.
    #[error("the document has more than {limit} {of}")]
    TooMuch {
        /// The limit.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
}

impl Value {
    /// An object of these fields.
    pub fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
        Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The field of that name, if this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }

    /// The fields, if this is an object.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Value>> {
        if let Value::Object(fields) = self { Some(fields) } else { None }
    }

    /// The fields, to change them, if this is an object.
    pub fn as_object_mut(&mut self) -> Option<&mut BTreeMap<String, Value>> {
        if let Value::Object(fields) = self { Some(fields) } else { None }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Value::List(items) = self { Some(items) } else { None }
    }

    /// The string, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if this is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        if let Value::Integer(number) = self { u64::try_from(*number).ok() } else { None }
    }

    /// The truth, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(truth) = self { Some(*truth) } else { None }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Bool(truth)
    }
}

/// Saturates at the largest number that signed documents have: no length or version is ever near it.
impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// The bytes that are signed, and whose hash is a key's id. Not always JSON: control characters stand raw.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, false, &mut out);
    out
}

/// The same value as JSON that any reader takes: as [`canonical`], with control characters escaped.
pub fn to_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, true, &mut out);
    out
}

fn write(value: &Value, escape_controls: bool, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Integer(number) => out.extend(number.to_string().bytes()),
        Value::Text(text) => write_text(text, escape_controls, out),
        Value::List(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write(item, escape_controls, out);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            out.push(b'{');
            for (place, (name, field)) in fields.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_text(name, escape_controls, out);
                out.push(b':');
                write(field, escape_controls, out);
            }
            out.push(b'}');
        }
    }
}

fn write_text(text: &str, escape_controls: bool, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0..0x20 if escape_controls => out.extend(format!("\\u{byte:04x}").bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Reads one document, and nothing behind it.
pub fn parse(bytes: &[u8]) -> Result<Value, StrictError> {
    if bytes.len() > BYTES_MAX {
        return Err(StrictError::TooMuch { limit: BYTES_MAX, of: "bytes" });
    }
    let text = std::str::from_utf8(bytes).map_err(|wrong| StrictError::Utf8 { at: wrong.valid_up_to() })?;
    let mut reader = Reader { text, at: 0, values: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.expected("the end of the document"));
    }
    Ok(value)
}

/// Where reading stands; `at` is always at the border of a character.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> StrictError {
        StrictError::Syntax { at: self.at, expected }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes `byte`, an ASCII character, if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Value, StrictError> {
        if depth > DEPTH_MAX {
            return Err(StrictError::TooMuch { limit: DEPTH_MAX, of: "levels" });
        }
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(StrictError::TooMuch { limit: VALUES_MAX, of: "values" });
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words = [("null", Value::Null), ("true", true.into()), ("false", false.into())];
                let rest = &self.text[self.at..];
                let found = words.into_iter().find(|(word, _)| rest.starts_with(word));
                let (word, value) = found.ok_or_else(|| self.expected("a value"))?;
                self.at += word.len();
                Ok(value)
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, StrictError> {
        self.at += 1;
        let mut fields = BTreeMap::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Object(fields));
        }
        loop {
            self.skip_space();
            let at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.expected("a name in quotes"));
            }
            let name = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.expected("':'"));
            }
            if fields.contains_key(&name) {
                return Err(StrictError::DuplicateName { name: name.chars().take(40).collect(), at });
            }
            let value = self.value(depth + 1)?;
            fields.insert(name, value);
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::Object(fields));
            }
            if !self.take(b',') {
                return Err(self.expected("',' or '}'"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, StrictError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::List(items));
            }
            if !self.take(b',') {
                return Err(self.expected("',' or ']'"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, StrictError> {
        let start = self.at;
        self.take(b'-');
        let digits = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == digits {
            return Err(self.expected("a digit"));
        }
        let text = &self.text[start..self.at];
        let leading_zero = self.text.as_bytes()[digits] == b'0' && self.at > digits + 1;
        if leading_zero || text == "-0" || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(StrictError::Number { at: start });
        }
        text.parse().map(Value::Integer).map_err(|_| StrictError::Number { at: start })
    }

    fn string(&mut self) -> Result<String, StrictError> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
            let plain = plain.ok_or(StrictError::Syntax { at: self.text.len(), expected: "'\"'" })?;
            string.push_str(&rest[..plain]);
            self.at += plain;
            if string.len() > TEXT_MAX {
                return Err(StrictError::TooMuch { limit: TEXT_MAX, of: "bytes in one string" });
            }
            if self.take(b'"') {
                return Ok(string);
            }
            if !self.take(b'\\') {
                return Err(self.expected("an escaped control character"));
            }
            string.push(self.escape()?);
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<char, StrictError> {
        let escape = self.peek();
        let c = match escape {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let first = self.four_digits()?;
                let code = if (0xd800..0xdc00).contains(&first) && self.take(b'\\') && self.take(b'u') {
                    let second = self.four_digits()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(self.expected("the second half of a surrogate pair"));
                    }
                    0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                return char::from_u32(code).ok_or_else(|| self.expected("a whole surrogate pair"));
            }
            _ => return Err(self.expected("an escape of JSON")),
        };
        self.at += 1;
        Ok(c)
    }

    fn four_digits(&mut self) -> Result<u32, StrictError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        let code =
            digits.iter().fold(0, |code, digit| code * 16 + char::from(*digit).to_digit(16).unwrap_or(0));
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_canonical_form() {
        fn check(json: &str, expected: &str) {
            assert_eq!(String::from_utf8(canonical(&parse(json.as_bytes()).unwrap())).unwrap(), expected);
        }
        check(" { \"b\" : [ 1 , -2 , null ] , \"a\" : true } ", r#"{"a":true,"b":[1,-2,null]}"#);
        check(r#"{"":{},"z":[],"é":"é","Z":"\/"}"#, r#"{"":{},"Z":"/","z":[],"é":"é"}"#);
        check(r#""\"\\""#, r#""\"\\""#);
        check(r#""\n\u0001\ud83d\ude00""#, "\"\n\u{1}\u{1f600}\"");
        // Sorted by code point, not by UTF-16 unit: U+FFFF stands before U+10000.
        check("{\"\u{10000}\":1,\"\u{ffff}\":2}", "{\"\u{ffff}\":2,\"\u{10000}\":1}");
    }

    #[test]
    fn what_is_refused() {
        fn check(json: &str, why: &str) {
            let error = parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{json:.60}: {error}");
        }
        check(r#"{"a":1,"b":{},"a":1}"#, "stands twice");
        check("{\"a\":1,\"\\u0061\":2}", "stands twice");
        check(r#"{"a":[{"x":1,"x":1}]}"#, "stands twice");
        for number in ["1.0", "1e3", "1E0", "-0", "01", "9223372036854775808", "-9223372036854775809"] {
            check(number, "not a 64-bit integer");
        }
        for half in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\ud800x""#] {
            check(half, "surrogate pair");
        }
        check("\"a\nb\"", "control character");
        check(&"[".repeat(100), "levels");
        check(&format!("\"{}\"", "a".repeat(70_000)), "bytes in one string");
        check(&format!("[{}0]", "0,".repeat(500_000)), "values");
        check("{} {}", "the end of the document");
        for cut in
            ["", "{", "[1", "{\"a\"", "{\"a\":", "\"", "\"\\", "\"\\u12", "tru", "-", "[1,]", "{,}", "nan"]
        {
            assert!(parse(cut.as_bytes()).is_err(), "{cut}");
        }
        assert_eq!(parse(b"\"\xff\""), Err(StrictError::Utf8 { at: 1 }));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read_back(text in "\\PC{0,20}[\u{0}-\u{1f}]{0,3}", number: i64) {
            let value = Value::object([("t", Value::Text(text)), ("n", Value::Integer(number))]);
            prop_assert_eq!(parse(&to_json(&value)), Ok(value));
        }
    }
}
