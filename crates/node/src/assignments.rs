//! Brings assignments, the words who shall run what, to this node: carries out `package::trust::assignment::accept`, and
//! nothing more.
//!
//! They lie on the hub, in a folder, or in a package's archive; none of these is believed more than another. The trust
//! metadata comes first, then each document is judged; one that holds is durable in the trust state before the next is
//! looked at. A release that a delegated role lists makes us ask for that role, but only once the assigner's signature is
//! proven. What is to be done by them is what `standing` gives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use package::archive::{FileName, Member, Name};
use package::disk::system::System;
use package::disk::{Disk, FileError, read_whole};
use package::trust::Policy;
use package::trust::assignment::{Assignment, BYTES_MAX, NodeFacts, Refused, accept};
use package::trust::envelope::{Envelope, VerifyError};
use package::trust::state::{StateError, TrustState};
use package::trust::update::{UpdateError, Want};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::checkin::Document;
use wire::world::Clock;

use crate::identity::tls::HubTls;
use crate::trust::{Repository, RepositoryError, members_of, read_from, refresh, server};
use crate::web::http::{Ask, Web, WebError};
use crate::why::why;

/// The most files of a folder or an archive, and the most pages of a hub: 32 stand on one.
const FILES_MAX: usize = 32_768;
const PAGES_MAX: usize = 1024;

/// The most assignments of a page, and its most bytes: a hub sends 32, each of at most [`BYTES_MAX`].
const OF_PAGE_MAX: usize = 256;
const PAGE_BYTES_MAX: usize = 33 * BYTES_MAX;

/// The most bytes of a page's name.
const AFTER_MAX: usize = 128;

/// All pages together have so many times the time of one.
const PAGE_TIMES: u64 = 16;

/// So many refusals are told; more are more of the same.
const REFUSED_MAX: usize = 100;

/// Assignments that could not be brought. What was accepted before stands: `standing` gives it.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// The hub does not know us.
    #[error("the hub does not let this node read assignments (status {status}); check its token")]
    NotAllowed {
        /// What it answers.
        status: u16,
    },
    /// The hub cannot be asked.
    #[error("the hub's assignments could not be read")]
    Web(#[source] WebError),
    /// A page did not come in time.
    #[error("a page of the hub's assignments was not there after {ms} ms")]
    Slow {
        /// The time it had.
        ms: u128,
    },
    /// An answer of another form.
    #[error("the hub does not answer with a page of assignments: {why}")]
    Page {
        /// What is wrong with it.
        why: String,
    },
    /// Too many, or for too long.
    #[error("the assignments do not end after {read} that were read; what holds of them was taken")]
    Endless {
        /// How many were read.
        read: usize,
    },
    /// The folder refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// One holds, and could not be kept.
    #[error("an assignment that holds is not followed, since it could not be kept")]
    State(#[from] StateError),
}

/// Where signed assignments are.
#[derive(Debug)]
pub struct Source(Place);

#[derive(Debug)]
enum Place {
    Hub { web: Web, page_time: Duration },
    Folder(PathBuf),
    Archive { path: PathBuf, members: BTreeMap<Name, Member> },
}

/// What was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// How many are new and hold.
    pub accepted: usize,
    /// What is not accepted: an assignment's id, or where it stands if that cannot be read; and why, for people. What is
    /// for others, for another time, or known already is not among them.
    pub refused: Vec<(String, String)>,
    /// Whether the metadata is the newest, or why not.
    pub fresh: Result<(), String>,
}

impl Source {
    /// Those that the hub at `url` hands out. The token goes to that server only; each page has `page_time` to come.
    pub fn at(url: &str, token: Option<&str>, page_time: Duration) -> Result<Source, RepositoryError> {
        Ok(Source(Place::Hub { web: server(url, token, page_time)?, page_time }))
    }

    /// The same, where the hub knows us by a certificate.
    pub fn with_tls(self, tls: Option<&HubTls>) -> Result<Source, RepositoryError> {
        match self.0 {
            Place::Hub { web, page_time } => Ok(Source(Place::Hub { web: web.with_tls(tls)?, page_time })),
            place => Ok(Source(place)),
        }
    }

    /// The `.json` files in a folder, or those that an archive of a package brings along. Blocks.
    pub fn in_folder(path: &Path) -> Result<Source, RepositoryError> {
        if path.is_dir() {
            return Ok(Source(Place::Folder(path.to_owned())));
        }
        Ok(Source(Place::Archive { path: path.to_owned(), members: members_of(path)? }))
    }

