//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use lm::batch::request::Request;
use lm::chat::answer::Delta;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ask::{Extras, Sampling, Stop, StreamOptions, max_tokens};
use super::body::json;
use super::constrain;
use super::conversation::{self, Conversation};
use super::engine::Wish;
use super::extras;
use super::limits::ANSWERS;
use super::logprobs;
use super::order::{Heard, Order, Turn};
use super::problem::Problem;
use super::sse::{Frames, Scribe, stream};
use super::state::State;

/// What is looked at of a request; how tokens are chosen is in [`Sampling`].
#[derive(Deserialize)]
struct Asked {
    model: Option<String>,
    messages: Option<Value>,
    tools: Option<Value>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u64>,
    stop: Option<Stop>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    ignore_eos: Option<bool>,
    /// As vLLM and llama.cpp call it: variables for the template.
    chat_template_kwargs: Option<Map<String, Value>>,
    reasoning_effort: Option<String>,
    x_selvedge: Option<Extras>,
    // What would change the answer and is not done here.
    audio: Option<Value>,
    modalities: Option<Value>,
    functions: Option<Value>,
    function_call: Option<Value>,
    web_search_options: Option<Value>,
}

impl Asked {
    fn refuse_unsupported(&self) -> Result<(), Problem> {
        let text_only = |modalities: &Value| *modalities == json!(["text"]);
        for (param, given, instead) in [
            ("audio", self.audio.is_some(), "models here write text"),
            (
                "modalities",
                self.modalities.as_ref().is_some_and(|list| !text_only(list)),
                "models here write text",
            ),
            ("functions", self.functions.is_some(), "use `tools`"),
            ("function_call", self.function_call.is_some(), "use `tool_choice`"),
            ("web_search_options", self.web_search_options.is_some(), "nothing here searches the web"),
        ] {
            if given {
                return Err(Problem::unsupported(param, format!("`{param}` is not supported: {instead}")));
            }
        }
        Ok(())
    }
}

/// How many answers a request wants to each prompt.
pub(super) fn answers(n: Option<u64>) -> Result<usize, Problem> {
    match n.unwrap_or(1) {
        n @ 1.. if n <= ANSWERS as u64 => Ok(n as usize),
        n => Err(Problem::invalid("n", format!("`n` is {n}, and may be 1 to {ANSWERS}"))),
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
    let n = answers(asked.n)?;
    let top = logprobs::wanted(asked.logprobs, asked.top_logprobs)?;
    let stops = asked.stop.unwrap_or_default().strings()?;
    let max_tokens = max_tokens(asked.max_tokens, asked.max_completion_tokens, "max_completion_tokens")?;
    let (tools, choice) = conversation::tools(asked.tools.as_ref(), asked.tool_choice.as_ref())?;
    let mut variables = asked.chat_template_kwargs.unwrap_or_default();
    if let Some(effort) = asked.reasoning_effort {
        if effort == "none" {
            variables.entry("enable_thinking").or_insert(json!(false));
        }
        variables.entry("reasoning_effort").or_insert(json!(effort));
    }
    let conversation = Conversation {
        messages: conversation::messages(asked.messages.as_ref())?,
        tools,
        choice,
        parallel: asked.parallel_tool_calls.unwrap_or(true),
        format: constrain::read(asked.response_format.as_ref(), "response_format")?,
        format_param: "response_format",
        variables,
        now_s: state.wall_ms().div_euclid(1_000),
    };
    let signals = asked.x_selvedge.and_then(|extras| extras.signals).unwrap_or(false);
    let (ticket, seed) = state.ticket(signals);

    let lease = state.models.lease(asked.model.as_deref().unwrap_or("")).await?.that_writes()?;
    let settings = sampling.settings(lease.loaded.model.network.shape().vocabulary, seed)?;
    let loaded = Arc::clone(&lease.loaded);
    let ready = state.prepare(move || conversation.ready(&loaded)).await?;

    let wish = |choice: usize| Wish {
        request: Request {
            prompt: ready.prompt.clone(),
            max_tokens,
            sampling: lm::sample::Settings {
                seed: settings.seed.wrapping_add(choice as u64),
                ..settings.clone()
            },
            top: top.unwrap_or(0),
            echo: false,
            constraint: ready.constraint.clone(),
            ignore_end: asked.ignore_eos.unwrap_or(false),
            adapter: None,
        },
        stops: stops.clone(),
        shown: ready.shown.clone(),
    };
    let turn = |_| Turn::new(Some(ready.reader()), ready.prompt.len(), top.is_some(), signals);
    let (wishes, turns) = ((0..n).map(wish).collect(), (0..n).map(turn).collect());
    let order = Order::place(ticket, lease, wishes, turns, "messages").await?;
    if asked.stream.unwrap_or(false) {
        let usage = asked.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        return Ok(stream(order, Chunks { answers: n, logprobs: top.is_some(), usage }));
    }
    Ok(Json(whole(&order.collect().await?, top.is_some())).into_response())
}

fn id(order: &Order) -> String {
    format!("chatcmpl-{}", order.ticket.nonce)
}

/// What runs here, as OpenAI's clients are told to notice changes of.
pub(super) const FINGERPRINT: &str = concat!("selvedge-", env!("CARGO_PKG_VERSION"));

/// The answer in one piece.
fn whole(order: &Order, logprobs: bool) -> Value {
    let tokenizer = &order.lease.loaded.model.tokenizer;
    let choices = order.turns.iter().enumerate().map(|(index, turn)| {
        let said = &turn.said;
        let mut message = json!({ "role": "assistant", "content": said.content, "refusal": null });
        if !said.calls.is_empty() {
            let calls = said.calls.iter().enumerate().map(|(call, (name, arguments))| {
                let id = order.call_id(index, call);
                json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
            });
            message["tool_calls"] = calls.collect();
            if said.content.is_empty() {
                message["content"] = Value::Null;
            }
        }
        if !said.reasoning.is_empty() {
            message["reasoning_content"] = json!(said.reasoning);
        }
        let logprobs = if logprobs { logprobs::of_chat(tokenizer, &turn.tokens) } else { Value::Null };
        json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": turn.finish_reason() })
    });
    json!({
        "id": id(order),
        "object": "chat.completion",
        "created": order.created(),
        "model": order.model(),
        "system_fingerprint": FINGERPRINT,
        "choices": choices.collect::<Value>(),
        "usage": order.usage(order.turns.len()),
        "x_selvedge": extras::block(order),
    })
}

/// The answer as it comes.
struct Chunks {
    answers: usize,
    logprobs: bool,
    /// Whether a last piece tells the tokens.
    usage: bool,
}

impl Chunks {
    fn chunk(&self, order: &Order, choices: Value) -> Value {
        let mut chunk = json!({
            "id": id(order),
            "object": "chat.completion.chunk",
            "created": order.created(),
            "model": order.model(),
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        });
        if self.usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(
        &self,
        order: &Order,
        index: usize,
        delta: Value,
        logprobs: Value,
        reason: Option<&str>,
    ) -> Value {
        let choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason });
        self.chunk(order, json!([choice]))
    }
}

