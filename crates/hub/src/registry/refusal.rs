//! How the registry says no: in the words of OCI distribution, which its clients know.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use package::registry::{Code, RegistryErrors, WordError};

use crate::depot::DepotError;
use crate::inflow::Broken;

/// A request that is not done.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    code: Code,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refused {
    /// For one reason, told in a sentence that says what to do.
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Refused {
        Refused { status, code, message: message.into(), headers: Vec::new() }
    }

    /// A request that makes no sense.
    pub fn bad(code: Code, message: impl Into<String>) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Something that is not there.
    pub fn unknown(code: Code, message: impl Into<String>) -> Refused {
        Refused::new(StatusCode::NOT_FOUND, code, message)
    }

    /// Again after so many seconds.
    pub fn later(message: impl Into<String>, seconds: u32) -> Refused {
        let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, message);
        refused.with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Something that registries may do and this one does not.
    pub fn unsupported() -> Refused {
        let message = "this registry does not do that; what lies here is not deleted over the network";
        Refused::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message)
    }

    /// The disk is full, or broken.
    pub fn disk(error: &std::io::Error) -> Refused {
        tracing::error!(%error, "an upload could not be kept");
        let message = "the hub could not keep what came; its log says why";
        Refused::new(StatusCode::INSUFFICIENT_STORAGE, Code::Denied, message)
    }

    /// With one header more.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Refused {
        self.headers.push((name, value));
        self
    }
}

impl From<WordError> for Refused {
    fn from(error: WordError) -> Refused {
        let code = match error {
            WordError::Repo { .. } | WordError::Address { .. } => Code::NameInvalid,
            WordError::Tag { .. } => Code::ManifestInvalid,
            WordError::Digest(_) => Code::DigestInvalid,
        };
        Refused::bad(code, error.to_string())
    }
}

impl From<DepotError> for Refused {
    fn from(error: DepotError) -> Refused {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, source, "the depot of packages failed");
        let message = "the depot of packages failed; the hub's log says why";
        let refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unknown, message);
        refused.with(header::RETRY_AFTER, HeaderValue::from(5))
    }
}

impl From<Broken> for Refused {
    fn from(broken: Broken) -> Refused {
        let (status, code) = match broken {
            Broken::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            Broken::Idle => (StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid),
            Broken::Cut => (StatusCode::BAD_REQUEST, Code::BlobUploadInvalid),
        };
        Refused::new(status, code, broken.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = Json(RegistryErrors::one(self.code, self.message));
        let mut response = (self.status, body).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
