//! Reads a span of time that has a least and a most.

use crate::config::quantity::duration_ms;

/// Reads it, in milliseconds.
pub(super) fn within(text: &str, least_ms: u64, most_ms: u64) -> Result<u64, String> {
    let ms = u64::try_from(duration_ms(text)?).unwrap_or_default();
    if (least_ms..=most_ms).contains(&ms) {
        return Ok(ms);
    }
    Err(format!("{text:?} is not from {} s to {} s", least_ms as f64 / 1e3, most_ms as f64 / 1e3))
}
