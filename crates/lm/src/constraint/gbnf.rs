//! Reads llama.cpp's grammars (GBNF), written as the dialect of Lark that llguidance reads.
//!
//! Below `constraint.rs`. GBNF is a grammar over characters; llguidance cuts text into terminals first, each as long as
//! it can be. So whatever does not refer to itself becomes one terminal, as large as it can be made, and only what does
//! becomes a rule. What always holds: the output follows the GBNF grammar. The other way round there is one loss: in a
//! rule that refers to itself, a repetition takes what it can get and gives nothing back to what follows it
//! (`e ::= [a-z]* "b" e | "c"` never begins with `ab`, since `[a-z]*` takes the `b`).

use std::collections::HashMap;
use std::fmt::Write;

use thiserror::Error;

/// Groups in groups.
const MAX_DEPTH: usize = 100;
/// llama.cpp has 2,000 since it writes each of them out.
const MAX_REPEATS: u32 = 10_000;
/// Rules of one grammar.
const MAX_RULES: usize = 10_000;

/// Why a text is no grammar.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum GbnfError {
    #[error("line {line} of the grammar: {reason}")]
    Wrong { line: usize, reason: String },
    #[error("line {line} of the grammar: {what}")]
    Unsupported { line: usize, what: String },
    #[error("line {line} of the grammar: {reason}")]
    TooLarge { line: usize, reason: String },
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    /// First and last of each range.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    Any,
    Rule(usize),
    /// A token of the vocabulary, as Lark writes it.
    Token(String),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Repeat {
        node: Box<Node>,
        least: u32,
        most: Option<u32>,
    },
}

/// The grammar as Lark; it begins at `start`.
pub(super) fn to_lark(text: &str) -> Result<String, GbnfError> {
    let mut parser =
        Parser { text, place: 0, names: HashMap::new(), rules: Vec::new(), used: Vec::new(), depth: 0 };
    parser.grammar()?;
    let Some(root) = parser.names.get("root").copied() else {
        return Err(parser.wrong("there is no rule `root`"));
    };
    let mut rules = Vec::new();
    for (index, rule) in parser.rules.into_iter().enumerate() {
        match rule {
            Some(rule) => rules.push(rule),
            None => {
                let name = parser.names.iter().find(|(_, place)| **place == index).map(|(name, _)| *name);
                let reason = format!("there is no rule `{}`", name.unwrap_or_default());
                return Err(GbnfError::Wrong { line: parser.used[index], reason });
            }
        }
    }
    Ok(Writer::new(rules).write(root))
}

