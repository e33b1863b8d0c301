//! Reads llama.cpp's grammars.
use thiserror::Error;
/// Why
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum GbnfError {
    #[error("line {line}: {reason}")]
    Wrong { line: usize, reason: String },
    #[error("line {line}: {what}")]
    Unsupported { line: usize, what: String },
    #[error("{reason}")]
    TooLarge { reason: String },
}
pub(super) fn to_lark(text: &str) -> Result<String, GbnfError> {
    Ok(text.to_string())
}
