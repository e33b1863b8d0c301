//! A repository's next version, purely: what is staged, who has signed it, and what may be published.
//!
//! A change stages the next version of a role, unsigned. Staged documents travel to whoever holds the keys and gather
//! signatures; when enough have signed, by our own verifier, [`Repository::publish`] gives the files to write: roots and targets
//! first, then snapshot, the timestamp last, so that whoever reads in between sees the old state or the new one. Versions
//! only grow.

use std::collections::{BTreeMap, BTreeSet};

use wire::hash::Hash;
use wire::world::WallMs;

use crate::trust::canonical::{Value, canonical, to_json};
use crate::trust::envelope::{Envelope, VerifyError, verify};
use crate::trust::key::{KeyId, KindSet};
use crate::trust::metadata::{
    FileName, FormError, Role, RoleName, Root, SIGNED_AT_FIELD, SPEC_VERSION, Snapshot, Targets, Timestamp,
};
use crate::trust::sign::{SignError, Signer};
use crate::trust::time::{format_utc, parse_utc};

const DAY_MS: i64 = 86_400_000;

/// A change that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorError {
    /// The repository has no such role.
    #[error("the repository has no role {role}")]
    NoRole {
        /// Which.
        role: String,
    },
    /// A name that no delegated role can have, or that another has.
    #[error("{name:?} cannot name a delegated role: use 1 to 128 bytes, and no name that is taken")]
    Name {
        /// The name.
        name: String,
    },
    /// A threshold that can never be met, or by nobody.
    #[error("a threshold of {threshold} with {keys} keys: it must be from 1 to the number of keys")]
    Threshold {
        /// How many must sign.
        threshold: u64,
        /// How many could.
        keys: usize,
    },
    /// A key that is none of the role's.
    #[error("the key {id} is none of {role}'s: it cannot sign for it")]
    NotItsKey {
        /// Which key.
        id: String,
        /// Whose it would have to be.
        role: String,
    },
    /// Nothing is staged.
    #[error("nothing is staged for {role}: change it first")]
    NotStaged {
        /// Which role.
        role: String,
    },
    /// A file of the repository is not what it should be.
    #[error("the repository's {file} cannot be read")]
    Verify {
        /// Which file.
        file: FileName,
        /// Why.
        source: VerifyError,
    },
    /// A file of the repository is missing.
    #[error("the repository has no {file}")]
    Missing {
        /// Which file.
        file: FileName,
    },
    /// Signing failed.
    #[error("signing failed")]
    Sign(#[from] SignError),
}

/// Who may sign for a role, and for how long what they sign holds.
#[derive(Debug, Clone)]
pub struct Holders {
    /// Their keys, as key objects of TUF.
    pub keys: Vec<Value>,
    /// How many of them must sign.
    pub threshold: u64,
    /// How long each version holds, in milliseconds.
    pub life_ms: i64,
}

/// The four top-level roles of a new repository.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Says which keys the others have.
    pub root: Holders,
    /// Says which targets there are.
    pub targets: Holders,
    /// Says which targets metadata belongs together.
    pub snapshot: Holders,
    /// Says which snapshot is newest.
    pub timestamp: Holders,
}

/// Which paths a new delegated role is trusted with.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub holders: Holders,
    /// Patterns of paths, `*` not reaching over `/`.
    pub paths: Vec<String>,
    /// Whether a search for such a path ends with it.
    pub terminating: bool,
}

/// What was published, and what still waits for signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Files to write, in this order.
    pub files: Vec<(FileName, Vec<u8>)>,
    /// Roles with a staged version that not enough keys have signed yet, or that delegate to such a one.
    pub waiting: Vec<RoleName>,
}

/// A repository as its authors see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The newest published version of each role.
    published: BTreeMap<RoleName, Vec<u8>>,
    /// The next version of some.
    staged: BTreeMap<RoleName, Vec<u8>>,
}

