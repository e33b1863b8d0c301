//! An expression as a tree, and the text it is written as: what is printed is read again as the same tree.

use std::fmt::{self, Display, Write};

use crate::facts::FactName;

/// Which nodes are meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// One of these; two or more.
    Or(Vec<Expr>),
    /// Each of these; two or more.
    And(Vec<Expr>),
    /// Not this.
    Not(Box<Expr>),
    /// A term, true or false of a node by itself.
    Term(Term),
}

/// What is true or false of a node by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// Every node.
    All,
    /// The fact is there and not false.
    Is(FactName),
    /// The fact is there, of the value's type, and compares so.
    Compare(FactName, Op, Value),
    /// The fact is a list with this text in it, or this text.
    Has(FactName, String),
    /// The fact equals one of these; one or more.
    In(FactName, Vec<Value>),
    /// The fact is a text of this shape: `*` for any run, `?` for any character.
    Like(FactName, String),
}

impl Term {
    /// The fact it asks for.
    pub fn name(&self) -> Option<&FactName> {
        match self {
            Self::All => None,
            Self::Is(name)
            | Self::Compare(name, ..)
            | Self::Has(name, _)
            | Self::In(name, _)
            | Self::Like(name, _) => Some(name),
        }
    }
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `==`
    Same,
    /// `!=`
    Other,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

/// What a fact is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `"oslo"`
    Text(String),
    /// `2GiB`: the number as written, and its unit.
    Number(f64, Option<Unit>),
    /// `true`
    Truth(bool),
}

macro_rules! units {
    ($($unit:ident $text:literal $factor:expr;)*) => {
        /// What a number counts; a fact is in bytes, seconds, hertz, watts, or a share of one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Unit { $($unit),* }

        impl Unit {
            /// Every unit.
            pub const ALL: &[Self] = &[$(Self::$unit),*];

            /// As it is written.
            pub fn text(self) -> &'static str {
                match self { $(Self::$unit => $text),* }
            }

            /// What one of it is, in the unit of facts.
            pub fn factor(self) -> f64 {
                match self { $(Self::$unit => $factor),* }
            }
        }
    };
}

units! {
    Bytes "B" 1.0;
    Kilobytes "kB" 1e3;
    Megabytes "MB" 1e6;
    Gigabytes "GB" 1e9;
    Kibibytes "KiB" 1024.0;
    Mebibytes "MiB" 1_048_576.0;
    Gibibytes "GiB" 1_073_741_824.0;
    Seconds "s" 1.0;
    Minutes "m" 60.0;
    Hours "h" 3600.0;
    Days "d" 86_400.0;
    Percent "%" 0.01;
    Megahertz "MHz" 1e6;
    Gigahertz "GHz" 1e9;
    Watts "W" 1.0;
}

impl Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "==",
            Self::Other => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        })
    }
}

/// A text in quotes, as the language reads it.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Quoted(text).fmt(f),
            Self::Number(number, unit) => write!(f, "{number}{}", unit.map_or("", Unit::text)),
            Self::Truth(truth) => write!(f, "{truth}"),
        }
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Is(name) => name.fmt(f),
            Self::Compare(name, op, value) => write!(f, "{name} {op} {value}"),
            Self::Has(name, text) => write!(f, "{name} has {}", Quoted(text)),
            Self::Like(name, shape) => write!(f, "{name} ~ {}", Quoted(shape)),
            Self::In(name, values) => {
                write!(f, "{name} in [")?;
                between(f, ", ", values, |f, value| value.fmt(f))?;
                f.write_char(']')
            }
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term(term) => term.fmt(f),
            Self::Not(inner) => {
                f.write_char('!')?;
                nested(f, inner, matches!(**inner, Self::Term(_)))
            }
            Self::And(parts) => between(f, " && ", parts, |f, part| {
                nested(f, part, matches!(part, Self::Term(_) | Self::Not(_)))
            }),
            Self::Or(parts) => {
                between(f, " || ", parts, |f, part| nested(f, part, !matches!(part, Self::Or(_))))
            }
        }
    }
}

/// A part as it is, or in parentheses where it would be read otherwise.
fn nested(f: &mut fmt::Formatter<'_>, part: &Expr, bare: bool) -> fmt::Result {
    if bare { part.fmt(f) } else { write!(f, "({part})") }
}

fn between<T>(
    f: &mut fmt::Formatter<'_>,
    mark: &str,
    parts: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(mark)?;
        }
        write(f, part)?;
    }
    Ok(())
}
