//! The door for people and agents on this machine who set actuators: what `selvedge act` and `selvedge mcp` ask a running node.
//!
//! A Unix socket in the data folder, so whoever may write there may ask, and nobody else. One line of JSON each way, [`Ask`] and
//! [`Answer`]. Who asks says whether it is a person or an agent, and is believed; nobody can say to be a rule, or the node.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::body::act::{Outcome, Receipt, Setting};
use wire::id::PartName;

use super::limits::Allowed;
use super::word::{read_line, write_line};

/// The longest name of whoever asks, and the longest reason.
pub const NAME_MAX_BYTES: usize = 64;
/// See [`NAME_MAX_BYTES`].
pub const WHY_MAX_BYTES: usize = 500;

/// How long an answer may take: a slow device, and the way back of what stood before.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What kind of asker comes through this door.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asker {
    /// A person.
    #[default]
    Person,
    /// A program around a language model.
    Agent,
}

/// What somebody asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// How the actuators are.
    List,
    /// Set one.
    Set {
        /// Which.
        actuator: PartName,
        /// To what.
        to: Setting,
        /// For how long; absent: for a lease.
        #[serde(default)]
        for_ms: Option<u64>,
        /// Why.
        why: String,
        /// Who asks; whoever may open the door is believed.
        who: String,
        /// Of which kind they are.
        #[serde(default)]
        asker: Asker,
    },
    /// Take one's word back.
    Release {
        /// Of which.
        actuator: PartName,
        /// Whose.
        who: String,
        /// Of which kind they are.
        #[serde(default)]
        asker: Asker,
    },
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How they are.
    List {
        /// In the order of the flow.
        actuators: Vec<View>,
    },
    /// What came of it.
    Told {
        /// What.
        outcome: Outcome,
        /// Why.
        why: String,
        /// What the device says.
        receipt: Option<Receipt>,
        /// For how long it stands.
        for_ms: Option<u64>,
    },
    /// It cannot be asked.
    Refused {
        /// Why.
        why: String,
    },
}

/// How an actuator is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Which.
    pub actuator: PartName,
    /// Its driver.
    pub kind: String,
    /// The unit of its numbers.
    pub unit: Option<String>,
    /// What it may be set to.
    pub allowed: Allowed,
    /// How often it may be sent to another setting than the safe one.
    pub rate: String,
    /// How far a number may move a second.
    pub slew_per_s: Option<f64>,
    /// How long the word of a rule or an agent stands if it is not renewed.
    pub lease_ms: u64,
    /// The longest that the word of a person may stand.
    pub longest_ms: u64,
    /// The condition under which it may leave its safe setting.
    pub interlock: Option<String>,
    /// Whether agents may ask for it.
    pub agents: bool,
    /// Nothing is done: it only says what it would do.
    pub dry_run: bool,
    /// What it is set to, if that is known.
    pub at: Option<Setting>,
    /// Where it is going.
    pub toward: Option<Setting>,
    /// What it goes back to.
    pub safe: Setting,
    /// Whose word stands.
    pub holder: Option<String>,
    /// For how long.
    pub for_ms: Option<u64>,
    /// Whether its interlock holds.
    pub may_act: bool,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// A node that does not answer.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Nobody is there.
    #[error("no node with actuators runs on {}: does it run, and does its flow declare any?", data.display())]
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
}

/// Where the door of a node is.
pub fn path(data: &Path) -> PathBuf {
    data.join("act")
}

/// Asks the node that works on the folder `data`. Blocks.
#[cfg(unix)]
pub fn ask(data: &Path, question: &Ask) -> Result<Answer, DoorError> {
    use std::os::unix::net::UnixStream;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            DoorError::NoNode { data: data.to_owned() }
        }
        _ => DoorError::Io { data: data.to_owned(), source },
    };
    let mut stream = UnixStream::connect(path(data)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    write_line(&mut stream, question).map_err(failed)?;
    read_line(&mut BufReader::new(stream)).and_then(|answer| answer.ok_or_else(end)).map_err(failed)
}

