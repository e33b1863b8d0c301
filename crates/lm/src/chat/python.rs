//! Values as Python writes them: chat templates were written for Jinja on Python, and their text shows it.
//!
//! Below `jinja.rs`, which gives these to templates: `str()` (`{{ true }}` is `True`), `json.dumps` behind `tojson`, the
//! methods of `str` that the engine's own set lacks. The oracle is Python's output in the tests.

use std::fmt::Write;

use minijinja::value::{Kwargs, ObjectRepr, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// `str(value)`.
pub(super) fn text_of(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_string(),
        None if value.is_undefined() => String::new(),
        None => {
            let mut out = String::new();
            repr(value, &mut out);
            out
        }
    }
}

/// `repr(value)`.
fn repr(value: &Value, out: &mut String) {
    if let Some(text) = value.as_str() {
        repr_text(text, out);
    } else if value.is_none() {
        out.push_str("None");
    } else if value.is_undefined() {
        out.push_str("Undefined");
    } else if let Ok(flag) = bool::try_from(value.clone()).map_err(drop)
        && value.kind() == minijinja::value::ValueKind::Bool
    {
        out.push_str(if flag { "True" } else { "False" });
    } else if let Some(object) = value.as_object() {
        let tuple = value.is_tuple();
        match object.repr() {
            ObjectRepr::Map => {
                out.push('{');
                for (index, (key, value)) in object.try_iter_pairs().into_iter().flatten().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    repr(&key, out);
                    out.push_str(": ");
                    repr(&value, out);
                }
                out.push('}');
            }
            ObjectRepr::Seq | ObjectRepr::Iterable => {
                out.push(if tuple { '(' } else { '[' });
                let mut count = 0;
                for value in object.try_iter().into_iter().flatten() {
                    out.push_str(if count > 0 { ", " } else { "" });
                    repr(&value, out);
                    count += 1;
                }
                out.push_str(match (tuple, count) {
                    (true, 1) => ",)",
                    (true, _) => ")",
                    (false, _) => "]",
                });
            }
            _ => drop(write!(out, "{value}")),
        }
    } else if value.is_number() && !value.is_integer() {
        out.push_str(&float(f64::try_from(value.clone()).unwrap_or(f64::NAN), "nan", "inf"));
    } else {
        let _ = write!(out, "{value}");
    }
}

/// Single quotes, unless only those are inside.
fn repr_text(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other == quote => {
                out.push('\\');
                out.push(other);
            }
            other if other.is_control() => drop(write!(out, "\\x{:02x}", other as u32)),
            other => out.push(other),
        }
    }
    out.push(quote);
}

/// The shortest text that reads back as the same number; an exponent from 1e16 up and below 1e-4.
fn float(number: f64, nan: &str, infinity: &str) -> String {
    if number.is_nan() {
        return nan.to_string();
    }
    if number.is_infinite() {
        return format!("{}{infinity}", if number < 0.0 { "-" } else { "" });
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = format!("{number}");
    if text.contains('.') { text } else { text + ".0" }
}

/// `json.dumps`, as transformers gives it to templates: nothing is escaped for HTML, and text stays as it is.
pub(super) fn tojson(value: &Value, arguments: Kwargs) -> Result<Value, Error> {
    let ensure_ascii = arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let indent = match arguments.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_string(),
            None => " ".repeat(usize::try_from(indent)?),
        }),
    };
    let separators = arguments.get::<Option<Vec<String>>>("separators")?;
    arguments.assert_all_used()?;
    let default = if indent.is_some() { "," } else { ", " };
    let (item, key) = match separators.as_deref() {
        None => (default.to_string(), ": ".to_string()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "`separators` are two")),
    };
    let mut json = Json { out: String::new(), ensure_ascii, sort_keys, indent, item, key };
    json.value(value, 0)?;
    Ok(Value::from(json.out))
}

