//! The door for people on this machine: a Unix socket in the data folder; what it speaks is in `control`.

use std::path::Path;

use super::word::Words;
use crate::control;

/// So many people are answered at a time.
#[cfg(unix)]
const CALLS_MAX: usize = 8;

/// The longest question takes so long to be asked.
#[cfg(unix)]
const ASKING: std::time::Duration = std::time::Duration::from_secs(10);

/// The door, before anybody is answered at it.
#[cfg(unix)]
pub(super) struct Door(Option<std::os::unix::net::UnixListener>);

#[cfg(unix)]
impl Door {
    /// Opens it: who asks from now on waits for an answer.
    pub(super) fn open(data: &Path) -> Door {
        use std::os::unix::fs::PermissionsExt as _;
        use std::os::unix::net::UnixListener;

        // Whoever holds the slots is the only one: what lies there is of an earlier life.
        close(data);
        let path = control::path(data);
        let opened = UnixListener::bind(&path).and_then(|listener| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        if let Err(error) = &opened {
            tracing::warn!(path = %path.display(), %error, "`selvedge slots` cannot ask this node");
        }
        Door(opened.ok())
    }

    /// Answers until it is dropped.
    pub(super) async fn answer(self, words: Words) {
        match self.0.map(tokio::net::UnixListener::from_std).transpose() {
            Ok(Some(listener)) => serve(listener, words).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "`selvedge slots` cannot ask this node"),
        }
    }
}

#[cfg(unix)]
async fn serve(listener: tokio::net::UnixListener, words: Words) {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        // Nobody closes it.
        let Ok(call) = Arc::clone(&calls).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let words = words.clone();
                tokio::task::spawn_local(async move {
                    if let Err(error) = answer(stream, words).await {
                        tracing::debug!(%error, "a question at the control socket was not answered");
                    }
                    drop(call);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket takes no call");
                tokio::time::sleep(ASKING).await;
            }
        }
    }
}

/// Answers one question.
#[cfg(unix)]
async fn answer(mut stream: tokio::net::UnixStream, words: Words) -> std::io::Result<()> {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::sync::oneshot;

    use super::word::Word;
    use crate::control::{Answer, Ask, LINE_MAX_BYTES, line_of};

    let mut line = Vec::new();
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from.take(LINE_MAX_BYTES));
    let asked = from.read_until(b'\n', &mut line);
    tokio::time::timeout(ASKING, asked).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    let told = match serde_json::from_slice::<Ask>(&line) {
        Ok(ask) => {
            let (tell, told) = oneshot::channel();
            drop(words.send(Word::Asked(ask, tell)));
            let stopping = Answer::Refused { why: "the node is stopping".into() };
            told.await.unwrap_or(stopping)
        }
        Err(error) => Answer::Refused { why: format!("the question cannot be read: {error}") },
    };
    to.write_all(&line_of(&told)?).await?;
    to.shutdown().await
}

/// There is no such door on this system.
#[cfg(not(unix))]
pub(super) struct Door;

#[cfg(not(unix))]
impl Door {
    pub(super) fn open(_data: &Path) -> Door {
        Door
    }

    pub(super) async fn answer(self, _words: Words) {}
}

/// Takes the door away.
pub(super) fn close(data: &Path) {
    // Not there, or not ours to remove: then binding says why.
    drop(std::fs::remove_file(control::path(data)));
}
