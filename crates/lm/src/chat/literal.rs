//! Reads calls as Python writes them: `[f(a="x", b=[1, True]), g()]`.
//!
//! Below `answer.rs`, for families that were trained on this form (LFM2). Only literals: nothing is ever computed.

use serde_json::{Map, Number, Value};

/// Lists in lists; what is deeper is no call.
const MAX_DEPTH: usize = 64;

/// The name and arguments of each call; none if the text is not a list of calls with named arguments.
pub(super) fn python_calls(text: &str) -> Option<Vec<(String, Value)>> {
    let mut reader = Reader { rest: text.trim() };
    let listed = reader.take("[");
    let mut calls = Vec::new();
    while !(listed && reader.take("]")) {
        let name = reader.word()?;
        reader.take("(").then_some(())?;
        let mut arguments = Map::new();
        while !reader.take(")") {
            let key = reader.word()?;
            reader.take("=").then_some(())?;
            arguments.insert(key, reader.value(0)?);
            if !reader.take(",") && !reader.rest.starts_with(')') {
                return None;
            }
        }
        calls.push((name, Value::Object(arguments)));
        if !reader.take(",") && !listed {
            break;
        }
    }
    (reader.rest.is_empty() && !calls.is_empty()).then_some(calls)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, sign: &str) -> bool {
        match self.rest.trim_start().strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-')));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        (!word.is_empty()).then(|| word.to_string())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        for (open, close) in [("[", "]"), ("(", ")")] {
            if self.take(open) {
                let mut items = Vec::new();
                while !self.take(close) {
                    items.push(self.value(depth + 1)?);
                    if !self.take(",") && !self.rest.starts_with(close) {
                        return None;
                    }
                }
                return Some(Value::Array(items));
            }
        }
        if self.take("{") {
            let mut members = Map::new();
            while !self.take("}") {
                let Value::String(key) = self.value(depth + 1)? else { return None };
                self.take(":").then_some(())?;
                members.insert(key, self.value(depth + 1)?);
                if !self.take(",") && !self.rest.starts_with('}') {
                    return None;
                }
            }
            return Some(Value::Object(members));
        }
        match self.rest.chars().next()? {
            quote @ ('"' | '\'') => self.text(quote),
            _ => {
                let end =
                    self.rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+')));
                let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                let value = match word {
                    "True" | "true" => Value::Bool(true),
                    "False" | "false" => Value::Bool(false),
                    "None" | "null" => Value::Null,
                    _ => match word.parse::<i64>() {
                        Ok(number) => Value::from(number),
                        Err(_) => Value::Number(Number::from_f64(word.parse().ok()?)?),
                    },
                };
                self.rest = rest.trim_start();
                Some(value)
            }
        }
    }

    fn text(&mut self, quote: char) -> Option<Value> {
        let mut out = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((place, character)) = characters.next() {
            match character {
                '\\' => match characters.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    other @ ('\\' | '\'' | '"') => out.push(other),
                    other => out.extend(['\\', other]),
                },
                end if end == quote => {
                    self.rest = self.rest[place + quote.len_utf8()..].trim_start();
                    return Some(Value::String(out));
                }
                other => out.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_literals_or_nothing() {
        let check = |text: &str, expected: &str| {
            let calls = python_calls(text).map(|calls| {
                calls
                    .iter()
                    .map(|(name, arguments)| format!("{name}{arguments}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            });
            assert_eq!(calls.unwrap_or_default(), expected, "{text}");
        };
        check(r#"[f(a="x", b=1)]"#, r#"f{"a":"x","b":1}"#);
        check(
            "[f(), g.h(x=[1, 2.5, None], y={'k': (True,)})]",
            r#"f{} g.h{"x":[1,2.5,null],"y":{"k":[true]}}"#,
        );
        check(r#"f(t='it\'s "so"\n')"#, r#"f{"t":"it's \"so\"\n"}"#);
        check("[f(a=-3e2,)]", r#"f{"a":-300.0}"#);
        for nothing in [
            "",
            "[]",
            "[f(1)]",
            "f(a=b)",
            "f(a=open('x'))",
            "[f(a=1)",
            "f(a='x)",
            "f(a=1) text",
            "f(a=1e999)",
        ] {
            check(nothing, "");
        }
        check(&format!("f(a={})", "[".repeat(10_000)), "");
    }
}
