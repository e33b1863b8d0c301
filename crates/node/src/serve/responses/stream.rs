//! An order as a response object, whole or event by event: `response.created` … `response.completed`.
//!
//! An answer is a list of items in the order in which the model wrote them: thoughts, text, calls. Each is opened when
//! its first word comes and closed when another begins; the whole answer is put together from the same items.

use lm::chat::answer::Delta;
use serde_json::{Value, json};

use super::super::extras;
use super::super::logprobs;
use super::super::order::{Heard, Order};
use super::super::problem::Problem;
use super::super::sse::{Frames, Scribe};
use super::back::Back;

/// How an order is told.
pub(super) struct Telling {
    back: Back,
    logprobs: bool,
    items: Vec<Item>,
    sequence: usize,
}

/// A part of the answer.
struct Item {
    id: String,
    body: Body,
    done: bool,
}

enum Body {
    Thoughts(String),
    Text { text: String, logprobs: Vec<Value> },
    Call { call_id: String, name: String, arguments: String },
}

impl Item {
    fn status(&self) -> &'static str {
        if self.done { "completed" } else { "in_progress" }
    }

    fn json(&self) -> Value {
        let (id, status) = (&self.id, self.status());
        match &self.body {
            Body::Thoughts(text) => {
                let content = json!([{ "type": "reasoning_text", "text": text }]);
                json!({ "id": id, "type": "reasoning", "summary": [], "content": content, "status": status })
            }
            Body::Text { .. } => {
                let content = self.part();
                json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": [content] })
            }
            Body::Call { call_id, name, arguments } => json!({
                "id": id, "type": "function_call", "status": status,
                "call_id": call_id, "name": name, "arguments": arguments,
            }),
        }
    }

    /// As it is told when it is opened: nothing in it yet.
    fn opened(&self) -> Value {
        let mut item = self.json();
        if item.get("content").is_some() {
            item["content"] = json!([]);
        }
        item
    }

    /// The part of its content.
    fn part(&self) -> Value {
        match &self.body {
            Body::Thoughts(text) => json!({ "type": "reasoning_text", "text": text }),
            Body::Text { text, logprobs } => {
                json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs })
            }
            Body::Call { .. } => Value::Null,
        }
    }
}

impl Telling {
    pub(super) fn new(back: Back, logprobs: bool) -> Telling {
        Telling { back, logprobs, items: Vec::new(), sequence: 0 }
    }

    /// The whole answer in one piece.
    pub(super) fn whole(mut self, order: &Order) -> Value {
        let said = &order.turns[0].said;
        if !said.reasoning.is_empty() {
            self.open(order, Body::Thoughts(said.reasoning.clone()));
        }
        if !said.content.is_empty() || said.calls.is_empty() {
            let tokenizer = &order.lease.loaded.model.tokenizer;
            let entries = logprobs::entries(tokenizer, &order.turns[0].tokens);
            let logprobs = entries.as_array().cloned().unwrap_or_default();
            self.open(order, Body::Text { text: said.content.clone(), logprobs });
        }
        for (index, (name, arguments)) in said.calls.iter().enumerate() {
            let call_id = order.call_id(0, index);
            self.open(order, Body::Call { call_id, name: name.clone(), arguments: arguments.clone() });
        }
        self.items.iter_mut().for_each(|item| item.done = true);
        self.response(order, self.status(order), None)
    }

