//! Reads one table of a config file key by key, so that every problem is found, has its place, and every value knows
//! whether it was written or is the default.
//!
//! Why not one `derive(Deserialize)` for the file: it stops at the first problem, an enum chosen by `type` loses its
//! spans, and it cannot say where a value came from. Each single value is still read by serde.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::problem::{Problems, did_you_mean};

/// Where an effective value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// It stands in the file.
    File,
    /// It stands in the flow, and `node.toml` has another.
    Node,
}

impl Origin {
    /// The word for screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Node => "node",
        }
    }
}

/// One value as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// `source.pump.speed`.
    pub key: String,
    /// As it would be written.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands; of a default: the name of its part.
    pub span: Range<usize>,
}

/// A table that is being read. Keys are taken one by one; [`Part::finish`] complains of what nobody took.
pub struct Part<'i, 'p> {
    /// `source.pump`.
    pub path: String,
    /// Where the table's name stands.
    pub span: Range<usize>,
    table: DeTable<'i>,
    known: Vec<&'static str>,
    problems: &'p mut Problems,
    effective: &'p mut Vec<Effective>,
}

/// A key that is a table of its own, or `false`.
pub enum Nested<'i, 'p> {
    /// It is not there.
    Absent,
    /// It is `false`.
    Off,
    /// It is neither (noted).
    Wrong,
    /// The table.
    Table(Part<'i, 'p>),
}

/// Reads a TOML document; syntax errors become problems.
pub fn parse_document<'i>(text: &'i str, problems: &mut Problems) -> DeTable<'i> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        problems.add(error.span().unwrap_or(0..0), error.message().trim());
    }
    document.into_inner()
}

/// A table's entries in the order of the text.
pub fn in_text_order<'i>(table: DeTable<'i>) -> Vec<(String, Range<usize>, Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> =
        table.into_iter().map(|(key, value)| (key.get_ref().to_string(), key.span(), value)).collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    entries
}

