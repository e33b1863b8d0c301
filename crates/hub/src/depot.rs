//! Where packages lie: blobs and small files under keys, in a folder, in memory, or in a store that speaks S3.
//!
//! What a put has answered is durable: of a folder the file and its name are synced, S3 promises as much. Under a key stands
//! its old content or its new one, never a part of one. Nothing of it is in SQL.

pub mod bucket;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _, try_unfold};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, UpdateVersion,
};
use package::digest::Digest;
use package::form::decimal;
use package::registry::{RepoName, Tag};
use package::trust::key::KeyId;
use wire::world::WallMs;

use crate::config::DepotConfig;
use crate::depot::bucket::BucketError;

/// What is larger goes in parts of this size, each in memory for as long as it takes.
const PART_BYTES: u64 = 8 << 20;

/// How much of a file is read at once.
const READ_BYTES: u64 = 256 << 10;

/// What a kill left of a file on its way into a folder is removed at a start once nothing was written to it for so long: another
/// hub on the same folder may be at it, and writes as fast as a disk gives.
const LEFT_MS: i64 = 10 * 60 * 1000;

/// Held in a folder by whoever compares and replaces. Buckets compare by themselves.
const LOCK: &str = ".lock";

/// A depot that does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// The folder cannot be used.
    #[error("cannot use the folder {} for packages; check that this user may write to it", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder cannot be opened.
    #[error("cannot open the depot of packages; check [depot] in the hub's config")]
    Open(#[source] Error),
    /// The bucket cannot be opened.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The store refused.
    #[error("the depot could not {doing} {key}")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// With what.
        key: Key,
        /// Why.
        source: Error,
    },
    /// A small file that is none.
    #[error("{key} in the depot has {bytes} bytes, at most {max_bytes} are read")]
    TooLong {
        /// Which.
        key: Key,
        /// Its length.
        bytes: u64,
        /// The most that is read.
        max_bytes: u64,
    },
    /// The folder's lock could not be had.
    #[error("the lock of the depot's folder could not be had, so {key} stays as it is")]
    Lock {
        /// What should be replaced.
        key: Key,
        /// Why.
        source: io::Error,
    },
    /// What should come in could not be read.
    #[error("what should become {key} in the depot could not be read")]
    Incoming {
        /// What it should become.
        key: Key,
        /// Why.
        source: io::Error,
    },
}

/// The place of a file in the depot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(Path);

impl Key {
    /// A blob's. Manifests and TUF's targets are blobs, too.
    pub fn blob(digest: &Digest) -> Key {
        Key::of(["blobs", "sha256", &digest.hex()])
    }

    /// Says that a repository has a manifest, and of which media type it is.
    pub fn manifest(name: &RepoName, digest: &Digest) -> Key {
        Key::manifests(name).child(&digest.hex())
    }

    /// The folder of a repository's manifests. No name of a repository has a part that begins with `_`.
    pub fn manifests(name: &RepoName) -> Key {
        Key::repository(name).child("_manifests")
    }

    /// Says which manifest a tag names.
    pub fn tag(name: &RepoName, tag: &Tag) -> Key {
        Key::tags(name).child(tag.as_str())
    }

    /// The folder of a repository's tags.
    pub fn tags(name: &RepoName) -> Key {
        Key::repository(name).child("_tags")
    }

    /// The descriptor of a manifest that speaks of another.
    pub fn referrer(name: &RepoName, subject: &Digest, digest: &Digest) -> Key {
        Key::referrers(name, subject).child(&digest.hex())
    }

    /// The folder of those that speak of one manifest.
    pub fn referrers(name: &RepoName, subject: &Digest) -> Key {
        Key::repository(name).child("_referrers").child(&subject.hex())
    }

    /// A metadata file of TUF, by its name as it stands in a URL.
    pub fn tuf(file: &str) -> Key {
        Key::tuf_files().child(file)
    }

