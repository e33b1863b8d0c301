//! `input` to messages: a text, or items of a conversation as OpenAI's responses API writes them.

use lm::chat::message::{Message, Role, ToolCall};
use serde_json::Value;

use super::super::conversation;
use super::super::limits::{MESSAGES, at_most};
use super::super::problem::Problem;

/// Reads `input`.
pub(super) fn messages(input: Option<&Value>) -> Result<Vec<Message>, Problem> {
    match input {
        None | Some(Value::Null) => Err(Problem::invalid("input", "`input` is missing")),
        Some(Value::String(text)) => Ok(vec![Message::new(Role::User, text.as_str())]),
        Some(Value::Array(items)) => {
            at_most("input", items.len(), MESSAGES)?;
            let mut messages = Vec::new();
            for (index, item) in items.iter().enumerate() {
                add(&mut messages, item, &format!("input[{index}]"))?;
            }
            if messages.is_empty() {
                return Err(Problem::invalid("input", "`input` has no message"));
            }
            Ok(messages)
        }
        Some(_) => Err(Problem::invalid("input", "`input` is a string or an array of items")),
    }
}

/// Adds an item. Thoughts and calls belong to the message of the assistant that they stand before or after.
fn add(messages: &mut Vec<Message>, item: &Value, path: &str) -> Result<(), Problem> {
    let text = |key: &str| {
        let text = item.get(key).and_then(Value::as_str);
        text.ok_or_else(|| {
            Problem::invalid(format!("{path}.{key}"), format!("`{path}.{key}` must be a string"))
        })
    };
    match item.get("type").and_then(Value::as_str).unwrap_or("message") {
        "message" => {
            let message = Message::from_json(item, path).map_err(|error| conversation::problem(&error))?;
            match messages.last_mut() {
                // Thoughts came before it.
                Some(last) if message.role == Role::Assistant && only_thought(last) => {
                    last.content = message.content;
                }
                _ => messages.push(message),
            }
        }
        "function_call" => {
            let call = ToolCall {
                id: text("call_id")?.to_owned(),
                name: text("name")?.to_owned(),
                arguments: text("arguments")?.to_owned(),
            };
            match messages.last_mut() {
                Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
                _ => messages.push(Message { tool_calls: vec![call], ..empty() }),
            }
        }
        "function_call_output" => {
            let output = match item.get("output") {
                Some(Value::String(text)) => text.clone(),
                Some(parts @ Value::Array(_)) => {
                    let read =
                        Message::from_json(&serde_json::json!({ "role": "tool", "content": parts }), path);
                    read.map_err(|error| conversation::problem(&error))?.content.unwrap_or_default()
                }
                _ => {
                    let param = format!("{path}.output");
                    let message = format!("`{param}` must be a string or a list of parts");
                    return Err(Problem::invalid(param, message));
                }
            };
            let id = Some(text("call_id")?.to_owned());
            messages.push(Message { tool_call_id: id, ..Message::new(Role::Tool, output) });
        }
        "reasoning" => {
            let parts = item.get("content").and_then(Value::as_array).into_iter().flatten();
            let thoughts: Vec<&str> =
                parts.filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
            if !thoughts.is_empty() {
                messages.push(Message { reasoning: Some(thoughts.join("\n")), ..empty() });
            }
        }
        other => {
            let message = format!("`{path}`: items of type {other:?} are not supported here");
            return Err(Problem::unsupported(path.to_owned(), message));
        }
    }
    Ok(())
}

/// An assistant's message with nothing in it.
fn empty() -> Message {
    Message { content: None, ..Message::new(Role::Assistant, "") }
}

fn only_thought(message: &Message) -> bool {
    message.role == Role::Assistant && message.content.is_none() && message.tool_calls.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_become_messages() {
        let items = json!([
            { "role": "developer", "content": "short" },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "hi" }] },
            { "type": "reasoning", "id": "rs_1", "summary": [], "content": [{ "type": "reasoning_text", "text": "hm" }] },
            { "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}" },
            { "type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c1", "output": "1" },
            { "type": "function_call_output", "call_id": "c2", "output": [{ "type": "input_text", "text": "2" }] },
            { "type": "reasoning", "id": "rs_2", "summary": [], "content": [{ "type": "reasoning_text", "text": "so" }] },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "ho" }] },
        ]);
        let messages = messages(Some(&items)).unwrap();
        let shown: Vec<_> = messages
            .iter()
            .map(|m| {
                (
                    m.role.name(),
                    m.content.as_deref(),
                    m.reasoning.as_deref(),
                    m.tool_calls.len(),
                    m.tool_call_id.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("developer", Some("short"), None, 0, None),
                ("user", Some("hi"), None, 0, None),
                ("assistant", None, Some("hm"), 2, None),
                ("tool", Some("1"), None, 0, Some("c1")),
                ("tool", Some("2"), None, 0, Some("c2")),
                ("assistant", Some("ho"), Some("so"), 0, None),
            ]
        );
    }

    #[test]
    fn what_is_no_item_is_refused_with_its_place() {
        for (input, param) in [
            (json!(3), "input"),
            (json!([]), "input"),
            (json!([{ "role": "user" }]), "input[0].content"),
            (json!([{ "type": "web_search_call" }]), "input[0]"),
            (json!([{ "type": "function_call", "name": "f" }]), "input[0].call_id"),
            (json!([{ "type": "function_call_output", "call_id": "c" }]), "input[0].output"),
            (json!([{ "role": "user", "content": [{ "type": "input_image" }] }]), "input[0].content[0]"),
        ] {
            let problem = messages(Some(&input)).expect_err("refused");
            assert_eq!(problem.param.as_deref(), Some(param), "{input}");
        }
    }
}
