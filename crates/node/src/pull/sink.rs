//! Where downloaded bytes go: the part on the disk, its hash, and at the end the model. Blocking: `Desk` keeps it off the
//! async thread.
//!
//! What always holds: the part is a prefix of what the server sent under the part's mark. Whoever drops a download at any
//! instant leaves a part that can be gone on with.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;

use lm::gguf::{Gguf, GgufError};
use package::disk::FileError;
use package::disk::room::{NoRoom, Room};
use sha2::{Digest, Sha256};
use wire::hash::Hash;

use crate::durable;
use crate::shelf::facts::Facts;
use crate::shelf::look::{HEAD_BYTES, NotAModel, look};
use crate::shelf::part::{PART_FILE, PART_STATE_FILE, PartState};
use crate::shelf::place::{Place, PlaceError};

/// How much is brought to the disk at once: what a power cut can cost where no hash tells good bytes from bad ones.
const SYNC_BYTES: u64 = 64 << 20;

/// How much of a part is hashed between two looks at the time.
const HASH_STEP_BYTES: usize = 4 << 20;

/// Why bytes could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// What comes is no model.
    #[error("what the server sends is not a model")]
    NotAModel(#[from] NotAModel),
    /// All of it came, and it cannot be read.
    #[error("what the server sent begins like a model, but cannot be read as one")]
    Unreadable(#[source] Box<GgufError>),
    /// More than the server or the repository said.
    #[error("the server sends more than the {promised_bytes} bytes it promised")]
    TooLong {
        /// What was promised.
        promised_bytes: u64,
    },
    /// More than any model.
    #[error("the file is larger than {max_bytes} bytes, the most that is loaded")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// What came is not what the repository has.
    #[error(
        "the bytes that came are not those of the repository: their SHA-256 is {found}, it should be {expected}"
    )]
    WrongHash {
        /// The repository's word.
        expected: Hash,
        /// What came.
        found: Hash,
    },
    /// It does not fit.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The disk is full although it did not look so.
    #[error("the disk is full at {}; make room and pull again, it goes on where it stopped", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The model's place refuses.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl From<FileError> for SinkError {
    fn from(error: FileError) -> SinkError {
        match error.source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => SinkError::DiskFull { path: error.path },
            _ => SinkError::Place(error.into()),
        }
    }
}

/// A download's place on the disk.
#[derive(Debug)]
pub(crate) struct Sink {
    place: Place,
    room: Room,
    max_bytes: u64,
    /// What the part is a part of.
    pub(crate) state: PartState,
    /// Open while there is a part.
    file: Option<File>,
    /// Of the first `hashed` bytes.
    hasher: Sha256,
    hashed: u64,
    len: u64,
    head: Vec<u8>,
}

impl Sink {
    /// Takes up what an earlier download left, as far as it is of the same file. `wanted` says which.
    pub(crate) fn open(
        place: Place,
        room: Room,
        wanted: PartState,
        max_bytes: u64,
    ) -> Result<Sink, SinkError> {
        let mut sink = Sink {
            place,
            room,
            max_bytes,
            state: wanted,
            file: None,
            hasher: Sha256::new(),
            hashed: 0,
            len: 0,
            head: Vec::new(),
        };
        let Some(old) = PartState::read(sink.place.folder())? else { return Ok(sink) };
        let found = fs::metadata(sink.path()).map_or(0, |file| file.len());
        // With a hash every byte is proven in the end; without, only what reached the disk can be trusted.
        let keep = if old.sha256.is_some() { found } else { found.min(old.synced_bytes) };
        let wanted = &sink.state;
        let same_hash = wanted.sha256.is_none() || wanted.sha256 == old.sha256;
        let same_size = wanted.total_bytes.is_none()
            || old.total_bytes.is_none()
            || wanted.total_bytes == old.total_bytes;
        let provable = old.sha256.is_some() || old.etag.is_some();
        let fits = old.total_bytes.or(wanted.total_bytes).is_none_or(|total| keep <= total);
        if keep == 0 || wanted.source_key != old.source_key || !(same_hash && same_size && provable && fits) {
            // It goes when something better begins to come, not before.
            return Ok(sink);
        }
        let path = sink.path();
        let file = File::options().read(true).write(true).open(&path).map_err(FileError::at(&path))?;
        file.set_len(keep).map_err(FileError::at(&path))?;
        let total_bytes = wanted.total_bytes.or(old.total_bytes);
        sink.state = PartState { total_bytes, ..old };
        (sink.file, sink.len) = (Some(file), keep);
        Ok(sink)
    }

    fn path(&self) -> PathBuf {
        self.place.folder().join(PART_FILE)
    }

    /// How many bytes are there.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the part can be gone on with: something proves that the rest belongs to it.
    pub(crate) fn can_go_on(&self) -> bool {
        self.len > 0 && (self.state.sha256.is_some() || self.state.etag.is_some())
    }

    /// Whether all that is known to come is there.
    pub(crate) fn is_all(&self) -> bool {
        self.file.is_some() && self.state.total_bytes == Some(self.len)
    }

    /// Hashes a step of what an earlier download left; gives how far it is, `None` when it is done.
    pub(crate) fn check_step(&mut self) -> Result<Option<u64>, SinkError> {
        let path = self.path();
        let Some(file) = self.file.as_mut().filter(|_| self.hashed < self.len) else { return Ok(None) };
        let left = usize::try_from(self.len - self.hashed).unwrap_or(usize::MAX);
        let mut step = vec![0; left.min(HASH_STEP_BYTES)];
        // Reading moves on from where the last step ended, to where writing begins.
        file.read_exact(&mut step).map_err(FileError::at(&path))?;
        self.take(&step);
        self.hashed += step.len() as u64;
        if self.hashed == self.len {
            self.look()?;
        }
        Ok(Some(self.hashed))
    }

