//! How much a caller may ask for. Everything that a stranger sends is bounded here, before it costs anything.

use std::time::Duration;

use super::problem::Problem;

/// The largest body, in bytes: a full context of any model here as text is well below.
pub(super) const BODY_MAX_BYTES: usize = 16 << 20;
/// Bodies read at a time; the next waits.
pub(super) const BODIES: usize = 16;
/// A body that takes longer to arrive is given up.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections served at a time.
pub(super) const CONNECTIONS: usize = 512;
/// Requests that are made ready at a time: templates, tokens and grammars keep a core busy.
pub(super) const PREPARING: usize = 4;

/// Messages of a chat.
pub(super) const MESSAGES: usize = 4_096;
/// Tools that a model may call.
pub(super) const TOOLS: usize = 128;
/// Bytes of one tool's schema, or of a response format's.
pub(super) const SCHEMA_BYTES: usize = 256 << 10;
/// Answers to one prompt.
pub(super) const ANSWERS: usize = 16;
/// Prompts of one completion request.
pub(super) const PROMPTS: usize = 64;
/// Texts of one embedding request, as OpenAI's.
pub(super) const INPUTS: usize = 2_048;
/// Stop strings (OpenAI's own limit is 4).
pub(super) const STOPS: usize = 16;
/// Bytes of a stop string.
pub(super) const STOP_BYTES: usize = 512;
/// Most probable tokens told beside each written one.
pub(super) const TOP: u32 = 20;
/// Tokens whose logits may be changed.
pub(super) const BIASES: usize = 1_024;

/// Refuses a list that is too long.
pub(super) fn at_most(param: &'static str, len: usize, max: usize) -> Result<(), Problem> {
    if len <= max {
        return Ok(());
    }
    Err(Problem::invalid(param, format!("`{param}` has {len} entries, and may have {max}")))
}
