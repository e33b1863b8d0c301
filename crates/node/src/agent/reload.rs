//! Reads the flow again while the node runs: a good file takes the old one's place, a bad one is told of and changes nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use wire::body::PartChange;
use wire::hash::Hash;

use super::shared::Shared;
use crate::flow::Flow;
use crate::flow::params::Params;
use crate::source::queue::Messenger;

/// Which state of a file it is: its number, length, and time of change.
type Mark = (u64, u64, i64, i64);

/// What came of reading the flow again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// It says what it said.
    Same,
    /// It takes the old one's place in a moment.
    Taken,
    /// It is no good, for this; the old one goes on.
    Refused(String),
}

/// Knows where the flow is.
pub(super) struct Reloader {
    file: PathBuf,
    params: Params,
    shared: Arc<Shared>,
    messenger: Messenger,
    state: Mutex<State>,
}

struct State {
    digest: Hash,
    /// The file as it was read last, and as it was seen last.
    read: Option<Mark>,
    seen: Option<Mark>,
}

impl Reloader {
    /// For a node that runs `flow`.
    pub(super) fn new(flow: &Flow, params: Params, shared: Arc<Shared>, messenger: Messenger) -> Reloader {
        let file = flow.file.clone();
        let mark = mark(&file);
        let state = Mutex::new(State { digest: flow.digest, read: mark, seen: mark });
        Reloader { file, params, shared, messenger, state }
    }

    /// Reads the file if it has changed since it was read last, and has come to rest: a file that is still being written is
    /// another at each look.
    pub(super) fn look(&self) -> Option<Reloaded> {
        let now = mark(&self.file);
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let rests = state.seen == now;
            state.seen = now;
            // A file that is gone for a moment is about to be replaced.
            if !rests || now.is_none() || state.read == now {
                return None;
            }
        }
        Some(self.reload())
    }

    /// Reads the file.
    pub(super) fn reload(&self) -> Reloaded {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.read = mark(&self.file);
        state.seen = state.read;
        let read = Flow::load_with(&self.file, &self.params);
        match read.and_then(|flow| flow.check_files().map(|()| flow)) {
            Ok(flow) if flow.digest == state.digest => {
                self.shared.status().flow_problem = None;
                Reloaded::Same
            }
            Ok(flow) => {
                state.digest = flow.digest;
                self.shared.next_flow(flow);
                self.messenger.wake();
                Reloaded::Taken
            }
            Err(problems) => {
                let more = problems.0.len() - 1;
                let first = problems.0.first().map(ToString::to_string).unwrap_or_default();
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                let reason = format!("{first}{more}; the flow before goes on");
                tracing::error!(reason, "the flow was not taken");
                self.shared.status().flow_problem = Some(reason.clone());
                let (part, state) = ("flow".to_owned(), "failed".to_owned());
                self.messenger.tell(PartChange { part, state, reason: reason.clone() });
                Reloaded::Refused(reason)
            }
        }
    }
}

fn mark(file: &std::path::Path) -> Option<Mark> {
    let data = std::fs::metadata(file).ok()?;
    Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}
