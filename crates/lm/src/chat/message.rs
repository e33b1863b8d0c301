//! Messages, tools and the choice between them, as OpenAI's API writes them.
//!
//! The outer words of `chat`: a server parses a request into these, `template.rs` turns them into a prompt, and
//! `answer.rs` turns what the model wrote into the same words. What this cannot take (a picture) is refused by name.

use serde_json::{Map, Value, json};
use thiserror::Error;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator's instructions.
    System,
    /// The same, as newer clients call it; a template that does not know it gets `system`.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool gave back.
    Tool,
}

impl Role {
    /// As JSON says it.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }

    fn from_name(name: &str) -> Option<Role> {
        [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool]
            .into_iter()
            .find(|role| role.name() == name)
    }
}

/// A tool that the model asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Chosen by whoever runs the model: there is no chance in this crate.
    pub id: String,
    /// Of the function.
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; none beside tool calls.
    pub content: Option<String>,
    /// What the model thought before it spoke, if the client sends it back.
    pub reasoning: Option<String>,
    /// Of an assistant.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool answers.
    pub tool_call_id: Option<String>,
    /// Of the speaker or the tool.
    pub name: Option<String>,
}

/// What is wrong with a message, a tool or a choice; `path` is where, as in `messages[2].content[0]`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Not what the API says.
    #[error("{path}: expected {wanted}")]
    Wrong {
        /// Where.
        path: String,
        /// What should stand there.
        wanted: &'static str,
    },
    /// Allowed by the API, but no model here can take it.
    #[error("{path}: {what} is not supported; this model reads text")]
    Unsupported {
        /// Where.
        path: String,
        /// The kind of content.
        what: String,
    },
    /// A choice of a tool that is not in the list.
    #[error("{path}: there is no tool named {name:?}")]
    UnknownTool {
        /// Where.
        path: String,
        /// The name.
        name: String,
    },
}

fn wrong(path: impl Into<String>, wanted: &'static str) -> MessageError {
    MessageError::Wrong { path: path.into(), wanted }
}

impl Message {
    /// A message with nothing but text.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message {
            role,
            content: Some(content.into()),
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }

    /// Reads one message; `path` names it in errors.
    pub fn from_json(value: &Value, path: &str) -> Result<Message, MessageError> {
        let object = value.as_object().ok_or_else(|| wrong(path, "an object"))?;
        let role = object.get("role").and_then(Value::as_str).and_then(Role::from_name);
        let role = role.ok_or_else(|| {
            wrong(
                format!("{path}.role"),
                "one of \"system\", \"developer\", \"user\", \"assistant\", \"tool\"",
            )
        })?;
        let content = read_content(object.get("content"), &format!("{path}.content"))?;
        let mut tool_calls = Vec::new();
        match object.get("tool_calls") {
            None | Some(Value::Null) => {}
            Some(Value::Array(calls)) => {
                for (index, call) in calls.iter().enumerate() {
                    tool_calls.push(read_call(call, &format!("{path}.tool_calls[{index}]"))?);
                }
            }
            Some(_) => return Err(wrong(format!("{path}.tool_calls"), "a list")),
        }
        if content.is_none() && !(role == Role::Assistant && !tool_calls.is_empty()) {
            return Err(wrong(format!("{path}.content"), "a string or a list of parts"));
        }
        let text = |key: &str| match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(format!("{path}.{key}"), "a string")),
        };
        let reasoning = match text("reasoning_content")? {
            Some(reasoning) => Some(reasoning),
            None => text("reasoning")?,
        };
        Ok(Message {
            role,
            content,
            reasoning,
            tool_calls,
            tool_call_id: text("tool_call_id")?,
            name: text("name")?,
        })
    }

    /// Reads a request's `messages`.
    pub fn list_from_json(value: &Value) -> Result<Vec<Message>, MessageError> {
        let list = value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| wrong("messages", "a list with at least one message"))?;
        list.iter()
            .enumerate()
            .map(|(index, message)| Message::from_json(message, &format!("messages[{index}]")))
            .collect()
    }
}

