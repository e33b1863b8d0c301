//! A TUF repository in a folder: to write it, as `selvedge trust` does, and to follow one, as `selvedge verify` does.
//!
//! ```text
//! metadata/{1.root,1.targets,…,3.snapshot,timestamp}.json    published; served as they are
//! staged/{root,targets,team-a}.json                          next versions, which gather signatures
//! assignments/<id>.json                                      who shall run what
//! ```
//!
//! No secret ever lies there. A file of `staged` may travel to whoever holds a key and come back signed; it is published
//! only when enough signatures verify by our own verifier. Roots and targets are written before the snapshot, the timestamp
//! last, each whole, so that a reader or a power cut in between finds the old state or the new one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use package::disk::system::{HeldLock, System};
use package::disk::{Disk, FileError, make_folders, read_whole, remove, write_whole};
use package::trust::Policy;
use package::trust::author::{AuthorError, Plan, Published, Repository};
use package::trust::envelope::{Envelope, VerifyError, verify};
use package::trust::metadata::{
    Delegated, FileName, Paths, Role, RoleKeys, RoleName, Root, TargetFile, Targets,
};
use package::trust::sign::Signer;
use package::trust::time::parse_utc;
use package::trust::trusted::Trusted;
use package::trust::update::{Effect, Event, Outcome, Update, UpdateError, Want, step};
use wire::world::WallMs;

/// The largest metadata file that is read.
const FILE_MAX: u64 = 5 << 20;

/// A repository that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A folder without one.
    #[error("{} is no repository: `selvedge trust init` makes one", folder.display())]
    NotThere {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder that has one.
    #[error("{} is a repository already", folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
    },
    /// Somebody else writes here.
    #[error("another process is changing {}: wait until it is done", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A change that cannot be made.
    #[error(transparent)]
    Author(#[from] AuthorError),
}

/// A repository that is being written; nobody else writes it meanwhile.
pub struct Authored {
    folder: PathBuf,
    /// What is published and staged.
    pub repository: Repository,
    _held: HeldLock,
}

impl Authored {
    /// Begins a repository in a folder; root and targets are staged.
    pub fn init(folder: &Path, plan: &Plan, now_ms: WallMs) -> Result<Authored, RepositoryError> {
        let repository = Repository::init(plan, now_ms)?;
        let held = begun(folder)?;
        let authored = Authored { folder: folder.to_owned(), repository, _held: held };
        authored.save()?;
        Ok(authored)
    }

    /// Begins a folder with what was published from another that is lost: see [`rebuild`].
    pub fn rebuilt(folder: &Path, files: &BTreeMap<FileName, Vec<u8>>) -> Result<Authored, RepositoryError> {
        let held = begun(folder)?;
        // The timestamp comes last by its name, too.
        for (file, bytes) in files {
            write_whole(&System, &folder.join("metadata").join(file.as_str()), bytes)?;
        }
        drop(held);
        Authored::open(folder)
    }

    /// Opens the repository in a folder.
    pub fn open(folder: &Path) -> Result<Authored, RepositoryError> {
        if !folder.join("metadata").is_dir() {
            return Err(RepositoryError::NotThere { folder: folder.to_owned() });
        }
        let held = held(folder)?;
        let mut refused = (None, None);
        let repository = Repository::open(
            |file| read(folder, "metadata", file).unwrap_or_else(|error| keep(&mut refused.0, error)),
            |file| read(folder, "staged", file).unwrap_or_else(|error| keep(&mut refused.1, error)),
        );
        if let Some(error) = refused.0.or(refused.1) {
            return Err(error.into());
        }
        let repository = repository?;
        if repository.published().next().is_none() && repository.staged_roles().next().is_none() {
            return Err(RepositoryError::NotThere { folder: folder.to_owned() });
        }
        Ok(Authored { folder: folder.to_owned(), repository, _held: held })
    }

    /// Makes what is staged durable.
    pub fn save(&self) -> Result<(), RepositoryError> {
        let staged = self.folder.join("staged");
        let kept: BTreeMap<FileName, &[u8]> = self.repository.staged().collect();
        for (file, bytes) in &kept {
            let path = staged.join(file.as_str());
            if read_whole(&System, &path, FILE_MAX)?.as_deref() != Some(*bytes) {
                write_whole(&System, &path, bytes)?;
            }
        }
        for entry in System.list(&staged).map_err(FileError::at(&staged))? {
            let is_kept = kept.keys().any(|file| file.as_str() == entry.name);
            if entry.name.ends_with(".json") && !is_kept {
                remove(&System, &staged.join(entry.name))?;
            }
        }
        Ok(())
    }

