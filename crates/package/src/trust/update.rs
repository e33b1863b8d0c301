//! The client workflow of TUF (specification, section 5), purely: told what came, it says what to fetch, keep and believe.
//!
//! ```text
//! root 2, 3, … until none → timestamp → snapshot → targets → delegated roles → Done
//! ```
//!
//! Every step that is passed is persisted before the next begins, and a failure leaves what was persisted before it. Whoever
//! carries this out never uses an outcome before `Persisted` was answered: nothing is believed that would be forgotten
//! by a power cut.

use std::sync::Arc;

use wire::world::WallMs;

use crate::trust::Policy;
use crate::trust::envelope::{Envelope, Signed, VerifyError};
use crate::trust::metadata::{
    FileName, MetaFile, Mismatch, Role, RoleName, Root, Snapshot, TargetFile, Targets,
};
use crate::trust::search::{Edge, Place, Search, at_hand};
use crate::trust::time::effective;
use crate::trust::trusted::{Trusted, expired};

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The newest top-level metadata.
    Refresh,
    /// That, and then the target of this path.
    Target(String),
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Work begins; the clock is read now and only now.
    Begin(Want),
    /// A file came whole.
    Got {
        /// Which.
        file: FileName,
        /// At most as many as were asked for.
        bytes: Vec<u8>,
    },
    /// The repository says that it has no such file.
    Absent {
        /// Which.
        file: FileName,
    },
    /// The file could not be fetched.
    Failed {
        /// Which.
        file: FileName,
        /// What happened.
        why: String,
    },
    /// What was to be persisted is durable.
    Persisted,
    /// What was to be persisted is not.
    NotPersisted {
        /// What happened.
        why: String,
    },
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Fetch a metadata file; a longer one has failed.
    Fetch {
        /// Which.
        file: FileName,
        /// The most bytes it may have.
        max_bytes: u64,
    },
    /// Make this durable, then answer `Persisted`.
    Persist(Trusted),
    /// The end.
    Done(Outcome),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The top-level metadata is the newest that could be had.
    Fresh,
    /// The target; its bytes are proven by [`TargetFile::check`].
    Target(TargetFile),
    /// All roles were asked, none names the target.
    NoTarget,
    /// Something is wrong; nothing after it was believed.
    Failed(UpdateError),
}

/// Why an update stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A file could not be fetched.
    #[error("{file} could not be fetched: {why}")]
    Fetch {
        /// Which.
        file: FileName,
        /// What happened.
        why: String,
    },
    /// A file that must be there is not.
    #[error("the repository has no {file}")]
    Absent {
        /// Which.
        file: FileName,
    },
    /// A file is longer than its role's limit.
    #[error("{file} has more than {max_bytes} bytes")]
    TooLong {
        /// Which.
        file: FileName,
        /// The limit.
        max_bytes: u64,
    },
    /// A file is not signed by whom it must be, or has a wrong form.
    #[error("{file} is not accepted")]
    Verify {
        /// Which.
        file: FileName,
        /// Why.
        source: VerifyError,
    },
    /// A file is not the one that the snapshot or timestamp describes.
    #[error("{file} is not the file that was announced")]
    Mismatch {
        /// Which.
        file: FileName,
        /// Why.
        source: Mismatch,
    },
    /// A file has another version than it must have.
    #[error("{file} says it is version {found}, {expected} was announced")]
    Version {
        /// Which.
        file: FileName,
        /// The version it must have.
        expected: u64,
        /// The version it has.
        found: u64,
    },
    /// A role has gone back to an older version.
    #[error("the repository offers {role} {found}, {trusted} is trusted already: an old state is replayed")]
    Rollback {
        /// Which role.
        role: String,
        /// The version that is trusted.
        trusted: u64,
        /// The version that is offered.
        found: u64,
    },
    /// A role has vanished from the snapshot.
    #[error("the new snapshot does not list {role} any more, which only new snapshot keys may do")]
    Vanished {
        /// Which role.
        role: String,
    },
    /// A delegated role is not in the snapshot.
    #[error("the snapshot does not list the delegated role {role}")]
    NotInSnapshot {
        /// Which role.
        role: RoleName,
    },
    /// A role has expired.
    #[error("{role} has expired {by_ms} ms ago: the repository must be refreshed, or the clock is wrong")]
    Expired {
        /// Which role.
        role: RoleName,
        /// How long ago.
        by_ms: i64,
    },
    /// More new roots than one refresh takes.
    #[error("more than {limit} new roots at once")]
    TooManyRoots {
        /// The limit.
        limit: u32,
    },
    /// The new state could not be kept.
    #[error("what is newly trusted could not be kept: {why}")]
    Persist {
        /// What happened.
        why: String,
    },
}

