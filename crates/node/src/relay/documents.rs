//! Signed documents that the relay keeps: trust metadata, and pages of assignments. The hub is asked whether there are newer
//! ones, at most every two seconds for all who ask together; while it is out of reach they are answered with what is here.
//!
//! Nothing here is believed by anybody for where it lies: nodes judge signatures, and see when something old is shown to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use package::disk::system::System;
use package::disk::{Disk as _, FileError, make_folders, read_whole, remove, write_whole};
use package::trust::Limits;
use package::trust::assignment::BYTES_MAX;
use reqwest::Method;
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use wire::hash::Hash;
use wire::world::MonoNs;

use crate::api::connections::Now;
use crate::relay::upstream::{NoAnswer, Upstream};

/// What was asked for within this time is not asked for again.
const FRESH_NS: MonoNs = 2_000_000_000;

/// The most documents, and the most bytes of all of them.
const DOCUMENTS_MAX: usize = 1024;
const BYTES_OF_ALL_MAX: u64 = 128 << 20;

/// The longest name of a metadata file, and of a place in a list.
const NAME_MAX: usize = 200;

/// The most bytes of a page of assignments: a hub puts 32 on one.
const PAGE_BYTES_MAX: u64 = 33 * BYTES_MAX as u64;

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A file of trust metadata.
    Metadata(String),
    /// The page of assignments behind this id.
    Assignments(Option<String>),
}

