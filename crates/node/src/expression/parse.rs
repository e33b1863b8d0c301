//! Text to a tree, by CEL's grammar as far as conditions need it; what CEL has beyond that is refused by its name.
//!
//! A name may have letters of any script, where CEL has only ASCII: channels are called as people call them.

use std::ops::Range;

use super::tree::Compare;

/// The longest text, in bytes.
pub const TEXT_MAX_BYTES: usize = 4 * 1024;
/// The deepest nesting.
pub const DEPTH_MAX: usize = 32;
/// The most nodes of a tree.
pub const NODES_MAX: usize = 512;

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Where in the text, in bytes.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// A tree whose types are not known yet.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) span: Range<usize>,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Number(f64),
    Text(String),
    Truth(bool),
    /// `part.field` or `part["field"]`.
    Field {
        part: String,
        part_at: Range<usize>,
        field: String,
        field_at: Range<usize>,
    },
    /// A name alone.
    Name(String),
    /// `name(…)`.
    Call {
        name: String,
        name_at: Range<usize>,
        arguments: Vec<Tree>,
    },
    /// `[…]`.
    List(Vec<Tree>),
    Not(Box<Tree>),
    Negate(Box<Tree>),
    Two(Sign, Box<[Tree; 2]>),
    Choose(Box<[Tree; 3]>),
}

/// A sign between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Or,
    And,
    In,
    Compare(Compare),
    Plus,
    Minus,
    Times,
    By,
}

impl Sign {
    /// How tightly it binds.
    fn rank(self) -> u8 {
        match self {
            Sign::Or => 1,
            Sign::And => 2,
            Sign::In | Sign::Compare(_) => 3,
            Sign::Plus | Sign::Minus => 4,
            Sign::Times | Sign::By => 5,
        }
    }
}

const EXAMPLE: &str = "write a condition such as `pump.temperature > 80.0`";
/// The longest first: `<=` before `<`.
const SIGNS: [(&str, Sign); 13] = [
    ("||", Sign::Or),
    ("&&", Sign::And),
    (">=", Sign::Compare(Compare::AtLeast)),
    ("<=", Sign::Compare(Compare::AtMost)),
    ("==", Sign::Compare(Compare::Equal)),
    ("!=", Sign::Compare(Compare::Unequal)),
    (">", Sign::Compare(Compare::Above)),
    ("<", Sign::Compare(Compare::Below)),
    ("in", Sign::In),
    ("+", Sign::Plus),
    ("-", Sign::Minus),
    ("*", Sign::Times),
    ("/", Sign::By),
];