/// An update under way.
#[derive(Debug, Clone)]
pub struct Update {
    policy: Policy,
    trusted: Trusted,
    want: Want,
    clock_ms: WallMs,
    rotations: u32,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    Idle,
    /// A file is on its way.
    Fetching {
        file: FileName,
        max_bytes: u64,
        what: Box<What>,
    },
    /// What was verified is on its way to the disk.
    Persisting(Next),
    Done,
    /// What is trusted here may not be durable: nothing begins from it again.
    Failed,
}

#[derive(Debug, Clone)]
enum What {
    Root,
    Timestamp,
    Snapshot(MetaFile),
    Targets(MetaFile),
    Delegated { search: Search, edge: Edge, listed: MetaFile },
}

/// What comes when something is durable.
#[derive(Debug, Clone)]
enum Next {
    Root,
    Snapshot,
    Targets,
    Search,
    Delegated { search: Search, role: Box<Signed<Targets>> },
}

impl Update {
    /// Starts from what is trusted.
    pub fn new(trusted: Trusted, policy: Policy) -> Update {
        Update { policy, trusted, want: Want::Refresh, clock_ms: 0, rotations: 0, stage: Stage::Idle }
    }

    /// What is trusted; durable unless a `Persist` is unanswered or failed.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// The time to judge by: the clock as it was at the beginning, or the floor, which may have risen since.
    fn now_ms(&self) -> WallMs {
        let mut floor = self.trusted.floor;
        floor.raise_offline(self.policy.built_ms);
        effective(self.policy.floor.then_some(floor), self.clock_ms).now_ms
    }

    fn fresh<T: Role>(&self, name: RoleName, role: &T, grace_ms: i64) -> Result<(), UpdateError> {
        match expired(role.head().expires_ms, self.now_ms(), grace_ms) {
            Some(by_ms) => Err(UpdateError::Expired { role: name, by_ms }),
            None => Ok(()),
        }
    }

    /// The name of a file whose version is known.
    fn file(&self, role: &RoleName, version: u64) -> FileName {
        FileName::of(role, self.trusted.root.body.consistent_snapshot.then_some(version))
    }

    fn fetch(&mut self, file: FileName, max_bytes: u64, what: What) -> Result<Effect, UpdateError> {
        self.stage = Stage::Fetching { file: file.clone(), max_bytes, what: Box::new(what) };
        Ok(Effect::Fetch { file, max_bytes })
    }

    fn persist(&mut self, next: Next) -> Result<Effect, UpdateError> {
        self.stage = Stage::Persisting(next);
        Ok(Effect::Persist(self.trusted.clone()))
    }

    fn ask_root(&mut self) -> Result<Effect, UpdateError> {
        let file =
            FileName::of(&RoleName::root(), Some(self.trusted.root.body.head.version.saturating_add(1)));
        self.fetch(file, self.policy.limits.root_bytes, What::Root)
    }

    /// No root is newer than the trusted one.
    fn root_is_newest(&mut self) -> Result<Effect, UpdateError> {
        self.fresh(RoleName::root(), &self.trusted.root.body, 0)?;
        let file = FileName::of(&RoleName::timestamp(), None);
        self.fetch(file, self.policy.limits.timestamp_bytes, What::Timestamp)
    }

    /// The timestamp is the newest: is the snapshot at hand the one it names?
    fn after_timestamp(&mut self) -> Result<Effect, UpdateError> {
        let Some(timestamp) = self.trusted.timestamp.clone() else { return self.ask_root() };
        self.fresh(RoleName::timestamp(), &timestamp.body, self.policy.max_stale_ms)?;
        let listed = timestamp.body.snapshot.clone();
        if let Some(snapshot) = self.trusted.snapshot.clone() {
            let is_it = snapshot.body.head.version == listed.version && listed.check(&snapshot.bytes).is_ok();
            if is_it && self.trusted.verify_snapshot(&snapshot.bytes, &self.policy.kinds).is_ok() {
                return self.after_snapshot();
            }
        }
        let file = self.file(&RoleName::snapshot(), listed.version);
        let max_bytes = listed.length.unwrap_or(u64::MAX).min(self.policy.limits.snapshot_bytes);
        self.fetch(file, max_bytes, What::Snapshot(listed))
    }

