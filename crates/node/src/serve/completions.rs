//! `POST /v1/completions`: text goes on as the model would go on with it.
//!
//! Several prompts, several answers to each, echo of the prompt with what the model thought of it. `best_of` above `n`
//! and `suffix` are refused.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use lm::batch::request::Request;
use lm::chat::answer::Delta;
use lm::tokenizer::special::Special;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::{Extras, Sampling, Stop, StreamOptions};
use super::body::json;
use super::chat::{FINGERPRINT, answers};
use super::constrain;
use super::engine::Wish;
use super::extras;
use super::limits::{PROMPTS, at_most};
use super::load::Loaded;
use super::logprobs;
use super::order::{Heard, Order, Turn};
use super::problem::Problem;
use super::sse::{Frames, Scribe, stream};
use super::state::State;

/// As OpenAI's: who wants more says so.
const MAX_TOKENS: u64 = 16;

/// What is looked at of a request; how tokens are chosen is in [`Sampling`].
#[derive(Deserialize)]
struct Asked {
    model: Option<String>,
    prompt: Option<Prompts>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u64>,
    best_of: Option<u64>,
    suffix: Option<String>,
    stop: Option<Stop>,
    max_tokens: Option<u64>,
    logprobs: Option<u32>,
    echo: Option<bool>,
    ignore_eos: Option<bool>,
    response_format: Option<Value>,
    x_selvedge: Option<Extras>,
}

/// A prompt or several, as text or as tokens.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a string, an array of strings, an array of tokens, or an array of arrays of tokens"
)]
enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl Prompts {
    fn len(&self) -> usize {
        match self {
            Prompts::Text(_) | Prompts::Tokens(_) => 1,
            Prompts::Texts(texts) => texts.len(),
            Prompts::ManyTokens(many) => many.len(),
        }
    }

    /// Each as tokens, and as the text that an echo repeats. Keeps a core busy.
    fn read(self, loaded: &Loaded) -> Vec<Prompt> {
        let of_text = |text: String| Prompt { tokens: tokens_of(loaded, &text), text };
        let of_tokens = |tokens: Vec<u32>| {
            let text = loaded.model.tokenizer.decode_with_control(&tokens);
            Prompt { tokens, text }
        };
        match self {
            Prompts::Text(text) => vec![of_text(text)],
            Prompts::Texts(texts) => texts.into_iter().map(of_text).collect(),
            Prompts::Tokens(tokens) => vec![of_tokens(tokens)],
            Prompts::ManyTokens(many) => many.into_iter().map(of_tokens).collect(),
        }
    }
}

/// A text as a model reads it before it goes on: what begins a text before it, and nothing that ends one.
fn tokens_of(loaded: &Loaded, text: &str) -> Vec<u32> {
    let tokenizer = &loaded.model.tokenizer;
    let mut tokens = tokenizer.encode(text, Special::Parse);
    if let Some(bos) = tokenizer.bos().filter(|bos| tokenizer.adds_bos() && tokens.first() != Some(bos)) {
        tokens.insert(0, bos);
    }
    tokens
}

