//! Tools to the model, where its template has no words for them, and the grammar that makes it call one.
//!
//! Beside `template.rs`. A template that ignores tools gets them as an instruction in the system message, in the form
//! of [`HERMES`], so that tool calls work with every model. [`grammar`] writes a call as the model's own family writes
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

/// Calls as text, for a template that has no words for them.
pub(super) fn calls_as_text(calls: &[ToolCall]) -> String {
    let (open, close) = HERMES.call;
    let lines = calls.iter().map(|call| {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
        format!("{open}\n{}\n{close}", json!({"name": call.name, "arguments": arguments}))
    });
    lines.collect::<Vec<_>>().join("\n")
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
    let open = lark.mark(calls.call.0);
    let close = lark.mark(calls.call.1);
    let pad = lark.mark(calls.pad);
    let more = |separator: String| if parallel { format!("one ({separator} one)*") } else { "one".to_string() };
    let several = match calls.form {
        Form::List { .. } | Form::Python => {
            format!("{open} {pad} \"[\" {} \"]\" {pad} {close}", more("\", \"".to_string()))
        }
        // Llama is trained on one call an answer; several stand on lines of their own.
        Form::Object { .. } if calls.opening().is_empty() => more("\"\\n\"".to_string()),
        _ => {
            let _ = writeln!(lark.text, "marked: {open} {pad} one {pad} {close}");
            let between = if calls.section.0.is_empty() { lark.mark("\n") } else { pad.clone() };
            if parallel { format!("marked ({between} marked)*") } else { "marked".to_string() }
        }
    };
    let (begin, end) = (lark.mark(calls.section.0), lark.mark(calls.section.1));
    let several = match calls.section.0 {
        "" => several,
        _ => format!("{begin} {pad} {several} {pad} {end}"),
    };
    let start = if !auto {
        format!("start: {several}\n")
    } else if vocabulary.special(calls.opening()).is_some() {
        // No text makes this token, so text cannot run into it.
        format!("start: TEXT calls?\ncalls: {several}\nTEXT: /(.|\\n)*/\n")
    } else {
        // The first mark has been read by the lazy rule, so the calls go on after it.
        let rest = several.replacen(&lark.mark(calls.opening()), "", 1);
        let opening = literal(calls.opening());
        format!("start: (before rest)? TEXT\nbefore[lazy]: /(.|\\n)*/ {opening}\nrest: {rest}\nTEXT: /(.|\\n)*/\n")
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
            let special = rest.char_indices().map(|(place, c)| place + c.len_utf8()).rev().find_map(|end| {
                self.vocabulary.special(&rest[..end]).map(|token| (token, end))
            });
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
                let mut rule = format!("{} {}", literal(&format!("{}{after_name}", tool.name)), self.mark(pad));
                let empty = Map::new();
                let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
                let required: Vec<&str> =
                    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
                for (key, property) in properties {
                    let head = literal(&format!("{open}{key}{after_key}{pad}"));
                    let plain = property.get("type").and_then(Value::as_str) == Some("string")
                        && property.get("enum").is_none()
                        && property.get("pattern").is_none();
                    let value = if plain {
                        self.rules += 1;
                        let name = format!("text_{}", self.rules);
                        let _ = writeln!(self.text, "{name}[lazy]: /(.|\\n)*/ {}", literal(&format!("{pad}{close}")));
                        name
                    } else if let Some(values) = property.get("enum").and_then(Value::as_array) {
                        let texts = values.iter().map(|value| match value.as_str() {
                            Some(text) => literal(text),
                            None => literal(&value.to_string()),
                        });
                        format!("({}) {}", texts.collect::<Vec<_>>().join(" | "), literal(&format!("{pad}{close}")))
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
