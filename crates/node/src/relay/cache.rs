//! What the relay keeps of packages: blobs by their digest, brought from the hub when the first node behind asks, once, however many
//! ask together; what of a blob is here is handed on while the rest still comes.
//!
//! Bytes that go out have not all been proven here: whoever gets them proves them, chunk by chunk, as it does whoever gave them. A
//! blob stays only if its bytes have its digest. What an interrupted one left is gone on from.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use package::digest::Digest;
use package::disk::system::{OpenFile, System};
use package::disk::{DiskFile as _, FileError, read_full, read_whole, write_whole};
use package::form::DOCUMENT_MAX_BYTES;
use package::media;
use package::registry::{Reference, RepoName};
use package::store::Store;
use package::store::collect::{Root, collect};
use package::store::ingest::{Ingest, IngestError, Want};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use tokio::sync::{mpsc, oneshot, watch};

use crate::relay::documents::{Documents, Found, Wanted};
use crate::relay::keep::Keep;
use crate::relay::upstream::{NoAnswer, Upstream};
use crate::why::why;

/// How many blobs may be on their way at a time.
const FLIGHTS_MAX: usize = 8;

/// Pieces that wait to be written.
const PIECES: usize = 8;

/// How much of a blob is read at once.
const READ_BYTES: u64 = 64 << 10;

/// The longest list of what is kept.
const ORDER_MAX_BYTES: u64 = 4 << 20;

/// What paces bytes that come over the line: how long to wait before more are taken.
pub(super) type Toll = Arc<dyn Fn(u64) -> Duration + Send + Sync>;

/// Why a blob is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotGiven {
    /// The hub does not have it.
    #[error("the hub does not have it")]
    Unknown,
    /// It does not fit.
    #[error("{0}")]
    TooLarge(String),
    /// Not now.
    #[error("{0}")]
    Later(String),
}

/// How far a blob on its way is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Came {
    /// The hub is being asked.
    Nothing,
    /// All before `until` is here, of `size` bytes.
    Until { until: u64, size: u64 },
    /// It ended early.
    Ended(NotGiven),
}

/// A blob, or what of it is here so far.
pub(super) struct Given {
    file: Arc<OpenFile>,
    /// Its bytes.
    pub(super) size: u64,
    /// `None`: it is here.
    coming: Option<watch::Receiver<Came>>,
}

/// What the cache did, since the node began.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Questions that were answered from what was here or on its way.
    pub(super) hits: AtomicU64,
    /// Blobs that were begun.
    pub(super) misses: AtomicU64,
    /// Bytes that came over the line.
    pub(super) brought_bytes: AtomicU64,
}

/// What is kept.
pub(super) struct Cache {
    store: Arc<Store<System>>,
    order: PathBuf,
    keep_free_bytes: u64,
    keep: Mutex<Keep>,
    flights: Mutex<BTreeMap<Digest, watch::Receiver<Came>>>,
    /// Held while something is taken in or thrown out.
    turn: tokio::sync::Mutex<()>,
    documents: Documents,
    hub: Upstream,
    toll: Toll,
    /// What it did.
    pub(super) counts: Counts,
}

/// A flight's end: forgotten, whatever happened.
struct Flight {
    cache: Arc<Cache>,
    digest: Digest,
    tell: watch::Sender<Came>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.cache.flights().remove(&self.digest);
        self.cache.keep().end(&self.digest);
    }
}

impl Cache {
    /// What an earlier life left in `folder`, and the hub.
    pub(super) fn open(
        folder: &Path,
        quota_bytes: u64,
        keep_free_bytes: u64,
        documents: Documents,
        hub: Upstream,
        toll: Toll,
    ) -> Result<Cache, FileError> {
        let store = Store::open(System, &folder.join("packages"), quota_bytes)?;
        let order = folder.join("order.json");
        let mut left = store.listed()?;
        let known: Vec<Digest> = read_whole(&System, &order, ORDER_MAX_BYTES)
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let in_order: Vec<(Digest, u64)> =
            known.into_iter().filter_map(|digest| Some((digest, left.remove(&digest)?))).collect();
        // What the list does not know came after it was written last.
        let keep = Keep::new(quota_bytes, in_order.into_iter().chain(left));
        let (keep, flights, turn) = (Mutex::new(keep), Mutex::default(), tokio::sync::Mutex::default());
        let (store, counts) = (Arc::new(store), Counts::default());
        Ok(Cache { store, order, keep_free_bytes, keep, flights, turn, documents, hub, toll, counts })
    }