/// A string, or parts: the text of each, on lines of their own.
fn read_content(value: Option<&Value>, path: &str) -> Result<Option<String>, MessageError> {
    let parts = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(parts)) => parts,
        Some(_) => return Err(wrong(path, "a string or a list of parts")),
    };
    let mut texts = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match part.get("type").and_then(Value::as_str) {
            Some(kind @ ("text" | "refusal" | "input_text" | "output_text")) => {
                let key = if kind == "refusal" { "refusal" } else { "text" };
                let text = part.get(key).and_then(Value::as_str);
                texts.push(text.ok_or_else(|| wrong(format!("{path}.{key}"), "a string"))?);
            }
            Some(kind) => {
                return Err(MessageError::Unsupported { path, what: format!("a part of type {kind:?}") });
            }
            None => return Err(wrong(format!("{path}.type"), "the type of the part")),
        }
    }
    Ok(Some(texts.join("\n")))
}

fn read_call(value: &Value, path: &str) -> Result<ToolCall, MessageError> {
    let function = value.get("function").ok_or_else(|| wrong(format!("{path}.function"), "an object"))?;
    let name = function.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| wrong(format!("{path}.function.name"), "a string"))?;
    let arguments = match function.get("arguments") {
        Some(Value::String(text)) => text.clone(),
        Some(object @ Value::Object(_)) => object.to_string(),
        None | Some(Value::Null) => "{}".to_string(),
        Some(_) => return Err(wrong(format!("{path}.function.arguments"), "JSON in a string")),
    };
    let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
    Ok(ToolCall { id: id.to_string(), name: name.to_string(), arguments })
}

/// A function that the model may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// `[a-zA-Z0-9_.-]`, at most 128 bytes.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// A JSON schema of an object; none: any object.
    pub parameters: Option<Value>,
    /// The schema must be followed to the letter: what of it is not supported is an error.
    pub strict: bool,
}

