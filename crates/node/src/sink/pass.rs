//! What every sink can do: pass records on.

use super::feed::Feed;
use super::trouble::SinkError;

/// Something that records are passed on to.
pub trait Sink: Send {
    /// Passes on what the feed gives, until the node stops. Run again after an error, it goes on where the cursor stands.
    fn run(&mut self, feed: &mut Feed) -> Result<(), SinkError>;
}