    /// The snapshot is the newest: are the targets at hand those that it lists?
    fn after_snapshot(&mut self) -> Result<Effect, UpdateError> {
        let Some(snapshot) = self.trusted.snapshot.clone() else { return self.ask_root() };
        self.fresh(RoleName::snapshot(), &snapshot.body, self.policy.max_stale_ms)?;
        let role = RoleName::targets();
        let listed =
            snapshot.body.of(&role).ok_or(UpdateError::NotInSnapshot { role: role.clone() })?.clone();
        if let Some(targets) = self.trusted.targets.clone() {
            let is_it = targets.body.head.version == listed.version && listed.check(&targets.bytes).is_ok();
            if is_it && self.trusted.verify_targets(&targets.bytes, &self.policy.kinds).is_ok() {
                return self.after_targets();
            }
        }
        let file = self.file(&role, listed.version);
        let max_bytes = listed.length.unwrap_or(u64::MAX).min(self.policy.limits.targets_bytes);
        self.fetch(file, max_bytes, What::Targets(listed))
    }

    fn after_targets(&mut self) -> Result<Effect, UpdateError> {
        let Some(targets) = self.trusted.targets.clone() else { return self.ask_root() };
        self.fresh(RoleName::targets(), &targets.body, self.policy.max_stale_ms)?;
        match &self.want {
            Want::Refresh => Ok(self.done(Outcome::Fresh)),
            Want::Target(path) => {
                let (search, place) = Search::begin(path, &targets.body);
                self.go_on(search, place)
            }
        }
    }

    /// Follows a search as far as what is at hand carries it.
    fn go_on(&mut self, mut search: Search, mut place: Place) -> Result<Effect, UpdateError> {
        loop {
            let edge = match place {
                Place::Found(file) => return Ok(self.done(Outcome::Target(file))),
                Place::Nowhere => return Ok(self.done(Outcome::NoTarget)),
                Place::Next(edge) => edge,
            };
            let listed = self.trusted.snapshot.as_ref().and_then(|snapshot| snapshot.body.of(&edge.role));
            let Some(listed) = listed.cloned() else {
                return Err(UpdateError::NotInSnapshot { role: edge.role });
            };
            let Some(role) = at_hand(&self.trusted, &edge, &self.policy.kinds) else {
                let file = self.file(&edge.role, listed.version);
                let max_bytes = listed.length.unwrap_or(u64::MAX).min(self.policy.limits.targets_bytes);
                return self.fetch(file, max_bytes, What::Delegated { search, edge, listed });
            };
            self.fresh(edge.role, &role.body, self.policy.max_stale_ms)?;
            (search, place) = search.look_into(&role.body);
        }
    }

    fn done(&mut self, outcome: Outcome) -> Effect {
        self.stage = Stage::Done;
        Effect::Done(outcome)
    }

    /// A file came: is it the one, and may it be believed?
    fn take(&mut self, file: &FileName, what: What, bytes: &[u8]) -> Result<Effect, UpdateError> {
        let kinds = self.policy.kinds.clone();
        let refuse = |source: VerifyError| UpdateError::Verify { file: file.clone(), source };
        match what {
            What::Root => {
                let root = self.next_root(file, bytes)?;
                self.trusted.set_root(root);
                self.persist(Next::Root)
            }
            What::Timestamp => {
                let timestamp = self.trusted.verify_timestamp(bytes, &kinds).map_err(refuse)?;
                if let Some(old) = self.trusted.timestamp.clone() {
                    let (old, new) = (&old.body, &timestamp.body);
                    not_older("timestamp", old.head.version, new.head.version)?;
                    // The same version with other content: the old one stays, without error (specification 5.4.3).
                    if old.head.version == new.head.version {
                        return self.after_timestamp();
                    }
                    not_older("snapshot", old.snapshot.version, new.snapshot.version)?;
                }
                self.fresh(RoleName::timestamp(), &timestamp.body, self.policy.max_stale_ms)?;
                self.trusted.set_timestamp(timestamp);
                self.persist(Next::Snapshot)
            }
            What::Snapshot(listed) => {
                announced(file, &listed, bytes)?;
                let snapshot = self.trusted.verify_snapshot(bytes, &kinds).map_err(refuse)?;
                is_version(file, listed.version, snapshot.body.head.version)?;
                if let Some(old) = &self.trusted.snapshot {
                    no_role_went_back(&old.body, &snapshot.body)?;
                }
                self.fresh(RoleName::snapshot(), &snapshot.body, self.policy.max_stale_ms)?;
                self.trusted.set_snapshot(snapshot);
                self.persist(Next::Targets)
            }
            What::Targets(listed) => {
                announced(file, &listed, bytes)?;
                let targets = self.trusted.verify_targets(bytes, &kinds).map_err(refuse)?;
                is_version(file, listed.version, targets.body.head.version)?;
                self.fresh(RoleName::targets(), &targets.body, self.policy.max_stale_ms)?;
                self.trusted.set_targets(targets);
                self.persist(Next::Search)
            }
            What::Delegated { search, edge, listed } => {
                announced(file, &listed, bytes)?;
                let role = edge.verify(bytes, &kinds).map_err(refuse)?;
                is_version(file, listed.version, role.body.head.version)?;
                self.fresh(edge.role.clone(), &role.body, self.policy.max_stale_ms)?;
                self.trusted.delegated.insert(edge.role, Arc::clone(&role.bytes));
                self.persist(Next::Delegated { search, role: Box::new(role) })
            }
        }
    }