impl Wanted {
    /// A metadata file, if this can be the name of one.
    pub(super) fn metadata(file: &str) -> Option<Wanted> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.~%".contains(&byte);
        let fits = file.len() <= NAME_MAX && file.bytes().all(plain) && !file.starts_with('.');
        (fits && file.ends_with(".json")).then(|| Wanted::Metadata(file.to_owned()))
    }

    /// A page of assignments, if the place can be one.
    pub(super) fn assignments(after: Option<&str>) -> Option<Wanted> {
        let fits =
            |after: &&str| after.len() <= NAME_MAX && after.bytes().all(|byte| byte.is_ascii_graphic());
        match after {
            None => Some(Wanted::Assignments(None)),
            Some(after) => Some(after).filter(fits).map(|after| Wanted::Assignments(Some(after.to_owned()))),
        }
    }

    /// Its file's name.
    fn file(&self) -> String {
        match self {
            Wanted::Metadata(file) => format!("tuf-{file}"),
            Wanted::Assignments(None) => "assignments.json".to_owned(),
            Wanted::Assignments(Some(after)) => format!("assignments-{}.json", Hash::of(after.as_bytes())),
        }
    }

    /// Whether it is for ever what it is now: a file with its version in its name.
    fn is_fixed(&self) -> bool {
        matches!(self, Wanted::Metadata(file) if file.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn max_bytes(&self) -> u64 {
        match self {
            Wanted::Metadata(_) => Limits::default().targets_bytes,
            Wanted::Assignments(_) => PAGE_BYTES_MAX,
        }
    }

    fn path(&self) -> String {
        match self {
            Wanted::Metadata(file) => format!("tuf/metadata/{file}"),
            Wanted::Assignments(_) => "api/v1/assignments".to_owned(),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// There is none, as far as can be known.
    Absent,
    /// Nobody can say.
    Unknown(String),
}

/// What is known of a document.
#[derive(Debug, Clone, Default)]
struct Known {
    bytes: u64,
    /// Greater: later.
    used: u64,
    etag: Option<HeaderValue>,
    /// When the hub last said that this, or nothing, is the newest.
    said_ns: Option<MonoNs>,
    is_absent: bool,
}

/// The documents that are kept.
pub(super) struct Documents {
    folder: PathBuf,
    known: Mutex<BTreeMap<String, Known>>,
    /// One question at a time for each.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    now: Now,
}

impl Documents {
    /// Those in a folder, which is made.
    pub(super) fn open(folder: &Path, now: Now) -> Result<Documents, FileError> {
        make_folders(&System, folder)?;
        let entries = System.list(folder).map_err(FileError::at(folder))?;
        let is_ours = |name: &str| name.starts_with("tuf-") || name.starts_with("assignments");
        let ours = entries.into_iter().filter(|entry| entry.is_file && is_ours(&entry.name));
        let known = ours.map(|entry| (entry.name, Known { bytes: entry.size_bytes, ..Known::default() }));
        let known = Mutex::new(known.collect());
        Ok(Documents { folder: folder.to_owned(), known, turns: Mutex::default(), now })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known().values().filter(|known| known.bytes > 0).count()
    }

    /// A document: from here if it is the newest, else from the hub; from here if the hub cannot be asked. `brought` hears how
    /// many bytes came over the line.
    pub(super) async fn get(&self, wanted: &Wanted, hub: &Upstream, brought: impl Fn(u64)) -> Found {
        let file = wanted.file();
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits for those that only this list knows.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(file.clone()).or_default())
        };
        let _turn = turn.lock().await;
        let known = self.used(&file);
        let is_here = known.bytes > 0;
        let is_fresh = known.said_ns.is_some_and(|said| (self.now)().saturating_sub(said) < FRESH_NS);
        if is_here && wanted.is_fixed() || is_fresh {
            return if known.is_absent { Found::Absent } else { self.read(wanted, &file).await };
        }
        match self.ask(wanted, &known, hub, brought).await {
            Ok(Said::New(bytes, etag)) => {
                self.keep(&file, &bytes, etag).await;
                Found::Bytes(bytes)
            }
            Ok(Said::Same) => {
                self.said(&file, false);
                self.read(wanted, &file).await
            }
            Ok(Said::Absent) => {
                self.said(&file, true);
                Found::Absent
            }
            Err(why) if is_here => {
                tracing::debug!(file, %why, "answered with what is here");
                self.read(wanted, &file).await
            }
            // A client that looks for a newer root than there is has come to the end here, as far as anybody here knows.
            Err(NoAnswer::Away(_)) if matches!(wanted, Wanted::Metadata(_)) => Found::Absent,
            Err(why) => Found::Unknown(why.to_string()),
        }
    }

    async fn ask(
        &self,
        wanted: &Wanted,
        known: &Known,
        hub: &Upstream,
        brought: impl Fn(u64),
    ) -> Result<Said, NoAnswer> {
        let mut headers = HeaderMap::new();
        headers.extend(known.etag.clone().filter(|_| known.bytes > 0).map(|etag| (IF_NONE_MATCH, etag)));
        let after = match wanted {
            Wanted::Assignments(Some(after)) => Some(("after", after.as_str())),
            Wanted::Assignments(None) | Wanted::Metadata(_) => None,
        };
        let mut response = hub.ask(Method::GET, &wanted.path(), after, headers).await?;
        match response.status().as_u16() {
            304 => return Ok(Said::Same),
            404 => return Ok(Said::Absent),
            _ => {}
        }
        let etag = response.headers().get(ETAG).cloned();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| hub.broke_off(&error))? {
            brought(piece.len() as u64);
            if (bytes.len() + piece.len()) as u64 > wanted.max_bytes() {
                return Err(NoAnswer::Wrong("it has no end"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Said::New(bytes, etag))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self, file: &str) -> Known {
        let mut all = self.known();
        let last = all.values().map(|known| known.used).max().unwrap_or(0);
        match all.get_mut(file) {
            Some(known) => {
                known.used = last + 1;
                known.clone()
            }
            None => Known::default(),
        }
    }

    fn said(&self, file: &str, is_absent: bool) {
        let now = (self.now)();
        let mut all = self.known();
        let last = all.values().map(|known| known.used).max().unwrap_or(0);
        let known = all.entry(file.to_owned()).or_default();
        (known.said_ns, known.is_absent, known.used) = (Some(now), is_absent, last + 1);
        drop(all);
        // Nothing on the disk goes for the mere word that there is nothing.
        self.too_many(|known| known.bytes == 0);
    }

    async fn read(&self, wanted: &Wanted, file: &str) -> Found {
        let (path, max_bytes) = (self.folder.join(file), wanted.max_bytes());
        let read = tokio::task::spawn_blocking(move || read_whole(&System, &path, max_bytes)).await;
        match read {
            Ok(Ok(Some(bytes))) => Found::Bytes(bytes),
            // Somebody took it away: the next question brings it again.
            Ok(Ok(None)) => {
                self.known().remove(file);
                Found::Unknown("the relay has lost it".to_owned())
            }
            Ok(Err(error)) => Found::Unknown(crate::why::why(&error)),
            Err(died) => Found::Unknown(died.to_string()),
        }
    }

    /// Keeps what came. A disk that refuses keeps nobody from it.
    async fn keep(&self, file: &str, bytes: &[u8], etag: Option<HeaderValue>) {
        let now = (self.now)();
        {
            let mut all = self.known();
            let used = all.values().map(|known| known.used).max().unwrap_or(0) + 1;
            let bytes = bytes.len() as u64;
            let known = Known { bytes, used, etag, said_ns: Some(now), is_absent: false };
            all.insert(file.to_owned(), known);
        }
        let gone: Vec<PathBuf> = self.too_many(|_| true).iter().map(|file| self.folder.join(file)).collect();
        let (path, bytes) = (self.folder.join(file), bytes.to_vec());
        let written = tokio::task::spawn_blocking(move || {
            gone.iter().try_for_each(|path| remove(&System, path))?;
            write_whole(&System, &path, &bytes)
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(error = crate::why::why(&error), "the relay does not keep a document");
            self.known().remove(file);
        }
    }

    /// Forgets the least recently used ones that may go, beyond the limits; gives their files.
    fn too_many(&self, may_go: impl Fn(&Known) -> bool) -> Vec<String> {
        let (mut all, mut gone) = (self.known(), Vec::new());
        loop {
            let bytes: u64 = all.values().map(|known| known.bytes).sum();
            if all.len() <= DOCUMENTS_MAX && bytes <= BYTES_OF_ALL_MAX {
                return gone;
            }
            let oldest = all.iter().filter(|(_, known)| may_go(known)).min_by_key(|(_, known)| known.used);
            let oldest = oldest.map(|(file, _)| file.clone());
            let Some(oldest) = oldest else { return gone };
            all.remove(&oldest);
            gone.push(oldest);
        }
    }
}

/// What the hub said.
enum Said {
    New(Vec<u8>, Option<HeaderValue>),
    Same,
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused() {
        for (file, is_one) in [
            ("timestamp.json", true),
            ("12.team%2Fa.json", true),
            ("..json", false),
            ("../keys.json", false),
            ("a/b.json", false),
            ("root", false),
            ("", false),
        ] {
            assert_eq!(Wanted::metadata(file).is_some(), is_one, "{file}");
        }
        assert!(Wanted::metadata(&format!("{}.json", "a".repeat(NAME_MAX))).is_none());
        assert!(Wanted::assignments(Some("a b")).is_none() && Wanted::assignments(None).is_some());
        let after = Wanted::assignments(Some("../../x")).unwrap().file();
        assert!(after.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)), "{after}");
        assert!(Wanted::metadata("3.root.json").unwrap().is_fixed());
        assert!(!Wanted::metadata("timestamp.json").unwrap().is_fixed());
    }

    #[test]
    fn the_least_recently_used_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let documents = Documents::open(folder.path(), Arc::new(|| 0)).unwrap();
        for number in 0..DOCUMENTS_MAX + 10 {
            documents.said(&format!("tuf-{number}.json"), true);
        }
        let known = documents.known();
        assert_eq!(known.len(), DOCUMENTS_MAX);
        assert!(!known.contains_key("tuf-9.json") && known.contains_key("tuf-10.json"));
    }
}
