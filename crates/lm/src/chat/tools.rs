//! Tools to the model, where its template has no words for them, and the grammar that makes it call one.
//!
//! Beside `template.rs`. A template that ignores tools gets them as an instruction in the system message, in the form
//! of Hermes, so that tool calls work with every model. [`grammar`] writes a call as the model's own family writes
//! it, down to the spaces, so that a model that must call a tool is led where its training has been.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::chat::dialect::{Dialect, Form, HERMES};
use crate::chat::message::{Message, Role, Tool, ToolCall, ToolChoice};
use crate::constraint::vocabulary::Vocabulary;
use crate::constraint::{ConstraintError, Grammar, Reasoning, with_options};

/// What a model is told whose template shows no tools.
pub(super) fn instruction(tools: &[Tool]) -> String {
    let mut text = String::from(
        "You can call functions. Each line below is one function as JSON, with a JSON schema of its parameters:\n<tools>\n",
    );
    for tool in tools {
        let _ = writeln!(text, "{}", tool.to_json());
    }
    let (open, close) = HERMES.call;
    let _ = write!(
        text,
        "</tools>\nTo call one, answer with nothing but its name and arguments as JSON between these marks:\n\
         {open}\n{{\"name\": \"the function\", \"arguments\": {{\"a parameter\": \"a value\"}}}}\n{close}\n\
         The result comes back to you between <tool_response> and </tool_response>. Without need of a function, answer as usual."
    );
    text
}

/// Calls as the model itself would have written them, for a template that has no words for them.
pub(super) fn calls_as_text(dialect: &Dialect, calls: &[ToolCall]) -> String {
    let syntax = &dialect.calls;
    let ((open, close), pad) = (syntax.call, syntax.pad);
    let parsed = |call: &ToolCall| -> Value {
        serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments))
    };
    let members = |call: &ToolCall| parsed(call).as_object().cloned().unwrap_or_default();
    let each = calls.iter().map(|call| match syntax.form {
        Form::Object { arguments } | Form::List { arguments } => {
            format!("{{\"name\": {}, \"{arguments}\": {}}}", json!(call.name), parsed(call))
        }
        Form::Named { between } => {
            let line = if between.ends_with('\n') { "\n" } else { "" };
            format!("{}{between}{}{line}", call.name, call.arguments)
        }
        Form::Parameters { after_name, open, after_key, close, pad: inner } => {
            let one = |(key, value): (&String, &Value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                format!("{open}{key}{after_key}{inner}{value}{inner}{close}{inner}")
            };
            let parameters: String = members(call).iter().map(one).collect();
            format!("{}{after_name}{inner}{parameters}", call.name)
        }
        Form::Python => {
            let named = |(key, value): (&String, &Value)| format!("{key}={}", python_literal(value));
            let arguments: Vec<String> = members(call).iter().map(named).collect();
            format!("{}({})", call.name, arguments.join(", "))
        }
    });
    let text = match syntax.form {
        Form::List { .. } | Form::Python => {
            format!("{open}{pad}[{}]{pad}{close}", each.collect::<Vec<_>>().join(", "))
        }
        _ => each
            .map(|call| match syntax.section {
                (begin, end) if syntax.section_each => format!("{begin}{pad}{open}{call}{close}{pad}{end}"),
                _ => format!("{open}{pad}{call}{pad}{close}"),
            })
            .collect::<Vec<_>>()
            .join("\n"),
    };
    match syntax.section {
        (begin, end) if !syntax.section_each => format!("{begin}{text}{end}"),
        _ => text,
    }
}

