//! The door for people on this machine: what `selvedge slots`, `install` and `rollback` ask a running node.
//!
//! A Unix socket in the data folder, so whoever may write there may ask, and nobody else. One line of JSON each way,
//! [`Ask`] and [`Answer`]. The node's end is `agent::install::door`.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use package::digest::Digest;
use package::name::ModelName;
use serde::{Deserialize, Serialize};

use crate::install::state::Kept;

/// The most bytes of a line.
pub const LINE_MAX_BYTES: u64 = 4 << 20;

/// How long an answer may take: trust is brought up to date first, perhaps from a far hub.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a person asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// How the slots are.
    Slots,
    /// Bring trust and assignments up to date, also from a stick, and follow them.
    Refresh {
        /// A package with metadata, or a folder; absolute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<PathBuf>,
    },
    /// Install a release that the trusted targets list, from wherever it is, or from a stick.
    Install {
        /// The model.
        model: ModelName,
        /// The release; the highest that is listed if absent.
        #[serde(default)]
        release: Option<u64>,
        /// A package, or a folder with some; absolute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<PathBuf>,
        /// Whether it may be older than the current one.
        #[serde(default)]
        allow_rollback: bool,
    },
    /// Take the previous model back.
    RollBack {
        /// Whose.
        model: ModelName,
    },
    /// Load the current model again.
    LeaveSafe {
        /// Whose.
        model: ModelName,
    },
    /// Lift a refusal.
    Forgive {
        /// Whose.
        model: ModelName,
        /// The variant's manifest.
        manifest: Digest,
    },
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How the slots are, now.
    Slots(Standing),
    /// What was brought, and what is ordered now.
    Ordered {
        /// Releases that are ordered, by model.
        orders: BTreeMap<ModelName, u64>,
        /// What could not be followed, for people.
        notes: Vec<String>,
    },
    /// It will be done.
    Done,
    /// It cannot be done.
    Refused {
        /// Why, and what to do.
        why: String,
    },
}

/// How the slots of a node are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// By model.
    pub models: BTreeMap<ModelName, View>,
    /// Bytes of the store in use.
    pub used_bytes: u64,
    /// Why no new release is accepted, if so.
    pub trust_trouble: Option<String>,
}

/// The slots of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// What lasts.
    pub kept: Kept,
    /// What answers, or is being loaded.
    pub serving: Option<Digest>,
    /// Whether it is loaded.
    pub is_loaded: bool,
    /// How far the trial is, if it is on trial.
    pub trial: Option<TrialView>,
    /// How far the transfer is, in bytes that came and bytes that were missing.
    pub transfer: Option<(u64, u64)>,
    /// What was last told of it.
    pub told: Option<String>,
    /// Whether the spare answers instead of what serves, since memory is short.
    pub spare_answers: bool,
    /// Why the spare waits, if it does.
    pub spare_waits: Option<String>,
}

/// How far a trial is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrialView {
    /// Seconds since it began, and how many it takes at least.
    pub seconds: (u64, u64),
    /// Answers that count, and how many it takes.
    pub answers: (u32, u32),
    /// Answers that failed.
    pub failed: u32,
}

/// A node that does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody is there.
    #[error("no node with packages runs on {}: does it run, and do its settings have `[packages]`?", data.display())]
    NoNode {
        /// The data folder.
        data: PathBuf,
    },
    /// The door does not open.
    #[error("the node in {} does not answer", data.display())]
    Io {
        /// The data folder.
        data: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another version speaks there.
    #[error("the node's answer cannot be read: is it of this version?")]
    Form(#[from] serde_json::Error),
}

/// Where the door of a node is.
pub fn path(data: &Path) -> PathBuf {
    data.join("control")
}

/// Asks the node that works on the folder `data`. Blocks.
#[cfg(unix)]
pub fn ask(data: &Path, question: &Ask) -> Result<Answer, ControlError> {
    use std::os::unix::net::UnixStream;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NoNode { data: data.to_owned() }
        }
        _ => ControlError::Io { data: data.to_owned(), source },
    };
    let mut stream = UnixStream::connect(path(data)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(&line_of(question)?).map_err(failed)?;
    let line = read_line(&stream).map_err(failed)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Asks the node that works on the folder `data`: there is no such door on this system.
#[cfg(not(unix))]
pub fn ask(data: &Path, _question: &Ask) -> Result<Answer, ControlError> {
    Err(ControlError::NoNode { data: data.to_owned() })
}

/// One line of JSON.
pub(crate) fn line_of(words: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(words)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads one line of at most [`LINE_MAX_BYTES`].
pub(crate) fn read_line(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(io::Read::take(from, LINE_MAX_BYTES)).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line has no end")),
    }
}
