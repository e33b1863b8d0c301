//! How the API says no: a status, a word for programs, a sentence for people, and what to do about it.

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;
use wire::select::BadSelector;

use crate::depot::DepotError;
use crate::write::NotWritten;

/// What the API answers when it does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    retry_after_s: Option<u32>,
    /// The methods that the endpoint takes, if it is about them.
    allow: String,
    body: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RefusalWords)]
struct Why {
    /// A word for programs; it does not change.
    code: &'static str,
    /// What happened, for people.
    message: String,
    /// What to do.
    mend: &'static str,
    /// Where in an expression it is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<Span>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Span {
    /// Its first byte.
    pub from: usize,
    /// The first byte behind it.
    pub to: usize,
}

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: Why,
}

impl Refusal {
    /// A refusal that stays one until something changes.
    pub fn new(status: StatusCode, code: &'static str, message: String, mend: &'static str) -> Refusal {
        let body = Why { code, message, mend, span: None };
        Refusal { status, retry_after_s: None, allow: String::new(), body }
    }

    /// A request that makes no sense.
    pub fn bad_request(code: &'static str, message: String, mend: &'static str) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, code, message, mend)
    }

    /// An expression that cannot be read, with the place.
    pub fn bad_selector(bad: &BadSelector) -> Refusal {
        let mend = "write it such as: site == \"oslo\" && ram >= 2GiB";
        let mut refusal = Refusal::bad_request("bad-expression", bad.to_string(), mend);
        refusal.body.span = Some(Span { from: bad.at.start, to: bad.at.end });
        refusal
    }

    /// An endpoint that takes these methods, and not the one that was used.
    pub fn other_method(allow: String) -> Refusal {
        let message = "this endpoint does not take this method".to_owned();
        let mend = "the endpoints are listed at /api";
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", message, mend);
        Refusal { allow, ..refusal }
    }

    /// Something that is not there.
    pub fn not_found(message: String, mend: &'static str) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not-found", message, mend)
    }

    /// Try again after so many seconds.
    pub fn later(code: &'static str, message: String, seconds: u32) -> Refusal {
        let mend = "try again after the time in Retry-After; nothing was changed";
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, message, mend);
        Refusal { retry_after_s: Some(seconds), ..refusal }
    }

    /// The same, but it will pass by itself: ask again after so many seconds.
    #[must_use]
    pub fn passing(self, seconds: u32) -> Refusal {
        Refusal { retry_after_s: Some(seconds), ..self }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What happened, for people.
    pub fn message(&self) -> &str {
        &self.body.message
    }

    /// The body, where more is answered beside it.
    pub fn into_body(self) -> ErrorBody {
        ErrorBody { error: self.body }
    }

    /// What to do.
    pub fn mend(&self) -> &str {
        self.body.mend
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Refusal {
        tracing::error!(%error, "the store could not be read");
        Refusal::later("store", "the store could not be read; the hub's log says why".to_owned(), 5)
    }
}

impl From<DepotError> for Refusal {
    fn from(error: DepotError) -> Refusal {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, source, "the depot of packages failed");
        Refusal::later("depot", "the depot of packages failed; the hub's log says why".to_owned(), 5)
    }
}

/// For acts of people: what limits nodes does not concern them.
impl From<NotWritten> for Refusal {
    fn from(error: NotWritten) -> Refusal {
        match error {
            NotWritten::Busy | NotWritten::Stopping => Refusal::later("busy", error.to_string(), 2),
            NotWritten::Store | NotWritten::Full { .. } | NotWritten::OtherClass { .. } => {
                Refusal::later("store", "the store does not take it; the hub's log says why".to_owned(), 10)
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.body })).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = HeaderValue::from_str(&self.allow).ok().filter(|allow| !allow.is_empty()) {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        response
    }
}

/// How many stand on a page: as many as were asked for, from 1 to `most`; `usual` unless told.
pub fn page_size(asked: Option<u32>, usual: u32, most: u32) -> Result<u32, Refusal> {
    let asked = asked.unwrap_or(usual);
    if (1..=most).contains(&asked) {
        return Ok(asked);
    }
    let message = format!("{asked} at once are not answered: ask for 1 to {most}");
    Err(Refusal::bad_request("bad-query", message, "ask for a page after the other"))
}

/// The query string as `T`, refused in our own words.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Asked(asked)),
            Err(error) => {
                Err(Refusal::bad_request("bad-query", error.body_text(), "the parameters are listed at /api"))
            }
        }
    }
}
