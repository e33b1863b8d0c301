//! What the page is written from.

use wire::world::WallMs;

use super::live::Live;
use crate::config::Config;
use crate::pressure::look::Seen;

/// What the page is written from.
pub struct Case<'a> {
    /// The node's settings.
    pub config: &'a Config,
    /// What the running node says of itself; `Err`: why it says nothing. `None`: it has no local API.
    pub live: Option<Result<Live, String>>,
    /// One look at the machine.
    pub seen: Seen,
    /// This machine's time.
    pub now_ms: WallMs,
}