    /// The folder of TUF's metadata.
    pub fn tuf_files() -> Key {
        Key::of(["tuf", "metadata"])
    }

    /// An assignment.
    pub fn assignment(id: &str) -> Key {
        Key::assignments().child(&format!("{id}.json"))
    }

    /// The folder of assignments.
    pub fn assignments() -> Key {
        Key::of(["assignments"])
    }

    /// The number that changes with the assignments.
    pub fn assignments_revision() -> Key {
        Key::of(["assignments.revision"])
    }

    /// The grant of a sealed blob for a node's key.
    pub fn grant(sealed: &Digest, to: &KeyId) -> Key {
        Key::of(["grants", &sealed.hex(), &format!("{to}.json")])
    }

    /// A file of the published audit log, by its name there: `checkpoint`, `tile/0/000.p/17`.
    pub fn log(name: &str) -> Key {
        Key(Path::from_iter(["audit", "log"].into_iter().chain(name.split('/'))))
    }

    /// The heads of the nodes' chains of an hour.
    pub fn heads(name: &str) -> Key {
        Key::of(["audit", "heads", name])
    }

    /// A file or a folder of the archive, by the parts of its path there.
    pub fn archive(parts: &[&str]) -> Key {
        Key(Path::from_iter(["archive"].into_iter().chain(parts.iter().copied())))
    }

    /// Its own name in its folder, as [`Depot::names`] gives it.
    pub fn name(&self) -> &str {
        self.0.filename().unwrap_or_default()
    }

    fn repository(name: &RepoName) -> Key {
        Key(Path::from_iter(["repos"].into_iter().chain(name.as_str().split('/'))))
    }

    fn child(self, name: &str) -> Key {
        Key(self.0.join(name))
    }

    /// Whatever a part has that could mean another place is encoded.
    fn of<const N: usize>(parts: [&str; N]) -> Key {
        Key(Path::from_iter(parts))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Some names of a folder, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The names.
    pub names: Vec<String>,
    /// Whether further ones follow.
    pub more: bool,
}

/// A file on its way out, piece by piece.
pub type Pieces = BoxStream<'static, Result<Bytes, DepotError>>;

/// Blobs and small files under keys. Cloning is cheap: all clones are one depot.
#[derive(Debug, Clone)]
pub struct Depot {
    store: Arc<dyn ObjectStore>,
    /// Where it lies, if that is a folder.
    folder: Option<Arc<FilePath>>,
}

impl Depot {
    /// The depot of the settings; without any, the folder `packages` in `data`. Removes what kills left there.
    pub fn open(config: &DepotConfig, data: &FilePath, now_ms: WallMs) -> Result<Depot, DepotError> {
        let folder = match (&config.s3, &config.folder) {
            (Some(bucket), _) => return Ok(Depot { store: bucket::open(bucket)?, folder: None }),
            (None, Some(folder)) => folder.clone(),
            (None, None) => data.join("packages"),
        };
        let depot = Depot::folder(&folder)?;
        sweep(&folder, now_ms).map_err(|source| DepotError::Folder { path: folder, source })?;
        Ok(depot)
    }

    /// A depot in a folder, which is made if it is not there.
    pub fn folder(path: &FilePath) -> Result<Depot, DepotError> {
        std::fs::create_dir_all(path)
            .map_err(|source| DepotError::Folder { path: path.to_owned(), source })?;
        let folder = LocalFileSystem::new_with_prefix(path).map_err(DepotError::Open)?;
        Ok(Depot { store: Arc::new(folder.with_fsync(true)), folder: Some(path.into()) })
    }

    /// A depot that is gone with the process.
    pub fn memory() -> Depot {
        Depot { store: Arc::new(InMemory::new()), folder: None }
    }

    /// Whether it answers: a bucket may be elsewhere, gone, or closed to us.
    pub async fn look(&self) -> Result<(), DepotError> {
        let key = Key::assignments();
        self.store.list(Some(&key.0)).try_next().await.map(drop).map_err(failed("list", &key))
    }