    fn status(&self, order: &Order) -> &'static str {
        if order.turns[0].finish_reason() == Some("length") { "incomplete" } else { "completed" }
    }

    fn open(&mut self, order: &Order, body: Body) -> &mut Item {
        let kind = match body {
            Body::Thoughts(_) => "rs",
            Body::Text { .. } => "msg",
            Body::Call { .. } => "fc",
        };
        let id = format!("{kind}_{}{}", order.ticket.nonce, self.items.len());
        self.items.push(Item { id, body, done: false });
        let last = self.items.len() - 1;
        &mut self.items[last]
    }

    /// The response object.
    fn response(&self, order: &Order, status: &str, error: Option<Value>) -> Value {
        let (back, turn) = (&self.back, &order.turns[0]);
        let over = status != "in_progress";
        let output: Value = if over { self.items.iter().map(Item::json).collect() } else { json!([]) };
        let usage = json!({
            "input_tokens": turn.prompt_tokens,
            "input_tokens_details": { "cached_tokens": turn.reused },
            "output_tokens": turn.written,
            "output_tokens_details": { "reasoning_tokens": turn.thinking_tokens },
            "total_tokens": turn.prompt_tokens + turn.written,
        });
        let incomplete =
            if status == "incomplete" { json!({ "reason": "max_output_tokens" }) } else { Value::Null };
        let mut response = json!({
            "id": format!("resp_{}", order.ticket.nonce),
            "object": "response",
            "created_at": order.created(),
            "status": status,
            "background": false,
            "error": error,
            "incomplete_details": incomplete,
            "instructions": back.instructions,
            "max_output_tokens": back.max_output_tokens,
            "metadata": back.metadata,
            "model": order.model(),
            "output": output,
            "parallel_tool_calls": back.parallel,
            "previous_response_id": null,
            "reasoning": { "effort": back.effort, "summary": null },
            "store": false,
            "temperature": back.temperature,
            "text": { "format": back.format },
            "tool_choice": back.tool_choice,
            "tools": back.tools,
            "top_logprobs": back.top_logprobs,
            "top_p": back.top_p,
            "truncation": "disabled",
            "usage": if over { usage } else { Value::Null },
            "user": back.user,
        });
        if over {
            response["x_selvedge"] = extras::block(order);
        }
        response
    }

    /// An event, numbered.
    fn tell(&mut self, out: &mut Frames, name: &str, mut event: Value) {
        event["type"] = json!(name);
        event["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        out.event(name, &event);
    }

    /// Opens an item and says so.
    fn begin_item(&mut self, order: &Order, body: Body, out: &mut Frames) {
        self.end_item(out);
        self.open(order, body);
        let index = self.items.len() - 1;
        let item = &self.items[index];
        let (id, opened, part) = (item.id.clone(), item.opened(), item.part());
        self.tell(out, "response.output_item.added", json!({ "output_index": index, "item": opened }));
        if !part.is_null() {
            let event = json!({ "item_id": id, "output_index": index, "content_index": 0, "part": part });
            self.tell(out, "response.content_part.added", event);
        }
    }

    /// Closes the item that is open and says so.
    fn end_item(&mut self, out: &mut Frames) {
        let Some(index) = self.items.len().checked_sub(1).filter(|index| !self.items[*index].done) else {
            return;
        };
        let item = &mut self.items[index];
        item.done = true;
        let (id, part, whole) = (item.id.clone(), item.part(), item.json());
        let mut event = json!({ "item_id": id, "output_index": index });
        match &item.body {
            Body::Thoughts(text) => {
                event["content_index"] = json!(0);
                event["text"] = json!(text);
                self.tell(out, "response.reasoning_text.done", event);
            }
            Body::Text { text, logprobs } => {
                event["content_index"] = json!(0);
                event["text"] = json!(text);
                event["logprobs"] = json!(logprobs);
                self.tell(out, "response.output_text.done", event);
            }
            Body::Call { name, arguments, .. } => {
                event["name"] = json!(name);
                event["arguments"] = json!(arguments);
                self.tell(out, "response.function_call_arguments.done", event);
            }
        }
        if !part.is_null() {
            let event = json!({ "item_id": id, "output_index": index, "content_index": 0, "part": part });
            self.tell(out, "response.content_part.done", event);
        }
        self.tell(out, "response.output_item.done", json!({ "output_index": index, "item": whole }));
    }

    /// Adds a word to the item that is open, or opens one of its kind.
    fn hear(&mut self, order: &Order, delta: Delta, entries: Vec<Value>, out: &mut Frames) {
        let open = self.items.last().filter(|item| !item.done).map(|item| &item.body);
        match (&delta, open) {
            (Delta::Reasoning(_), Some(Body::Thoughts(_)))
            | (Delta::Content(_), Some(Body::Text { .. }))
            | (Delta::Arguments { .. }, _) => {}
            (Delta::Reasoning(_), _) => self.begin_item(order, Body::Thoughts(String::new()), out),
            (Delta::Content(_), _) => {
                self.begin_item(order, Body::Text { text: String::new(), logprobs: Vec::new() }, out);
            }
            (Delta::Call { index, name }, _) => {
                let call_id = order.call_id(0, *index);
                let body = Body::Call { call_id, name: name.clone(), arguments: String::new() };
                self.begin_item(order, body, out);
            }
        }
        let Some(index) = self.items.len().checked_sub(1) else { return };
        let item = &mut self.items[index];
        let mut event = json!({ "item_id": item.id, "output_index": index });
        let (name, word) = match (delta, &mut item.body) {
            (Delta::Reasoning(word), Body::Thoughts(text)) => {
                text.push_str(&word);
                ("response.reasoning_text.delta", word)
            }
            (Delta::Content(word), Body::Text { text, logprobs }) => {
                text.push_str(&word);
                event["logprobs"] = json!(entries);
                logprobs.extend(entries);
                ("response.output_text.delta", word)
            }
            (Delta::Arguments { text: word, .. }, Body::Call { arguments, .. }) => {
                arguments.push_str(&word);
                ("response.function_call_arguments.delta", word)
            }
            _ => return,
        };
        if name != "response.function_call_arguments.delta" {
            event["content_index"] = json!(0);
        }
        event["delta"] = json!(word);
        self.tell(out, name, event);
    }
}

impl Scribe for Telling {
    fn begin(&mut self, order: &Order, out: &mut Frames) {
        for name in ["response.created", "response.in_progress"] {
            let response = self.response(order, "in_progress", None);
            self.tell(out, name, json!({ "response": response }));
        }
    }

    fn heard(&mut self, order: &Order, heard: Heard, out: &mut Frames) {
        let tokenizer = &order.lease.loaded.model.tokenizer;
        let mut entries = match logprobs::entries(tokenizer, &heard.tokens) {
            Value::Array(entries) if self.logprobs => entries,
            _ => Vec::new(),
        };
        for delta in heard.deltas {
            self.hear(order, delta, std::mem::take(&mut entries), out);
        }
    }

    fn end(&mut self, order: &Order, out: &mut Frames) {
        if self.items.is_empty() {
            // An answer without a word is a message without a word.
            self.begin_item(order, Body::Text { text: String::new(), logprobs: Vec::new() }, out);
        }
        self.end_item(out);
        let status = self.status(order);
        let response = self.response(order, status, None);
        self.tell(out, &format!("response.{status}"), json!({ "response": response }));
    }

    fn broken(&mut self, order: &Order, problem: &Problem, out: &mut Frames) {
        let event = json!({ "code": problem.code, "message": problem.message, "param": problem.param });
        self.tell(out, "error", event);
        let error = json!({ "code": "server_error", "message": problem.message });
        let response = self.response(order, "failed", Some(error));
        self.tell(out, "response.failed", json!({ "response": response }));
    }
}