    /// A root is believed if the trusted root's keys and its own keys have signed it, and it is the next one.
    fn next_root(&mut self, file: &FileName, bytes: &[u8]) -> Result<Signed<Root>, UpdateError> {
        let refuse = |source| UpdateError::Verify { file: file.clone(), source };
        let (old, kinds) = (&self.trusted.root.body, &self.policy.kinds);
        let envelope = Envelope::read(bytes).map_err(refuse)?;
        envelope.check(&old.keys, &old.root, kinds).map_err(refuse)?;
        let body = Root::read(&envelope.signed).map_err(|form| refuse(form.into()))?;
        envelope.check(&body.keys, &body.root, kinds).map_err(refuse)?;
        is_version(file, old.head.version.saturating_add(1), body.head.version)?;
        self.rotations += 1;
        if self.rotations > self.policy.limits.rotations {
            return Err(UpdateError::TooManyRoots { limit: self.policy.limits.rotations });
        }
        Ok(Signed { bytes: bytes.into(), body })
    }

    fn on(&mut self, event: Event, clock_ms: WallMs) -> Result<Option<Effect>, UpdateError> {
        match (event, std::mem::replace(&mut self.stage, Stage::Failed)) {
            (Event::Begin(want), Stage::Idle | Stage::Done) => {
                self.want = want;
                self.clock_ms = clock_ms;
                self.rotations = 0;
                self.ask_root().map(Some)
            }
            (Event::Got { file: got, bytes }, Stage::Fetching { file, max_bytes, what }) if got == file => {
                if bytes.len() as u64 > max_bytes {
                    return Err(UpdateError::TooLong { file, max_bytes });
                }
                self.take(&file, *what, &bytes).map(Some)
            }
            (Event::Absent { file: got }, Stage::Fetching { file, what, .. }) if got == file => match *what {
                What::Root => self.root_is_newest().map(Some),
                _ => Err(UpdateError::Absent { file }),
            },
            (Event::Failed { file: got, why }, Stage::Fetching { file, .. }) if got == file => {
                Err(UpdateError::Fetch { file, why })
            }
            (Event::Persisted, Stage::Persisting(next)) => {
                let effect = match next {
                    Next::Root => self.ask_root(),
                    Next::Snapshot => self.after_timestamp(),
                    Next::Targets => self.after_snapshot(),
                    Next::Search => self.after_targets(),
                    Next::Delegated { search, role } => {
                        let (search, place) = search.look_into(&role.body);
                        self.go_on(search, place)
                    }
                };
                effect.map(Some)
            }
            (Event::NotPersisted { why }, Stage::Persisting(_)) => Err(UpdateError::Persist { why }),
            // An answer to a question that nobody asked, or that was answered before.
            (_, stage) => {
                self.stage = stage;
                Ok(None)
            }
        }
    }
}

/// One step. `clock_ms` is read at `Begin` and nowhere else, so that all roles are judged by one time.
pub fn step(mut state: Update, event: Event, clock_ms: WallMs) -> (Update, Vec<Effect>) {
    let effects = match state.on(event, clock_ms) {
        Ok(effect) => effect.into_iter().collect(),
        Err(error) => {
            state.stage = Stage::Failed;
            vec![Effect::Done(Outcome::Failed(error))]
        }
    };
    (state, effects)
}

fn not_older(role: &str, trusted: u64, found: u64) -> Result<(), UpdateError> {
    let role = role.to_owned();
    if found < trusted { Err(UpdateError::Rollback { role, trusted, found }) } else { Ok(()) }
}

fn no_role_went_back(old: &Snapshot, new: &Snapshot) -> Result<(), UpdateError> {
    for (name, old) in &old.meta {
        let role = name.strip_suffix(".json").unwrap_or(name).escape_debug().to_string();
        let new = new.meta.get(name).ok_or_else(|| UpdateError::Vanished { role: role.clone() })?;
        not_older(&role, old.version, new.version)?;
    }
    Ok(())
}

fn announced(file: &FileName, listed: &MetaFile, bytes: &[u8]) -> Result<(), UpdateError> {
    listed.check(bytes).map_err(|source| UpdateError::Mismatch { file: file.clone(), source })
}

fn is_version(file: &FileName, expected: u64, found: u64) -> Result<(), UpdateError> {
    if found == expected { Ok(()) } else { Err(UpdateError::Version { file: file.clone(), expected, found }) }
}
