//! Blobs on their way in: each a file beside the hub's database and a hash that grows with it.
//!
//! A session lives as long as the process: after a restart a client is told that it is unknown, and begins again. What an
//! earlier life left is removed at start. What a piece wrote and could not finish is written over by the next.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use package::digest::Digest;
use package::registry::RepoName;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use wire::hash::Hash;

/// All blobs on their way in.
#[derive(Debug)]
pub struct Sessions {
    folder: PathBuf,
    most: usize,
    rest_s: u64,
    seed: [u8; 32],
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    begun: u64,
    sessions: BTreeMap<String, Arc<Session>>,
}

/// One blob on its way in.
#[derive(Debug)]
pub struct Session {
    /// Its name; who does not know it cannot guess it.
    pub id: String,
    /// The repository that it was begun for.
    pub name: RepoName,
    touched_s: AtomicU64,
    spool: Arc<Turn<Spool>>,
}

/// What came of a blob so far. Only one request at a time has it.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: Option<File>,
    hasher: Sha256,
    bytes: u64,
}

/// The right to a spool.
pub type Held = OwnedMutexGuard<Spool>;

impl Sessions {
    /// At most `most` sessions, each dropped after `rest_s` seconds of rest. `seed` must be random.
    pub fn open(folder: &Path, most: usize, rest_s: u64, seed: [u8; 32]) -> io::Result<Sessions> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let is_ours = |name: &str| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
            if entry.file_name().to_str().is_some_and(is_ours) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Sessions { folder: folder.to_owned(), most, rest_s, seed, open: Mutex::default() })
    }

    /// Begins one; `None` if there are too many.
    pub fn begin(&self, name: RepoName, now_s: u64) -> Option<Arc<Session>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is at work is not at rest, however long a piece takes.
        open.sessions.retain(|_, session| {
            let rested_s = now_s.saturating_sub(session.touched_s.load(Relaxed));
            rested_s < self.rest_s || session.spool.try_lock().is_err()
        });
        if open.sessions.len() >= self.most {
            return None;
        }
        open.begun += 1;
        let mut id = Hash::of(&[&self.seed[..], &open.begun.to_le_bytes()].concat()).to_string();
        id.truncate(32);
        let path = self.folder.join(&id);
        let spool = Spool { path, file: None, hasher: Sha256::new(), bytes: 0 };
        let session = Arc::new(Session {
            id: id.clone(),
            name,
            touched_s: AtomicU64::new(now_s),
            spool: Arc::new(Turn::new(spool)),
        });
        open.sessions.insert(id, session.clone());
        Some(session)
    }

    /// The session of this name, if it was begun for this repository.
    pub fn find(&self, name: &RepoName, id: &str, now_s: u64) -> Option<Arc<Session>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.sessions.get(id).filter(|session| session.name == *name)?;
        session.touched_s.store(now_s, Relaxed);
        Some(session.clone())
    }

    /// Ends one; its file goes with it.
    pub fn end(&self, session: &Session) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).sessions.remove(&session.id);
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Session {
    /// Waits for the turn of whoever asks.
    pub async fn hold(&self) -> Held {
        self.spool.clone().lock_owned().await
    }
}

impl Spool {
    /// How many bytes came.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The name of what came.
    pub fn digest(&self) -> Digest {
        Digest::from(Hash::from(self.hasher.clone()))
    }

    /// Adds what came. Waits for the disk.
    pub fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let end = self.bytes;
        let file = self.file()?;
        file.seek(SeekFrom::Start(end))?;
        let mut written = Vec::with_capacity(pieces.len());
        let done = pieces.iter().try_for_each(|piece| {
            file.write_all(piece)?;
            written.push(piece);
            Ok(())
        });
        for piece in written {
            self.hasher.update(piece);
            self.bytes += piece.len() as u64;
        }
        done
    }

    /// The file, from another place on; its length may be more than what counts.
    pub fn reader(&mut self) -> io::Result<File> {
        self.file()?.try_clone()
    }

    fn file(&mut self) -> io::Result<&mut File> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                let file = File::options().read(true).write(true).create_new(true).open(&self.path)?;
                Ok(none.insert(file))
            }
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.file.is_some() {
            // One that stays is removed at the next start.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepoName {
        RepoName::new(text).unwrap()
    }

    #[tokio::test]
    async fn sessions_are_counted_found_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0123456789abcdef0123456789abcdef"), b"left").unwrap();
        std::fs::write(folder.path().join("somebody else's"), b"stays").unwrap();
        let sessions = Sessions::open(folder.path(), 2, 100, [1; 32]).unwrap();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files(), 1);
        let first = sessions.begin(name("a"), 0).unwrap();
        let second = sessions.begin(name("b"), 50).unwrap();
        assert_ne!(first.id, second.id);
        assert!(sessions.begin(name("c"), 60).is_none());
        assert!(sessions.find(&name("b"), &first.id, 60).is_none(), "of another repository");
        assert!(sessions.find(&name("a"), &first.id, 60).is_some());
        let mut held = second.hold().await;
        held.append(&[Bytes::from_static(b"ab"), Bytes::from_static(b"c")]).unwrap();
        assert_eq!((held.bytes(), held.digest(), files()), (3, Digest::of(b"abc"), 2));
        assert!(sessions.begin(name("c"), 155).is_none(), "the first was touched, the second is at work");
        drop(held);
        let third = sessions.begin(name("c"), 155).unwrap();
        assert!(sessions.find(&name("b"), &second.id, 155).is_none());
        drop(second);
        assert_eq!(files(), 1, "its file went with it");
        sessions.end(&third);
        assert!(sessions.find(&name("c"), &third.id, 155).is_none());
    }
}
