//! Asks a language model of this machine to write a report in its own words, and believes it only as far as it keeps to the numbers.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use super::numbers::stranger;
use crate::why::why;

/// What is read of an answer.
const ANSWER_BYTES: usize = 256 << 10;
/// The longest text that is a report.
const TEXT_MAX_BYTES: usize = 4_000;
/// The most tokens that a model may use.
const TOKENS_MAX: u32 = 600;
/// What a model is told.
const TASK: &str = "You write the report of a shift for the people of the next one. You are given the facts. Retell them in plain, \
    short sentences, the most important first: what fired, what was done, what to look at. Use no number that is not in the facts, do not \
    reckon, and do not guess at causes. Write plain text without headings or lists, at most 150 words.";

/// Which model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterSettings {
    /// The address of an OpenAI-compatible server on this machine, `http://127.0.0.1:8384/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// It may take so long.
    pub timeout: Duration,
}

/// Has the facts retold. Blocks. The error says why what came is no report.
pub fn write(settings: &WriterSettings, facts: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let answer = runtime.block_on(ask(settings, facts))?;
    read(&answer, facts)
}

async fn ask(settings: &WriterSettings, facts: &str) -> Result<Vec<u8>, String> {
    let failed =
        |error: reqwest::Error| format!("the model {} cannot be asked: {}", settings.model, why(&error));
    let client = Client::builder()
        .timeout(settings.timeout)
        // Figures stay on this machine.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_certs_only([])
        .build()
        .map_err(failed)?;
    let body = json!({
        "model": settings.model,
        "messages": [{"role": "system", "content": TASK}, {"role": "user", "content": facts}],
        "temperature": 0,
        "seed": 0,
        "max_tokens": TOKENS_MAX,
    });
    let url = format!("{}/chat/completions", settings.url.trim_end_matches('/'));
    let post = client.post(url).header("content-type", "application/json").body(body.to_string());
    let mut answer = post.send().await.map_err(failed)?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES {
            return Err(format!("the model {} gave more than {ANSWER_BYTES} bytes", settings.model));
        }
        bytes.extend_from_slice(&chunk);
    }
    match status.is_success() {
        true => Ok(bytes),
        false => Err(format!("the model {} cannot be asked: its server answered {status}", settings.model)),
    }
}

/// What an answer says, if it is a report of the facts.
fn read(answer: &[u8], facts: &str) -> Result<String, String> {
    let answer: Value =
        serde_json::from_slice(answer).map_err(|_| "the model's answer is no JSON".to_owned())?;
    let choice = &answer["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap_or_default().trim();
    if text.is_empty() {
        return Err("the model said nothing".to_owned());
    }
    if choice["finish_reason"] != "stop" {
        return Err("the model did not come to an end".to_owned());
    }
    if text.len() > TEXT_MAX_BYTES || text.contains(|c: char| c.is_control() && c != '\n') {
        return Err(format!("the model's text has more than {TEXT_MAX_BYTES} bytes, or control characters"));
    }
    match stranger(text, facts) {
        Some(number) => Err(format!("the model stated {number:?}, which is no figure of the shift")),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_believed() {
        let facts = "The rule dry (warning) fired 2 times, 1 h 30 min in all.";
        let check = |answer: Value, expected: Result<&str, &str>| {
            let read = read(answer.to_string().as_bytes(), facts);
            match (&read, expected) {
                (Ok(text), Ok(expected)) => assert_eq!(text, expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                _ => panic!("{read:?}"),
            }
        };
        let says = |text: &str, end: &str| json!({"choices": [{"message": {"content": text}, "finish_reason": end}]});
        check(says(" It was dry twice.\n", "stop"), Ok("It was dry twice."));
        check(says("It was dry 3 times.", "stop"), Err("stated \"3\""));
        check(says("It was dry for ninety minutes, 90 of them.", "stop"), Err("stated \"90\""));
        check(says("It was dry tw", "length"), Err("did not come to an end"));
        check(says("  ", "stop"), Err("said nothing"));
        check(says("a\u{7}", "stop"), Err("control characters"));
        check(json!({"error": {}}), Err("said nothing"));
        assert!(super::read(b"<html>", facts).is_err());
    }
}
