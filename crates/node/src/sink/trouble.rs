//! Why a sink stopped before the node did.

use package::disk::FileError;

use crate::journal::DatabaseError;
use crate::mqtt::LinkError;

/// A sink that does not get on. It is tried again, from where its cursor stands.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The journal cannot be read.
    #[error("the journal cannot be read")]
    Journal(#[from] DatabaseError),
    /// The cursor cannot be kept.
    #[error("how far it has sent cannot be written down")]
    Cursor(#[from] FileError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] LinkError),
    /// A file it writes.
    #[error("{} cannot be written", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Whoever it sends to.
    #[error("{0}")]
    Outside(String),
    /// Whoever it sends to asks to be left alone for a while.
    #[error("{why}; it asks to be left alone for {seconds} s")]
    Later {
        /// What it said.
        why: String,
        /// For so long.
        seconds: u64,
    },
    /// The system gives no sockets or threads.
    #[error("the system gives it no thread or socket: look at the limits on tasks and open files")]
    Runtime(#[source] std::io::Error),
}