    /// Publishes what enough keys have signed, with a new timestamp and, if need be, a new snapshot by the keys of `online`.
    pub fn publish(&mut self, online: &[&dyn Signer], now_ms: WallMs) -> Result<Published, RepositoryError> {
        let published = self.repository.publish(online, now_ms)?;
        for (file, bytes) in &published.files {
            write_whole(&System, &self.folder.join("metadata").join(file.as_str()), bytes)?;
        }
        self.save()?;
        Ok(published)
    }

    /// Every role, in the order of trust: root and its three first, then whom they trust.
    pub fn roles(&self) -> Vec<View> {
        let top = [RoleName::root(), RoleName::targets(), RoleName::snapshot(), RoleName::timestamp()];
        let published: BTreeMap<&RoleName, &[u8]> = self.repository.published().collect();
        let staged: BTreeMap<&RoleName, &[u8]> = self.repository.staged_roles().collect();
        let others = published.keys().chain(staged.keys()).filter(|role| !top.contains(role));
        let mut others: Vec<RoleName> = others.map(|role| (*role).clone()).collect();
        others.sort();
        others.dedup();
        let view = |role: RoleName| {
            let keys = self.holders(&role);
            let ids: Vec<String> = keys.iter().flat_map(|keys| &keys.ids).map(ToString::to_string).collect();
            let stage = staged.get(&role).and_then(|bytes| {
                Some(Stage { version: version(bytes)?, signed: self.signed(&role, bytes) })
            });
            let newest = published.get(&role).or_else(|| staged.get(&role)).copied();
            View {
                version: published.get(&role).and_then(|bytes| version(bytes)),
                expires_ms: newest.and_then(expires_ms),
                threshold: keys.as_ref().map_or(0, |keys| keys.threshold),
                paths: self.paths(&role),
                targets: staged.get(&role).copied().or(newest).map(targets).unwrap_or_default(),
                keys: ids,
                staged: stage,
                role,
            }
        };
        top.into_iter().chain(others).map(view).collect()
    }

    /// Who may sign for a role, by what is published; before that, by what is staged.
    pub fn holders(&self, role: &RoleName) -> Option<RoleKeys> {
        self.words(role).pop()
    }

    /// Every word on who may sign for a role: what is staged, then what is published.
    fn words(&self, role: &RoleName) -> Vec<RoleKeys> {
        let all = self.repository.staged_roles().chain(self.repository.published());
        let in_roots = all.filter_map(|(_, bytes)| {
            let root = body::<Root>(bytes)?;
            match role.as_str() {
                "root" => Some(root.root),
                "targets" => Some(root.targets),
                "snapshot" => Some(root.snapshot),
                "timestamp" => Some(root.timestamp),
                _ => None,
            }
        });
        let delegated = self.delegations().filter(|delegated| delegated.name == *role);
        in_roots.chain(delegated.map(|delegated| delegated.keys)).collect()
    }

    /// Signatures of a staged document that count: of a root those of the old keys or of the new, whichever are fewer.
    fn signed(&self, role: &RoleName, bytes: &[u8]) -> usize {
        let envelope = Envelope::read(bytes).ok();
        let signatures = envelope.iter().flat_map(Envelope::signatures);
        let signers: Vec<String> =
            signatures.filter_map(|signature| Some(signature.get("keyid")?.as_text()?.to_owned())).collect();
        let of = |word: &RoleKeys| word.ids.iter().filter(|id| signers.contains(&id.to_string())).count();
        let words = self.words(role);
        let asked = if *role == RoleName::root() { words.len() } else { 1 };
        words.iter().take(asked).map(of).min().unwrap_or_default()
    }

    fn delegations(&self) -> impl Iterator<Item = Delegated> {
        let all = self.repository.staged_roles().chain(self.repository.published());
        all.filter_map(|(_, bytes)| body::<Targets>(bytes)).flat_map(|targets| targets.delegations.roles)
    }