    /// The whole begins to come: what was there goes.
    pub(crate) fn begin(&mut self, state: PartState) -> Result<(), SinkError> {
        if state.total_bytes.is_some_and(|total| total > self.max_bytes) {
            return Err(SinkError::TooLarge { max_bytes: self.max_bytes });
        }
        self.discard()?;
        self.place.make_folder()?;
        self.room.need(self.place.folder(), state.total_bytes.unwrap_or(0))?;
        self.state = PartState { synced_bytes: 0, ..state };
        let path = self.path();
        self.file = Some(File::create(&path).map_err(FileError::at(&path))?);
        self.state.write(self.place.folder())?;
        Ok(())
    }

    /// The rest begins to come: does it fit?
    pub(crate) fn go_on(&mut self, total_bytes: u64) -> Result<(), SinkError> {
        if total_bytes > self.max_bytes {
            return Err(SinkError::TooLarge { max_bytes: self.max_bytes });
        }
        self.room.need(self.place.folder(), total_bytes.saturating_sub(self.len))?;
        self.state.total_bytes = Some(total_bytes);
        Ok(())
    }

    /// Bytes came.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let path = self.path();
        let after = self.len + bytes.len() as u64;
        if let Some(promised_bytes) = self.state.total_bytes.filter(|total| after > *total) {
            self.discard()?;
            return Err(SinkError::TooLong { promised_bytes });
        }
        if after > self.max_bytes {
            self.discard()?;
            return Err(SinkError::TooLarge { max_bytes: self.max_bytes });
        }
        if self.state.total_bytes.is_none() {
            // Nobody said how much will come: the room is looked at as it fills.
            self.room.need(self.place.folder(), bytes.len() as u64)?;
        }
        let Some(file) = &mut self.file else {
            let why = std::io::Error::other("bytes came for a download that has not begun");
            return Err(FileError::at(&path)(why).into());
        };
        if let Err(error) = file.write_all(bytes) {
            // Some of them may stand there; the length says again what is hashed.
            let _ = file.set_len(self.len);
            return Err(FileError::at(&path)(error).into());
        }
        self.take(bytes);
        self.len = after;
        self.hashed = after;
        if after - bytes.len() as u64 <= HEAD_BYTES as u64 && self.head.len() == HEAD_BYTES {
            self.look()?;
        }
        if self.len - self.state.synced_bytes >= SYNC_BYTES {
            self.settle()?;
        }
        Ok(())
    }

    /// Brings to the disk what came, so that even a power cut cannot take it.
    pub(crate) fn settle(&mut self) -> Result<(), SinkError> {
        let path = self.path();
        let Some(file) = &self.file else { return Ok(()) };
        file.sync_all().map_err(FileError::at(&path))?;
        self.state.synced_bytes = self.len;
        Ok(self.state.write(self.place.folder())?)
    }

    /// Everything came: is it what it should be? If not, it goes.
    pub(crate) fn prove(&mut self) -> Result<Hash, SinkError> {
        self.look()?;
        self.settle()?;
        let found = Hash::from(self.hasher.clone());
        match self.state.sha256 {
            Some(expected) if expected != found => {
                self.discard()?;
                Err(SinkError::WrongHash { expected, found })
            }
            _ => match Gguf::open(&self.path()) {
                Ok(_) => Ok(found),
                Err(error) => {
                    self.discard()?;
                    Err(SinkError::Unreadable(Box::new(error)))
                }
            },
        }
    }

    /// The part becomes the model. Gives the model's folder and its facts.
    pub(crate) fn keep(&mut self, mut facts: Facts, sha256: Hash) -> Result<(PathBuf, Facts), SinkError> {
        self.file = None;
        facts.size_bytes = self.len;
        self.place.put(&self.path(), &mut facts, sha256)?;
        Ok((self.place.folder().to_owned(), facts))
    }

    /// The facts of the model that is there now.
    pub(crate) fn facts(&self) -> Result<Option<(PathBuf, Facts)>, SinkError> {
        let facts = self.place.facts().map_err(PlaceError::from)?;
        Ok(facts.map(|facts| (self.place.folder().to_owned(), facts)))
    }

    /// What is there goes.
    pub(crate) fn discard(&mut self) -> Result<(), SinkError> {
        (self.file, self.len, self.hashed) = (None, 0, 0);
        self.hasher = Sha256::new();
        self.head.clear();
        let folder = self.place.folder();
        // The part first: a state without a part is a download that has not begun.
        durable::remove(&folder.join(PART_FILE))?;
        Ok(durable::remove(&folder.join(PART_STATE_FILE))?)
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        let missing = (HEAD_BYTES - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..missing]);
    }

    fn look(&mut self) -> Result<(), SinkError> {
        if let Err(what) = look(&self.head) {
            self.discard()?;
            return Err(what.into());
        }
        Ok(())
    }
}

/// Does a sink's blocking work on tokio's blocking threads. Whoever drops a piece of work half way drops the sink with it,
/// once that piece is done.
#[derive(Debug)]
pub(crate) struct Desk(Option<Sink>);

impl Desk {
    pub(crate) fn new(sink: Sink) -> Desk {
        Desk(Some(sink))
    }

    /// Looks at the sink.
    pub(crate) fn sink(&self) -> &Sink {
        self.0.as_ref().expect("nobody works with it: `work` holds the desk until it is done")
    }

    /// Does something with the sink.
    pub(crate) async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Sink) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let mut sink = self.0.take().expect("nobody works with it: `work` holds the desk until it is done");
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut sink);
            (sink, result)
        });
        match done.await {
            Ok((sink, result)) => {
                self.0 = Some(sink);
                result
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