    /// The names of the files; a hub has none.
    fn files(&self) -> Result<Vec<FileName>, BringError> {
        let names: Vec<FileName> = match &self.0 {
            Place::Hub { .. } => Vec::new(),
            Place::Folder(folder) => {
                let entries = System.list(folder).map_err(FileError::at(folder))?;
                let files = entries.into_iter().filter(|entry| entry.is_file);
                files.filter_map(|entry| FileName::new(&entry.name)).collect()
            }
            Place::Archive { members, .. } => {
                let file = |name: &Name| match name {
                    Name::Assignment(file) => Some(file.clone()),
                    _ => None,
                };
                members.keys().filter_map(file).collect()
            }
        };
        Ok(names)
    }

    /// A file's bytes, or why there are none.
    fn read(&self, file: &FileName) -> Result<Vec<u8>, String> {
        let max_bytes = BYTES_MAX as u64;
        let read = match &self.0 {
            Place::Hub { .. } => None,
            Place::Folder(folder) => {
                read_whole(&System, &folder.join(file.as_str()), max_bytes).map_err(|error| why(&error))?
            }
            Place::Archive { path, members } => {
                let member = members.get(&Name::Assignment(file.clone()));
                member.map(|member| read_from(path, *member, max_bytes)).transpose()?
            }
        };
        read.ok_or_else(|| "it is gone".to_owned())
    }
}

/// Brings trust metadata up to date, and takes every assignment of `source` that holds for `node`. A repository that cannot
/// be reached is told in [`Brought::fresh`] and stops nothing that what is trusted already allows. The state's lock is held
/// for all that time, and files are read and written: callers give it a thread.
pub async fn bring<D: Disk>(
    state: &mut TrustState<D>,
    repository: &Repository,
    source: &Source,
    policy: &Policy,
    node: NodeFacts<'_>,
    clock: &impl Clock,
) -> Result<Brought, BringError> {
    let brought = Brought { accepted: 0, refused: Vec::new(), fresh: Ok(()) };
    let (asks, is_fresh) = (true, false);
    let mut turn = Turn { state, repository, policy, node, clock, asks, is_fresh, read: 0, brought };
    turn.freshen().await;
    if let Place::Hub { web, page_time } = &source.0 {
        turn.take_pages(web, *page_time).await?;
    }
    for file in source.files()? {
        match source.read(&file) {
            // A file's last line may end; what is signed is the same as on the hub.
            Ok(bytes) => turn.take(file.as_str(), bytes.trim_ascii()).await?,
            Err(why) => turn.refuse(file.as_str(), why),
        }
        if turn.read >= FILES_MAX {
            return Err(BringError::Endless { read: turn.read });
        }
    }
    Ok(turn.brought)
}

/// Takes each of `documents` that holds for `node`, as a hub handed them out with a check-in. Trust metadata is brought up to date
/// only if one of them needs newer than is here: a hub that hands out nothing new costs no call. Else as [`bring`].
pub async fn take<D: Disk>(
    state: &mut TrustState<D>,
    repository: &Repository,
    documents: &[Document],
    policy: &Policy,
    node: NodeFacts<'_>,
    clock: &impl Clock,
) -> Result<Brought, BringError> {
    let brought = Brought { accepted: 0, refused: Vec::new(), fresh: Ok(()) };
    let (asks, is_fresh) = (true, false);
    let mut turn = Turn { state, repository, policy, node, clock, asks, is_fresh, read: 0, brought };
    for document in documents {
        let place = format!("the hub's document {}", turn.read + 1);
        turn.take(&place, document.bytes()).await?;
    }
    Ok(turn.brought)
}

/// A page, as a hub sends it.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    assignments: Vec<&'a RawValue>,
    next_after: Option<String>,
}

struct Turn<'a, D, C> {
    state: &'a mut TrustState<D>,
    repository: &'a Repository,
    policy: &'a Policy,
    node: NodeFacts<'a>,
    clock: &'a C,
    /// Whether the repository answers.
    asks: bool,
    /// Whether it was asked for the newest metadata.
    is_fresh: bool,
    /// How many documents were looked at.
    read: usize,
    brought: Brought,
}