    /// How many blobs there are, their bytes, how many documents.
    pub(super) fn holds(&self) -> (usize, u64, usize) {
        let keep = self.keep();
        (keep.len(), keep.bytes(), self.documents.count())
    }

    /// What is in the way to the hub.
    pub(super) fn trouble(&self) -> Option<String> {
        self.hub.trouble()
    }

    /// The hub, as it is asked for what is kept.
    pub(super) fn hub(&self) -> &Upstream {
        &self.hub
    }

    /// A signed document.
    pub(super) async fn document(&self, wanted: &Wanted) -> Found {
        let brought = |bytes| {
            self.counts.brought_bytes.fetch_add(bytes, Relaxed);
        };
        self.documents.get(wanted, &self.hub, brought).await
    }

    /// A blob, as soon as it is known how large it is.
    pub(super) async fn blob(
        self: &Arc<Cache>,
        name: &RepoName,
        digest: Digest,
        is_manifest: bool,
    ) -> Result<Given, NotGiven> {
        if let Some(file) = self.opened(digest, false).await? {
            self.keep().used(&digest);
            self.counts.hits.fetch_add(1, Relaxed);
            let size = file.size_bytes().map_err(|error| later(&error))?;
            return Ok(Given { file: Arc::new(file), size, coming: None });
        }
        let mut coming = self.board(name, digest, is_manifest)?;
        let size = {
            let begun = coming.wait_for(|came| *came != Came::Nothing).await;
            match begun.as_deref() {
                Ok(Came::Until { size, .. }) => *size,
                Ok(Came::Ended(why)) => return Err(why.clone()),
                Ok(Came::Nothing) | Err(_) => return Err(NotGiven::Later("it broke off".to_owned())),
            }
        };
        let file = self.opened(digest, true).await?;
        let file = file.ok_or_else(|| NotGiven::Later("it broke off".to_owned()))?;
        Ok(Given { file: Arc::new(file), size, coming: Some(coming) })
    }

    async fn opened(&self, digest: Digest, is_arriving: bool) -> Result<Option<OpenFile>, NotGiven> {
        let store = Arc::clone(&self.store);
        let open = move || match is_arriving {
            true => store.open_arriving(&digest),
            false => store.open_blob(&digest),
        };
        match tokio::task::spawn_blocking(open).await {
            Ok(opened) => opened.map_err(|error| later(&error)),
            Err(died) => Err(later(&died)),
        }
    }