struct Prompt {
    tokens: Vec<u32>,
    text: String,
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
    if asked.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(Problem::unsupported(
            "suffix",
            "`suffix` is not supported: text goes on, it is not filled in",
        ));
    }
    let n = answers(asked.n)?;
    if asked.best_of.is_some_and(|best_of| best_of > n as u64) {
        let message = "`best_of` is not supported: ask for `n` answers with `logprobs` and take the best";
        return Err(Problem::unsupported("best_of", message));
    }
    let prompts = asked.prompt.ok_or_else(|| Problem::invalid("prompt", "`prompt` is missing"))?;
    at_most("prompt", prompts.len(), PROMPTS)?;
    let echo = asked.echo.unwrap_or(false);
    let max_tokens = match asked.max_tokens.unwrap_or(MAX_TOKENS) {
        0 if !echo => return Err(Problem::invalid("max_tokens", "`max_tokens` may be 0 only with `echo`")),
        max => usize::try_from(max).unwrap_or(usize::MAX),
    };
    let top = asked.logprobs.map(|top| logprobs::bounded(top, "logprobs")).transpose()?;
    let stops = asked.stop.unwrap_or_default().strings()?;
    let format = constrain::read(asked.response_format.as_ref(), "response_format")?;
    let signals = asked.x_selvedge.and_then(|extras| extras.signals).unwrap_or(false);
    let (ticket, seed) = state.ticket(signals);

    let lease = state.models.lease(asked.model.as_deref().unwrap_or("")).await?.that_writes()?;
    let settings = sampling.settings(lease.loaded.model.network.shape().vocabulary, seed)?;
    let loaded = Arc::clone(&lease.loaded);
    let (prompts, constraint) = state
        .prepare(move || {
            let constraint = format.map(|format| constrain::compile(&format, &loaded, "response_format"));
            Ok((prompts.read(&loaded), constraint.transpose()?))
        })
        .await?;
    if prompts.is_empty() {
        return Err(Problem::invalid("prompt", "`prompt` is empty"));
    }
    // Each prompt, once for each answer to it.
    let each = || prompts.iter().flat_map(|prompt| (0..n).map(move |answer| (prompt, answer as u64)));
    let wishes = each().map(|(prompt, answer)| Wish {
        request: Request {
            prompt: prompt.tokens.clone(),
            max_tokens: Some(max_tokens.max(1)),
            sampling: lm::sample::Settings { seed: settings.seed.wrapping_add(answer), ..settings.clone() },
            top: top.unwrap_or(0),
            echo: echo && top.is_some(),
            constraint: constraint.clone(),
            ignore_end: asked.ignore_eos.unwrap_or(false),
            adapter: None,
        },
        stops: stops.clone(),
        shown: Vec::new(),
    });
    let turns = each().map(|(prompt, _)| Turn::new(None, prompt.tokens.len(), top.is_some(), signals));
    let order = Order::place(ticket, lease, wishes.collect(), turns.collect(), "prompt").await?;
    let echoes = echo.then(|| {
        prompts.iter().map(|prompt| (prompt.text.clone(), prompt.tokens.first().copied())).collect()
    });
    let usage = asked.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
    let telling = Telling { answers: n, top, usage, echoes, silent: max_tokens == 0, offsets: Vec::new() };
    if asked.stream.unwrap_or(false) {
        return Ok(stream(order, telling));
    }
    Ok(Json(telling.whole(&order.collect().await?)).into_response())
}

/// How an order is told, whole or as it comes.
struct Telling {
    answers: usize,
    top: Option<usize>,
    /// Whether a last piece tells the tokens.
    usage: bool,
    /// Each prompt's text and first token, if they are repeated.
    echoes: Option<Vec<(String, Option<u32>)>>,
    /// The prompt alone is wanted; the one token that the engine writes is not told.
    silent: bool,
    /// Of a stream: where the text of each answer has got to, in characters.
    offsets: Vec<usize>,
}

impl Telling {
    fn envelope(&self, order: &Order, choices: Value) -> Value {
        json!({
            "id": format!("cmpl-{}", order.ticket.nonce),
            "object": "text_completion",
            "created": order.created(),
            "model": order.model(),
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }

    fn reason<'t>(&self, turn: &'t Turn) -> Option<&'t str> {
        turn.finish_reason().map(|reason| if self.silent { "length" } else { reason })
    }

    fn usage(&self, order: &Order) -> Value {
        let mut usage = order.usage(self.answers);
        if self.silent {
            usage["completion_tokens"] = json!(0);
            usage["total_tokens"] = usage["prompt_tokens"].clone();
        }
        usage
    }

    /// Text and log probabilities of the prompt that stands before an answer.
    fn echo(&self, order: &Order, index: usize, offset: &mut usize) -> (String, Value) {
        let Some(echoes) = &self.echoes else { return (String::new(), Value::Null) };
        let (text, first) = &echoes[index / self.answers];
        let tokenizer = &order.lease.loaded.model.tokenizer;
        let read = &order.turns[index].read;
        let logprobs = match self.top {
            Some(top) => logprobs::of_completion(tokenizer, *first, read, top, offset),
            None => Value::Null,
        };
        (text.clone(), logprobs)
    }