    fn paths(&self, role: &RoleName) -> Vec<String> {
        let delegated = self.delegations().find(|delegated| delegated.name == *role);
        match delegated.map(|delegated| delegated.paths) {
            Some(Paths::Patterns(patterns)) => patterns,
            _ => Vec::new(),
        }
    }
}

/// A role as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub role: RoleName,
    /// The published version; `None` before the first.
    pub version: Option<u64>,
    /// When the published version expires; before the first, the staged one.
    pub expires_ms: Option<WallMs>,
    /// How many must sign.
    pub threshold: u64,
    /// Who may.
    pub keys: Vec<String>,
    /// Which paths it is trusted with, if it is a delegated one.
    pub paths: Vec<String>,
    /// What it lists, or will list when what is staged is published.
    pub targets: BTreeMap<String, TargetFile>,
    /// The next version, if there is one.
    pub staged: Option<Stage>,
}

/// A version that waits for signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Which version.
    pub version: u64,
    /// How many of the role's keys have signed it.
    pub signed: usize,
}

fn body<T: Role>(bytes: &[u8]) -> Option<T> {
    T::read(&Envelope::read(bytes).ok()?.signed).ok()
}

fn version(bytes: &[u8]) -> Option<u64> {
    Envelope::read(bytes).ok()?.signed.get("version")?.as_u64()
}

fn expires_ms(bytes: &[u8]) -> Option<WallMs> {
    let envelope = Envelope::read(bytes).ok()?;
    parse_utc(envelope.signed.get("expires")?.as_text()?)
}

fn targets(bytes: &[u8]) -> BTreeMap<String, TargetFile> {
    body::<Targets>(bytes).map(|targets| targets.targets).unwrap_or_default()
}

/// Makes the folders of a repository where none is yet, and holds them.
fn begun(folder: &Path) -> Result<HeldLock, RepositoryError> {
    let parts = ["metadata", "staged"].map(|name| folder.join(name));
    for part in &parts {
        make_folders(&System, part)?;
    }
    let held = held(folder)?;
    for part in &parts {
        if !System.list(part).map_err(FileError::at(part))?.is_empty() {
            return Err(RepositoryError::Taken { folder: folder.to_owned() });
        }
    }
    Ok(held)
}

fn held(folder: &Path) -> Result<HeldLock, RepositoryError> {
    let lock = folder.join(".lock");
    let held = System.lock(&lock).map_err(FileError::at(&lock))?;
    held.ok_or_else(|| RepositoryError::Busy { folder: folder.to_owned() })
}

fn read(folder: &Path, part: &str, file: &FileName) -> Result<Option<Vec<u8>>, FileError> {
    read_whole(&System, &folder.join(part).join(file.as_str()), FILE_MAX)
}

/// Keeps the first of several errors.
fn keep(first: &mut Option<FileError>, error: FileError) -> Option<Vec<u8>> {
    first.get_or_insert(error);
    None
}

/// Why a repository is not believed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The root that was handed over.
    #[error("the pinned root is not accepted: {}", kinds_help(.0))]
    Root(#[source] VerifyError),
    /// Something on the way from it.
    #[error("the repository is not accepted")]
    Update(#[from] UpdateError),
    /// A later root, where the first is needed.
    #[error(
        "this is root {version}: a repository is rebuilt from 1.root.json, from which all later ones follow"
    )]
    NotFirst {
        /// Which root it is.
        version: u64,
    },
}

fn kinds_help(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::Threshold { .. } => "too few of its own hybrid keys have signed it",
        _ => "it is no signed root",
    }
}

/// What a repository says, believed from a pinned root on.
#[derive(Debug, Clone)]
pub struct Followed {
    /// All that is trusted now.
    pub trusted: Trusted,
    /// The target that was wanted; `None` if no role names it.
    pub target: Option<TargetFile>,
}

