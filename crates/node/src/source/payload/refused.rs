//! Why a payload was refused.

/// A payload that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPayload(pub String);

pub(super) fn bad(why: impl Into<String>) -> BadPayload {
    BadPayload(why.into())
}
