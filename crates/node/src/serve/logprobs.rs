//! Log probabilities as OpenAI tells them, in the shape of chat and in the older one of completions.

use lm::sample::Chosen;
use lm::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::limits::TOP;
use super::problem::Problem;

/// What stands for a token that the model thinks impossible: JSON has no minus infinity.
const IMPOSSIBLE: f64 = -9_999.0;

/// What a request wants to hear: `None`: nothing; else that, and so many of the most probable tokens.
pub(super) fn wanted(logprobs: Option<bool>, top: Option<u32>) -> Result<Option<usize>, Problem> {
    match (logprobs.unwrap_or(false), top) {
        (true, top) => Ok(Some(bounded(top.unwrap_or(0), "top_logprobs")?)),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            Err(Problem::invalid("top_logprobs", "`top_logprobs` needs `logprobs` to be true"))
        }
    }
}

/// A count of most probable tokens, checked.
pub(super) fn bounded(top: u32, param: &'static str) -> Result<usize, Problem> {
    if top <= TOP {
        return Ok(top as usize);
    }
    Err(Problem::invalid(param, format!("`{param}` is {top}, and may be {TOP}")))
}

fn number(logprob: f32) -> Value {
    json!(f64::from(logprob).max(IMPOSSIBLE))
}

/// A token's text; what is no whole character by its bytes, as OpenAI writes it, so that no two are the same:
/// `bytes:\xe2\x80`. And how many characters it takes in the text.
fn text(tokenizer: &Tokenizer, token: u32) -> (String, usize) {
    let bytes = tokenizer.bytes_of(token);
    match std::str::from_utf8(&bytes) {
        Ok(text) => (text.to_owned(), text.chars().count()),
        Err(_) => {
            let shown =
                bytes.iter().fold("bytes:".to_owned(), |shown, byte| shown + &format!("\\x{byte:02x}"));
            (shown, String::from_utf8_lossy(&bytes).chars().count())
        }
    }
}

/// One entry a token, as chat tells it.
pub(super) fn entries(tokenizer: &Tokenizer, tokens: &[Chosen]) -> Value {
    let one = |token: u32, logprob: f32| {
        let bytes = tokenizer.bytes_of(token);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        json!({ "token": text, "logprob": number(logprob), "bytes": bytes.to_vec() })
    };
    let entries = tokens.iter().map(|chosen| {
        let mut entry = one(chosen.token, chosen.signal.logprob);
        entry["top_logprobs"] = chosen.top.iter().map(|(token, logprob)| one(*token, *logprob)).collect();
        entry
    });
    Value::Array(entries.collect())
}

/// `logprobs` of a chat choice.
pub(super) fn of_chat(tokenizer: &Tokenizer, tokens: &[Chosen]) -> Value {
    json!({ "content": entries(tokenizer, tokens), "refusal": null })
}

/// The older shape: lists beside each other. `offset`: where the first token's text begins, in characters; it is moved
/// past the last. A first token without anything before it, as in an echoed prompt, is `first`.
pub(super) fn of_completion(
    tokenizer: &Tokenizer,
    first: Option<u32>,
    tokens: &[Chosen],
    top: usize,
    offset: &mut usize,
) -> Value {
    let (mut texts, mut logprobs, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut add = |token: u32, logprob: Value, most: Value| {
        let (text, characters) = text(tokenizer, token);
        offsets.push(*offset);
        *offset += characters;
        texts.push(text);
        logprobs.push(logprob);
        tops.push(most);
    };
    if let Some(token) = first {
        add(token, Value::Null, Value::Null);
    }
    for chosen in tokens {
        let most = chosen.top.iter().map(|(token, logprob)| (text(tokenizer, *token).0, number(*logprob)));
        add(chosen.token, number(chosen.signal.logprob), Value::Object(most.collect::<Map<_, _>>()));
    }
    let tops = if top > 0 { Value::Array(tops) } else { Value::Null };
    json!({ "tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets })
}
