//! What every blocking source can do: bring readings.

use super::queue::{Inlet, Stopped};
use super::recording::RecordingError;
use crate::mqtt::LinkError;

/// Something that brings readings until it ends.
pub trait Source: Send {
    /// Brings readings. Returns why it came to its end, in words. Run again after an error, it goes on where it was.
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError>;
}

/// Why a source stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The node is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The file gives no readings.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] LinkError),
    /// Something outside does not work.
    #[error("{0}")]
    Outside(String),
    /// The system gives no sockets or threads.
    #[error("the system gives no room to wait for anything")]
    Runtime(#[source] std::io::Error),
}
