//! What a caller is told when something is wrong: OpenAI's error envelope, whatever went wrong and wherever.
//!
//! `{"error": {"message", "type", "param", "code"}}` with the status that makes OpenAI's clients raise the exception
//! that fits. A message says what happened and what to do; it never repeats what the caller sent at length.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::guard::Stranger;

/// Something that a caller is told instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: Option<&'static str>,
    /// The field of the request, as a path such as `messages[3].content`.
    pub(super) param: Option<Cow<'static, str>>,
    pub(super) message: String,
    retry_after_s: Option<u32>,
    close: bool,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Problem {
        Problem { status, code, param: None, message: message.into(), retry_after_s: None, close: false }
    }

    /// The request cannot be answered as it is, for what stands in `param`.
    pub(super) fn invalid(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Problem {
        let problem = Problem::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message);
        Problem { param: Some(param.into()), ..problem }
    }

    /// The request asks for what is not done here.
    pub(super) fn unsupported(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Problem {
        let problem = Problem::new(StatusCode::BAD_REQUEST, Some("unsupported_parameter"), message);
        Problem { param: Some(param.into()), ..problem }
    }

    /// Prompt and answer are longer than the context. Nothing is cut off in silence.
    pub(super) fn too_long(param: &'static str, message: impl Into<String>) -> Problem {
        let problem = Problem::new(StatusCode::BAD_REQUEST, Some("context_length_exceeded"), message);
        Problem { param: Some(param.into()), ..problem }
    }

    /// There is no such model.
    pub(super) fn no_model(message: impl Into<String>) -> Problem {
        let problem = Problem::new(StatusCode::NOT_FOUND, Some("model_not_found"), message);
        Problem { param: Some("model".into()), ..problem }
    }

    /// There is nothing at this path.
    pub(super) fn nothing_here(path: &str) -> Problem {
        // A path is at most a header long, and a message needs but its beginning.
        let path: String = path.chars().take(200).collect();
        Problem::new(StatusCode::NOT_FOUND, Some("unknown_url"), format!("there is nothing at {path}"))
    }

    /// Too many wait already.
    pub(super) fn queue_full(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, Some("queue_full"), message).again_in(1)
    }

    /// Not now.
    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, Some(code), message)
    }

    /// Our own fault.
    pub(super) fn internal(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Some("internal_error"), message)
    }

    /// The server ends before the answer does.
    pub(super) fn shutting_down() -> Problem {
        Problem::unavailable("shutting_down", "the server is shutting down").again_in(5)
    }

    /// Says when to come again.
    pub(super) fn again_in(self, seconds: u32) -> Problem {
        Problem { retry_after_s: Some(seconds), ..self }
    }

    /// The connection is closed after it: the rest of the body is not read.
    pub(super) fn closing(self) -> Problem {
        Problem { close: true, ..self }
    }

    /// Beside a field of the request.
    pub(super) fn at(self, param: impl Into<Cow<'static, str>>) -> Problem {
        Problem { param: Some(param.into()), ..self }
    }

    /// With a code that says it better.
    pub(super) fn coded(self, code: &'static str) -> Problem {
        Problem { code: Some(code), ..self }
    }

    /// What OpenAI calls the kind of an error.
    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::FORBIDDEN => "permission_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The inside of the envelope.
    pub(super) fn body(&self) -> Value {
        json!({ "message": self.message, "type": self.kind(), "param": self.param, "code": self.code })
    }

    /// The envelope, as a stream's last event tells it.
    pub(super) fn envelope(&self) -> Value {
        json!({ "error": self.body() })
    }
}

impl From<Stranger> for Problem {
    fn from(stranger: Stranger) -> Problem {
        match stranger {
            Stranger::Host(host) => {
                let message = format!(
                    "this server does not answer to the host {host:?}; let it in by name (`--allow-host`) if it is yours"
                );
                Problem::new(StatusCode::FORBIDDEN, Some("unknown_host"), message)
            }
            Stranger::Origin(origin) => {
                let message = format!(
                    "pages of {origin:?} may not ask this server; let them in by name (`--allow-origin`) if they are yours"
                );
                Problem::new(StatusCode::FORBIDDEN, Some("foreign_origin"), message)
            }
            Stranger::Token => {
                let message = "send the server's API key as `Authorization: Bearer …`";
                Problem::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.envelope())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_the_status_and_kind_that_clients_tell_apart() {
        for (problem, status, kind) in [
            (Problem::invalid("n", "x"), 400, "invalid_request_error"),
            (Problem::too_long("messages", "x"), 400, "invalid_request_error"),
            (Problem::from(Stranger::Token), 401, "invalid_request_error"),
            (Problem::from(Stranger::Host("x".to_owned())), 403, "permission_error"),
            (Problem::no_model("x"), 404, "invalid_request_error"),
            (Problem::queue_full("x"), 429, "rate_limit_error"),
            (Problem::internal("x"), 500, "server_error"),
            (Problem::shutting_down(), 503, "server_error"),
        ] {
            let body = problem.envelope();
            assert_eq!(body["error"]["type"], kind, "{body}");
            assert_eq!(problem.into_response().status().as_u16(), status, "{body}");
        }
    }

    #[test]
    fn who_comes_too_early_is_told_when_to_come_again() {
        let full = Problem::queue_full("x").into_response();
        assert_eq!(full.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes), Some(&b"1"[..]));
        let bad = Problem::invalid("n", "x").closing().into_response();
        assert_eq!(bad.headers().get(RETRY_AFTER), None);
        assert_eq!(bad.headers().get(CONNECTION).map(HeaderValue::as_bytes), Some(&b"close"[..]));
    }
}