impl<'i, 'p> Part<'i, 'p> {
    /// Begins to read `value`, which must be a table.
    pub fn new(
        path: String,
        span: Range<usize>,
        value: Spanned<DeValue<'i>>,
        problems: &'p mut Problems,
        effective: &'p mut Vec<Effective>,
    ) -> Option<Part<'i, 'p>> {
        let value_span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(Part { path, span, table, known: Vec::new(), problems, effective }),
            other => {
                let found = other.type_str();
                problems.add_with_help(
                    value_span,
                    format!("`{path}` must be a table, found {found}"),
                    format!("write `[{path}]` on a line of its own"),
                );
                None
            }
        }
    }

    /// Takes a key as a serde type; `None` if it is absent, or wrong (noted).
    pub fn take<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<Placed<T>> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let span = value.span();
        let mut shown = Vec::new();
        self.show(key.to_owned(), &value, &mut shown);
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => {
                for (key, text) in shown {
                    self.note(&key, text, Origin::File);
                }
                Some(Placed { value, span })
            }
            Err(error) => {
                let at = error.span().filter(|at| !at.is_empty()).unwrap_or(span);
                let message = format!("`{key}` of `{}`: {}", self.path, error.message().trim());
                self.problems.add(at, message);
                None
            }
        }
    }

    /// Takes a key; the default where it is absent. `shown`: how the default would be written.
    pub fn take_or<T: DeserializeOwned>(&mut self, key: &'static str, default: T, shown: &str) -> Placed<T> {
        if !self.table.contains_key(key) {
            self.note(key, shown.to_owned(), Origin::Default);
        }
        let span = self.span.clone();
        self.take(key).unwrap_or(Placed { value: default, span })
    }

    /// Takes a key that must be there.
    pub fn require<T: DeserializeOwned>(&mut self, key: &'static str, example: &str) -> Option<Placed<T>> {
        self.require_key(key, example);
        self.take(key)
    }

    /// Complains if a key is not there.
    pub fn require_key(&mut self, key: &'static str, example: &str) {
        if !self.table.contains_key(key) {
            let message = format!("`{}` has no `{key}`", self.path);
            self.problems.add_with_help(self.span.clone(), message, format!("add `{key} = {example}`"));
        }
    }

    /// Takes a text and reads it with `read`; its message is noted at the place of the text.
    pub fn take_text<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Placed<T>> {
        let Placed { value: text, span } = self.take::<String>(key)?;
        match read(&text) {
            Ok(value) => Some(Placed { value, span }),
            Err(message) => {
                self.problems.add(span, format!("`{key}` of `{}`: {message}", self.path));
                None
            }
        }
    }

    /// As [`Part::take_text`], with the default as a text of the same form.
    pub fn take_text_or<T>(
        &mut self,
        key: &'static str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Placed<T> {
        if !self.table.contains_key(key) {
            self.note(key, format!("{default:?}"), Origin::Default);
        }
        let span = self.span.clone();
        self.take_text(key, &read).unwrap_or_else(|| {
            let value = read(default).expect("our own defaults can be read");
            Placed { value, span }
        })
    }

    /// Begins to read a key that is a table of its own, or `false`.
    pub fn nested(&mut self, key: &'static str) -> Nested<'i, '_> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else { return Nested::Absent };
        if let DeValue::Boolean(false) = value.get_ref() {
            self.note(key, "false".to_owned(), Origin::File);
            return Nested::Off;
        }
        let (path, span) = (format!("{}.{key}", self.path), value.span());
        match Part::new(path, span, value, self.problems, self.effective) {
            Some(part) => Nested::Table(part),
            None => Nested::Wrong,
        }
    }

    /// Whether the table has a key.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A text that stays in the table.
    pub fn peek(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(|value| value.get_ref().as_str())
    }

    /// What is wrong so far, and the file's text.
    pub fn problems(&self) -> &Problems {
        self.problems
    }

    /// Takes a table apart into its entries, in the order of the text.
    pub fn entries(self) -> Vec<(String, Range<usize>, Spanned<DeValue<'i>>)> {
        in_text_order(self.table)
    }

    /// Takes a key's raw value.
    pub fn take_raw(&mut self, key: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let mut shown = Vec::new();
        self.show(key.to_owned(), &value, &mut shown);
        for (key, text) in shown {
            self.note(&key, text, Origin::File);
        }
        Some(value)
    }

    /// How a value is written. A table with a head of its own (`[source.plc.registers]`) has its text in many places: of it each
    /// entry is told.
    fn show(&self, key: String, value: &Spanned<DeValue<'_>>, shown: &mut Vec<(String, String)>) {
        let text = self.problems.text_at(&value.span());
        let has_head = |value: &Spanned<DeValue<'_>>| {
            matches!(value.get_ref(), DeValue::Table(_))
                && !self.problems.text_at(&value.span()).starts_with('{')
        };
        match value.get_ref() {
            DeValue::Table(table) if has_head(value) => {
                for (name, value) in table {
                    self.show(format!("{key}.{}", name.get_ref()), value, shown);
                }
            }
            DeValue::Array(array) if array.iter().any(has_head) => {
                for (at, value) in array.iter().enumerate() {
                    self.show(format!("{key}.{}", at + 1), value, shown);
                }
            }
            _ => shown.push((key, text.split_whitespace().collect::<Vec<_>>().join(" "))),
        }
    }

    /// Notes a problem somewhere in this table.
    pub fn problem(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.add_with_help(span, message, help);
    }

    /// Notes an effective value that [`Part::take_raw`] or nobody took.
    pub fn note(&mut self, key: &str, value: String, origin: Origin) {
        self.effective.push(Effective { key: format!("{}.{key}", self.path), value, origin });
    }

    /// Complains of every key that was not asked for.
    pub fn finish(self) {
        let Part { path, table, known, problems, .. } = self;
        for (key, span, _) in in_text_order(table) {
            let help = did_you_mean(&key, known.iter().copied());
            problems.add_with_help(span, format!("`{path}` has no setting `{key}`"), help);
        }
    }
}
