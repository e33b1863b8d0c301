//! Reads the flow again while the node runs: a good one takes the old one's place, a bad one is told of and changes nothing.
//!
//! It is a file's, unless one is given, as a release: then the file is not looked at until that is taken back.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use wire::body::PartChange;
use wire::hash::Hash;
use wire::id::PartName;

use super::shared::Shared;
use crate::config::part::Effective;
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
    /// What is declared of actuators. Their envelopes and their guard know it from the start on.
    actuators: Vec<Effective>,
    /// Sources that the data policy speaks of: by another name they would say what they may not.
    bound: Vec<PartName>,
    state: Mutex<State>,
}

struct State {
    digest: Hash,
    /// The file as it was read last, and as it was seen last.
    read: Option<Mark>,
    seen: Option<Mark>,
    /// What is read instead of the file.
    given: Option<Arc<str>>,
}

impl Reloader {
    /// For a node that runs `flow`.
    pub(super) fn new(
        flow: &Flow,
        params: Params,
        bound: Vec<PartName>,
        shared: Arc<Shared>,
        messenger: Messenger,
    ) -> Reloader {
        let file = flow.file.clone();
        let mark = mark(&file);
        let state = Mutex::new(State { digest: flow.digest, read: mark, seen: mark, given: None });
        Reloader { file, params, shared, messenger, actuators: actuators(flow), bound, state }
    }

    /// The node began with this text instead of the file's, if there is one.
    pub(super) fn with(self, given: Option<Arc<str>>) -> Reloader {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).given = given;
        self
    }

    /// Takes this text instead of the file's, or the file's again. If it is no good, what was read before stays.
    #[cfg_attr(not(feature = "packages"), expect(dead_code, reason = "it is the slots that give"))]
    pub(super) fn take(&self, text: Option<Arc<str>>) -> Reloaded {
        let locked = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut locked().given, text);
        let reloaded = self.reload();
        if let Reloaded::Refused(_) = reloaded {
            locked().given = before;
        }
        reloaded
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
            if !rests || now.is_none() || state.read == now || state.given.is_some() {
                return None;
            }
        }
        Some(self.reload())
    }

    /// Reads the file, or what is given instead.
    pub(super) fn reload(&self) -> Reloaded {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.read = mark(&self.file);
        state.seen = state.read;
        let read = match &state.given {
            Some(text) => Flow::parse_with(&self.file, Arc::clone(text), &self.params),
            None => Flow::load_with(&self.file, &self.params),
        };
        match read.and_then(|flow| flow.check_files().map(|()| flow)) {
            Ok(flow) if flow.digest == state.digest => {
                self.shared.status().flow_problem = None;
                Reloaded::Same
            }
            Ok(flow) if self.unbound(&flow).is_some() => {
                let source = self.unbound(&flow).map(PartName::as_str).unwrap_or_default();
                self.refuse(format!(
                    "the data policy speaks of `source.{source}`, which it has not: change node.toml, and start the node again"
                ))
            }
            Ok(flow) if actuators(&flow) != self.actuators => {
                self.refuse("its actuators are others, which takes a new start of the node".to_owned())
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
                self.refuse(format!("{first}{more}"))
            }
        }
    }

    /// A source that the data policy speaks of, and the flow has not.
    fn unbound(&self, flow: &Flow) -> Option<&PartName> {
        self.bound.iter().find(|bound| flow.sources.iter().all(|source| source.name != **bound))
    }

    fn refuse(&self, why: String) -> Reloaded {
        let reason = format!("{why}; the flow before goes on");
        tracing::error!(reason, "the flow was not taken");
        self.shared.status().flow_problem = Some(reason.clone());
        let (part, state) = ("flow".to_owned(), "failed".to_owned());
        self.messenger.tell(PartChange { part, state, reason: reason.clone() });
        Reloaded::Refused(reason)
    }
}

/// What a flow declares of actuators.
fn actuators(flow: &Flow) -> Vec<Effective> {
    flow.effective.iter().filter(|value| value.key.starts_with("actuator.")).cloned().collect()
}

fn mark(file: &std::path::Path) -> Option<Mark> {
    let data = std::fs::metadata(file).ok()?;
    Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}
