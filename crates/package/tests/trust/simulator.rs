//! A repository in memory that publishes what it is told, right or wrong, and a client that is carried out over it.

use std::collections::BTreeMap;
use std::rc::Rc;

use package::trust::Policy;
use package::trust::canonical::{Value, canonical, to_json};
use package::trust::key::{KeyKind, KindSet};
use package::trust::sign::{EcdsaSigner, Ed25519Signer, HybridSigner, Signer};
use package::trust::time::format_utc;
use package::trust::trusted::Trusted;
use package::trust::update::{Effect, Event, Outcome, Update, UpdateError, Want, step};
use wire::hash::Hash;
use wire::world::WallMs;

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW_MS: WallMs = 1_767_225_600_000;
/// A day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// A key that signs, shared between roles.
pub(crate) type Key = Rc<dyn Signer>;

/// A repository: what its roles say, who signs for them, and what is served.
pub(crate) struct Repo {
    /// What will be signed, by role.
    pub(crate) roles: BTreeMap<String, Value>,
    /// Who will sign, by role.
    pub(crate) signers: BTreeMap<String, Vec<Key>>,
    /// What is served, by file.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What was asked for, in order.
    pub(crate) asked: Vec<String>,
    /// Whether timestamp and snapshot tell lengths and hashes.
    pub(crate) hashes: bool,
    kind: KeyKind,
    keys: u8,
}

