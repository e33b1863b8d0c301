//! Brings the newest trust metadata to this node: carries out `package::trust::update`, and nothing more.
//!
//! The repository is a folder of files on a server, on a stick, or in a package's archive; none of them is believed more than
//! another. Each file is read up to the length that the update asks for, within a time of its own: a body without an
//! end and one that drips both stop. What the update has verified is committed before the next step is taken.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use package::archive::{self, ArchiveError, Member, Name, contents, read_member};
use package::disk::system::System;
use package::disk::{Disk, FileError, read_whole};
use package::trust::Policy;
use package::trust::metadata::{FileName, TargetFile};
use package::trust::state::TrustState;
use package::trust::update::{Effect, Event, Outcome, Update, UpdateError, Want, step};
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Url};
use wire::world::Clock;

use crate::identity::tls::HubTls;
use crate::web::http::{Ask, Web, WebError};
use crate::why::why;

/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// The time in which a file must be there, unless told otherwise.
pub const FILE_TIME: Duration = Duration::from_secs(60);

/// A repository, or another place of signed documents, that cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Not an address.
    #[error("{url:?} is no address of a server; it reads like https://hub.example")]
    Address {
        /// What was given.
        url: String,
    },
    /// A token that cannot stand in a header.
    #[error("the token has a character that cannot be sent; copy it again")]
    Token,
    /// HTTP cannot be set up.
    #[error(transparent)]
    Web(#[from] WebError),
    /// It is not there, or may not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no archive of a package.
    #[error("{} is no package", path.display())]
    Archive {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
}

/// Where metadata is.
#[derive(Debug)]
pub struct Repository(Place);

#[derive(Debug)]
enum Place {
    Server { web: Web, file_time: Duration },
    Folder(PathBuf),
    Archive { path: PathBuf, members: BTreeMap<Name, Member> },
}

impl Repository {
    /// The files below `url`. The token goes to that server only; each file has `file_time` to come.
    pub fn at(url: &str, token: Option<&str>, file_time: Duration) -> Result<Repository, RepositoryError> {
        let web = server(url, token, file_time)?;
        Ok(Repository(Place::Server { web, file_time }))
    }

    /// The same, where the server is our hub, which knows us by a certificate.
    pub fn with_tls(self, tls: Option<&HubTls>) -> Result<Repository, RepositoryError> {
        match self.0 {
            Place::Server { web, file_time } => {
                Ok(Repository(Place::Server { web: web.with_tls(tls)?, file_time }))
            }
            place => Ok(Repository(place)),
        }
    }

    /// The same, where these authorities vouch for the server beside the system's.
    pub fn with_authorities(self, authorities: &[Certificate]) -> Result<Repository, RepositoryError> {
        match self.0 {
            Place::Server { web, file_time } => {
                Ok(Repository(Place::Server { web: web.with_authorities(authorities)?, file_time }))
            }
            place => Ok(Repository(place)),
        }
    }

    /// The files in a folder, or those that an archive of a package brings along. Blocks.
    pub fn in_folder(path: &Path) -> Result<Repository, RepositoryError> {
        if path.is_dir() {
            return Ok(Repository(Place::Folder(path.to_owned())));
        }
        Ok(Repository(Place::Archive { path: path.to_owned(), members: members_of(path)? }))
    }

    /// Fetches a file of at most `max_bytes`; `None` if there is none, or says why it does not come. A folder and an archive
    /// block.
    pub async fn fetch(&self, file: &FileName, max_bytes: u64) -> Result<Option<Vec<u8>>, String> {
        match &self.0 {
            Place::Server { web, file_time } => from_server(web, file, max_bytes, *file_time).await,
            Place::Folder(folder) => {
                let read = read_whole(&System, &folder.join(file.as_str()), max_bytes);
                read.map_err(|error| why(&error))
            }
            Place::Archive { path, members } => from_archive(path, members, file, max_bytes),
        }
    }
}

/// The way to the server at `url`, which alone gets the token; every wait ends after `idle`.
pub(crate) fn server(url: &str, token: Option<&str>, idle: Duration) -> Result<Web, RepositoryError> {
    let bad = || RepositoryError::Address { url: url.to_owned() };
    let base = Url::parse(&format!("{}/", url.trim().trim_end_matches('/'))).map_err(|_| bad())?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(bad());
    }
    let token = token.map(|token| {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))?;
        value.set_sensitive(true);
        Ok(value)
    });
    let token = token.transpose();
    let token = token.map_err(|_: reqwest::header::InvalidHeaderValue| RepositoryError::Token)?;
    Ok(Web::new(base, token, CONNECT.min(idle), idle)?)
}

