//! The body of a request: read with limits, then as JSON whose mistakes are told with their place.

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::limits::{BODY_MAX_BYTES, BODY_TIMEOUT};
use super::problem::Problem;

/// Reads a body whole. `bodies` bounds how many are read at a time, and so the memory they take.
pub(super) async fn read(bodies: &Semaphore, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    check_form(headers)?;
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_MAX_BYTES as u64) {
        return Err(too_large());
    }
    let whole = timeout(BODY_TIMEOUT, async {
        let _permit = bodies.acquire().await;
        Limited::new(body, BODY_MAX_BYTES).collect().await
    });
    match whole.await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            let message = format!("the body ended early: {error}");
            Err(Problem::new(StatusCode::BAD_REQUEST, Some("body"), message).closing())
        }
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, Some("body"), message).closing())
        }
    }
}

fn too_large() -> Problem {
    let message = format!("a request may have {} MiB", BODY_MAX_BYTES >> 20);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Some("too_large"), message).closing()
}

fn check_form(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |message| {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("unsupported_media_type"), message)
            .closing())
    };
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return unsupported(format!("send the body as it is, without `Content-Encoding: {encoding:?}`"));
    }
    let content = headers.get(CONTENT_TYPE).map_or("application/json", |value| value.to_str().unwrap_or("?"));
    let kind = content.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind.as_str() {
        // The second is what `curl -d` sends when nobody tells it otherwise.
        "application/json" | "application/x-www-form-urlencoded" => Ok(()),
        other => unsupported(format!("send application/json, not {other:?}")),
    }
}

/// Reads JSON. What is no JSON is told with line and column, what is no such request with the field.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.is_data() {
            // A dot alone is the request as a whole.
            if path == "." {
                return Problem::new(StatusCode::BAD_REQUEST, Some("invalid_value"), error.to_string());
            }
            let message = format!("`{path}`: {error}");
            return Problem::invalid(path, message);
        }
        no_json(&error)
    })?;
    reader.end().map_err(|error| no_json(&error))?;
    Ok(value)
}

fn no_json(error: &serde_json::Error) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, Some("invalid_json"), format!("the body is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Asked {
        #[expect(dead_code, reason = "only read")]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "only read")]
        number: u8,
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, code, param, says) in [
            ("{\"list\": [\n  {\"number\": }]}", "invalid_json", None, "line 2 column 14"),
            ("{\"list\": [", "invalid_json", None, "EOF"),
            ("", "invalid_json", None, "line 1 column 0"),
            ("{\"list\": []} x", "invalid_json", None, "trailing"),
            (
                "{\"list\": [{\"number\": 1}, {\"number\": \"x\"}]}",
                "invalid_value",
                Some("list[1].number"),
                "expected u8",
            ),
            ("{\"list\": [{\"number\": 256}]}", "invalid_value", Some("list[0].number"), "256"),
            ("{}", "invalid_value", None, "missing field `list`"),
            ("[]", "invalid_value", None, "invalid length 0"),
        ] {
            let problem = json::<Asked>(text.as_bytes()).expect_err(text);
            assert_eq!(problem.code, Some(code), "{text}");
            assert_eq!(problem.param.as_deref(), param, "{text}");
            assert!(problem.message.contains(says), "{text}: {}", problem.message);
        }
        // Depth is bounded by the reader, not by the stack.
        let deep = format!("{{\"list\": {}", "[".repeat(100_000));
        assert_eq!(
            json::<serde_json::Value>(deep.as_bytes()).expect_err("too deep").code,
            Some("invalid_json")
        );
    }
}