struct Parser<'a> {
    text: &'a str,
    place: usize,
    names: HashMap<&'a str, usize>,
    rules: Vec<Option<Node>>,
    /// The line where each rule was first named.
    used: Vec<usize>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn line(&self) -> usize {
        self.text[..self.place].matches('\n').count() + 1
    }

    fn wrong(&self, reason: impl Into<String>) -> GbnfError {
        GbnfError::Wrong { line: self.line(), reason: reason.into() }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.place..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        self.place += if found { sign.len() } else { 0 };
        found
    }

    fn character(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.place += character.len_utf8();
        Some(character)
    }

    /// White space and comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.place += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.place += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let length =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).unwrap_or(rest.len());
        self.place += length;
        (length > 0).then(|| &rest[..length])
    }

    /// Whether a rule begins here.
    fn at_rule(&mut self) -> bool {
        let place = self.place;
        let found = self.name().is_some() && {
            self.space();
            self.rest().starts_with("::=")
        };
        self.place = place;
        found
    }

    fn number_of(&mut self, name: &'a str) -> Result<usize, GbnfError> {
        if self.rules.len() >= MAX_RULES {
            return Err(GbnfError::TooLarge {
                line: self.line(),
                reason: format!("more than {MAX_RULES} rules"),
            });
        }
        let next = self.rules.len();
        let number = *self.names.entry(name).or_insert(next);
        if number == next {
            self.rules.push(None);
            self.used.push(self.line());
        }
        Ok(number)
    }

    fn grammar(&mut self) -> Result<(), GbnfError> {
        self.space();
        while !self.rest().is_empty() {
            let name = self.name().ok_or_else(|| self.wrong("expected the name of a rule"))?;
            self.space();
            if !self.take("::=") {
                return Err(self.wrong(format!("expected `::=` after `{name}`")));
            }
            let number = self.number_of(name)?;
            if self.rules[number].is_some() {
                return Err(self.wrong(format!("the rule `{name}` stands here a second time")));
            }
            let node = self.choice()?;
            self.rules[number] = Some(node);
            self.space();
        }
        Ok(())
    }

    fn choice(&mut self) -> Result<Node, GbnfError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(GbnfError::TooLarge {
                line: self.line(),
                reason: "groups stand too deep".to_string(),
            });
        }
        let mut choices = vec![self.sequence()?];
        while self.take("|") {
            choices.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if choices.len() == 1 { choices.remove(0) } else { Node::Choice(choices) })
    }

    fn sequence(&mut self) -> Result<Node, GbnfError> {
        let mut nodes = Vec::new();
        loop {
            self.space();
            let node = match self.peek() {
                None | Some('|' | ')') => break,
                Some('"') => self.quoted()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.place += 1;
                    Node::Any
                }
                Some('(') => {
                    self.place += 1;
                    let node = self.choice()?;
                    self.space();
                    if !self.take(")") {
                        return Err(self.wrong("expected `)`"));
                    }
                    node
                }
                Some('<' | '!') => self.token()?,
                Some(_) if self.at_rule() => break,
                Some(character) => {
                    let name =
                        self.name().ok_or_else(|| self.wrong(format!("`{character}` means nothing here")))?;
                    Node::Rule(self.number_of(name)?)
                }
            };
            nodes.push(self.repeated(node)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Sequence(nodes) })
    }

    fn repeated(&mut self, mut node: Node) -> Result<Node, GbnfError> {
        // A second sign repeats what the first one made; each makes the node one deeper.
        for _ in 0..MAX_DEPTH {
            let place = self.place;
            self.space();
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.place += 1;
                    let least = self.number()?;
                    self.space();
                    let most = if self.take(",") { self.number()? } else { least };
                    self.space();
                    if self.peek() != Some('}') {
                        return Err(self.wrong("expected `}`"));
                    }
                    if least.is_none() && most.is_none() || most.is_some_and(|most| most < least.unwrap_or(0))
                    {
                        return Err(self.wrong("a repetition of at most fewer times than at least"));
                    }
                    (least.unwrap_or(0), most)
                }
                _ => {
                    self.place = place;
                    return Ok(node);
                }
            };
            self.place += 1;
            node = Node::Repeat { node: Box::new(node), least, most };
        }
        Err(GbnfError::TooLarge { line: self.line(), reason: "repetitions of repetitions".to_string() })
    }

    fn number(&mut self) -> Result<Option<u32>, GbnfError> {
        self.space();
        let rest = self.rest();
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        self.place += digits.len();
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse::<u32>() {
            Ok(number) if number <= MAX_REPEATS => Ok(Some(number)),
            _ => {
                let reason = format!("a repetition of more than {MAX_REPEATS} times");
                Err(GbnfError::TooLarge { line: self.line(), reason })
            }
        }
    }

    /// A character of a text or a class, with its escapes.
    fn escaped(&mut self) -> Result<char, GbnfError> {
        let end = self.wrong("the text or class has no end");
        let character = self.character().ok_or_else(|| end.clone())?;
        if character != '\\' {
            return Ok(character);
        }
        let length = match self.character().ok_or(end)? {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other if other.is_ascii_punctuation() => return Ok(other),
            other => return Err(self.wrong(format!("`\\{other}` is no escape"))),
        };
        let digits =
            self.rest().get(..length).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| self.wrong(format!("expected {length} hexadecimal digits")))?;
        self.place += length;
        let number = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        number.ok_or_else(|| self.wrong(format!("`{digits}` is no character")))
    }

    fn quoted(&mut self) -> Result<Node, GbnfError> {
        self.place += 1;
        let mut text = String::new();
        while !self.take("\"") {
            text.push(self.escaped()?);
        }
        Ok(Node::Text(text))
    }

    fn class(&mut self) -> Result<Node, GbnfError> {
        self.place += 1;
        let negated = self.take("^");
        let mut ranges = Vec::new();
        while !self.take("]") {
            let first = self.escaped()?;
            let last = if self.rest().starts_with('-') && !self.rest().starts_with("-]") {
                self.place += 1;
                self.escaped()?
            } else {
                first
            };
            if last < first {
                return Err(self.wrong(format!("the range from `{first}` to `{last}` goes backwards")));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() && !negated {
            return Err(self.wrong("nothing is in `[]`"));
        }
        Ok(Node::Class { negated, ranges })
    }

    fn token(&mut self) -> Result<Node, GbnfError> {
        let negated = self.take("!");
        let rest = self.rest();
        let end = rest.find('>').filter(|_| rest.starts_with('<'));
        let end = end.ok_or_else(|| self.wrong("expected a token, as `<name>` or `<[number]>`"))?;
        let token = &rest[..=end];
        let number = token.strip_prefix("<[").and_then(|token| token.strip_suffix("]>"));
        let is_number = number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        if token.contains(char::is_whitespace) || (token.starts_with("<[") && !is_number) {
            return Err(self.wrong("expected a token, as `<name>` or `<[number]>`"));
        }
        if negated && !is_number {
            let what = "any token but one by its name; give its number, as in `!<[1000]>`".to_string();
            return Err(GbnfError::Unsupported { line: self.line(), what });
        }
        self.place += end + 1;
        Ok(Node::Token(if negated { token.replace("<[", "<[^") } else { token.to_string() }))
    }
}

struct Writer {
    rules: Vec<Node>,
    /// Refers to nothing that refers to itself, and to no token.
    regular: Vec<bool>,
    /// Of the regular rules: may be empty.
    empty: Vec<bool>,
    terminals: HashMap<String, usize>,
    text: String,
}

impl Writer {
    fn new(rules: Vec<Node>) -> Writer {
        let count = rules.len();
        let mut writer = Writer {
            rules,
            regular: vec![false; count],
            empty: vec![false; count],
            terminals: HashMap::new(),
            text: String::new(),
        };
        // A rule becomes regular when all that it names is; at most as many rounds as rules, most often a few.
        loop {
            let found: Vec<usize> = (0..count)
                .filter(|rule| !writer.regular[*rule] && writer.is_regular(&writer.rules[*rule]))
                .collect();
            if found.is_empty() {
                return writer;
            }
            for rule in found {
                writer.regular[rule] = true;
                writer.empty[rule] = writer.may_be_empty(&writer.rules[rule]);
            }
        }
    }

    fn is_regular(&self, node: &Node) -> bool {
        match node {
            Node::Text(_) | Node::Class { .. } | Node::Any => true,
            Node::Token(_) => false,
            Node::Rule(rule) => self.regular[*rule],
            Node::Sequence(nodes) | Node::Choice(nodes) => nodes.iter().all(|node| self.is_regular(node)),
            Node::Repeat { node, .. } => self.is_regular(node),
        }
    }

    /// Of a regular node.
    fn may_be_empty(&self, node: &Node) -> bool {
        match node {
            Node::Text(text) => text.is_empty(),
            Node::Class { .. } | Node::Any | Node::Token(_) => false,
            Node::Rule(rule) => self.empty[*rule],
            Node::Sequence(nodes) => nodes.iter().all(|node| self.may_be_empty(node)),
            Node::Choice(nodes) => nodes.iter().any(|node| self.may_be_empty(node)),
            Node::Repeat { node, least, .. } => *least == 0 || self.may_be_empty(node),
        }
    }

    fn write(mut self, root: usize) -> String {
        let rules = std::mem::take(&mut self.rules);
        for (number, rule) in rules.iter().enumerate() {
            if self.regular[number] {
                let text = self.terminal(rule);
                let _ = writeln!(self.text, "R{number}: {text}");
            }
        }
        for (number, rule) in rules.iter().enumerate() {
            if !self.regular[number] {
                let text = self.rule(rule);
                let _ = writeln!(self.text, "r{number}: {text}");
            }
        }
        let start = self.rule(&Node::Rule(root));
        format!("start: {start}\n{}", self.text)
    }

    /// Inside a terminal.
    fn terminal(&self, node: &Node) -> String {
        match node {
            Node::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Node::Class { negated, ranges } if ranges.is_empty() && *negated => "/(?s:.)/".to_string(),
            Node::Class { negated, ranges } => {
                let hex = |character: char| format!("\\x{{{:x}}}", u32::from(character));
                let ranges: String = ranges
                    .iter()
                    .map(
                        |(first, last)| {
                            if first == last { hex(*first) } else { hex(*first) + "-" + &hex(*last) }
                        },
                    )
                    .collect();
                format!("/[{}{ranges}]/", if *negated { "^" } else { "" })
            }
            Node::Any => "/(?s:.)/".to_string(),
            Node::Rule(rule) => format!("R{rule}"),
            Node::Token(token) => token.clone(),
            Node::Sequence(nodes) if nodes.is_empty() => "\"\"".to_string(),
            Node::Sequence(nodes) => {
                format!("({})", nodes.iter().map(|node| self.terminal(node)).collect::<Vec<_>>().join(" "))
            }
            Node::Choice(nodes) => {
                format!("({})", nodes.iter().map(|node| self.terminal(node)).collect::<Vec<_>>().join(" | "))
            }
            Node::Repeat { node, least, most } => {
                format!("({}){}", self.terminal(node), times(*least, *most))
            }
        }
    }

    /// A regular node as a terminal of its own, inside a rule. A terminal must not be empty.
    fn named(&mut self, node: &Node) -> String {
        let body = self.terminal(node);
        let empty = self.may_be_empty(node);
        let next = self.terminals.len();
        let number = *self.terminals.entry(body.clone()).or_insert(next);
        if number == next {
            let some = if empty { " & /(?s:.+)/" } else { "" };
            let _ = writeln!(self.text, "T{number}: {body}{some}");
        }
        if empty { format!("T{number}?") } else { format!("T{number}") }
    }

    /// Inside a rule.
    fn rule(&mut self, node: &Node) -> String {
        if self.is_regular(node) {
            return self.named(node);
        }
        match node {
            Node::Rule(rule) => format!("r{rule}"),
            Node::Token(token) => token.clone(),
            Node::Sequence(nodes) => {
                // Regular nodes that follow one another are one terminal.
                let (mut parts, mut run) = (Vec::new(), Vec::new());
                for node in nodes {
                    if self.is_regular(node) {
                        run.push(node.clone());
                        continue;
                    }
                    if !run.is_empty() {
                        parts.push(self.named(&Node::Sequence(std::mem::take(&mut run))));
                    }
                    parts.push(self.rule(node));
                }
                if !run.is_empty() {
                    parts.push(self.named(&Node::Sequence(run)));
                }
                format!("({})", parts.join(" "))
            }
            Node::Choice(nodes) => {
                let parts: Vec<String> = nodes.iter().map(|node| self.rule(node)).collect();
                format!("({})", parts.join(" | "))
            }
            Node::Repeat { node, least, most } => format!("({}){}", self.rule(node), times(*least, *most)),
            Node::Text(_) | Node::Class { .. } | Node::Any => self.named(node),
        }
    }
}

fn times(least: u32, most: Option<u32>) -> String {
    match (least, most) {
        (0, None) => "*".to_string(),
        (1, None) => "+".to_string(),
        (0, Some(1)) => "?".to_string(),
        (least, None) => format!("{{{least},}}"),
        (least, Some(most)) => format!("{{{least},{most}}}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::constraint::vocabulary::{TokenBytes, Vocabulary};
    use crate::constraint::{Constraint, Grammar};

    fn accepts(grammar: &str, text: &str) -> bool {
        let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
        let tokens = bytes.iter().map(|byte| TokenBytes::Text(byte)).chain([TokenBytes::Special("<end>")]);
        let vocabulary = Vocabulary::new(tokens, &[256], None).unwrap();
        let grammar = Grammar::gbnf(grammar).unwrap_or_else(|error| panic!("{error}\n{grammar}"));
        let constraint = Constraint::new(&grammar, &vocabulary);
        let mut constraint = constraint.unwrap_or_else(|error| panic!("{error}\n{grammar:?}"));
        text.bytes().all(|byte| constraint.accept(u32::from(byte)).is_ok()) && constraint.may_end()
    }

    const JSON: &str = r#"
        root   ::= object
        value  ::= object | array | string | number | ("true" | "false" | "null") ws
        object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
        array  ::= "[" ws ( value ("," ws value)* )? "]" ws
        string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws # a text
        number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
        ws ::= | " " | "\n" [ \t]{0,20}
    "#;

    #[test]
    fn grammars_accept_what_they_say() {
        let check = |grammar: &str, yes: &[&str], no: &[&str]| {
            yes.iter().for_each(|text| assert!(accepts(grammar, text), "{text:?} refused by {grammar}"));
            no.iter().for_each(|text| assert!(!accepts(grammar, text), "{text:?} accepted by {grammar}"));
        };
        check(
            JSON,
            &["{}", r#"{"a": [1, 2.5e3, {"b": null}], "\u00e9\"": ""}"#, "{\n  \"a\": true}"],
            &["[]", "{]", r#"{"a" 1}"#, r#"{"a": 01}"#],
        );
        check("root ::= \"a\"", &["a"], &["", "b", "aa"]);
        check("root ::= ([1-9] [0-9]{0,15})\nspace ::= | \" \"", &["7", "123"], &["0", ""]);
        check("root ::= [a-c]+ \"b\" | \"é\"{2,3}", &["ab", "abcb", "éé", "ééé"], &["b", "é", "éééé"]);
        check(
            "root ::= e\ne ::= t (\"+\" t)*\nt ::= [0-9]+ | \"(\" e \")\"",
            &["1+2", "(1+(2))+33"],
            &["1+", "(1", ")"],
        );
        check("root ::= \"\\x41\\u00e9\\n\\\\\" .*", &["Aé\n\\", "Aé\n\\ß\n"], &["A"]);
        check("root ::= [^\\]]? [\\]a-]", &["]", "a", "-", "x]"], &["]]x"]);
        check("root ::= (\"a\" | ) \"b\"", &["ab", "b"], &["a"]);
    }

    #[test]
    fn wrong_grammars_name_the_line() {
        let check = |grammar: &str, expected: &str| {
            assert_eq!(Grammar::gbnf(grammar).unwrap_err().to_string(), expected, "{grammar}");
        };
        check("", "line 1 of the grammar: there is no rule `root`");
        check("root ::= x\n", "line 1 of the grammar: there is no rule `x`");
        check("root ::= \"a", "line 1 of the grammar: the text or class has no end");
        check("\nroot = \"a\"", "line 2 of the grammar: expected `::=` after `root`");
        check("root ::= (\"a\"", "line 1 of the grammar: expected `)`");
        check("root ::= [z-a]", "line 1 of the grammar: the range from `z` to `a` goes backwards");
        check(
            "root ::= \"a\"{99999}",
            "the schema or grammar is too large or too complex: line 1 of the grammar: a repetition of more than 10000 times",
        );
        check(
            "root ::= \"a\"{3,2}",
            "line 1 of the grammar: a repetition of at most fewer times than at least",
        );
        check(
            "root ::= \"a\"\nroot ::= \"b\"",
            "line 2 of the grammar: the rule `root` stands here a second time",
        );
        check("root ::= \"\\q\"", "line 1 of the grammar: `\\q` is no escape");
        check(
            "root ::= !<think>",
            "line 1 of the grammar: any token but one by its name; give its number, as in `!<[1000]>` (not supported in a constraint)",
        );
        assert!(Grammar::gbnf(&format!("root ::= {}", "(".repeat(100_000))).is_err());
        assert!(Grammar::gbnf(&format!("root ::= \"a\"{}", "*".repeat(100_000))).is_err());
    }
}