impl Repository {
    /// A new repository: root and targets are staged, to be signed and published.
    pub fn init(plan: &Plan, now_ms: WallMs) -> Result<Repository, AuthorError> {
        let mut keys = BTreeMap::new();
        let mut roles = BTreeMap::new();
        let all = [
            ("root", &plan.root),
            ("targets", &plan.targets),
            ("snapshot", &plan.snapshot),
            ("timestamp", &plan.timestamp),
        ];
        for (name, holders) in all {
            roles.insert(name.to_owned(), role_keys(holders, &mut keys)?);
        }
        let lives = all.map(|(name, holders)| (name, Value::Integer(holders.life_ms)));
        let root = head(
            "root",
            now_ms,
            plan.root.life_ms,
            [
                ("consistent_snapshot", true.into()),
                ("keys", Value::Object(keys)),
                ("roles", Value::Object(roles)),
                (LIVES_FIELD, Value::object(lives)),
            ],
        );
        let targets = empty_targets(now_ms, plan.targets.life_ms);
        let mut repository = Repository { published: BTreeMap::new(), staged: BTreeMap::new() };
        repository.staged.insert(RoleName::root(), unsigned(root));
        repository.staged.insert(RoleName::targets(), unsigned(targets));
        Ok(repository)
    }

    /// A repository of which the newest published and staged version of each role are at hand.
    pub fn of(published: BTreeMap<RoleName, Vec<u8>>, staged: BTreeMap<RoleName, Vec<u8>>) -> Repository {
        Repository { published, staged }
    }

    /// Opens what was published and staged; both are asked for files by name, staged ones without version.
    pub fn open(
        mut published: impl FnMut(&FileName) -> Option<Vec<u8>>,
        mut staged: impl FnMut(&FileName) -> Option<Vec<u8>>,
    ) -> Result<Repository, AuthorError> {
        let mut repository = Repository { published: BTreeMap::new(), staged: BTreeMap::new() };
        for version in 1.. {
            let Some(bytes) = published(&FileName::of(&RoleName::root(), Some(version))) else { break };
            repository.published.insert(RoleName::root(), bytes);
        }
        let timestamp = FileName::of(&RoleName::timestamp(), None);
        if let Some(bytes) = published(&timestamp) {
            let body: Timestamp = body(&bytes, &timestamp)?;
            repository.published.insert(RoleName::timestamp(), bytes);
            let file = FileName::of(&RoleName::snapshot(), Some(body.snapshot.version));
            let bytes = published(&file).ok_or(AuthorError::Missing { file: file.clone() })?;
            let snapshot: Snapshot = self::body(&bytes, &file)?;
            repository.published.insert(RoleName::snapshot(), bytes);
            for (name, meta) in &snapshot.meta {
                let name = name.strip_suffix(".json").unwrap_or(name);
                let role =
                    if name == "targets" { Some(RoleName::targets()) } else { RoleName::delegated(name) };
                let role = role.ok_or_else(|| AuthorError::Name { name: name.to_owned() })?;
                let file = FileName::of(&role, Some(meta.version));
                let bytes = published(&file).ok_or(AuthorError::Missing { file })?;
                repository.published.insert(role, bytes);
            }
        }
        let mut candidates = vec![RoleName::root(), RoleName::targets()];
        let mut seen = BTreeSet::new();
        while let Some(role) = candidates.pop() {
            if !seen.insert(role.clone()) {
                continue;
            }
            let file = FileName::of(&role, None);
            if let Some(bytes) = staged(&file) {
                Envelope::read(&bytes).map_err(|source| AuthorError::Verify { file, source })?;
                repository.staged.insert(role.clone(), bytes);
            }
            if role != RoleName::root() {
                candidates.extend(repository.delegated_by(&role));
            }
        }
        Ok(repository)
    }

