//! What every blocking source can do: bring readings.

use std::future::Future;

use super::queue::{Inlet, Stopped};
use super::recording::RecordingError;
use crate::mqtt::LinkError;

/// Something that brings readings until it ends.
pub trait Source: Send {
    /// Brings readings. Returns why it came to its end, in words. Run again after an error, it goes on where it was.
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError>;

    /// The node stops, or goes on without it: what it owes for the readings that it brought is done before it goes.
    fn leave(&mut self, _inlet: &mut Inlet) {}
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
    #[error("the system gives it no thread or socket: look at the limits on tasks and open files")]
    Runtime(#[source] std::io::Error),
}

/// Does what waits for something outside, on the thread of its source.
pub fn wait_for<T>(work: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SourceError::Runtime)?;
    runtime.block_on(work)
}