    fn whole(&self, order: &Order) -> Value {
        let tokenizer = &order.lease.loaded.model.tokenizer;
        let choices = order.turns.iter().enumerate().map(|(index, turn)| {
            let mut offset = 0;
            let (mut text, mut logprobs) = self.echo(order, index, &mut offset);
            if !self.silent {
                text.push_str(&turn.said.content);
                if let Some(top) = self.top {
                    let written = logprobs::of_completion(tokenizer, None, &turn.tokens, top, &mut offset);
                    logprobs = join(logprobs, written);
                }
            }
            json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": self.reason(turn) })
        });
        let mut whole = self.envelope(order, choices.collect());
        whole["usage"] = self.usage(order);
        whole["x_selvedge"] = extras::block(order);
        whole
    }

    fn chunk(&self, order: &Order, index: usize, text: &str, logprobs: Value, reason: Option<&str>) -> Value {
        let choice = json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": reason });
        let mut chunk = self.envelope(order, json!([choice]));
        if self.usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

/// Lists beside each other, one after the other.
fn join(first: Value, then: Value) -> Value {
    let (Value::Object(mut first), Value::Object(then)) = (first, then.clone()) else { return then };
    for (key, more) in then {
        match (first.get_mut(&key), more) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (_, more) => drop(first.insert(key, more)),
        }
    }
    Value::Object(first)
}

impl Scribe for Telling {
    fn begin(&mut self, order: &Order, _: &mut Frames) {
        self.offsets = vec![0; order.turns.len()];
    }

    fn heard(&mut self, order: &Order, heard: Heard, out: &mut Frames) {
        let Heard { choice, deltas, tokens, ended } = heard;
        let turn = &order.turns[choice];
        let mut offset = self.offsets[choice];
        // The prompt goes before the first word of its answer, when it has been read.
        if offset == 0 && self.echoes.is_some() && (ended || !deltas.is_empty() || !tokens.is_empty()) {
            let (text, logprobs) = self.echo(order, choice, &mut offset);
            offset = offset.max(1);
            out.data(&self.chunk(order, choice, &text, logprobs, None));
        }
        let mut text = String::new();
        deltas.into_iter().for_each(|delta| {
            if let Delta::Content(more) = delta {
                text.push_str(&more);
            }
        });
        if !self.silent && (!text.is_empty() || !tokens.is_empty() && self.top.is_some()) {
            let tokenizer = &order.lease.loaded.model.tokenizer;
            let logprobs = match self.top {
                Some(top) => logprobs::of_completion(tokenizer, None, &tokens, top, &mut offset),
                None => Value::Null,
            };
            out.data(&self.chunk(order, choice, &text, logprobs, None));
        }
        self.offsets[choice] = offset;
        if ended {
            let mut last = self.chunk(order, choice, "", Value::Null, self.reason(turn));
            if !self.usage && order.turns.iter().all(|turn| turn.finish.is_some()) {
                last["x_selvedge"] = extras::block(order);
            }
            out.data(&last);
        }
    }

    fn end(&mut self, order: &Order, out: &mut Frames) {
        if self.usage {
            let mut last = self.envelope(order, json!([]));
            last["usage"] = self.usage(order);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_text_or_tokens_one_or_many() {
        let len = |text: &str| json::<Prompts>(text.as_bytes()).map(|prompts| prompts.len());
        assert_eq!(len("\"x\"").unwrap(), 1);
        assert_eq!(len("[\"x\", \"y\"]").unwrap(), 2);
        assert_eq!(len("[1, 2, 3]").unwrap(), 1);
        assert_eq!(len("[[1], [2, 3]]").unwrap(), 2);
        for wrong in ["3", "{}", "[1, \"x\"]", "[-1]", "[[\"x\"]]"] {
            assert!(len(wrong).unwrap_err().message.contains("an array of tokens"), "{wrong}");
        }
    }

    #[test]
    fn lists_are_joined() {
        let (one, two) = (
            json!({ "tokens": ["a"], "top_logprobs": null }),
            json!({ "tokens": ["b"], "top_logprobs": null }),
        );
        assert_eq!(join(one, two.clone()), json!({ "tokens": ["a", "b"], "top_logprobs": null }));
        assert_eq!(join(Value::Null, two.clone()), two);
    }
}