    /// The newest published version of each role.
    pub fn published(&self) -> impl Iterator<Item = (&RoleName, &[u8])> {
        self.published.iter().map(|(role, bytes)| (role, &bytes[..]))
    }

    /// What is staged, by role.
    pub fn staged_roles(&self) -> impl Iterator<Item = (&RoleName, &[u8])> {
        self.staged.iter().map(|(role, bytes)| (role, &bytes[..]))
    }

    /// What is staged, by the name of its file.
    pub fn staged(&self) -> impl Iterator<Item = (FileName, &[u8])> {
        self.staged.iter().map(|(role, bytes)| (FileName::of(role, None), &bytes[..]))
    }

    /// Lets a role name a target: `length` and SHA-256 of its bytes, and what else is said of it.
    pub fn add_target(
        &mut self,
        role: &RoleName,
        path: &str,
        (length, hash): (u64, Hash),
        custom: Option<Value>,
        now_ms: WallMs,
    ) -> Result<(), AuthorError> {
        let hashes = Value::object([("sha256", hash.to_string().into())]);
        let mut target = Value::object([("length", length.into()), ("hashes", hashes)]);
        if let (Some(fields), Some(custom)) = (target.as_object_mut(), custom) {
            fields.insert("custom".into(), custom);
        }
        self.change(role, now_ms, |signed| {
            if let Some(Value::Object(targets)) = signed.get_mut("targets") {
                targets.insert(path.to_owned(), target);
            }
            Ok(())
        })
    }

    /// Lets a role name a target no more.
    pub fn remove_target(&mut self, role: &RoleName, path: &str, now_ms: WallMs) -> Result<(), AuthorError> {
        self.change(role, now_ms, |signed| {
            if let Some(Value::Object(targets)) = signed.get_mut("targets") {
                targets.remove(path);
            }
            Ok(())
        })
    }

    /// Trusts a new role with some paths, and stages its first, empty version.
    pub fn delegate(&mut self, from: &RoleName, to: &Delegation, now_ms: WallMs) -> Result<(), AuthorError> {
        let taken = || AuthorError::Name { name: to.name.clone() };
        let role = RoleName::delegated(&to.name).ok_or_else(taken)?;
        if self.published.contains_key(&role) || self.staged.contains_key(&role) {
            return Err(taken());
        }
        let mut keys = BTreeMap::new();
        let Value::Object(mut delegated) = role_keys(&to.holders, &mut keys)? else { return Err(taken()) };
        delegated.insert("name".into(), to.name.as_str().into());
        delegated.insert("terminating".into(), to.terminating.into());
        let paths = to.paths.iter().map(|path| path.as_str().into()).collect();
        delegated.insert("paths".into(), Value::List(paths));
        self.change(from, now_ms, |signed| {
            let empty = || {
                let none = Value::Object(BTreeMap::new());
                Value::object([("keys", none), ("roles", Value::List(Vec::new()))])
            };
            let delegations = signed.entry("delegations".to_owned()).or_insert_with(empty);
            if let Some(Value::Object(known)) =
                delegations.as_object_mut().and_then(|all| all.get_mut("keys"))
            {
                known.extend(keys);
            }
            if let Some(Value::List(roles)) = delegations.as_object_mut().and_then(|all| all.get_mut("roles"))
            {
                roles.push(Value::Object(delegated));
            }
            Ok(())
        })?;
        self.staged.insert(role, unsigned(empty_targets(now_ms, to.holders.life_ms)));
        Ok(())
    }

