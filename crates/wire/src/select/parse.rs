//! Words to a tree. One function per rule of the grammar; depth and size are bounded as it goes.

use std::ops::Range;

use super::lex::{BadSelector, Token, bad, lex};
use super::tree::{Expr, Term, Value};
use crate::facts::FactName;

/// How deep parentheses and negations may lie in each other.
pub const DEPTH_MAX: usize = 64;
/// The most terms, and values in lists, of one expression.
pub const TERMS_MAX: usize = 256;

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Expr, BadSelector> {
    let mut parser = Parser { words: lex(text)?, at: 0, text, depth: 0, terms: 0 };
    let tree = parser.or()?;
    match parser.peek() {
        Token::End => Ok(tree),
        _ => Err(parser.unexpected("&&, || or the end")),
    }
}

struct Parser<'a> {
    words: Vec<(Token, Range<usize>)>,
    /// The next word; never past `End`.
    at: usize,
    text: &'a str,
    depth: usize,
    terms: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.words[self.at].0
    }

    fn place(&self) -> Range<usize> {
        self.words[self.at].1.clone()
    }

    /// Takes the next word if it is this one.
    fn takes(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        self.at += usize::from(found && *token != Token::End);
        found
    }

    fn unexpected(&self, expected: &str) -> BadSelector {
        let at = self.place();
        let found = if *self.peek() == Token::End {
            "its end".into()
        } else {
            format!("`{}`", &self.text[at.clone()])
        };
        bad(at, found, expected)
    }

    fn or(&mut self) -> Result<Expr, BadSelector> {
        let mut parts = vec![self.and()?];
        while self.takes(&Token::Or) {
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, BadSelector> {
        let mut parts = vec![self.not()?];
        while self.takes(&Token::And) {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Expr::And))
    }

    fn not(&mut self) -> Result<Expr, BadSelector> {
        if !self.takes(&Token::Not) {
            return self.term();
        }
        self.deeper(Self::term).map(|inner| Expr::Not(Box::new(inner)))
    }

    fn term(&mut self) -> Result<Expr, BadSelector> {
        if self.takes(&Token::Open) {
            let inner = self.deeper(Self::or)?;
            return if self.takes(&Token::Close) { Ok(inner) } else { Err(self.unexpected("&&, || or )")) };
        }
        self.count()?;
        let Token::Name(word) = self.peek() else {
            return Err(self.unexpected("a name, all, ! or ("));
        };
        if word == "all" {
            self.at += 1;
            return Ok(Expr::Term(Term::All));
        }
        let Ok(name) = FactName::new(word) else {
            return Err(
                self.unexpected("the name of a fact, at most 128 characters and no word of the language")
            );
        };
        self.at += 1;
        self.about(name).map(Expr::Term)
    }

    /// What is said about a fact.
    fn about(&mut self, name: FactName) -> Result<Term, BadSelector> {
        let next = self.peek().clone();
        match next {
            Token::Compare(op) => {
                self.at += 1;
                Ok(Term::Compare(name, op, self.value()?))
            }
            Token::Like => {
                self.at += 1;
                Ok(Term::Like(name, self.words_in_quotes()?))
            }
            Token::Name(word) if word == "has" => {
                self.at += 1;
                Ok(Term::Has(name, self.words_in_quotes()?))
            }
            Token::Name(word) if word == "in" => {
                self.at += 1;
                Ok(Term::In(name, self.list()?))
            }
            Token::Name(_) | Token::Text(_) | Token::Number(..) | Token::ListOpen | Token::Open => {
                Err(self.unexpected("an operator: == != < <= > >= ~ has in"))
            }
            _ => Ok(Term::Is(name)),
        }
    }

    fn list(&mut self) -> Result<Vec<Value>, BadSelector> {
        if !self.takes(&Token::ListOpen) {
            return Err(self.unexpected("["));
        }
        let mut values = vec![self.value()?];
        while self.takes(&Token::Comma) {
            self.count()?;
            values.push(self.value()?);
        }
        if self.takes(&Token::ListClose) { Ok(values) } else { Err(self.unexpected("a comma or ]")) }
    }

    fn value(&mut self) -> Result<Value, BadSelector> {
        let value = match self.peek() {
            Token::Text(text) => Value::Text(text.clone()),
            Token::Number(number, unit) => Value::Number(*number, *unit),
            Token::Name(word) if word == "true" => Value::Truth(true),
            Token::Name(word) if word == "false" => Value::Truth(false),
            _ => return Err(self.unexpected("a text in quotes, a number, true or false")),
        };
        self.at += 1;
        Ok(value)
    }

    fn words_in_quotes(&mut self) -> Result<String, BadSelector> {
        let Token::Text(text) = self.peek() else { return Err(self.unexpected("a text in quotes")) };
        let text = text.clone();
        self.at += 1;
        Ok(text)
    }

    fn deeper(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<Expr, BadSelector>,
    ) -> Result<Expr, BadSelector> {
        if self.depth == DEPTH_MAX {
            return Err(bad(
                self.place(),
                "something too deep".into(),
                "at most 64 of ( and ! in each other",
            ));
        }
        self.depth += 1;
        let tree = inner(self)?;
        self.depth -= 1;
        Ok(tree)
    }

    fn count(&mut self) -> Result<(), BadSelector> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(bad(
                self.place(),
                "one term too many".into(),
                "at most 256 terms and values of lists",
            ));
        }
        Ok(())
    }
}

/// A single part stands for itself.
fn one_or(mut parts: Vec<Expr>, many: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}
