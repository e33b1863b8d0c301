//! What a network of a file takes of memory, measured: it is loaded, looks at nothing once, and the process has grown by so much.
//!
//! For whoever wants to know before the flow runs. What a release takes is measured by the process that proves it.

use super::{NetworkConfig, NetworkError, Watcher};
use crate::status::rss_bytes;

/// A network that was loaded to see what it takes. It keeps that, so that what the next one takes is the next one's own.
#[derive(Debug)]
pub struct Measured {
    /// By so many bytes the process has grown; `None`: the system does not tell.
    pub grown_bytes: Option<u64>,
    _watcher: Watcher,
}

/// Loads a network for a source with so many channels. Whatever else grows in this process meanwhile is counted, too.
pub fn measure(config: &NetworkConfig, channels: usize) -> Result<Measured, NetworkError> {
    let before_bytes = rss_bytes();
    let mut watcher = Watcher::new(config.clone());
    watcher.open(channels, 0)?;
    let grown_bytes = rss_bytes().zip(before_bytes).map(|(now, before)| now.saturating_sub(before));
    Ok(Measured { grown_bytes, _watcher: watcher })
}
