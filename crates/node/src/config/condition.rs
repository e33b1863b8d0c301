//! The condition of a rule: one comparison, `pump.temperature > 80.0`.
//!
//! A subset of CEL, so that what is written today stays right when all of CEL is understood: `part.field` or
//! `part["a channel with spaces"]` on the left, a number on the right.

use std::ops::Range;

/// A condition as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The source or model.
    pub part: String,
    /// Its channel, or for a model `p` or `score`.
    pub field: String,
    /// Where `field` stands in the text.
    pub field_span: Range<usize>,
    /// How the two are compared.
    pub compare: Compare,
    /// The right-hand side.
    pub limit: f64,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
}

impl Compare {
    /// Whether `value` and `limit` compare so. False for a missing value.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Compare::Above => value > limit,
            Compare::AtLeast => value >= limit,
            Compare::Below => value < limit,
            Compare::AtMost => value <= limit,
            Compare::Equal => value == limit,
            Compare::Unequal => value != limit && !value.is_nan(),
        }
    }

    /// In words: "9.31, above 8".
    pub fn in_words(self) -> &'static str {
        match self {
            Compare::Above => "above",
            Compare::AtLeast => "at least",
            Compare::Below => "below",
            Compare::AtMost => "at most",
            Compare::Equal => "equal to",
            Compare::Unequal => "other than",
        }
    }
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq)]
pub struct BadCondition {
    /// Where in the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

const EXAMPLE: &str = "write one comparison, such as `pump.temperature > 80.0`";

/// Reads a condition.
pub fn parse(text: &str) -> Result<Condition, BadCondition> {
    let mut words = Words { text, at: 0 };
    let (part, part_span) = words.name()?;
    let (field, field_span) = words.field(&part_span)?;
    let compare = words.compare()?;
    let limit = words.number()?;
    words.end()?;
    Ok(Condition { part, field, field_span, compare, limit })
}

struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    fn fail<T>(&self, message: impl Into<String>, help: impl Into<String>) -> Result<T, BadCondition> {
        let end = self.text[self.at..].find(char::is_whitespace).map_or(self.text.len(), |len| self.at + len);
        Err(BadCondition { span: self.at..end, message: message.into(), help: help.into() })
    }

    fn take(&mut self, len: usize) -> Range<usize> {
        let span = self.at..self.at + len;
        self.at = span.end;
        span
    }

    fn name(&mut self) -> Result<(String, Range<usize>), BadCondition> {
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if len == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            let found = rest.chars().next().map_or("the end".to_owned(), |c| format!("`{c}`"));
            return self.fail(format!("expected the name of a source or model, found {found}"), EXAMPLE);
        }
        let span = self.take(len);
        Ok((rest[..len].to_owned(), span))
    }

    fn field(&mut self, part: &Range<usize>) -> Result<(String, Range<usize>), BadCondition> {
        let rest = self.rest();
        if rest.starts_with('.') {
            self.take(1);
            return self.name().map_err(|mut bad| {
                bad.message = bad.message.replace("the name of a source or model", "a channel after the dot");
                bad.help =
                    "a channel whose name is no single word is written `pump[\"Flow (l/min)\"]`".to_owned();
                bad
            });
        }
        if rest.starts_with('[') {
            self.take(1);
            let inner = self.rest();
            let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''));
            let close = quote.and_then(|quote| inner[1..].find(quote));
            if let Some(len) = close {
                let field = inner[1..=len].to_owned();
                self.take(1);
                let span = self.take(len);
                self.take(1);
                if self.rest().starts_with(']') {
                    self.take(1);
                    return Ok((field, span));
                }
            }
            return self.fail("expected a quoted channel and `]`", "write `pump[\"Flow (l/min)\"] > 3`");
        }
        let part = &self.text[part.clone()];
        self.fail(format!("expected a channel of `{part}`"), format!("write `{part}.temperature > 80.0`"))
    }

    fn compare(&mut self) -> Result<Compare, BadCondition> {
        const SIGNS: [(&str, Compare); 6] = [
            (">=", Compare::AtLeast),
            ("<=", Compare::AtMost),
            ("==", Compare::Equal),
            ("!=", Compare::Unequal),
            (">", Compare::Above),
            ("<", Compare::Below),
        ];
        let rest = self.rest();
        match SIGNS.into_iter().find(|(sign, _)| rest.starts_with(sign)) {
            Some((sign, compare)) => {
                self.take(sign.len());
                Ok(compare)
            }
            None if rest.starts_with('=') => self.fail("`=` does not compare", "write `==`"),
            None => self.fail("expected one of > >= < <= == !=", EXAMPLE),
        }
    }

    fn number(&mut self) -> Result<f64, BadCondition> {
        let rest = self.rest();
        let mut len = 0;
        for (at, c) in rest.char_indices() {
            let sign = matches!(c, '+' | '-') && (at == 0 || rest[..at].ends_with(['e', 'E']));
            if !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E') || sign) {
                break;
            }
            len = at + c.len_utf8();
        }
        match rest[..len].parse::<f64>() {
            Ok(limit) if limit.is_finite() => {
                self.take(len);
                Ok(limit)
            }
            _ => self.fail("expected a number on the right of the comparison", EXAMPLE),
        }
    }

    fn end(&mut self) -> Result<(), BadCondition> {
        match self.rest() {
            "" => Ok(()),
            rest if rest.starts_with("&&") || rest.starts_with("||") => {
                self.fail("a condition is one comparison", "write a rule for each comparison")
            }
            _ => self.fail("there is more after the comparison", EXAMPLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good() {
        fn check(text: &str, part: &str, field: &str, compare: Compare, limit: f64) {
            let condition = parse(text).unwrap();
            assert_eq!(&text[condition.field_span.clone()], field);
            let found =
                (condition.part.as_str(), condition.field.as_str(), condition.compare, condition.limit);
            assert_eq!(found, (part, field, compare, limit), "{text}");
        }
        check("pump.temperature > 80.0", "pump", "temperature", Compare::Above, 80.0);
        check("  pump.t<=-1e-3 ", "pump", "t", Compare::AtMost, -0.001);
        check("a[\"Flow (l/min)\"] != 3", "a", "Flow (l/min)", Compare::Unequal, 3.0);
        check("a['b'] == 0", "a", "b", Compare::Equal, 0.0);
        check("p.größe >= .5", "p", "größe", Compare::AtLeast, 0.5);
    }

    #[test]
    fn bad() {
        fn check(text: &str, at: usize, message: &str) {
            let bad = parse(text).unwrap_err();
            assert!(bad.message.contains(message), "{text}: {}", bad.message);
            assert_eq!(bad.span.start, at, "{text}");
        }
        check("", 0, "found the end");
        check("80 < pump.t", 0, "found `8`");
        check("pump > 80", 5, "a channel of `pump`");
        check("pump.t = 80", 7, "does not compare");
        check("pump.t ~ 80", 7, "expected one of");
        check("pump.t > x", 9, "expected a number");
        check("pump.t > 1e999", 9, "expected a number");
        check("pump.t > 1 && pump.u > 2", 11, "one comparison");
        check("pump.t > 1 2", 11, "more after");
        check("pump[\"t > 1", 5, "quoted channel");
        check("pump. > 1", 6, "a channel after the dot");
        check("pump[é", 5, "quoted channel");
    }

    #[test]
    fn nothing_holds_for_a_missing_value() {
        for compare in [
            Compare::Above,
            Compare::AtLeast,
            Compare::Below,
            Compare::AtMost,
            Compare::Equal,
            Compare::Unequal,
        ] {
            assert!(!compare.holds(f64::NAN, 1.0));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
