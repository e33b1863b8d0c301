//! `POST /v1/embeddings`: texts to vectors of length 1.
//!
//! A text that is longer than the model's context is refused, never cut. `dimensions` is honoured only where it is the
//! model's own: cutting a vector short is meaningful only for models trained for it, and a file does not say so.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lm::shape::Pooling;
use lm::tokenizer::special::Special;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::Extras;
use super::body::json;
use super::engine;
use super::limits::{INPUTS, at_most};
use super::load::Loaded;
use super::problem::Problem;
use super::state::State;

#[derive(Deserialize)]
struct Asked {
    model: Option<String>,
    input: Option<Inputs>,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
    x_selvedge: Option<Extras>,
}

/// A text or several, as text or as tokens.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a string, an array of strings, an array of tokens, or an array of arrays of tokens"
)]
enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl Inputs {
    fn len(&self) -> usize {
        match self {
            Inputs::Text(_) | Inputs::Tokens(_) => 1,
            Inputs::Texts(texts) => texts.len(),
            Inputs::ManyTokens(many) => many.len(),
        }
    }

    /// Each as tokens that the model knows, none too long. Keeps a core busy.
    fn read(self, loaded: &Loaded) -> Result<Vec<Vec<u32>>, Problem> {
        let encode = |text: String| loaded.model.tokenizer.encode_for_model(&text, Special::Plain);
        let sentences = match self {
            Inputs::Text(text) => vec![encode(text)],
            Inputs::Texts(texts) => texts.into_iter().map(encode).collect(),
            Inputs::Tokens(tokens) => vec![tokens],
            Inputs::ManyTokens(many) => many,
        };
        let vocabulary = loaded.model.network.shape().vocabulary;
        for (index, sentence) in sentences.iter().enumerate() {
            let at = |problem: Problem| problem.at(format!("input[{index}]"));
            if sentence.is_empty() {
                return Err(at(Problem::invalid("input", "the text has no tokens")));
            }
            if sentence.len() > loaded.context {
                let (len, context) = (sentence.len(), loaded.context);
                let message =
                    format!("the text has {len} tokens, more than the {context} of the model's context");
                return Err(Problem::too_long("input", message));
            }
            if let Some(token) = sentence.iter().find(|token| **token as usize >= vocabulary) {
                let message = format!("the token {token} is not in the vocabulary of {vocabulary}");
                return Err(at(Problem::invalid("input", message)));
            }
        }
        Ok(sentences)
    }
}

/// How tokens become one vector: as the model was trained to, or as the request says.
fn pooling(loaded: &Loaded, wanted: Option<&str>) -> Result<Pooling, Problem> {
    match wanted {
        Some("mean") => return Ok(Pooling::Mean),
        Some("first" | "cls") => return Ok(Pooling::First),
        Some("last") => return Ok(Pooling::Last),
        Some(_) => return Err(Problem::invalid("x_selvedge.pooling", "`pooling` is mean, first or last")),
        None => {}
    }
    loaded.model.network.shape().pooling.ok_or_else(|| {
        let message = "the model writes text and was not trained to give embeddings; to have its states anyway say how they \
                       become one vector: `\"x_selvedge\": {\"pooling\": \"mean\"}` (or first, or last)";
        Problem::invalid("model", message)
    })
}

pub(super) async fn answer(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let asked: Asked = json(&state.read(&headers, body).await?)?;
    let inputs = asked.input.ok_or_else(|| Problem::invalid("input", "`input` is missing"))?;
    at_most("input", inputs.len(), INPUTS)?;
    if inputs.len() == 0 {
        return Err(Problem::invalid("input", "`input` is empty"));
    }
    let base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Problem::invalid("encoding_format", "`encoding_format` is float or base64")),
    };
    let lease = state.models.lease(asked.model.as_deref().unwrap_or("")).await?;
    let wanted = asked.x_selvedge.and_then(|extras| extras.pooling);
    let pooling = pooling(&lease.loaded, wanted.as_deref())?;
    let width = lease.loaded.model.network.shape().width;
    if asked.dimensions.is_some_and(|dimensions| dimensions != width) {
        let message = format!("the model gives {width} numbers, and was not trained to be cut to fewer");
        return Err(Problem::unsupported("dimensions", message));
    }
    let begun_ns = (state.now)();
    let loaded = Arc::clone(&lease.loaded);
    let sentences = state.prepare(move || inputs.read(&loaded)).await?;
    let tokens: usize = sentences.iter().map(Vec::len).sum();
    let vectors = engine::vectors(&lease.commands, sentences, pooling).await;
    let vectors = vectors
        .ok_or_else(|| {
            Problem::unavailable("model_unloaded", "the model was unloaded before the answer was there")
                .again_in(1)
        })?
        .map_err(|reason| Problem::internal(format!("the texts could not be embedded: {reason}")))?;
    let took_ns = (state.now)().saturating_sub(begun_ns);
    let data = vectors.into_iter().enumerate().map(|(index, vector)| {
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Value::String(STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let answer = json!({
        "object": "list",
        "data": data.collect::<Value>(),
        "model": lease.loaded.offer.name,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        "x_selvedge": {
            "ran": "local",
            "model": lease.loaded.named(),
            "pooling": match pooling { Pooling::Mean => "mean", Pooling::First => "first", Pooling::Last => "last" },
            "took_ms": took_ns as f64 / 1e6,
        },
    });
    Ok(Json(answer).into_response())
}
