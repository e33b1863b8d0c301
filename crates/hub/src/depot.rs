//! Where packages lie: blobs and small files under keys, in a folder, in memory, or in a store that speaks S3.
//!
//! What a put has answered is durable: of a folder the file and its name are synced, S3 promises as much. Under a key stands
//! its old content or its new one, never a part of one. Nothing of it is in SQL.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _, try_unfold};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload,
};
use package::digest::Digest;
use package::registry::{RepoName, Tag};
use package::trust::key::KeyId;

use crate::config::DepotConfig;

/// What is larger goes in parts of this size, each in memory for as long as it takes.
const PART_BYTES: u64 = 8 << 20;

/// How much of a file is read at once.
const READ_BYTES: u64 = 256 << 10;

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
    /// The store cannot be opened.
    #[error("cannot open the depot of packages; check [depot] in the hub's config")]
    Open(#[source] Error),
    /// Something for which this program was not built.
    #[error("this program was built without S3: use one that was built with it, or set `folder` in [depot]")]
    NoS3,
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
        Key::of(["tuf", "metadata", file])
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
}

impl Depot {
    /// The depot of the settings; without any, the folder `packages` in `data`.
    pub fn open(config: &DepotConfig, data: &FilePath) -> Result<Depot, DepotError> {
        match (&config.s3, &config.folder) {
            (Some(bucket), _) => s3::open(bucket).map(|store| Depot { store }),
            (None, Some(folder)) => Depot::folder(folder),
            (None, None) => Depot::folder(&data.join("packages")),
        }
    }

    /// A depot in a folder, which is made if it is not there.
    pub fn folder(path: &FilePath) -> Result<Depot, DepotError> {
        std::fs::create_dir_all(path)
            .map_err(|source| DepotError::Folder { path: path.to_owned(), source })?;
        let folder = LocalFileSystem::new_with_prefix(path).map_err(DepotError::Open)?;
        Ok(Depot { store: Arc::new(folder.with_fsync(true)) })
    }

    /// A depot that is gone with the process.
    pub fn memory() -> Depot {
        Depot { store: Arc::new(InMemory::new()) }
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

#[cfg(feature = "s3")]
mod s3 {
    use std::sync::Arc;

    use object_store::ObjectStore;
    use object_store::aws::AmazonS3Builder;
    use object_store::prefix::PrefixStore;

    use super::DepotError;
    use crate::config::S3Config;

    /// Who we are there stands in the variables of the environment that Amazon's own tools read.
    pub(super) fn open(config: &S3Config) -> Result<Arc<dyn ObjectStore>, DepotError> {
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&config.bucket);
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let bucket = builder.build().map_err(DepotError::Open)?;
        Ok(Arc::new(PrefixStore::new(bucket, config.prefix.as_str())))
    }
}

#[cfg(not(feature = "s3"))]
mod s3 {
    use std::sync::Arc;

    use object_store::ObjectStore;

    use super::DepotError;
    use crate::config::S3Config;

    pub(super) fn open(_config: &S3Config) -> Result<Arc<dyn ObjectStore>, DepotError> {
        Err(DepotError::NoS3)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    async fn each(check: impl AsyncFn(Depot)) {
        check(Depot::memory()).await;
        let folder = tempfile::tempdir().unwrap();
        check(Depot::folder(&folder.path().join("a/b")).unwrap()).await;
    }

    async fn all(pieces: Option<Pieces>) -> Vec<u8> {
        let pieces: Vec<Bytes> = pieces.unwrap().try_collect().await.unwrap();
        pieces.concat()
    }

    #[tokio::test]
    async fn what_is_put_is_there() {
        each(async |depot| {
            let key = Key::tuf("1.a%2F..%2Fb.json");
            assert_eq!(depot.size(&key).await.unwrap(), None);
            assert_eq!(depot.read(&key, 10).await.unwrap(), None);
            assert!(depot.stream(&key, 0..1).await.unwrap().is_none());
            assert!(depot.put_if_absent(&key, Bytes::from_static(b"one")).await.unwrap());
            assert!(!depot.put_if_absent(&key, Bytes::from_static(b"two")).await.unwrap());
            assert_eq!(depot.read(&key, 3).await.unwrap().unwrap(), b"one"[..]);
            depot.put(&key, Bytes::from_static(b"three")).await.unwrap();
            assert_eq!(depot.size(&key).await.unwrap(), Some(5));
            assert!(matches!(depot.read(&key, 4).await, Err(DepotError::TooLong { bytes: 5, .. })));
            assert_eq!(all(depot.stream(&key, 1..4).await.unwrap()).await, b"hre");
        })
        .await;
    }

    #[tokio::test]
    async fn large_files_go_in_parts() {
        each(async |depot| {
            for size in [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 7] {
                let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&bytes).unwrap();
                file.write_all(b"what is behind does not belong to it").unwrap();
                let key = Key::blob(&Digest::of(&bytes));
                depot.put_file(&key, file, size).await.unwrap();
                assert_eq!(depot.size(&key).await.unwrap(), Some(size));
                if size > 0 {
                    assert!(all(depot.stream(&key, 0..size).await.unwrap()).await == bytes, "{size}");
                    let tail = all(depot.stream(&key, size / 2..size).await.unwrap()).await;
                    assert!(tail == bytes[(size / 2) as usize..], "{size}");
                }
            }
        })
        .await;
    }

    #[tokio::test]
    async fn names_come_in_order_and_in_pages() {
        each(async |depot| {
            let name = RepoName::new("team/smollm2").unwrap();
            let nested = RepoName::new("team/smollm2/tags").unwrap();
            let tags = Key::tags(&name);
            let page = async |after: Option<&str>, most| {
                let Names { names, more } = depot.names(&tags, after, most).await.unwrap();
                (names.join(" "), more)
            };
            assert_eq!(page(None, 5).await, (String::new(), false));
            for tag in ["v2", "7", "latest", "_x", "V1.0"] {
                depot.put(&Key::tag(&name, &Tag::new(tag).unwrap()), Bytes::new()).await.unwrap();
                depot.put(&Key::tag(&nested, &Tag::new(tag).unwrap()), Bytes::new()).await.unwrap();
            }
            assert_eq!(page(None, 9).await, ("7 V1.0 _x latest v2".to_owned(), false));
            assert_eq!(page(None, 2).await, ("7 V1.0".to_owned(), true));
            assert_eq!(page(Some("V1.0"), 3).await, ("_x latest v2".to_owned(), false));
            assert_eq!(page(Some("a"), 1).await, ("latest".to_owned(), true));
            assert_eq!(page(None, 0).await, (String::new(), true));
        })
        .await;
    }
}