    /// Joins the flight of a blob; begins it if there is none.
    fn board(
        self: &Arc<Cache>,
        name: &RepoName,
        digest: Digest,
        is_manifest: bool,
    ) -> Result<watch::Receiver<Came>, NotGiven> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&digest) {
            self.counts.hits.fetch_add(1, Relaxed);
            return Ok(flight.clone());
        }
        if flights.len() >= FLIGHTS_MAX {
            return Err(NotGiven::Later(format!("{FLIGHTS_MAX} blobs are on their way already")));
        }
        let (tell, told) = watch::channel(Came::Nothing);
        flights.insert(digest, told.clone());
        self.counts.misses.fetch_add(1, Relaxed);
        let flight = Flight { cache: Arc::clone(self), digest, tell };
        let path = match is_manifest {
            true => name.manifest(&Reference::Digest(digest)),
            false => name.blob(&digest),
        };
        // It goes on if whoever asked first is gone: the next one asks for the same.
        tokio::spawn(async move {
            if let Err(why) = flight.fly(path.trim_start_matches('/'), is_manifest).await {
                tracing::debug!(%digest, %why, "a blob does not come");
                flight.tell.send_replace(Came::Ended(why));
            }
        });
        Ok(told)
    }

    fn keep(&self) -> MutexGuard<'_, Keep> {
        self.keep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<Digest, watch::Receiver<Came>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a blob.
    async fn make_room(&self, digest: Digest, size: u64) -> Result<(), NotGiven> {
        let _turn = self.turn.lock().await;
        let gone = self.keep().begin(digest, size).map_err(|error| NotGiven::TooLarge(error.to_string()))?;
        if gone.is_empty() {
            return Ok(());
        }
        let (store, kept) = (Arc::clone(&self.store), self.keep().in_order());
        let thrown = tokio::task::spawn_blocking(move || collect(&store, kept.into_iter().map(Root::Leaf)));
        match thrown.await {
            Ok(thrown) => thrown.map(drop).map_err(|error| later(&error)),
            Err(died) => Err(later(&died)),
        }
    }

    /// Keeps in which order blobs were used. Lost, the next life begins with another order.
    async fn note_order(&self) {
        let _turn = self.turn.lock().await;
        let order = serde_json::to_vec(&self.keep().in_order()).unwrap_or_default();
        let path = self.order.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || write_whole(&System, &path, &order)).await
        {
            tracing::debug!(error = why(&error), "the order of the cache is not kept");
        }
    }
}

fn later(error: &dyn std::error::Error) -> NotGiven {
    NotGiven::Later(why(error))
}

fn unanswered(no: NoAnswer) -> NotGiven {
    NotGiven::Later(no.to_string())
}

impl Flight {
    /// Brings the blob.
    async fn fly(&self, path: &str, is_manifest: bool) -> Result<(), NotGiven> {
        let cache = &self.cache;
        let size = self.size_of(path, is_manifest).await?;
        cache.make_room(self.digest, size).await?;
        let want = Want { digest: self.digest, size, chunks: None };
        let (pieces, waiting) = mpsc::channel(PIECES);
        let (begin, begun) = oneshot::channel();
        let (store, tell, keep_free) = (Arc::clone(&cache.store), self.tell.clone(), cache.keep_free_bytes);
        let writing =
            tokio::task::spawn_blocking(move || write(&store, want, keep_free, waiting, begin, &tell));
        // Nothing was begun: why not is what writing gives.
        let brought = match begun.await {
            Ok(from) if from < size => self.bring(path, is_manifest, from, size, pieces).await,
            Ok(_) | Err(_) => {
                drop(pieces);
                Ok(())
            }
        };
        let written = writing.await.map_err(|died| later(&died))?;
        if let Err(error) = written {
            use IngestError::{NoRoom, Quota, WrongDigest};
            if matches!(error, WrongDigest { .. } | NoRoom(_) | Quota { .. }) {
                cache.keep().gone(&self.digest);
            }
            // A line that broke says more than what is missing for it.
            brought?;
            return Err(match error {
                NoRoom(_) | Quota { .. } => NotGiven::TooLarge(error.to_string()),
                error => later(&error),
            });
        }
        self.tell.send_replace(Came::Until { until: size, size });
        cache.note_order().await;
        Ok(())
    }

    /// How large the blob is, as the hub says: no node is believed about what the hub has.
    async fn size_of(&self, path: &str, is_manifest: bool) -> Result<u64, NotGiven> {
        let answer = self.cache.hub.ask(Method::HEAD, path, None, asks(is_manifest, None)).await;
        let answer = answer.map_err(unanswered)?;
        if answer.status().as_u16() == 404 {
            return Err(NotGiven::Unknown);
        }
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let size: u64 =
            length.ok_or_else(|| unanswered(NoAnswer::Wrong("it does not say how large it is")))?;
        match is_manifest && size > DOCUMENT_MAX_BYTES as u64 {
            true => Err(NotGiven::TooLarge(format!("a document of {size} bytes is none"))),
            false => Ok(size),
        }
    }