    /// Gives a role other keys: a top-level role in a new root, which the old root's keys and, if it is root itself, its
    /// new keys must sign; a delegated role in the role that delegates to it.
    pub fn rotate(
        &mut self,
        role: &RoleName,
        add: &[Value],
        remove: &[KeyId],
        threshold: Option<u64>,
        now_ms: WallMs,
    ) -> Result<(), AuthorError> {
        let name = role.as_str();
        let is_top = ["root", "timestamp", "snapshot", "targets"].contains(&name);
        let holder = if is_top { RoleName::root() } else { self.delegator_of(role)? };
        self.change(&holder, now_ms, |signed| {
            let no_role = || AuthorError::NoRole { role: name.to_owned() };
            let part = if is_top {
                Some(signed)
            } else {
                signed.get_mut("delegations").and_then(Value::as_object_mut)
            };
            let part = part.ok_or_else(no_role)?;
            if let Some(Value::Object(keys)) = part.get_mut("keys") {
                keys.extend(add.iter().map(|key| (KeyId::of(key).to_string(), key.clone())));
            }
            let found = match part.get_mut("roles") {
                Some(Value::Object(roles)) => roles.get_mut(name),
                Some(Value::List(roles)) => {
                    roles.iter_mut().find(|role| role.get("name").and_then(Value::as_text) == Some(name))
                }
                _ => None,
            };
            let fields = found.and_then(Value::as_object_mut).ok_or_else(no_role)?;
            let Some(Value::List(ids)) = fields.get_mut("keyids") else { return Err(no_role()) };
            let removed: BTreeSet<String> = remove.iter().map(KeyId::to_string).collect();
            ids.retain(|id| id.as_text().is_none_or(|id| !removed.contains(id)));
            for id in add.iter().map(|key| Value::from(KeyId::of(key).to_string())) {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            let keys = ids.len();
            if let Some(threshold) = threshold {
                fields.insert("threshold".into(), threshold.into());
            }
            let threshold = fields.get("threshold").and_then(Value::as_u64).unwrap_or_default();
            check_threshold(threshold, keys)?;
            drop_unused_keys(part);
            Ok(())
        })
    }

    /// Signs what is staged for a role, if the key is one of those that may.
    pub fn sign(&mut self, role: &RoleName, signer: &dyn Signer) -> Result<(), AuthorError> {
        let bytes = self.staged.get(role).ok_or_else(|| AuthorError::NotStaged { role: role.to_string() })?;
        let file = FileName::of(role, None);
        let envelope = Envelope::read(bytes).map_err(|source| AuthorError::Verify { file, source })?;
        if !self.may_sign(role, signer.id()) {
            return Err(AuthorError::NotItsKey { id: signer.id().to_string(), role: role.to_string() });
        }
        let signature = signer.sign(&canonical(&envelope.signed))?;
        let id = signer.id().to_string();
        let mut signatures: Vec<Value> = envelope.signatures().cloned().collect();
        signatures.retain(|signature| signature.get("keyid").and_then(Value::as_text) != Some(&*id));
        signatures.push(signature);
        self.staged.insert(role.clone(), document(envelope.signed, signatures));
        Ok(())
    }

    /// Publishes every staged role that enough keys have signed, and, with the keys of `online`, a new snapshot if any
    /// targets changed and a new timestamp. Without anything staged this is what keeps a repository fresh.
    pub fn publish(&mut self, online: &[&dyn Signer], now_ms: WallMs) -> Result<Published, AuthorError> {
        let mut next = self.clone();
        let mut files = Vec::new();
        let mut ready: BTreeSet<RoleName> = next.staged.keys().cloned().collect();
        // A role waits if it lacks signatures, or delegates to a role that is neither published nor ready.
        loop {
            let stays: BTreeSet<RoleName> =
                ready.iter().filter(|role| next.may_publish(role, &ready)).cloned().collect();
            if stays.len() == ready.len() {
                break;
            }
            ready = stays;
        }
        let has_new_targets = ready.iter().any(|role| *role != RoleName::root());
        for role in ready {
            if let Some(bytes) = next.staged.remove(&role) {
                files.push((FileName::of(&role, Some(version_of(&bytes, &role)?)), bytes.clone()));
                next.published.insert(role, bytes);
            }
        }
        let waiting: Vec<RoleName> = next.staged.keys().cloned().collect();
        if next.published.contains_key(&RoleName::root()) && next.published.contains_key(&RoleName::targets())
        {
            next.publish_online(online, has_new_targets, now_ms, &mut files)?;
        }
        *self = next;
        Ok(Published { files, waiting })
    }

    fn publish_online(
        &mut self,
        online: &[&dyn Signer],
        has_new_targets: bool,
        now_ms: WallMs,
        files: &mut Vec<(FileName, Vec<u8>)>,
    ) -> Result<(), AuthorError> {
        let (timestamp, snapshot) = (RoleName::timestamp(), RoleName::snapshot());
        let life_ms = self.life_ms(&snapshot);
        let is_due = match self.published.get(&snapshot) {
            Some(bytes) => {
                let file = FileName::of(&snapshot, None);
                let old: Snapshot = body(bytes, &file)?;
                // Half of its life is left, and its keys are still its keys.
                let is_fresh = old.head.expires_ms.saturating_sub(now_ms) > life_ms / 2;
                !is_fresh || self.verifies(&snapshot, bytes).is_err()
            }
            None => true,
        };
        if has_new_targets || is_due {
            let targets = self
                .published
                .iter()
                .filter(|(role, _)| ![RoleName::root(), timestamp.clone(), snapshot.clone()].contains(role));
            let meta = targets.map(|(role, bytes)| {
                Ok((format!("{}.json", role.as_str()), describe(bytes, version_of(bytes, role)?)))
            });
            let meta = meta.collect::<Result<BTreeMap<String, Value>, AuthorError>>()?;
            let version = self.next_version(&snapshot)?;
            let mut signed = head("snapshot", now_ms, life_ms, [("meta", Value::Object(meta))]);
            set_version(&mut signed, version);
            let bytes = self.signed_online(&snapshot, signed, online)?;
            files.push((FileName::of(&snapshot, Some(version)), bytes.clone()));
            self.published.insert(snapshot.clone(), bytes);
        }
        files.push(self.stamp(online, now_ms)?);
        Ok(())
    }

    /// Signs a new timestamp over the published snapshot: all that a machine without the snapshot's key can say.
    pub fn stamp(
        &mut self,
        online: &[&dyn Signer],
        now_ms: WallMs,
    ) -> Result<(FileName, Vec<u8>), AuthorError> {
        let (timestamp, snapshot) = (RoleName::timestamp(), RoleName::snapshot());
        let described = self.published.get(&snapshot).map(Vec::as_slice).unwrap_or_default();
        let meta = describe(described, version_of(described, &snapshot)?);
        let meta = Value::object([("snapshot.json", meta)]);
        let version = self.next_version(&timestamp)?;
        let mut signed = head("timestamp", now_ms, self.life_ms(&timestamp), [("meta", meta)]);
        set_version(&mut signed, version);
        let bytes = self.signed_online(&timestamp, signed, online)?;
        self.published.insert(timestamp.clone(), bytes.clone());
        Ok((FileName::of(&timestamp, None), bytes))
    }

    /// Signs with those of the online keys that are the role's, and checks that they are enough.
    fn signed_online(
        &self,
        role: &RoleName,
        signed: Value,
        online: &[&dyn Signer],
    ) -> Result<Vec<u8>, AuthorError> {
        let message = canonical(&signed);
        let signers = online.iter().filter(|signer| self.may_sign(role, signer.id()));
        let signatures = signers.map(|signer| signer.sign(&message)).collect::<Result<Vec<_>, _>>()?;
        let bytes = document(signed, signatures);
        let refuse = |source| AuthorError::Verify { file: FileName::of(role, None), source };
        self.verifies(role, &bytes).map_err(refuse)?;
        Ok(bytes)
    }

    /// Changes the next version of a role, staging it if it is not; its signatures are dropped.
    fn change(
        &mut self,
        role: &RoleName,
        now_ms: WallMs,
        change: impl FnOnce(&mut BTreeMap<String, Value>) -> Result<(), AuthorError>,
    ) -> Result<(), AuthorError> {
        let no_role = || AuthorError::NoRole { role: role.to_string() };
        let bytes = self.staged.get(role).or_else(|| self.published.get(role)).ok_or_else(no_role)?;
        let is_staged = self.staged.contains_key(role);
        let mut signed = envelope_signed(bytes, role)?;
        let life_ms = life_of(&signed).unwrap_or_else(|| self.life_ms(role));
        let version = version_of(bytes, role)? + u64::from(!is_staged);
        set_version(&mut signed, version);
        let fields = signed.as_object_mut().ok_or_else(no_role)?;
        fields.insert("expires".into(), format_utc(now_ms.saturating_add(life_ms)).into());
        fields.insert(SIGNED_AT_FIELD.into(), format_utc(now_ms).into());
        change(fields)?;
        self.staged.insert(role.clone(), unsigned(signed));
        Ok(())
    }

    /// Stages a role again as it is, with a new expiry.
    pub fn renew(&mut self, role: &RoleName, now_ms: WallMs) -> Result<(), AuthorError> {
        self.change(role, now_ms, |_| Ok(()))
    }

    fn newest(&self, role: &RoleName, ready: &BTreeSet<RoleName>) -> Option<&[u8]> {
        let staged = self.staged.get(role).filter(|_| ready.contains(role));
        staged.or_else(|| self.published.get(role)).map(Vec::as_slice)
    }

    /// Whether a staged role can be published with the others of `ready`.
    fn may_publish(&self, role: &RoleName, ready: &BTreeSet<RoleName>) -> bool {
        let Some(bytes) = self.staged.get(role) else { return false };
        let kinds = KindSet::all();
        if *role == RoleName::root() {
            let Ok(envelope) = Envelope::read(bytes) else { return false };
            let Ok(new) = Root::read(&envelope.signed) else { return false };
            let by_old =
                match self.published.get(role).map(|old| body::<Root>(old, &FileName::of(role, None))) {
                    Some(Ok(old)) => envelope.check(&old.keys, &old.root, &kinds).is_ok(),
                    Some(Err(_)) => false,
                    None => true,
                };
            return by_old && envelope.check(&new.keys, &new.root, &kinds).is_ok();
        }
        let delegated = delegations(bytes).into_iter().map(|(name, ..)| name);
        if !delegated.into_iter().all(|name| self.newest(&name, ready).is_some()) {
            return false;
        }
        if *role == RoleName::targets() {
            let Some(root) = self.newest(&RoleName::root(), ready) else { return false };
            let Ok(root) = body::<Root>(root, &FileName::of(role, None)) else { return false };
            return verify::<Targets>(bytes, &root.keys, &root.targets, &kinds).is_ok();
        }
        // Every role that delegates to it must find its own keys' signatures.
        let roles: BTreeSet<&RoleName> = self.published.keys().chain(self.staged.keys()).collect();
        let mut delegators = 0;
        for from in roles.into_iter().filter_map(|from| self.newest(from, ready)) {
            let Ok(targets) = body::<Targets>(from, &FileName::of(role, None)) else { continue };
            for edge in targets.delegations.roles.iter().filter(|edge| edge.name == *role) {
                delegators += 1;
                if verify::<Targets>(bytes, &targets.delegations.keys, &edge.keys, &kinds).is_err() {
                    return false;
                }
            }
        }
        delegators > 0
    }

    /// Checks an online role's signatures under the published root.
    fn verifies(&self, role: &RoleName, bytes: &[u8]) -> Result<(), VerifyError> {
        let root = self.published.get(&RoleName::root()).ok_or(VerifyError::NoEnvelope)?;
        let root = Root::read(&Envelope::read(root)?.signed)?;
        let kinds = KindSet::all();
        if *role == RoleName::timestamp() {
            verify::<Timestamp>(bytes, &root.keys, &root.timestamp, &kinds).map(drop)
        } else {
            verify::<Snapshot>(bytes, &root.keys, &root.snapshot, &kinds).map(drop)
        }
    }

    /// Whether a key is one of a role's, in the published or the staged word of those who say so.
    fn may_sign(&self, role: &RoleName, id: KeyId) -> bool {
        let both = |role: &RoleName| self.published.get(role).into_iter().chain(self.staged.get(role));
        let name = role.as_str();
        let in_root = both(&RoleName::root()).filter_map(|bytes| {
            let root = body::<Root>(bytes, &FileName::of(role, None)).ok()?;
            match name {
                "root" => Some(root.root),
                "timestamp" => Some(root.timestamp),
                "snapshot" => Some(root.snapshot),
                "targets" => Some(root.targets),
                _ => None,
            }
        });
        let all = self.published.values().chain(self.staged.values());
        let in_targets = all.flat_map(|bytes| delegations(bytes)).filter(|(delegated, _)| delegated == role);
        let mut holders = in_root.map(|keys| keys.ids).chain(in_targets.map(|(_, ids)| ids));
        holders.any(|ids| ids.contains(&id))
    }

    fn delegated_by(&self, role: &RoleName) -> Vec<RoleName> {
        let both = self.published.get(role).into_iter().chain(self.staged.get(role));
        both.flat_map(|bytes| delegations(bytes)).map(|(name, _)| name).collect()
    }

    fn delegator_of(&self, role: &RoleName) -> Result<RoleName, AuthorError> {
        let all = self.published.keys().chain(self.staged.keys());
        let mut from = all.filter(|from| self.delegated_by(from).contains(role));
        from.next().cloned().ok_or_else(|| AuthorError::NoRole { role: role.to_string() })
    }

    /// How long a version of a role holds: as the root says, else a week.
    fn life_ms(&self, role: &RoleName) -> i64 {
        let root = self.staged.get(&RoleName::root()).or_else(|| self.published.get(&RoleName::root()));
        let root = root.and_then(|bytes| Envelope::read(bytes).ok());
        let lives = root.as_ref().and_then(|root| root.signed.get(LIVES_FIELD));
        let life_ms = lives.and_then(|lives| lives.get(role.as_str())).and_then(Value::as_u64);
        life_ms.and_then(|life_ms| i64::try_from(life_ms).ok()).unwrap_or(7 * DAY_MS)
    }

    fn next_version(&self, role: &RoleName) -> Result<u64, AuthorError> {
        match self.published.get(role) {
            Some(bytes) => Ok(version_of(bytes, role)? + 1),
            None => Ok(1),
        }
    }
}

/// The field of root that says how long each role's versions hold, in milliseconds.
const LIVES_FIELD: &str = "x-selvedge-lives";

/// A role's keys as root and delegations say them; the keys themselves go into `keys`.
fn role_keys(holders: &Holders, keys: &mut BTreeMap<String, Value>) -> Result<Value, AuthorError> {
    let mut ids = Vec::new();
    for key in &holders.keys {
        let id = KeyId::of(key).to_string();
        keys.insert(id.clone(), key.clone());
        if !ids.contains(&Value::from(id.as_str())) {
            ids.push(Value::from(id));
        }
    }
    check_threshold(holders.threshold, ids.len())?;
    Ok(Value::object([("keyids", Value::List(ids)), ("threshold", holders.threshold.into())]))
}

fn check_threshold(threshold: u64, keys: usize) -> Result<(), AuthorError> {
    let is_possible = threshold >= 1 && threshold <= keys as u64;
    if is_possible { Ok(()) } else { Err(AuthorError::Threshold { threshold, keys }) }
}

/// Drops the keys that no role names any more.
fn drop_unused_keys(part: &mut BTreeMap<String, Value>) {
    let roles: Vec<&Value> = match part.get("roles") {
        Some(Value::Object(roles)) => roles.values().collect(),
        Some(Value::List(roles)) => roles.iter().collect(),
        _ => return,
    };
    let ids = roles.iter().filter_map(|role| role.get("keyids")?.as_list());
    let used: BTreeSet<String> = ids.flatten().filter_map(|id| id.as_text().map(str::to_owned)).collect();
    if let Some(Value::Object(keys)) = part.get_mut("keys") {
        keys.retain(|id, _| used.contains(id));
    }
}

fn head<const N: usize>(kind: &str, now_ms: WallMs, life_ms: i64, fields: [(&str, Value); N]) -> Value {
    let mut signed = Value::object(fields);
    if let Some(all) = signed.as_object_mut() {
        all.insert("_type".into(), kind.into());
        all.insert("spec_version".into(), SPEC_VERSION.into());
        all.insert("version".into(), 1u64.into());
        all.insert("expires".into(), format_utc(now_ms.saturating_add(life_ms)).into());
        all.insert(SIGNED_AT_FIELD.into(), format_utc(now_ms).into());
    }
    signed
}

fn empty_targets(now_ms: WallMs, life_ms: i64) -> Value {
    head("targets", now_ms, life_ms, [("targets", Value::Object(BTreeMap::new()))])
}

fn set_version(signed: &mut Value, version: u64) {
    if let Some(fields) = signed.as_object_mut() {
        fields.insert("version".into(), version.into());
    }
}

/// How long this version was made to hold.
fn life_of(signed: &Value) -> Option<i64> {
    let at = |field| signed.get(field).and_then(Value::as_text).and_then(parse_utc);
    Some(at("expires")? - at(SIGNED_AT_FIELD)?)
}

/// What timestamp and snapshot say of a file.
fn describe(bytes: &[u8], version: u64) -> Value {
    let hashes = Value::object([("sha256", Hash::of(bytes).to_string().into())]);
    let length = bytes.len() as u64;
    Value::object([("version", version.into()), ("length", length.into()), ("hashes", hashes)])
}

fn unsigned(signed: Value) -> Vec<u8> {
    document(signed, Vec::new())
}

fn document(signed: Value, signatures: Vec<Value>) -> Vec<u8> {
    to_json(&Value::object([("signed", signed), ("signatures", Value::List(signatures))]))
}

/// What stands in `signed`; our own file, so that the name of the role is enough to find it.
fn envelope_signed(bytes: &[u8], role: &RoleName) -> Result<Value, AuthorError> {
    let refuse = |source| AuthorError::Verify { file: FileName::of(role, None), source };
    Ok(Envelope::read(bytes).map_err(refuse)?.signed)
}

fn version_of(bytes: &[u8], role: &RoleName) -> Result<u64, AuthorError> {
    let version = envelope_signed(bytes, role)?.get("version").and_then(Value::as_u64);
    version.ok_or_else(|| AuthorError::Verify {
        file: FileName::of(role, None),
        source: FormError::Field { field: "version".into(), expected: "an integer from 1 up" }.into(),
    })
}

fn body<T: Role>(bytes: &[u8], file: &FileName) -> Result<T, AuthorError> {
    let read = || T::read(&Envelope::read(bytes)?.signed).map_err(VerifyError::from);
    read().map_err(|source| AuthorError::Verify { file: file.clone(), source })
}

/// The roles that a targets role delegates to, and their keys; none for other roles.
fn delegations(bytes: &[u8]) -> Vec<(RoleName, BTreeSet<KeyId>)> {
    let targets = Envelope::read(bytes).ok().and_then(|envelope| Targets::read(&envelope.signed).ok());
    let roles = targets.into_iter().flat_map(|targets| targets.delegations.roles);
    roles.map(|role| (role.name, role.keys.ids)).collect()
}