    /// How many bytes stand under a key; `None` if nothing does.
    pub async fn size(&self, key: &Key) -> Result<Option<u64>, DepotError> {
        match self.store.head(&key.0).await {
            Ok(facts) => Ok(Some(facts.size)),
            Err(error) => missing("look for", key, error),
        }
    }

    /// A small file; `None` if there is none.
    pub async fn read(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, DepotError> {
        let found = match self.store.get(&key.0).await {
            Ok(found) => found,
            Err(error) => return missing("read", key, error),
        };
        let bytes = found.meta.size;
        if bytes > max_bytes {
            return Err(DepotError::TooLong { key: key.clone(), bytes, max_bytes });
        }
        found.bytes().await.map(Some).map_err(failed("read", key))
    }

    /// A part of a file, which is within it and not empty; `None` if there is no file.
    pub async fn stream(&self, key: &Key, range: Range<u64>) -> Result<Option<Pieces>, DepotError> {
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
        let found = match self.store.get_opts(&key.0, options).await {
            Ok(found) => found,
            Err(error) => return missing("read", key, error),
        };
        let key = key.clone();
        Ok(Some(match found.payload {
            GetResultPayload::File(file, _) => pieces_of(file, found.range, key),
            GetResultPayload::Stream(pieces) => pieces.map_err(move |e| failed("read", &key)(e)).boxed(),
        }))
    }

    /// Puts a small file in the place of what stands there.
    pub async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), DepotError> {
        let put = self.store.put(&key.0, PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(failed("write", key))
    }

    /// Puts a small file where none is; false if there is one.
    pub async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool, DepotError> {
        let create = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&key.0, PutPayload::from_bytes(bytes), create).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(failed("write", key)(error)),
        }
    }

    /// Puts a small file in the place of exactly what stands there, `None` being nothing; false if something else does by now.
    pub async fn replace(&self, key: &Key, old: Option<&Bytes>, new: Bytes) -> Result<bool, DepotError> {
        let Some(old) = old else { return self.put_if_absent(key, new).await };
        let _turn = self.turn(key).await?;
        let found = match self.store.get(&key.0).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(failed("read", key)(error)),
        };
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        let is_same =
            found.meta.size == old.len() as u64 && found.bytes().await.map_err(failed("read", key))? == *old;
        if !is_same {
            return Ok(false);
        }
        let mode = match &self.folder {
            Some(_) => PutMode::Overwrite,
            None => PutMode::Update(UpdateVersion { e_tag, version }),
        };
        match self.store.put_opts(&key.0, PutPayload::from_bytes(new), mode.into()).await {
            Ok(_) => Ok(true),
            Err(Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(failed("write", key)(error)),
        }
    }

    /// Waits until nobody else compares and replaces in this folder, in this process or another.
    async fn turn(&self, key: &Key) -> Result<Option<File>, DepotError> {
        let Some(folder) = self.folder.clone() else { return Ok(None) };
        let locked = off_the_loop(move || {
            let lock = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
            lock.lock()?;
            Ok(Some(lock))
        });
        let refuse = |source| DepotError::Lock { key: key.clone(), source };
        locked.await.map_err(refuse)
    }

    /// Puts the first `size` bytes of a file of this machine in the place of what stands there.
    pub async fn put_file(&self, key: &Key, file: File, size: u64) -> Result<(), DepotError> {
        let mut parts = Parts { file, at: 0, size, key: key.clone() };
        if size <= PART_BYTES {
            let all = parts.next().await?;
            return self.put(key, all).await;
        }
        let mut upload = self.store.put_multipart(&key.0).await.map_err(failed("write", key))?;
        let sent = async {
            while parts.at < size {
                let part = parts.next().await?;
                upload.put_part(PutPayload::from_bytes(part)).await.map_err(failed("write", key))?;
            }
            upload.complete().await.map_err(failed("write", key))
        };
        let sent = sent.await;
        if sent.is_err() {
            // The first failure is the one to tell.
            drop(upload.abort().await);
        }
        sent.map(drop)
    }