/// Reads a text to its end.
pub(super) fn parse(text: &str) -> Result<Tree, Bad> {
    if text.len() > TEXT_MAX_BYTES {
        let message = format!("the condition has {} bytes, the most is {TEXT_MAX_BYTES}", text.len());
        let help = "cut it into rules, and speak of them as `rule_name.firing`".to_owned();
        return Err(Bad { span: 0..text.len(), message, help });
    }
    let mut reader = Reader { text, at: 0, nodes: 0, depth: 0 };
    let tree = reader.choice()?;
    if reader.rest().is_empty() {
        return Ok(tree);
    }
    reader.surplus()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&mut self) -> &'a str {
        let mut rest = self.text[self.at..].trim_start();
        while let Some(comment) = rest.strip_prefix("//") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]).trim_start();
        }
        self.at = self.text.len() - rest.len();
        rest
    }

    /// Fails at the word that stands here.
    fn fail<T>(&self, message: impl Into<String>, help: impl Into<String>) -> Result<T, Bad> {
        let rest = &self.text[self.at..];
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        self.fail_at(self.at..self.at + end, message, help)
    }

    fn fail_at<T>(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Result<T, Bad> {
        Err(Bad { span, message: message.into(), help: help.into() })
    }

    fn take(&mut self, len: usize) -> Range<usize> {
        let span = self.at..self.at + len;
        self.at = span.end;
        span
    }

    fn eat(&mut self, sign: &str) -> Option<Range<usize>> {
        self.rest().starts_with(sign).then(|| self.take(sign.len()))
    }

    fn expect(&mut self, sign: &str, opened: &Range<usize>) -> Result<Range<usize>, Bad> {
        if let Some(span) = self.eat(sign) {
            return Ok(span);
        }
        if self.text[self.at..].is_empty() {
            let opened_by = &self.text[opened.clone()];
            return self.fail_at(
                opened.clone(),
                format!("nothing closes `{opened_by}`"),
                format!("add `{sign}`"),
            );
        }
        self.surplus()
    }

    /// Complains of what stands where nothing more should.
    fn surplus<T>(&mut self) -> Result<T, Bad> {
        let rest = self.rest();
        for (sign, help) in [
            ("=", "`=` does not compare: write `==`"),
            ("&", "write `&&`"),
            ("|", "write `||`"),
            ("%", "a condition has no remainder: give the value by a feature"),
            (")", "nothing opened it: take `)` away"),
            ("]", "nothing opened it: take `]` away"),
            (".", "a field is `part.field`: of a value there is nothing to take"),
            ("{", "a condition has no maps"),
        ] {
            if rest.starts_with(sign) {
                self.take(sign.len());
                let span = self.at - sign.len()..self.at;
                return self.fail_at(span, format!("`{sign}` cannot stand here"), help);
            }
        }
        let word = word(rest);
        match word {
            "and" => self.fail("`and` is not known", "write `&&`"),
            "or" => self.fail("`or` is not known", "write `||`"),
            "" if rest.is_empty() => self.fail("the condition is not complete", EXAMPLE),
            _ => self.fail("expected `&&`, `||`, a comparison, or the end", EXAMPLE),
        }
    }

    fn node(&mut self, span: Range<usize>, what: What) -> Result<Tree, Bad> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let help = "cut it into rules, and speak of them as `rule_name.firing`";
            return self.fail_at(span, format!("the condition has more than {NODES_MAX} parts"), help);
        }
        Ok(Tree { span, what })
    }

    /// Goes one level down.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Bad>) -> Result<T, Bad> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("the condition is nested deeper than {DEPTH_MAX} levels");
            return self.fail(message, "cut it into rules, and speak of them as `rule_name.firing`");
        }
        let found = inner(self);
        self.depth -= 1;
        found
    }

    fn choice(&mut self) -> Result<Tree, Bad> {
        self.deeper(|reader| {
            let condition = reader.binary(1)?;
            let Some(question) = reader.eat("?") else { return Ok(condition) };
            let yes = reader.binary(1)?;
            reader.expect(":", &question)?;
            let no = reader.choice()?;
            let span = condition.span.start..no.span.end;
            reader.node(span, What::Choose(Box::new([condition, yes, no])))
        })
    }

    fn sign(&mut self) -> Option<(Sign, usize)> {
        let rest = self.rest();
        let (text, sign) = SIGNS.into_iter().find(|(text, _)| rest.starts_with(text))?;
        // `in` is a word: `inside` begins with it and is another.
        if text.starts_with(char::is_alphabetic) && word(rest) != "in" {
            return None;
        }
        Some((sign, text.len()))
    }

    /// Precedence climbing; all signs bind to the left. The depth of the tree is bounded, as a long row of `+` is one.
    fn binary(&mut self, rank: u8) -> Result<Tree, Bad> {
        let mut left = self.unary()?;
        let mut row = 0;
        while let Some((sign, len)) = self.sign().filter(|(sign, _)| sign.rank() >= rank) {
            let at = self.take(len);
            if let (Sign::Compare(_), What::Two(Sign::Compare(_), _)) = (sign, &left.what)
                && !self.text[left.span.clone()].ends_with(')')
            {
                let help = "write `a < b && b < c`";
                return self.fail_at(at, "comparisons cannot stand in a row", help);
            }
            let right = self.deeper(|reader| reader.binary(sign.rank() + 1))?;
            let span = left.span.start..right.span.end;
            // `a && b && c` becomes one list later, and so do not count; other rows do.
            if !matches!(sign, Sign::And | Sign::Or) {
                row += 1;
            }
            if row + self.depth > DEPTH_MAX {
                let message = format!("the condition is nested deeper than {DEPTH_MAX} levels");
                let help = "cut it into rules, and speak of them as `rule_name.firing`";
                return self.fail_at(span, message, help);
            }
            left = self.node(span, What::Two(sign, Box::new([left, right])))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Tree, Bad> {
        let rest = self.rest();
        if rest.starts_with('!') && !rest.starts_with("!=") {
            let at = self.take(1);
            let inner = self.deeper(Self::unary)?;
            return self.node(at.start..inner.span.end, What::Not(Box::new(inner)));
        }
        if rest.starts_with('-') {
            let at = self.take(1);
            let inner = self.deeper(Self::unary)?;
            let span = at.start..inner.span.end;
            return match inner.what {
                What::Number(number) => Ok(Tree { span, what: What::Number(-number) }),
                _ => self.node(span, What::Negate(Box::new(inner))),
            };
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Tree, Bad> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            let help = EXAMPLE;
            return self.fail("expected a value, found the end", help);
        };
        if first == '(' {
            let open = self.take(1);
            let inner = self.choice()?;
            let close = self.expect(")", &open)?;
            return Ok(Tree { span: open.start..close.end, ..inner });
        }
        if first == '[' {
            let open = self.take(1);
            let items = self.list("]", &open)?;
            return self.node(open.start..self.at, What::List(items));
        }
        if matches!(first, '"' | '\'') || (rest.starts_with(['r', 'R']) && rest[1..].starts_with(['"', '\'']))
        {
            let (text, span) = self.string()?;
            return self.node(span, What::Text(text));
        }
        if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            return self.number();
        }
        if first == '+' {
            return self.fail("`+` cannot stand before a value", "take it away");
        }
        let name = word(rest);
        if name.is_empty() {
            return self.fail(format!("expected a value, found `{first}`"), EXAMPLE);
        }
        let name_at = self.take(name.len());
        let name = name.to_owned();
        match name.as_str() {
            "true" | "false" => return self.node(name_at, What::Truth(name == "true")),
            "null" => return self.fail_at(name_at, "a condition has no `null`", "write `!has(part.field)`"),
            _ => {}
        }
        let after = self.rest();
        if after.starts_with('(') {
            let open = self.take(1);
            let arguments = self.list(")", &open)?;
            return self.node(name_at.start..self.at, What::Call { name, name_at, arguments });
        }
        let (field, field_at) = if after.starts_with('.') {
            self.take(1);
            let rest = self.rest();
            let field = word(rest);
            if field.is_empty() || field.starts_with(|c: char| c.is_ascii_digit()) {
                let help = "a channel whose name is no single word is written `pump[\"Flow (l/min)\"]`";
                return self.fail(format!("expected a field of `{name}` after the dot"), help);
            }
            (field.to_owned(), self.take(field.len()))
        } else if after.starts_with('[') {
            let open = self.take(1);
            if !self.rest().starts_with(['"', '\'']) {
                let help = format!("write `{name}[\"Flow (l/min)\"]`");
                return self.fail("expected a quoted field", help);
            }
            let (field, at) = self.string()?;
            self.expect("]", &open)?;
            (field, at.start + 1..at.end - 1)
        } else {
            return self.node(name_at, What::Name(name));
        };
        let span = name_at.start..self.at;
        let after = &self.text[self.at..];
        let method =
            after.strip_prefix('.').map(word).filter(|name| after[1 + name.len()..].starts_with('('));
        let call = match method {
            Some(name) => Some(self.at + 1..self.at + 1 + name.len()),
            None => after.starts_with('(').then_some(self.at - field.len()..self.at),
        };
        if let Some(call) = call {
            let message = format!("a condition has no `.{}()`", &self.text[call.clone()]);
            return self.fail_at(
                call,
                message,
                "known: abs(a), min(a, b), max(a, b), has(a.b), age(a.b), duration(\"30s\")",
            );
        }
        self.node(span, What::Field { part: name, part_at: name_at, field, field_at })
    }

    fn list(&mut self, close: &str, open: &Range<usize>) -> Result<Vec<Tree>, Bad> {
        let mut items = Vec::new();
        if self.eat(close).is_some() {
            return Ok(items);
        }
        loop {
            items.push(self.choice()?);
            if self.eat(",").is_none() {
                self.expect(close, open)?;
                return Ok(items);
            }
        }
    }

    fn number(&mut self) -> Result<Tree, Bad> {
        let rest = self.rest();
        let mut len = 0;
        for (at, c) in rest.char_indices() {
            let sign = matches!(c, '+' | '-') && rest[..at].ends_with(['e', 'E']);
            if !(c.is_alphanumeric() || matches!(c, '.' | '_') || sign) {
                break;
            }
            len = at + c.len_utf8();
        }
        let written = &rest[..len];
        let number = match written.strip_prefix("0x").or_else(|| written.strip_prefix("0X")) {
            Some(digits) => u32::from_str_radix(digits, 16).ok().map(f64::from),
            None if written.ends_with('.') || written.contains('_') => None,
            None => written.strip_suffix(['u', 'U']).unwrap_or(written).parse::<f64>().ok(),
        };
        match number {
            Some(number) if number.is_finite() => {
                let span = self.take(len);
                self.node(span, What::Number(number))
            }
            Some(_) => self.fail_at(self.at..self.at + len, "the number is too large", "write a smaller one"),
            None => {
                let help = match duration_like(written) {
                    true => format!("write `duration(\"{written}\")`"),
                    false => "write a number such as 80.0 or 1e-3".to_owned(),
                };
                self.fail_at(self.at..self.at + len, format!("`{written}` is no number"), help)
            }
        }
    }

    /// A string with its quotes; gives its value.
    fn string(&mut self) -> Result<(String, Range<usize>), Bad> {
        let rest = self.rest();
        let raw = rest.starts_with(['r', 'R']);
        let start = usize::from(raw);
        let quote = rest[start..].chars().next().unwrap_or('"');
        let mut value = String::new();
        let mut letters = rest[start + 1..].char_indices();
        while let Some((at, c)) = letters.next() {
            if c == quote {
                let span = self.take(start + 1 + at + 1);
                return Ok((value, span));
            }
            if c != '\\' || raw {
                value.push(c);
                continue;
            }
            let escape = letters.next().map(|(_, c)| c);
            value.push(match escape {
                Some(c @ ('"' | '\'' | '\\' | '`' | '?')) => c,
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                _ => {
                    let from = self.at + start + 1 + at;
                    let to = from + 1 + escape.map_or(0, char::len_utf8);
                    let help = "write \\\\ for a backslash; known are \\n, \\t, \\r and quotes";
                    return self.fail_at(from..to, "the escape is not known", help);
                }
            });
        }
        let end = self.text.len();
        self.fail_at(self.at..end, "nothing closes the quote", format!("add `{quote}`"))
    }
}

/// The word that a text begins with.
fn word(text: &str) -> &str {
    let len = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..len]
}

fn duration_like(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    matches!(unit, "ms" | "s" | "m" | "h" | "d")
}
