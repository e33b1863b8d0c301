//! Readings as a body brings them, before their channels are put in order, and why a body is refused.

use std::collections::BTreeSet;

use wire::world::WallMs;

use crate::source::csv::MAX_COLUMNS;
use crate::source::queue::NotTaken;

/// The most readings in one body.
pub const MAX_READINGS: usize = 10_000;
/// The most values (readings × channels) in one body: 2 MiB of numbers.
pub const MAX_VALUES: usize = 1 << 18;
/// All names of a source together, in bytes: as JSON they fit into the pipeline's limit, whatever must be escaped.
const NAMES_MAX_BYTES: usize = 22 * 1024;
/// The longest name of a channel, in bytes.
const NAME_MAX_BYTES: usize = 256;

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be understood.
    #[error("{place}: {reason}")]
    Bad {
        /// `line 3`, `reading 17`.
        place: String,
        /// Why.
        reason: String,
    },
    /// More readings or values than one body may have.
    #[error("a body may have {MAX_READINGS} readings and {MAX_VALUES} values: send several")]
    TooLarge,
    /// Not now.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
}

/// One reading as brought, before its channels are put in order.
#[derive(Debug, Default, PartialEq)]
pub struct Brought {
    /// Where it stands: `line 3`, `reading 17`.
    pub place: String,
    /// Its time; absent: now.
    pub t_ms: Option<WallMs>,
    /// By channel, in the order of the body.
    pub values: Vec<(String, f64)>,
}

/// A refusal at a place.
pub(super) fn bad(place: &str, reason: impl Into<String>) -> Refusal {
    Refusal::Bad { place: place.to_owned(), reason: reason.into() }
}

/// Refuses what cannot be a reading's channels.
pub(in crate::source) fn check_channels(place: &str, values: &[(String, f64)]) -> Result<(), Refusal> {
    if values.is_empty() {
        return Err(bad(place, "it has no values"));
    }
    if values.len() > MAX_COLUMNS {
        return Err(bad(place, format!("it has more than {MAX_COLUMNS} channels")));
    }
    let mut seen = BTreeSet::new();
    if let Some((double, _)) = values.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(bad(place, format!("`{double}` stands there twice")));
    }
    let names_bytes: usize = values.iter().map(|(name, _)| name.len()).sum();
    if names_bytes > NAMES_MAX_BYTES {
        return Err(bad(
            place,
            format!("the names of its channels have more than {NAMES_MAX_BYTES} bytes together"),
        ));
    }
    for (name, _) in values {
        if name.is_empty() || name.len() > NAME_MAX_BYTES || name.chars().any(char::is_control) {
            let shown: String = name.chars().take(30).collect();
            let reason =
                format!("a channel has 1 to {NAME_MAX_BYTES} bytes of plain text as its name, not {shown:?}");
            return Err(bad(place, reason));
        }
    }
    Ok(())
}
