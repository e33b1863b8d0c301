//! `POST /v1/responses`: OpenAI's newer way to ask, without memory between requests.
//!
//! The whole conversation comes with each request (`input`: a text, or items). What would need memory is refused by
//! name: `previous_response_id`, `conversation`, `background`, `prompt`; `store` is taken and nothing is stored, which
//! the answer says (`"store": false`). `truncation: "auto"` is refused, as nothing is cut off in silence. Items that
//! only OpenAI's own tools make are refused by their type.

mod back;
mod items;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use lm::batch::request::Request;
use lm::chat::message::{Message, Role};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::back::Back;
use self::stream::Telling;
use super::ask::{Extras, Sampling, Stop, max_tokens};
use super::body::json;
use super::constrain;
use super::conversation::{self, Conversation};
use super::engine::Wish;
use super::logprobs;
use super::order::{Order, Turn};
use super::problem::Problem;
use super::sse;
use super::state::State;

/// What is looked at of a request; how tokens are chosen is in [`Sampling`].
#[derive(Deserialize)]
struct Asked {
    model: Option<String>,
    input: Option<Value>,
    instructions: Option<String>,
    tools: Option<Value>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<Text>,
    reasoning: Option<Reasoning>,
    max_output_tokens: Option<u64>,
    stream: Option<bool>,
    stop: Option<Stop>,
    top_logprobs: Option<u32>,
    include: Option<Vec<String>>,
    metadata: Option<Map<String, Value>>,
    user: Option<String>,
    truncation: Option<String>,
    chat_template_kwargs: Option<Map<String, Value>>,
    x_selvedge: Option<Extras>,
    // What needs memory between requests.
    previous_response_id: Option<Value>,
    conversation: Option<Value>,
    background: Option<bool>,
    prompt: Option<Value>,
}

/// `text`.
#[derive(Deserialize, Default)]
struct Text {
    format: Option<Value>,
}

/// `reasoning`.
#[derive(Deserialize, Default)]
struct Reasoning {
    effort: Option<String>,
}

impl Asked {
    fn refuse_unsupported(&self) -> Result<(), Problem> {
        let nothing_kept = "nothing is kept between requests: send the whole conversation as `input`";
        for (param, given, instead) in [
            ("previous_response_id", self.previous_response_id.is_some(), nothing_kept),
            ("conversation", self.conversation.is_some(), nothing_kept),
            ("background", self.background == Some(true), "ask with `stream`, or wait for the answer"),
            ("prompt", self.prompt.is_some(), "no prompts are kept here: send `instructions` and `input`"),
            (
                "truncation",
                self.truncation.as_deref().is_some_and(|way| way != "disabled"),
                "nothing is cut off in silence: send what fits",
            ),
        ] {
            if given {
                return Err(Problem::unsupported(param, format!("`{param}` is not supported: {instead}")));
            }
        }
        Ok(())
    }

    fn wants_logprobs(&self) -> bool {
        self.top_logprobs.is_some_and(|top| top > 0)
            || self.include.iter().flatten().any(|what| what == "message.output_text.logprobs")
    }
}

pub(super) async fn answer(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = state.read(&headers, body).await?;
    let asked: Asked = json(&bytes)?;
    let sampling: Sampling = json(&bytes)?;
    drop(bytes);
    asked.refuse_unsupported()?;
    let top = logprobs::wanted(Some(asked.wants_logprobs()), asked.top_logprobs)?;
    let max_tokens = max_tokens(None, asked.max_output_tokens, "max_output_tokens")?;
    let (tools, choice) = conversation::tools(asked.tools.as_ref(), asked.tool_choice.as_ref())?;
    let mut messages = Vec::new();
    messages.extend(asked.instructions.as_deref().map(|text| Message::new(Role::System, text)));
    messages.extend(items::messages(asked.input.as_ref())?);
    let format = asked.text.unwrap_or_default().format;
    let effort = asked.reasoning.and_then(|reasoning| reasoning.effort);
    let mut variables = asked.chat_template_kwargs.unwrap_or_default();
    if let Some(effort) = &effort {
        if effort == "none" {
            variables.entry("enable_thinking").or_insert(json!(false));
        }
        variables.entry("reasoning_effort").or_insert(json!(effort));
    }
    let parallel = asked.parallel_tool_calls.unwrap_or(true);
    let back = Back {
        instructions: json!(asked.instructions),
        tools: asked.tools.filter(|tools| !tools.is_null()).unwrap_or(json!([])),
        tool_choice: asked.tool_choice.filter(|choice| !choice.is_null()).unwrap_or(json!("auto")),
        parallel,
        format: format.clone().unwrap_or(json!({ "type": "text" })),
        effort: json!(effort),
        max_output_tokens: json!(asked.max_output_tokens),
        temperature: json!(sampling.temperature().unwrap_or(1.0)),
        top_p: json!(sampling.top_p().unwrap_or(1.0)),
        top_logprobs: top.unwrap_or(0),
        metadata: Value::Object(asked.metadata.unwrap_or_default()),
        user: json!(asked.user),
    };
    let conversation = Conversation {
        messages,
        tools,
        choice,
        parallel,
        format: constrain::read(format.as_ref(), "text.format")?,
        format_param: "text.format",
        variables,
        now_s: state.wall_ms().div_euclid(1_000),
    };
    let stops = asked.stop.unwrap_or_default().strings()?;
    let signals = asked.x_selvedge.and_then(|extras| extras.signals).unwrap_or(false);
    let (ticket, seed) = state.ticket(signals);

    let lease = state.models.lease(asked.model.as_deref().unwrap_or("")).await?.that_writes()?;
    let settings = sampling.settings(lease.loaded.model.network.shape().vocabulary, seed)?;
    let loaded = Arc::clone(&lease.loaded);
    let ready = state.prepare(move || conversation.ready(&loaded)).await?;
    let turn = Turn::new(Some(ready.reader()), ready.prompt.len(), top.is_some(), signals);
    let request = Request {
        prompt: ready.prompt,
        max_tokens,
        sampling: settings,
        top: top.unwrap_or(0),
        echo: false,
        constraint: ready.constraint,
        ignore_end: false,
        adapter: None,
    };
    let wish = Wish { request, stops, shown: ready.shown };
    let order = Order::place(ticket, lease, vec![wish], vec![turn], "input").await?;
    let telling = Telling::new(back, top.is_some());
    if asked.stream.unwrap_or(false) {
        return Ok(sse::stream(order, telling));
    }
    Ok(Json(telling.whole(&order.collect().await?)).into_response())
}