/// Where each file of a package's archive lies.
pub(crate) fn members_of(path: &Path) -> Result<BTreeMap<Name, Member>, RepositoryError> {
    let mut file = File::open(path).map_err(FileError::at(path))?;
    contents(&mut file).map_err(|source| RepositoryError::Archive { path: path.to_owned(), source })
}

async fn from_server(
    web: &Web,
    file: &FileName,
    max_bytes: u64,
    file_time: Duration,
) -> Result<Option<Vec<u8>>, String> {
    let url = web.endpoint().join(file.as_str()).map_err(|error| error.to_string())?;
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let ask = Ask::default();
    let came = async { web.get(&url, &ask).await?.body(max_bytes).await };
    match tokio::time::timeout(file_time, came).await {
        Ok(Ok(bytes)) => Ok(Some(bytes)),
        // Stores of objects say 403 of what is not there (specification 5.3.3).
        Ok(Err(WebError::NotFound { .. } | WebError::NotAllowed { status: 403, .. })) => Ok(None),
        Ok(Err(error)) => Err(why(&error)),
        Err(_) => Err(format!("it was not there after {} ms", file_time.as_millis())),
    }
}

fn from_archive(
    path: &Path,
    members: &BTreeMap<Name, Member>,
    file: &FileName,
    max_bytes: u64,
) -> Result<Option<Vec<u8>>, String> {
    let member = archive::FileName::new(file.as_str()).and_then(|name| members.get(&Name::Metadata(name)));
    member.map(|member| read_from(path, *member, max_bytes)).transpose()
}

/// A file of an archive, of at most `max_bytes`; or why there is none.
pub(crate) fn read_from(path: &Path, member: Member, max_bytes: u64) -> Result<Vec<u8>, String> {
    if member.size > max_bytes {
        return Err(format!("it has {} bytes, more than the {max_bytes} that are read", member.size));
    }
    let read = File::open(path).and_then(|mut archive| read_member(&mut archive, member));
    read.map_err(|error| error.to_string())
}

/// What an update found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// The metadata is the newest that could be had.
    Fresh,
    /// That, and the target that was wanted; its bytes are proven by [`TargetFile::check`].
    Target(TargetFile),
    /// That, and no role names the target.
    NoTarget,
}

/// Brings the state up to date, and finds a target if one is wanted. Whatever fails, the state holds what was verified
/// before, and never anything else. Blocks while it reads and writes files: callers give it a thread.
pub async fn refresh<D: Disk>(
    state: &mut TrustState<D>,
    repository: &Repository,
    want: Want,
    policy: &Policy,
    clock: &impl Clock,
) -> Result<Refreshed, UpdateError> {
    let clock_ms = clock.wall_ms();
    let update = Update::new(state.trusted().clone(), policy.clone());
    let (mut update, mut effects) = step(update, Event::Begin(want), clock_ms);
    loop {
        let event = match effects.pop() {
            Some(Effect::Fetch { file, max_bytes }) => match repository.fetch(&file, max_bytes).await {
                Ok(Some(bytes)) => Event::Got { file, bytes },
                Ok(None) => Event::Absent { file },
                Err(why) => Event::Failed { file, why },
            },
            Some(Effect::Persist(trusted)) => match state.commit(trusted) {
                Ok(()) => Event::Persisted,
                Err(error) => Event::NotPersisted { why: why(&error) },
            },
            Some(Effect::Done(Outcome::Fresh)) => return Ok(Refreshed::Fresh),
            Some(Effect::Done(Outcome::Target(target))) => return Ok(Refreshed::Target(target)),
            Some(Effect::Done(Outcome::NoTarget)) => return Ok(Refreshed::NoTarget),
            Some(Effect::Done(Outcome::Failed(error))) => return Err(error),
            None => unreachable!("an update answers each answer"),
        };
        (update, effects) = step(update, event, clock_ms);
    }
}