/// `{"a":1}` out of pairs.
pub(crate) fn object(fields: &[(&str, Value)]) -> Value {
    Value::Object(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

/// A list of strings.
pub(crate) fn texts(texts: &[&str]) -> Value {
    Value::List(texts.iter().map(|text| (*text).into()).collect())
}

/// A field below a value, made if it is not there.
pub(crate) fn at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(value, |value, name| {
        value.as_object_mut().unwrap().entry((*name).to_owned()).or_insert(Value::Null)
    })
}

impl Repo {
    /// A repository of hybrid keys: each role has one key and version 1, and all is published.
    pub(crate) fn new() -> Repo {
        Repo::of(KeyKind::Hybrid)
    }

    /// The same with keys of another kind.
    pub(crate) fn of(kind: KeyKind) -> Repo {
        let mut repo = Repo {
            roles: BTreeMap::new(),
            signers: BTreeMap::new(),
            files: BTreeMap::new(),
            asked: Vec::new(),
            hashes: true,
            kind,
            keys: 0,
        };
        let empty = Value::Object(BTreeMap::new());
        let no_keys = object(&[("keyids", texts(&[])), ("threshold", 1u64.into())]);
        let roles = ["root", "timestamp", "snapshot", "targets"].map(|role| (role, no_keys.clone()));
        for (role, own) in [
            ("root", ("roles", object(&roles))),
            ("timestamp", ("meta", empty.clone())),
            ("snapshot", ("meta", empty.clone())),
            ("targets", ("targets", empty.clone())),
        ] {
            repo.roles.insert(role.into(), head(role, &[own]));
        }
        *repo.field("root", &["keys"]) = empty;
        *repo.field("root", &["consistent_snapshot"]) = true.into();
        for role in ["root", "timestamp", "snapshot", "targets"] {
            let key = repo.key();
            repo.add_key(role, &key);
        }
        repo.publish(&["root", "targets", "snapshot", "timestamp"]);
        repo
    }

    /// A new key of the repository's kind.
    pub(crate) fn key(&mut self) -> Key {
        self.key_of(self.kind)
    }

    /// A new key.
    pub(crate) fn key_of(&mut self, kind: KeyKind) -> Key {
        self.keys += 1;
        match kind {
            KeyKind::Hybrid => Rc::new(HybridSigner::from_seed(&[self.keys; 64]).unwrap()),
            KeyKind::Ed25519 => Rc::new(Ed25519Signer::from_seed(&[self.keys; 32]).unwrap()),
            KeyKind::EcdsaP256 => Rc::new(EcdsaSigner::from_scalar(&[self.keys; 32]).unwrap()),
            KeyKind::RsaPss => unreachable!("aws-lc makes no RSA keys from seeds"),
        }
    }

    /// Something that a role says.
    pub(crate) fn field(&mut self, role: &str, path: &[&str]) -> &mut Value {
        at(self.roles.get_mut(role).unwrap(), path)
    }

    /// Gives a top-level role a key, in root and among its signers.
    pub(crate) fn add_key(&mut self, role: &str, key: &Key) {
        self.name_key(role, key);
        self.signers.entry(role.into()).or_default().push(key.clone());
    }

    /// Gives a top-level role a key in root only.
    pub(crate) fn name_key(&mut self, role: &str, key: &Key) {
        let id = key.id().to_string();
        *self.field("root", &["keys", &id]) = key.key().clone();
        let Value::List(ids) = self.field("root", &["roles", role, "keyids"]) else { unreachable!() };
        ids.push(id.into());
    }

    /// Takes all keys from a top-level role, and gives it a new one.
    pub(crate) fn rotate(&mut self, role: &str) {
        let key = self.key();
        *self.field("root", &["roles", role, "keyids"]) = texts(&[]);
        self.signers.remove(role);
        self.add_key(role, &key);
    }

    /// A delegation from one targets role to another, with a key of its own; published by `publish` later.
    pub(crate) fn delegate(&mut self, from: &str, to: &str, paths: &[&str], terminating: bool) {
        let key = self.key();
        if !self.roles.contains_key(to) {
            let none = Value::Object(BTreeMap::new());
            self.roles.insert(to.into(), head("targets", &[("targets", none)]));
            *self.field(to, &["version"]) = 0u64.into();
        }
        self.signers.entry(to.into()).or_default().push(key.clone());
        let id = key.id().to_string();
        if *self.field(from, &["delegations"]) == Value::Null {
            let none = Value::Object(BTreeMap::new());
            *self.field(from, &["delegations"]) =
                object(&[("keys", none), ("roles", Value::List(Vec::new()))]);
        }
        *self.field(from, &["delegations", "keys", &id]) = key.key().clone();
        let Value::List(roles) = self.field(from, &["delegations", "roles"]) else { unreachable!() };
        roles.push(object(&[
            ("name", to.into()),
            ("keyids", texts(&[&id])),
            ("threshold", 1u64.into()),
            ("terminating", terminating.into()),
            ("paths", texts(paths)),
        ]));
    }

    /// Lets a role name a target.
    pub(crate) fn add_target(&mut self, role: &str, path: &str, bytes: &[u8]) {
        let hashes = object(&[("sha256", Hash::of(bytes).to_string().into())]);
        let target = object(&[("length", (bytes.len() as u64).into()), ("hashes", hashes)]);
        *self.field(role, &["targets", path]) = target;
    }

    /// The version that a role says it has.
    pub(crate) fn version(&mut self, role: &str) -> u64 {
        self.field(role, &["version"]).as_u64().unwrap()
    }

    /// Raises the versions of these roles, in this order, lets snapshot and timestamp describe them, signs and serves.
    pub(crate) fn publish(&mut self, roles: &[&str]) {
        for role in roles {
            let version = self.version(role) + 1;
            *self.field(role, &["version"]) = version.into();
            self.sign_and_serve(role);
        }
    }

    /// Signs a role as it stands, with its signers, and serves it.
    pub(crate) fn sign_and_serve(&mut self, role: &str) {
        let signers = self.signers.get(role).cloned().unwrap_or_default();
        let version = self.version(role);
        let bytes = sign(&self.roles[role], &signers);
        self.serve(role, version, bytes);
    }

    /// Serves some bytes as a role's version, and lets snapshot or timestamp describe them.
    pub(crate) fn serve(&mut self, role: &str, version: u64, bytes: Vec<u8>) {
        let mut meta = vec![("version", version.into())];
        if self.hashes {
            meta.push(("length", (bytes.len() as u64).into()));
            meta.push(("hashes", object(&[("sha256", Hash::of(&bytes).to_string().into())])));
        }
        let file = format!("{role}.json");
        match role {
            "root" | "timestamp" => {}
            "snapshot" => *self.field("timestamp", &["meta", &file]) = object(&meta),
            _ => *self.field("snapshot", &["meta", &file]) = object(&meta),
        }
        let quoted = package::trust::metadata::quote(role);
        let name =
            if role == "timestamp" { "timestamp.json".into() } else { format!("{version}.{quoted}.json") };
        self.files.insert(name, bytes);
    }

    /// What somebody who asks gets.
    fn fetch(&mut self, file: &str) -> Option<Vec<u8>> {
        self.asked.push(file.to_owned());
        self.files.get(file).cloned()
    }
}

/// What every role begins with, and `fields`.
fn head(kind: &str, fields: &[(&str, Value)]) -> Value {
    let mut role = object(fields);
    let kind = if ["root", "timestamp", "snapshot"].contains(&kind) { kind } else { "targets" };
    *at(&mut role, &["_type"]) = kind.into();
    *at(&mut role, &["spec_version"]) = "1.0.31".into();
    *at(&mut role, &["version"]) = 0u64.into();
    *at(&mut role, &["expires"]) = format_utc(NOW_MS + 30 * DAY_MS).into();
    role
}

/// A document with these signatures.
pub(crate) fn sign(signed: &Value, signers: &[Key]) -> Vec<u8> {
    let message = canonical(signed);
    let signatures = signers.iter().map(|key| key.sign(&message).unwrap()).collect();
    envelope(signed, signatures)
}

/// A document with any signatures.
pub(crate) fn envelope(signed: &Value, signatures: Vec<Value>) -> Vec<u8> {
    to_json(&object(&[("signed", signed.clone()), ("signatures", Value::List(signatures))]))
}

/// A client that keeps what it trusts in memory.
pub(crate) struct Client {
    /// What is durable.
    pub(crate) trusted: Trusted,
    /// What it asks of signers.
    pub(crate) policy: Policy,
    /// What its clock says.
    pub(crate) clock_ms: WallMs,
}

impl Client {
    /// Trusts the repository's first root.
    pub(crate) fn of(repo: &Repo) -> Client {
        let kinds = if repo.kind == KeyKind::Hybrid { KindSet::hybrid() } else { KindSet::all() };
        let trusted = Trusted::of_root(&repo.files["1.root.json"], &kinds).unwrap();
        Client { trusted, policy: Policy { kinds, ..Policy::default() }, clock_ms: NOW_MS }
    }

    /// Carries an update out; a file that `repo` does not have is absent.
    pub(crate) fn run(&mut self, repo: &mut Repo, want: Want) -> Outcome {
        let update = Update::new(self.trusted.clone(), self.policy.clone());
        let (mut update, mut effects) = step(update, Event::Begin(want), self.clock_ms);
        loop {
            assert_eq!(effects.len(), 1, "one question at a time");
            let event = match effects.remove(0) {
                Effect::Done(outcome) => return outcome,
                Effect::Persist(trusted) => {
                    self.trusted = trusted;
                    Event::Persisted
                }
                Effect::Fetch { file, max_bytes } => match repo.fetch(file.as_str()) {
                    Some(bytes) if bytes.len() as u64 > max_bytes => {
                        Event::Failed { file, why: "longer than was asked for".into() }
                    }
                    Some(bytes) => Event::Got { file, bytes },
                    None => Event::Absent { file },
                },
            };
            (update, effects) = step(update, event, self.clock_ms);
        }
    }

    /// Refreshes, and says whether that went well.
    pub(crate) fn refresh(&mut self, repo: &mut Repo) -> Result<(), UpdateError> {
        match self.run(repo, Want::Refresh) {
            Outcome::Fresh => Ok(()),
            Outcome::Failed(error) => Err(error),
            other => panic!("a refresh gives no {other:?}"),
        }
    }

    /// The trusted version of a top-level role; 0 if there is none.
    pub(crate) fn version(&self, role: &str) -> u64 {
        match role {
            "root" => self.trusted.root.body.head.version,
            "timestamp" => self.trusted.timestamp.as_ref().map_or(0, |role| role.body.head.version),
            "snapshot" => self.trusted.snapshot.as_ref().map_or(0, |role| role.body.head.version),
            _ => self.trusted.targets.as_ref().map_or(0, |role| role.body.head.version),
        }
    }

    /// The trusted versions of root, timestamp, snapshot and targets.
    pub(crate) fn versions(&self) -> [u64; 4] {
        ["root", "timestamp", "snapshot", "targets"].map(|role| self.version(role))
    }
}

/// All four roles, targets first, so that each describes what was published before it.
pub(crate) const ALL: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];
/// What follows a change of targets.
pub(crate) const ONLINE: [&str; 3] = ["targets", "snapshot", "timestamp"];
