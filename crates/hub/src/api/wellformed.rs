//! What every request must be like before a handler sees it: text that every database can keep, and JSON where JSON is
//! taken. So no handler asks again.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::api::refusal::Refusal;

/// The one endpoint of the API whose bodies are no JSON.
const RECORDS: &str = "/api/v1/records";

/// Lets a request on if its words can be read.
pub async fn check(request: Request, next: Next) -> Response {
    match look(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn look(request: &Request) -> Result<(), Refusal> {
    let (uri, path) = (request.uri(), request.uri().path());
    if !is_text(path) || !is_text(uri.query().unwrap_or_default()) {
        let message = "the address is not UTF-8, or has a NUL character".to_owned();
        return Err(Refusal::bad_request("bad-text", message, "write it as UTF-8, without NUL"));
    }
    let writes = matches!(*request.method(), Method::POST | Method::PUT);
    if writes && path.starts_with("/api/v1/") && path != RECORDS && !may_be_json(request.headers()) {
        let message = "the content type is not application/json".to_owned();
        let (status, mend) =
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON, and say `Content-Type: application/json`");
        return Err(Refusal::new(status, "content-type", message, mend));
    }
    Ok(())
}

/// Whether the body is JSON by its content type, or nothing is said of it.
fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(said) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = said.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Whether a part of an address is UTF-8 without NUL once its `%` are read. What is no hexadecimal number stands for itself.
fn is_text(part: &str) -> bool {
    let (mut bytes, mut rest) = (Vec::with_capacity(part.len()), part.as_bytes());
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|two| str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        rest = if byte.is_some() { &after[2..] } else { after };
        bytes.push(byte.unwrap_or(*first));
    }
    !bytes.contains(&0) && str::from_utf8(&bytes).is_ok()
}

/// Whether a text of this JSON has a NUL character, which not every database keeps.
pub fn has_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at + 1..];
        if escape.starts_with(b"u0000") {
            return true;
        }
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_text() {
        for (part, good) in [
            ("/api/v1/nodes/a%20b", true),
            ("/%C3%A9", true),
            ("where=100%", true),
            ("where=%+1%zz", true),
            ("/%ff", false),
            ("/a%00", false),
            ("a=%C3", false),
        ] {
            assert_eq!(is_text(part), good, "{part}");
        }
    }

    #[test]
    fn nul_is_found_where_it_is_one() {
        for (json, found) in [
            (r#"{"a":"\u0000"}"#, true),
            (r#"{"a":"\\\u0000"}"#, true),
            (r#"{"a":"\\u0000"}"#, false),
            (r#""\u00001""#, true),
            (r#""\u0001""#, false),
            ("\"\\", false),
        ] {
            assert_eq!(has_nul(json.as_bytes()), found, "{json}");
        }
    }
}