/// Follows a repository from a root that was handed over out of band, as a node does, and keeps nothing. `fetch` gives a
/// metadata file of at most so many bytes, `None` if there is none, or says why not.
pub fn follow(
    root: &[u8],
    policy: &Policy,
    want: Want,
    clock_ms: WallMs,
    mut fetch: impl FnMut(&FileName, u64) -> Result<Option<Vec<u8>>, String>,
) -> Result<Followed, FollowError> {
    let trusted = Trusted::of_root(root, &policy.kinds).map_err(FollowError::Root)?;
    let update = Update::new(trusted, policy.clone());
    let (mut update, mut effects) = step(update, Event::Begin(want), clock_ms);
    loop {
        // Each step has one effect; without any it could never go on.
        let event = match effects.pop() {
            Some(Effect::Persist(_)) => Event::Persisted,
            Some(Effect::Fetch { file, max_bytes }) => match fetch(&file, max_bytes) {
                Ok(Some(bytes)) => Event::Got { file, bytes },
                Ok(None) => Event::Absent { file },
                Err(why) => Event::Failed { file, why },
            },
            Some(Effect::Done(Outcome::Failed(error))) => return Err(error.into()),
            Some(Effect::Done(Outcome::Target(target))) => {
                return Ok(Followed { trusted: update.trusted().clone(), target: Some(target) });
            }
            Some(Effect::Done(Outcome::Fresh | Outcome::NoTarget)) | None => {
                return Ok(Followed { trusted: update.trusted().clone(), target: None });
            }
        };
        (update, effects) = step(update, event, clock_ms);
    }
}

/// All that a repository serves of its author's folder, proven from its first root on: every root, and the newest version of
/// each role. What has expired is taken, too: whoever goes on with it signs anew. Whether something newer is kept back,
/// nobody can tell from it.
pub fn rebuild(
    root: &[u8],
    mut fetch: impl FnMut(&FileName, u64) -> Result<Option<Vec<u8>>, String>,
) -> Result<(Trusted, BTreeMap<FileName, Vec<u8>>), FollowError> {
    // At the beginning of time nothing has expired.
    let (policy, clock_ms) = (Policy { floor: false, ..Policy::default() }, 0);
    let mut files = BTreeMap::new();
    let followed = follow(root, &policy, Want::Refresh, clock_ms, |file, max_bytes| {
        let came = fetch(file, max_bytes)?;
        files.extend(came.iter().map(|bytes| (file.clone(), bytes.clone())));
        Ok(came)
    })?;
    let first = Trusted::of_root(root, &policy.kinds).map_err(FollowError::Root)?.root.body.head.version;
    if first != 1 {
        return Err(FollowError::NotFirst { version: first });
    }
    files.insert(FileName::of(&RoleName::root(), Some(first)), root.to_vec());
    let Followed { trusted, .. } = followed;
    let snapshot = trusted.snapshot.clone();
    let mut waiting: Vec<_> =
        trusted.targets.iter().map(|targets| targets.body.delegations.clone()).collect();
    while let Some(from) = waiting.pop() {
        for role in &from.roles {
            let Some(listed) = snapshot.as_ref().and_then(|it| it.body.of(&role.name)) else { continue };
            let file = FileName::of(&role.name, Some(listed.version));
            if files.contains_key(&file) {
                continue;
            }
            let came = fetch(&file, policy.limits.targets_bytes);
            let came = came.map_err(|why| UpdateError::Fetch { file: file.clone(), why })?;
            let bytes = came.ok_or_else(|| UpdateError::Absent { file: file.clone() })?;
            let mismatch = |source| UpdateError::Mismatch { file: file.clone(), source };
            listed.check(&bytes).map_err(mismatch)?;
            let refuse = |source| UpdateError::Verify { file: file.clone(), source };
            let signed = verify::<Targets>(&bytes, &from.keys, &role.keys, &policy.kinds).map_err(refuse)?;
            let (expected, found) = (listed.version, signed.body.head.version);
            if expected != found {
                return Err(UpdateError::Version { file, expected, found }.into());
            }
            waiting.push(signed.body.delegations);
            files.insert(file, bytes);
        }
    }
    Ok((trusted, files))
}

/// A metadata file of the repository in a folder, for [`follow`]: the folder itself, or `metadata` in it.
pub fn metadata_in(folder: &Path, file: &FileName, max_bytes: u64) -> Result<Option<Vec<u8>>, String> {
    let inner = folder.join("metadata");
    let path = if inner.is_dir() { inner } else { folder.to_owned() }.join(file.as_str());
    read_whole(&System, &path, max_bytes).map_err(|error| format!("{error}: {}", error.source))
}