    /// Brings its bytes from `from` on, as fast as they may.
    async fn bring(
        &self,
        path: &str,
        is_manifest: bool,
        from: u64,
        size: u64,
        pieces: mpsc::Sender<Bytes>,
    ) -> Result<(), NotGiven> {
        let hub = &self.cache.hub;
        let range = (from > 0).then_some(from);
        let answer = hub.ask(Method::GET, path, None, asks(is_manifest, range)).await;
        let mut answer = answer.map_err(unanswered)?;
        let expected = format!("bytes {from}-{}/{size}", size - 1);
        let is_part = answer.headers().get(CONTENT_RANGE).is_some_and(|range| range == expected.as_str());
        let mut skip = match answer.status().as_u16() {
            206 if is_part => 0,
            200 => from,
            404 => return Err(NotGiven::Unknown),
            _ => return Err(unanswered(NoAnswer::Wrong("it is another part than was asked for"))),
        };
        while let Some(piece) = answer.chunk().await.map_err(|error| unanswered(hub.broke_off(&error)))? {
            self.cache.counts.brought_bytes.fetch_add(piece.len() as u64, Relaxed);
            tokio::time::sleep((self.cache.toll)(piece.len() as u64)).await;
            let known = skip.min(piece.len() as u64);
            skip -= known;
            // The writer has stopped, and says why.
            if pieces.send(piece.slice(known as usize..)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn asks(is_manifest: bool, from: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if is_manifest {
        let kinds = format!("{}, {}", media::OCI_MANIFEST, media::OCI_INDEX);
        headers.extend(HeaderValue::try_from(kinds).ok().map(|kinds| (ACCEPT, kinds)));
    }
    let range = from.and_then(|from| HeaderValue::try_from(format!("bytes={from}-")).ok());
    headers.extend(range.map(|range| (RANGE, range)));
    headers
}

/// Writes what comes, in order, and proves the whole at its end. Blocks. `begin` hears from which byte on it is wanted.
fn write(
    store: &Store<System>,
    want: Want,
    keep_free: u64,
    mut pieces: mpsc::Receiver<Bytes>,
    begin: oneshot::Sender<u64>,
    tell: &watch::Sender<Came>,
) -> Result<(), IngestError> {
    let size = want.size;
    let mut ingest = match Ingest::begin(store, want, keep_free) {
        Ok(ingest) => ingest,
        // It came in between.
        Err(IngestError::There { .. }) => {
            tell.send_replace(Came::Until { until: size, size });
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    while ingest.check(u64::MAX)?.is_some() {}
    let mut at = ingest.missing().first().map_or(size, |missing| missing.start);
    tell.send_replace(Came::Until { until: at, size });
    // Nobody brings anything: what is missing is said at the end.
    let _ = begin.send(at);
    while at < size
        && let Some(piece) = pieces.blocking_recv()
    {
        ingest.write(at, &piece)?;
        at += piece.len() as u64;
        // The last byte is told when all of them are proven.
        if at < size {
            tell.send_replace(Came::Until { until: at, size });
        }
    }
    ingest.finish().map(drop)
}

impl Given {
    /// The bytes at the beginning of `range`, once they are here; `None`: the range is empty. Gives what is left of it, too.
    pub(super) async fn next(&mut self, range: Range<u64>) -> io::Result<Option<(Bytes, Range<u64>)>> {
        if range.is_empty() {
            return Ok(None);
        }
        let until = match &mut self.coming {
            None => self.size,
            Some(coming) => {
                let is_there = |came: &Came| match came {
                    Came::Until { until, .. } => *until > range.start,
                    Came::Ended(_) => true,
                    Came::Nothing => false,
                };
                match coming.wait_for(is_there).await.as_deref() {
                    Ok(Came::Until { until, .. }) => *until,
                    Ok(Came::Ended(why)) => return Err(io::Error::other(why.to_string())),
                    Ok(Came::Nothing) | Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        };
        let end = range.end.min(until).min(range.start.saturating_add(READ_BYTES));
        let (file, start) = (Arc::clone(&self.file), range.start);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
            match read_full(&*file, start, &mut bytes)? == bytes.len() {
                true => Ok::<_, io::Error>(Bytes::from(bytes)),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        });
        let bytes = read.await.map_err(io::Error::other)??;
        Ok(Some((bytes, end..range.end)))
    }
}