/// Asks the node that works on the folder `data`: there is no such door on this system.
#[cfg(not(unix))]
pub fn ask(data: &Path, _question: &Ask) -> Result<Answer, DoorError> {
    Err(DoorError::NoNode { data: data.to_owned() })
}

#[cfg(unix)]
fn end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it says nothing")
}

#[cfg(unix)]
pub(crate) use open::Open;

#[cfg(unix)]
mod open {
    use std::io::{self, BufReader};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{Answer, Ask, path, read_line, write_line};

    /// So many people and agents are answered at a time.
    const CALLS_MAX: usize = 8;

    /// The longest question takes so long to be asked.
    const ASKING: Duration = Duration::from_secs(10);

    /// A door that is open. Dropping it closes it.
    pub(crate) struct Open {
        stop: Arc<AtomicBool>,
        path: std::path::PathBuf,
    }

    impl Open {
        /// Opens it; `answer` is called from threads of their own.
        pub(crate) fn begin(
            data: &Path,
            answer: impl Fn(Ask) -> Answer + Send + Sync + 'static,
        ) -> io::Result<Open> {
            let path = path(data);
            // Whoever holds the journal is the only node here: what lies there is of an earlier life.
            drop(std::fs::remove_file(&path));
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            let (stop, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
            let stopped = Arc::clone(&stop);
            let calls = Arc::new(AtomicUsize::new(0));
            let take = move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    if calls.fetch_add(1, Ordering::Relaxed) >= CALLS_MAX {
                        calls.fetch_sub(1, Ordering::Relaxed);
                        continue;
                    }
                    let (answer, calls) = (Arc::clone(&answer), Arc::clone(&calls));
                    let call = move || {
                        if let Err(error) = one(stream, &*answer) {
                            tracing::debug!(%error, "a question at the door of the actuators was not answered");
                        }
                        calls.fetch_sub(1, Ordering::Relaxed);
                    };
                    // Then the caller hears the end.
                    drop(std::thread::Builder::new().name("act.call".into()).spawn(call));
                }
            };
            std::thread::Builder::new().name("act.door".into()).spawn(take)?;
            Ok(Open { stop, path })
        }
    }

    fn one(stream: UnixStream, answer: &dyn Fn(Ask) -> Answer) -> io::Result<()> {
        stream.set_read_timeout(Some(ASKING))?;
        stream.set_write_timeout(Some(ASKING))?;
        let answer = match read_line::<Ask>(&mut BufReader::new(&stream)) {
            Ok(Some(ask)) => answer(ask),
            Ok(None) => return Ok(()),
            Err(error) => Answer::Refused { why: format!("the question cannot be read: {error}") },
        };
        write_line(&mut &stream, &answer)
    }

    impl Drop for Open {
        fn drop(&mut self) {
            self.stop.store(true, Ordering::Relaxed);
            // The thread wakes up, and sees.
            drop(UnixStream::connect(&self.path));
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_a_person_or_an_agent() {
        fn check(asker: &str, expected: Option<Asker>) {
            let text = format!("{{\"ask\":\"release\",\"actuator\":\"valve\",\"who\":\"kim\"{asker}}}");
            let read = serde_json::from_str::<Ask>(&text).ok().map(|ask| match ask {
                Ask::Release { asker, .. } | Ask::Set { asker, .. } => asker,
                Ask::List => panic!("it asks for something else"),
            });
            assert_eq!(read, expected, "{text}");
        }
        // As programs of before write it.
        check("", Some(Asker::Person));
        check(",\"asker\":\"person\"", Some(Asker::Person));
        check(",\"asker\":\"agent\"", Some(Asker::Agent));
        check(",\"asker\":\"rule\"", None);
        check(",\"asker\":\"node\"", None);
        check(",\"kind\":\"node\"", None);
    }
}