fn python_literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_string(),
        Value::Bool(flag) => if *flag { "True" } else { "False" }.to_string(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(python_literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let pairs =
                members.iter().map(|(key, value)| format!("{}: {}", literal(key), python_literal(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        // JSON's strings and numbers are Python's.
        other => other.to_string(),
    }
}

/// A tool's answer as a user's message, for the same templates.
pub(super) fn answer_as_text(message: &Message) -> Message {
    let content = message.content.as_deref().unwrap_or_default();
    Message::new(Role::User, format!("<tool_response>\n{content}\n</tool_response>"))
}

/// The grammar of an answer that must call a tool, or that, if it calls one, calls it with arguments that its schema
/// allows. `None`: nothing is to be kept (no tools, or calls that begin like any text). `thinking`: the prompt has
/// already begun the thoughts.
pub fn grammar(
    dialect: &Dialect,
    tools: &[Tool],
    choice: &ToolChoice,
    parallel: bool,
    thinking: bool,
    vocabulary: &Vocabulary,
) -> Result<Option<Grammar>, ConstraintError> {
    let allowed: Vec<&Tool> = match choice {
        ToolChoice::None => return Ok(None),
        ToolChoice::Named(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
        ToolChoice::Auto | ToolChoice::Required => tools.iter().collect(),
    };
    if allowed.is_empty() {
        return Ok(None);
    }
    let calls = &dialect.calls;
    // A model that may also just speak is held from the mark on; without a mark any brace would begin a call, and
    // Python has no grammar here.
    let auto = *choice == ToolChoice::Auto;
    if auto && (calls.opening().is_empty() || calls.form == Form::Python) {
        return Ok(None);
    }
    let mut lark = Lark { vocabulary, text: String::new(), rules: 0 };
    let mut names = Vec::new();
    for (index, tool) in allowed.iter().enumerate() {
        lark.call(index, tool, dialect)?;
        names.push(format!("call_{index}"));
    }
    let _ = writeln!(lark.text, "one: {}", names.join(" | "));
    let mark = |text: &str| lark.mark(text);
    let (open, close, pad) = (mark(calls.call.0), mark(calls.call.1), mark(calls.pad));
    let (begin, end) = (mark(calls.section.0), mark(calls.section.1));
    let more = |rule: &str, separator: &str| match parallel {
        true => format!("{rule} ({} {rule})*", literal(separator)),
        false => rule.to_string(),
    };
    // What follows the first mark; whether it holds all calls.
    let (rest, all) = match calls.form {
        Form::List { .. } | Form::Python => {
            (format!("{pad} \"[\" {} \"]\" {pad} {close}", more("one", ", ")), true)
        }
        _ if calls.section_each => (format!("{pad} {open} one {close} {pad} {end}"), false),
        _ if calls.section.0.is_empty() => (format!("{pad} one {pad} {close}"), false),
        _ => {
            let _ = writeln!(lark.text, "marked: {open} {pad} one {pad} {close}");
            (format!("{} {end}", more("marked", "\n")), true)
        }
    };
    let opening = if begin.is_empty() { open } else { begin };
    let _ = writeln!(lark.text, "rest: {rest}\nunit: {opening} rest");
    let units = if all { "unit".to_string() } else { more("unit", "\n") };
    let start = if !auto {
        format!("start: {units}\n")
    } else if vocabulary.special(calls.opening()).is_some() {
        // No text makes this token, so text cannot run into it.
        format!("start: TEXT calls?\ncalls: {units}\nTEXT: /(.|\\n)*/\n")
    } else {
        // The lazy rule reads up to the first mark, and from there on only a call can follow.
        let times = if parallel && !all { "*" } else { "?" };
        let opening = literal(calls.opening());
        format!("start: (before rest){times} TEXT\nbefore[lazy]: /(.|\\n)*/ {opening}\nTEXT: /(.|\\n)*/\n")
    };
    let thoughts = dialect.thoughts.filter(|_| thinking || !auto);
    let reasoning = thoughts.map(|thoughts| Reasoning {
        open: (!thinking).then(|| thoughts.open.to_string()),
        close: thoughts.close.to_string(),
    });
    Ok(Some(Grammar::lark(&(start + &lark.text)).after(reasoning)))
}

/// A string of Lark.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

struct Lark<'a> {
    vocabulary: &'a Vocabulary,
    text: String,
    rules: usize,
}

impl Lark<'_> {
    /// Text in which control tokens may stand, as a sequence.
    fn mark(&self, text: &str) -> String {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(character) = rest.chars().next() {
            let special = rest
                .char_indices()
                .map(|(place, c)| place + c.len_utf8())
                .rev()
                .find_map(|end| self.vocabulary.special(&rest[..end]).map(|token| (token, end)));
            if let Some((token, end)) = special {
                if !plain.is_empty() {
                    parts.push(literal(&std::mem::take(&mut plain)));
                }
                parts.push(format!("<[{token}]>"));
                rest = &rest[end..];
            } else {
                plain.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
        if !plain.is_empty() {
            parts.push(literal(&plain));
        }
        parts.join(" ")
    }

    fn json(&mut self, schema: &Value, strict: bool) -> String {
        self.rules += 1;
        let name = format!("json_{}", self.rules);
        let _ = writeln!(self.text, "{name}: %json {}", with_options(schema, strict));
        name
    }

    /// One call of this tool, between its marks.
    fn call(&mut self, index: usize, tool: &Tool, dialect: &Dialect) -> Result<(), ConstraintError> {
        let any = json!({"type": "object", "properties": {}});
        let schema = tool.parameters.as_ref().unwrap_or(&any);
        let name = Value::from(tool.name.as_str());
        let rule = match dialect.calls.form {
            Form::Object { arguments } | Form::List { arguments } => {
                let schema = self.json(schema, tool.strict);
                let head = literal(&format!("{{\"name\": {name}, \"{arguments}\": "));
                format!("{head} {schema} \"}}\"")
            }
            Form::Named { between } => {
                let schema = self.json(schema, tool.strict);
                // The closing mark of DeepSeek stands on a line of its own.
                let line = if between.ends_with('\n') { "\"\\n\"" } else { "" };
                format!("{} {} {schema} {line}", literal(&tool.name), self.mark(between))
            }
            Form::Parameters { after_name, open, after_key, close, pad } => {
                let mut rule =
                    format!("{} {}", literal(&format!("{}{after_name}", tool.name)), self.mark(pad));
                let empty = Map::new();
                let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
                let required: Vec<&str> = schema
                    .get("required")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                for (key, property) in properties {
                    let head = literal(&format!("{open}{key}{after_key}{pad}"));
                    let plain = property.get("type").and_then(Value::as_str) == Some("string")
                        && property.get("enum").is_none()
                        && property.get("pattern").is_none();
                    let value = if plain {
                        self.rules += 1;
                        let name = format!("text_{}", self.rules);
                        let _ = writeln!(
                            self.text,
                            "{name}[lazy]: /(.|\\n)*/ {}",
                            literal(&format!("{pad}{close}"))
                        );
                        name
                    } else if let Some(values) = property.get("enum").and_then(Value::as_array) {
                        let texts = values.iter().map(|value| match value.as_str() {
                            Some(text) => literal(text),
                            None => literal(&value.to_string()),
                        });
                        format!(
                            "({}) {}",
                            texts.collect::<Vec<_>>().join(" | "),
                            literal(&format!("{pad}{close}"))
                        )
                    } else {
                        let property = with_definitions(property, schema);
                        format!("{} {}", self.json(&property, tool.strict), literal(&format!("{pad}{close}")))
                    };
                    let one = format!("{head} {value} {}", self.mark(pad));
                    let _ = if required.contains(&key.as_str()) {
                        write!(rule, " {one}")
                    } else {
                        write!(rule, " ({one})?")
                    };
                }
                rule
            }
            Form::Python => {
                return Err(ConstraintError::Unsupported {
                    what: "a required tool call for a model that writes calls as Python".to_string(),
                });
            }
        };
        let _ = writeln!(self.text, "call_{index}: {rule}");
        Ok(())
    }
}

/// A property's schema with the definitions that it may refer to.
fn with_definitions(property: &Value, schema: &Value) -> Value {
    let mut property = property.clone();
    if let Some(members) = property.as_object_mut() {
        for key in ["$defs", "definitions"] {
            if let Some(definitions) = schema.get(key) {
                members.entry(key).or_insert_with(|| definitions.clone());
            }
        }
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::answer::Answer;
    use crate::constraint::Constraint;
    use crate::constraint::vocabulary::TokenBytes;

    /// A token for each byte, one that ends the answer, and the control tokens given.
    fn vocabulary(specials: &[&'static str]) -> Vocabulary {
        let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
        let tokens = bytes.iter().map(|byte| TokenBytes::Text(byte)).chain([TokenBytes::Special("<end>")]);
        let tokens = tokens.chain(specials.iter().map(|special| TokenBytes::Special(special)));
        Vocabulary::new(tokens, &[256], None).unwrap()
    }

    /// The text as tokens; control tokens where they stand.
    fn tokens(text: &str, specials: &[&str]) -> Vec<u32> {
        let (mut out, mut rest) = (Vec::new(), text);
        while let Some(byte) = rest.bytes().next() {
            match (257u32..).zip(specials).find(|(_, special)| rest.starts_with(**special)) {
                Some((token, special)) => {
                    out.push(token);
                    rest = &rest[special.len()..];
                }
                None => {
                    out.push(u32::from(byte));
                    // Bytes of one character follow one another.
                    let next =
                        (1..=rest.len()).find(|place| rest.is_char_boundary(*place)).unwrap_or(rest.len());
                    out.extend(rest.bytes().take(next).skip(1).map(u32::from));
                    rest = &rest[next..];
                }
            }
        }
        out
    }

    fn accepts(grammar: &Grammar, vocabulary: &Vocabulary, text: &str, specials: &[&str]) -> bool {
        let mut constraint = Constraint::new(grammar, vocabulary).unwrap();
        tokens(text, specials).into_iter().all(|token| constraint.accept(token).is_ok())
            && constraint.may_end()
    }

    fn tool(name: &str) -> Tool {
        let parameters = json!({
            "type": "object",
            "properties": {"id": {"type": "string"}, "n": {"$ref": "#/$defs/small"}},
            "required": ["id"],
            "additionalProperties": false,
            "$defs": {"small": {"type": "integer", "minimum": 0, "maximum": 9}},
        });
        Tool { name: name.to_string(), description: None, parameters: Some(parameters), strict: true }
    }

    /// For every family: its own text of a call is what its grammar takes, and what its reader finds again.
    #[test]
    fn grammar_text_and_reader_of_each_family_agree() {
        let tools = [tool("read"), tool("other")];
        let call = |id: &str, n: u32| ToolCall {
            id: String::new(),
            name: "read".to_string(),
            arguments: json!({"id": id, "n": n}).to_string(),
        };
        for dialect in Dialect::every().filter(|dialect| dialect.calls.form != Form::Python) {
            let name = dialect.calls.name;
            // No family has control tokens round single arguments.
            let mut marks: Vec<&'static str> = dialect.marks();
            marks.retain(|mark| !mark.contains("param"));
            for specials in [&[][..], &marks[..]] {
                let vocabulary = vocabulary(specials);
                let make = |choice: ToolChoice, parallel: bool| {
                    grammar(&dialect, &tools, &choice, parallel, false, &vocabulary).unwrap()
                };
                let one = calls_as_text(&dialect, &[call("s1", 3)]);
                let two = calls_as_text(&dialect, &[call("s1", 3), call("é\"2", 4)]);
                let wrong = calls_as_text(&dialect, &[call("s1", 10)]);
                let required = make(ToolChoice::Required, true).unwrap();
                let check = |grammar: &Grammar, text: &str, expected: bool| {
                    assert_eq!(
                        accepts(grammar, &vocabulary, text, specials),
                        expected,
                        "{name} {specials:?}\n{text}\n{grammar:?}"
                    );
                };
                check(&required, &one, true);
                check(&required, &two, true);
                check(&required, &wrong, false);
                check(&required, "no call", false);
                check(&make(ToolChoice::Required, false).unwrap(), &two, false);
                check(&make(ToolChoice::Named("other".to_string()), true).unwrap(), &one, false);
                check(&make(ToolChoice::Named("read".to_string()), true).unwrap(), &one, true);
                if let Some(thoughts) = dialect.thoughts {
                    let thought = format!("{}\nhm{}\n\n{one}", thoughts.open, thoughts.close);
                    check(&required, &thought, true);
                }
                match make(ToolChoice::Auto, true) {
                    None => assert!(dialect.calls.opening().is_empty()),
                    Some(auto) => {
                        check(&auto, "no call", true);
                        check(&auto, &one, true);
                        check(&auto, &format!("I look.{two}"), true);
                        check(&auto, &format!("I look.{wrong}"), false);
                    }
                }
                let parsed = Answer::parse(dialect, &tools, false, &two);
                let values = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                let found: Vec<_> =
                    parsed.calls.iter().map(|(name, arguments)| (name.as_str(), values(arguments))).collect();
                let ids = ["s1", "é\"2"].into_iter().zip([3, 4]);
                let expected: Vec<_> = ids.map(|(id, n)| ("read", json!({"id": id, "n": n}))).collect();
                assert_eq!((found, parsed.content.as_str()), (expected, ""), "{name}: {two}");
            }
        }
    }

    #[test]
    fn nothing_is_kept_where_nothing_must_be() {
        let vocabulary = vocabulary(&[]);
        let hermes = Dialect::of("<tool_call>", true);
        let make = |tools: &[Tool], choice: ToolChoice| {
            grammar(&hermes, tools, &choice, true, false, &vocabulary).unwrap()
        };
        assert_eq!(make(&[], ToolChoice::Auto), None);
        assert_eq!(make(&[tool("a")], ToolChoice::None), None);
        let lfm2 = Dialect::of("<|tool_list_start|>", true);
        assert!(grammar(&lfm2, &[tool("a")], &ToolChoice::Required, true, false, &vocabulary).is_err());
    }
}