struct Json {
    out: String,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

impl Json {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            self.text(text);
        } else if value.is_none() {
            self.out.push_str("null");
        } else if value.kind() == minijinja::value::ValueKind::Bool {
            self.out.push_str(if value.is_true() { "true" } else { "false" });
        } else if value.is_integer() {
            let _ = write!(self.out, "{value}");
        } else if value.is_number() {
            self.out.push_str(&float(f64::try_from(value.clone())?, "NaN", "Infinity"));
        } else if let Some(object) = value.as_object() {
            match object.repr() {
                ObjectRepr::Map => {
                    let mut pairs: Vec<(String, Value)> = Vec::new();
                    for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                        pairs.push((json_key(&key)?, value));
                    }
                    if self.sort_keys {
                        pairs.sort_by(|left, right| left.0.cmp(&right.0));
                    }
                    self.items(('{', '}'), pairs.len(), depth, |json, index| {
                        let (key, value) = &pairs[index];
                        json.text(key);
                        json.out.push_str(&json.key.clone());
                        json.value(value, depth + 1)
                    })?;
                }
                ObjectRepr::Seq | ObjectRepr::Iterable => {
                    let items: Vec<Value> = object.try_iter().into_iter().flatten().collect();
                    self.items(('[', ']'), items.len(), depth, |json, index| {
                        json.value(&items[index], depth + 1)
                    })?;
                }
                _ => return Err(not_json(value)),
            }
        } else {
            return Err(not_json(value));
        }
        Ok(())
    }

    fn items(
        &mut self,
        (open, close): (char, char),
        count: usize,
        depth: usize,
        mut one: impl FnMut(&mut Json, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for index in 0..count {
            if index > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line(depth + 1);
            one(self, index)?;
        }
        if count > 0 {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                other if other < ' ' || (self.ensure_ascii && !(' '..='~').contains(&other)) => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                other => self.out.push(other),
            }
        }
        self.out.push('"');
    }
}

fn json_key(key: &Value) -> Result<String, Error> {
    match key.as_str() {
        Some(text) => Ok(text.to_string()),
        None if key.is_none() => Ok("null".to_string()),
        None if key.kind() == minijinja::value::ValueKind::Bool => Ok(key.is_true().to_string()),
        None if key.is_number() => Ok(text_of(key)),
        None => Err(not_json(key)),
    }
}

fn not_json(value: &Value) -> Error {
    let message = format!("a value of type {} cannot be written as JSON", value.kind());
    Error::new(ErrorKind::BadSerialization, message)
}

/// The methods of Python's `str`, `dict` and `list`.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return match (name, value.as_object()) {
            ("index", Some(object)) if object.repr() != ObjectRepr::Map => {
                let (wanted,): (Value,) = from_args(arguments)?;
                let place = object.try_iter().into_iter().flatten().position(|item| item == wanted);
                let place =
                    place.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "not in the list"))?;
                Ok(Value::from(place))
            }
            ("copy", Some(_)) => Ok(value.clone()),
            _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
        };
    };
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            let last = name == "rpartition";
            let parts = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match parts {
                Some((before, after)) => [before, separator, after],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "rsplit" => {
            let (separator, count): (Option<&str>, Option<usize>) = from_args(arguments)?;
            let Some(separator) = separator else {
                let mut parts: Vec<&str> = match count {
                    Some(count) => text.trim_end().rsplitn(count + 1, char::is_whitespace).collect(),
                    None => text.split_whitespace().rev().collect(),
                };
                parts.reverse();
                return Ok(parts.into_iter().map(Value::from).collect());
            };
            let mut parts: Vec<&str> = match count {
                Some(count) => text.rsplitn(count + 1, separator).collect(),
                None => text.rsplit(separator).collect(),
            };
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "index" => {
            let (wanted,): (&str,) = from_args(arguments)?;
            let place = text
                .find(wanted)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            Ok(Value::from(text[..place].chars().count()))
        }
        "casefold" => Ok(Value::from(text.to_lowercase())),
        "swapcase" => Ok(Value::from(text.chars().map(swapped).collect::<String>())),
        "zfill" | "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(arguments)?;
            // The guard before this call holds `width` under 100,000.
            let missing = width.saturating_sub(text.chars().count());
            let fill = fill.unwrap_or(if name == "zfill" { '0' } else { ' ' });
            let (before, after) = match name {
                "ljust" => (0, missing),
                "center" => (missing / 2, missing - missing / 2),
                _ => (missing, 0),
            };
            let filled = |count| std::iter::repeat_n(fill, count).collect::<String>();
            Ok(Value::from(filled(before) + text + &filled(after)))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

fn swapped(character: char) -> char {
    if character.is_ascii_lowercase() {
        character.to_ascii_uppercase()
    } else {
        character.to_ascii_lowercase()
    }
}
