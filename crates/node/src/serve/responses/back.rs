//! What a response repeats of its request, as OpenAI's do.

use serde_json::Value;

/// What an answer tells back of its request.
#[derive(Clone)]
pub(super) struct Back {
    pub(super) instructions: Value,
    pub(super) tools: Value,
    pub(super) tool_choice: Value,
    pub(super) parallel: bool,
    pub(super) format: Value,
    pub(super) effort: Value,
    pub(super) max_output_tokens: Value,
    pub(super) temperature: Value,
    pub(super) top_p: Value,
    pub(super) top_logprobs: usize,
    pub(super) metadata: Value,
    pub(super) user: Value,
}