impl<D: Disk, C: Clock> Turn<'_, D, C> {
    async fn take_pages(&mut self, web: &Web, page_time: Duration) -> Result<(), BringError> {
        let began_ns = self.clock.mono_ns();
        let time_ns = u64::try_from(page_time.as_nanos()).unwrap_or(u64::MAX).saturating_mul(PAGE_TIMES);
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let body = page(web, page_time, self.node.name, after.as_deref()).await?;
            let bad = |why: String| BringError::Page { why };
            let Page { assignments, next_after } =
                serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
            if assignments.len() > OF_PAGE_MAX {
                return Err(bad(format!("it has {} of them, at most {OF_PAGE_MAX}", assignments.len())));
            }
            for document in assignments {
                let place = format!("the hub's assignment {}", self.read + 1);
                self.take(&place, document.get().as_bytes()).await?;
            }
            let Some(next) = next_after else { return Ok(()) };
            if next.len() > AFTER_MAX || after.as_ref().is_some_and(|after| next <= *after) {
                return Err(bad("the next page does not come after it".to_owned()));
            }
            after = Some(next);
            if self.clock.mono_ns().saturating_sub(began_ns) > time_ns {
                break;
            }
        }
        Err(BringError::Endless { read: self.read })
    }

    /// Judges a document that stands at `place`, and keeps it if it holds.
    async fn take(&mut self, place: &str, document: &[u8]) -> Result<(), BringError> {
        self.read += 1;
        // Before its metadata may have expired, this one was accepted.
        if self.state.trusted().assignments.values().any(|known| *known.bytes == *document) {
            return Ok(());
        }
        let assignment = match read(document) {
            Ok(assignment) => assignment,
            Err(refused) => {
                self.refuse(place, why(&refused));
                return Ok(());
            }
        };
        let accepted = self.state.trusted().assignments.get(&assignment.key());
        if !assignment.subject.has(self.node, accepted.map_or(0, |accepted| accepted.version)) {
            return Ok(());
        }
        let (mut sought, mut trouble) = (BTreeSet::new(), String::new());
        loop {
            let now_ms = self.clock.wall_ms();
            match accept(self.state.trusted(), self.policy, document, self.node, now_ms) {
                Ok(accepted) => {
                    self.state.commit(accepted.trusted)?;
                    self.brought.accepted += 1;
                    return Ok(());
                }
                Err(
                    Refused::OtherNode | Refused::Known | Refused::Expired { .. } | Refused::NotYet { .. },
                ) => return Ok(()),
                // Other keys, fresher metadata or newer targets may have been published since.
                Err(
                    Refused::Stale(_)
                    | Refused::NoAssigner
                    | Refused::OldTargets { .. }
                    | Refused::Verify(VerifyError::Threshold { .. }),
                ) if !self.is_fresh => self.freshen().await,
                // It is signed by who may, so it is worth asking for the roles that could list it.
                Err(Refused::NotListed { target }) if self.asks && sought.insert(target.clone()) => {
                    trouble.push_str(&self.seek(target).await);
                }
                Err(refused) => {
                    self.refuse(&assignment.id, why(&refused) + &trouble);
                    return Ok(());
                }
            }
        }
    }

    /// Brings the newest metadata, or notes why it cannot be had.
    async fn freshen(&mut self) {
        self.is_fresh = true;
        let fresh = refresh(self.state, self.repository, Want::Refresh, self.policy, self.clock).await;
        self.brought.fresh = fresh.map(drop).map_err(|error| why(&error));
        self.asks = self.brought.fresh.is_ok();
    }

    /// Brings the roles that could list a target; gives what is in the way.
    async fn seek(&mut self, target: String) -> String {
        let sought = refresh(self.state, self.repository, Want::Target(target), self.policy, self.clock);
        match sought.await {
            Ok(_) => String::new(),
            Err(error) => {
                self.asks = !matches!(error, UpdateError::Fetch { .. });
                format!("; {}", why(&error))
            }
        }
    }

    fn refuse(&mut self, what: &str, why: String) {
        if self.brought.refused.len() < REFUSED_MAX {
            self.brought.refused.push((what.to_owned(), why));
        }
    }
}

/// Reads what is signed, whoever signed it.
fn read(document: &[u8]) -> Result<Assignment, Refused> {
    if document.len() > BYTES_MAX {
        return Err(Refused::TooLong { bytes: document.len() });
    }
    Assignment::read(&Envelope::read(document)?.signed)
}

/// The page behind `after`, of those that can mean `node`.
async fn page(
    web: &Web,
    page_time: Duration,
    node: &str,
    after: Option<&str>,
) -> Result<Vec<u8>, BringError> {
    let url = web.endpoint().join("api/v1/assignments");
    let mut url = url.map_err(|error| BringError::Page { why: error.to_string() })?;
    url.query_pairs_mut().append_pair("node", node).extend_pairs(after.map(|after| ("after", after)));
    let ask = Ask::default();
    let came = async { web.get(&url, &ask).await?.body(PAGE_BYTES_MAX).await };
    match tokio::time::timeout(page_time, came).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(WebError::NotAllowed { status, .. })) => Err(BringError::NotAllowed { status }),
        Ok(Err(error)) => Err(BringError::Web(error)),
        Err(_) => Err(BringError::Slow { ms: page_time.as_millis() }),
    }
}