impl Tool {
    /// Reads one tool; `path` names it in errors.
    pub fn from_json(value: &Value, path: &str) -> Result<Tool, MessageError> {
        match value.get("type").and_then(Value::as_str) {
            Some("function") => {}
            Some(kind) => {
                let what = format!("a tool of type {kind:?}");
                return Err(MessageError::Unsupported { path: path.to_string(), what });
            }
            None => return Err(wrong(format!("{path}.type"), "\"function\"")),
        }
        // The responses API has no object between.
        let (function, path) = match value.get("function") {
            Some(function) => (function, format!("{path}.function")),
            None => (value, path.to_string()),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = function.get("name").and_then(Value::as_str);
        let name = name.filter(|name| !name.is_empty() && name.len() <= 128 && name.chars().all(allowed));
        let wanted = "a name of at most 128 letters, digits, '_', '-' and '.'";
        let name = name.ok_or_else(|| wrong(format!("{path}.name"), wanted))?;
        let parameters = match function.get("parameters") {
            None | Some(Value::Null) => None,
            Some(schema @ Value::Object(_)) => Some(schema.clone()),
            Some(_) => return Err(wrong(format!("{path}.parameters"), "a JSON schema")),
        };
        Ok(Tool {
            name: name.to_string(),
            description: function.get("description").and_then(Value::as_str).map(str::to_string),
            parameters,
            strict: function.get("strict").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// Reads a request's `tools`.
    pub fn list_from_json(value: &Value) -> Result<Vec<Tool>, MessageError> {
        let list = value.as_array().ok_or_else(|| wrong("tools", "a list"))?;
        list.iter()
            .enumerate()
            .map(|(index, tool)| Tool::from_json(tool, &format!("tools[{index}]")))
            .collect()
    }

    /// As OpenAI's API writes it, and as templates want it.
    pub fn to_json(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".to_string(), json!(self.name));
        if let Some(description) = &self.description {
            function.insert("description".to_string(), json!(description));
        }
        let none = || json!({"type": "object", "properties": {}});
        function.insert("parameters".to_string(), self.parameters.clone().unwrap_or_else(none));
        json!({"type": "function", "function": function})
    }
}

/// Whether the model calls tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It does not; the tools are not even shown.
    None,
    /// As it likes.
    #[default]
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// Reads a request's `tool_choice`.
    pub fn from_json(value: &Value, tools: &[Tool]) -> Result<ToolChoice, MessageError> {
        let path = "tool_choice".to_string();
        let name = match value {
            Value::Null => return Ok(if tools.is_empty() { ToolChoice::None } else { ToolChoice::Auto }),
            Value::String(choice) => match choice.as_str() {
                "none" => return Ok(ToolChoice::None),
                "auto" => return Ok(ToolChoice::Auto),
                "required" | "any" if !tools.is_empty() => return Ok(ToolChoice::Required),
                "required" | "any" => {
                    return Err(wrong("tools", "at least one, since `tool_choice` requires one"));
                }
                _ => return Err(wrong(path, "\"none\", \"auto\", \"required\" or a function")),
            },
            object => object.pointer("/function/name").or_else(|| object.get("name")).and_then(Value::as_str),
        };
        let name = name.ok_or_else(|| wrong("tool_choice.function.name", "the name of a tool"))?;
        if tools.iter().any(|tool| tool.name == name) {
            Ok(ToolChoice::Named(name.to_string()))
        } else {
            Err(MessageError::UnknownTool { path, name: name.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_or_refused_by_place() {
        let check = |message: Value, expected: Result<Option<&str>, &str>| {
            let read = Message::from_json(&message, "messages[0]");
            let read = read.map(|message| message.content).map_err(|error| error.to_string());
            assert_eq!(
                read,
                expected.map(|text| text.map(str::to_string)).map_err(str::to_string),
                "{message}"
            );
        };
        check(json!({"role": "user", "content": "hi"}), Ok(Some("hi")));
        check(
            json!({"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
            Ok(Some("a\nb")),
        );
        check(
            json!({"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}),
            Ok(None),
        );
        check(json!({"role": "user"}), Err("messages[0].content: expected a string or a list of parts"));
        check(
            json!({"role": "assistant", "tool_calls": []}),
            Err("messages[0].content: expected a string or a list of parts"),
        );
        check(
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}),
            Err(
                "messages[0].content[0]: a part of type \"image_url\" is not supported; this model reads text",
            ),
        );
        check(
            json!({"role": "robot", "content": "x"}),
            Err(
                "messages[0].role: expected one of \"system\", \"developer\", \"user\", \"assistant\", \"tool\"",
            ),
        );
        check(json!("hi"), Err("messages[0]: expected an object"));
        check(json!({"role": "user", "content": "x", "name": 3}), Err("messages[0].name: expected a string"));
        assert!(Message::list_from_json(&json!([])).is_err());
    }

    #[test]
    fn tools_and_choices_are_read_or_refused_by_place() {
        let tools = json!([{"type": "function", "function": {"name": "a.b-c_1", "parameters": {"type": "object"}, "strict": true}}]);
        let tools = Tool::list_from_json(&tools).unwrap();
        assert!(tools[0].strict && tools[0].parameters.is_some());
        assert_eq!(Tool::list_from_json(&json!([tools[0].to_json()])).unwrap()[0].name, "a.b-c_1");
        for (tool, path) in [
            (json!({"type": "web_search"}), "tools[0]: "),
            (json!({"type": "function", "function": {"name": ""}}), "tools[0].function.name: "),
            (json!({"type": "function", "function": {"name": "a b"}}), "tools[0].function.name: "),
            (
                json!({"type": "function", "function": {"name": "a", "parameters": 1}}),
                "tools[0].function.parameters: ",
            ),
        ] {
            let error = Tool::list_from_json(&json!([tool])).unwrap_err().to_string();
            assert!(error.starts_with(path), "{error}");
        }
        let check = |choice: Value, expected: Option<ToolChoice>| {
            assert_eq!(ToolChoice::from_json(&choice, &tools).ok(), expected, "{choice}");
        };
        check(Value::Null, Some(ToolChoice::Auto));
        check(json!("none"), Some(ToolChoice::None));
        check(json!("required"), Some(ToolChoice::Required));
        check(
            json!({"type": "function", "function": {"name": "a.b-c_1"}}),
            Some(ToolChoice::Named("a.b-c_1".to_string())),
        );
        check(json!({"type": "function", "function": {"name": "x"}}), None);
        check(json!("sometimes"), None);
        assert_eq!(ToolChoice::from_json(&Value::Null, &[]), Ok(ToolChoice::None));
        assert!(ToolChoice::from_json(&json!("required"), &[]).is_err());
    }
}
