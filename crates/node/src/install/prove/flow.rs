//! Proves a flow: its text is read as the node reads it, and its own tests are played.

use std::path::Path;

use lm::memory::machine::peak_bytes;
use package::manifest::Manifest;
use package::media;
use package::requirement::Kind;
use wire::world::Clock;

use super::answers::{Answers, ms_since};
use crate::flow::Flow;
use crate::play::rehearse::rehearse;

/// Whether a manifest is that of a flow.
pub fn is_one(manifest: &Manifest) -> bool {
    manifest.annotation(media::KIND).is_some_and(|word| Kind::of_word(word) == Kind::Flow)
}

/// Reads a flow from bytes that were checked, and plays its tests; the error says what is wrong.
pub(super) fn answers(bytes: &[u8], clock: &dyn Clock) -> Result<Answers, String> {
    let now_ns = || clock.mono_ns();
    let begun_ns = clock.mono_ns();
    let text = std::str::from_utf8(bytes).map_err(|_| "its flow is no text".to_owned())?;
    let flow = Flow::parse(Path::new("flow.toml"), text.into()).map_err(|problems| problems.to_string())?;
    rehearse(&flow).map_err(|problems| problems.to_string())?;
    let load_ms = ms_since(&now_ns, begun_ns);
    let rss_bytes = peak_bytes();
    Ok(Answers { answers: Vec::new(), load_ms, answer_ms: Vec::new(), rss_bytes, own_bytes: None })
}