impl Scribe for Chunks {
    fn begin(&mut self, order: &Order, out: &mut Frames) {
        for index in 0..self.answers {
            let delta = json!({ "role": "assistant", "content": "", "refusal": null });
            out.data(&self.delta(order, index, delta, Value::Null, None));
        }
    }

    fn heard(&mut self, order: &Order, heard: Heard, out: &mut Frames) {
        let Heard { choice, deltas, tokens, ended } = heard;
        let tokenizer = &order.lease.loaded.model.tokenizer;
        let tells = self.logprobs && !tokens.is_empty();
        let mut logprobs = if tells { logprobs::of_chat(tokenizer, &tokens) } else { Value::Null };
        let function = |index: usize, call: Value| {
            let mut call = call;
            call["index"] = json!(index);
            json!({ "tool_calls": [call] })
        };
        let mut deltas: Vec<Value> = deltas
            .into_iter()
            .map(|delta| match delta {
                Delta::Content(text) => json!({ "content": text }),
                Delta::Reasoning(text) => json!({ "reasoning_content": text }),
                Delta::Call { index, name } => {
                    let id = order.call_id(choice, index);
                    function(index, json!({ "id": id, "type": "function", "function": { "name": name, "arguments": "" } }))
                }
                Delta::Arguments { index, text } => function(index, json!({ "function": { "arguments": text } })),
            })
            .collect();
        if deltas.is_empty() && tells {
            deltas.push(json!({}));
        }
        for delta in deltas {
            out.data(&self.delta(order, choice, delta, logprobs.take(), None));
        }
        if ended {
            let mut last =
                self.delta(order, choice, json!({}), Value::Null, order.turns[choice].finish_reason());
            let all = order.turns.iter().all(|turn| turn.finish.is_some());
            if all && !self.usage {
                last["x_selvedge"] = extras::block(order);
            }
            out.data(&last);
        }
    }

    fn end(&mut self, order: &Order, out: &mut Frames) {
        if self.usage {
            let mut last = self.chunk(order, json!([]));
            last["usage"] = order.usage(self.answers);
            last["x_selvedge"] = extras::block(order);
            out.data(&last);
        }
        out.done();
    }

    fn broken(&mut self, _: &Order, problem: &Problem, out: &mut Frames) {
        out.data(&problem.envelope());
        out.done();
    }
}