    /// All files in a folder and those below it, by their paths in the depot.
    pub async fn paths(&self, folder: &Key) -> Result<Vec<String>, DepotError> {
        let found = self.store.list(Some(&folder.0)).map_ok(|entry| entry.location.to_string());
        found.try_collect().await.map_err(failed("list", folder))
    }

    /// The first `most` names in a folder behind `after`. A folder that is not there is empty.
    pub async fn names(&self, folder: &Key, after: Option<&str>, most: usize) -> Result<Names, DepotError> {
        let mut found = match after {
            Some(after) => self.store.list_with_offset(Some(&folder.0), &folder.clone().child(after).0),
            None => self.store.list(Some(&folder.0)),
        };
        let mut first = BTreeSet::new();
        let mut more = false;
        while let Some(entry) = found.try_next().await.map_err(failed("list", folder))? {
            let name = entry.location.filename().unwrap_or_default();
            if after.is_none_or(|after| name > after) {
                first.insert(name.to_owned());
            }
            if first.len() > most {
                first.pop_last();
                more = true;
            }
        }
        Ok(Names { names: first.into_iter().collect(), more })
    }
}

/// Removes what kills left of files on their way into a folder: `object_store` names them after the file, with `#` and a number.
fn sweep(folder: &FilePath, now_ms: WallMs) -> io::Result<()> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
                continue;
            }
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.rsplit_once('#')).and_then(|(_, n)| decimal(n));
            if number.is_none() {
                continue;
            }
            // One that was moved to its place meanwhile is not there any more.
            let Ok(written) = entry.metadata().and_then(|facts| facts.modified()) else { continue };
            let written_ms = written.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
            if now_ms.saturating_sub(written_ms) > LEFT_MS {
                match std::fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

fn failed(doing: &'static str, key: &Key) -> impl FnOnce(Error) -> DepotError {
    let key = key.clone();
    move |source| DepotError::Store { doing, key, source }
}

/// That there is nothing is an answer.
fn missing<T>(doing: &'static str, key: &Key, error: Error) -> Result<Option<T>, DepotError> {
    match error {
        Error::NotFound { .. } => Ok(None),
        error => Err(failed(doing, key)(error)),
    }
}

/// A file of this machine on its way into the depot.
struct Parts {
    file: File,
    at: u64,
    size: u64,
    key: Key,
}

impl Parts {
    /// The next part, read where it may take its time.
    async fn next(&mut self) -> Result<Bytes, DepotError> {
        let range = self.at..self.size.min(self.at.saturating_add(PART_BYTES));
        self.at = range.end;
        let file = self.file.try_clone();
        let read = off_the_loop(move || read_range(&mut file?, range)).await;
        read.map_err(|source| DepotError::Incoming { key: self.key.clone(), source })
    }
}

/// A range of an open file, in pieces larger than the store's own, each of which costs a change of thread.
fn pieces_of(file: File, range: Range<u64>, key: Key) -> Pieces {
    try_unfold((file, range), move |(mut file, range)| {
        let key = key.clone();
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            let end = range.end.min(range.start.saturating_add(READ_BYTES));
            let piece = range.start..end;
            let read = off_the_loop(move || Ok((read_range(&mut file, piece)?, file))).await;
            let (bytes, file) = read.map_err(|source| DepotError::Incoming { key, source })?;
            Ok(Some((bytes, (file, end..range.end))))
        }
    })
    .boxed()
}

/// Exactly these bytes of a file.
fn read_range(file: &mut File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(range.start))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

/// Work that waits for a disk, on a thread that may wait.
pub(crate) async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}
