//! The roles of TUF 1.0 as types, read from strict JSON.
//!
//! Reading checks form and limits only; who signed is `envelope`'s question, whether it is fresh and newer is `update`'s.
//! Unknown fields are left alone: they are signed with the rest, and others may know them.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256, Sha512};
use wire::world::WallMs;

use crate::trust::canonical::Value;
use crate::trust::hex::from_hex;
use crate::trust::key::{KeyId, PublicKey};
use crate::trust::time::parse_utc;

/// The field by which a signer says when it signed; feeds the time floor.
pub const SIGNED_AT_FIELD: &str = "x-selvedge-signed-at";

/// The version of the specification that is written.
pub const SPEC_VERSION: &str = "1.0.31";

const KEYS_MAX: usize = 1024;
const ROLES_MAX: usize = 4096;
const NAME_MAX: usize = 128;

/// Metadata of a wrong form, or of a form that is not known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A field is missing, or not what it must be.
    #[error("{field:?} must be {expected}")]
    Field {
        /// Which field.
        field: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The metadata is of another role.
    #[error("this is metadata of the type {found:?}, expected {expected:?}")]
    Type {
        /// What was asked for.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// A feature of TUF that this reader does not have.
    #[error("{what} is not supported here")]
    Unsupported {
        /// What.
        what: String,
    },
    /// A limit is passed.
    #[error("more than {limit} {of}")]
    TooMany {
        /// The limit.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
}

/// The name of a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleName(Box<str>);

impl RoleName {
    /// The role that says which keys the others have.
    pub fn root() -> RoleName {
        RoleName("root".into())
    }

    /// The role that says what is newest.
    pub fn timestamp() -> RoleName {
        RoleName("timestamp".into())
    }

    /// The role that says which metadata belongs together.
    pub fn snapshot() -> RoleName {
        RoleName("snapshot".into())
    }

    /// The role that says which targets there are, or who else may say so.
    pub fn targets() -> RoleName {
        RoleName("targets".into())
    }

    /// The name of a delegated role: 1 to 128 bytes without NUL, and none of the four above.
    pub fn delegated(name: &str) -> Option<RoleName> {
        let is_ours = ["root", "timestamp", "snapshot", "targets"].contains(&name);
        let fits = !name.is_empty() && name.len() <= NAME_MAX && !name.contains('\0');
        (fits && !is_ours).then(|| RoleName(name.into()))
    }

    /// The name as text; a stranger's, so never a path: see [`FileName`].
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RoleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

/// The name of a metadata file below a repository's `metadata/`: one plain segment, whatever the role is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// `7.team-a.json`, or `team-a.json` without a version.
    pub fn of(role: &RoleName, version: Option<u64>) -> FileName {
        let name = quote(role.as_str());
        FileName(match version {
            Some(version) => format!("{version}.{name}.json"),
            None => format!("{name}.json"),
        })
    }

    /// The name as text, safe in a path and a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Percent-encodes all but letters, digits and `_.-~`, as Python's `quote(text, "")`; a name of dots only is encoded
/// whole, so that no result is `.` or `..`.
pub fn quote(text: &str) -> String {
    let dots_only = text.bytes().all(|byte| byte == b'.');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'~');
    let mut quoted = String::new();
    for byte in text.bytes() {
        if is_plain(byte) || (byte == b'.' && !dots_only) {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

/// What every role says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// From 1 up.
    pub version: u64,
    /// From this instant on nothing may be accepted by it.
    pub expires_ms: WallMs,
    /// When it was signed, if the signer says.
    pub signed_at_ms: Option<WallMs>,
}

/// A role's metadata.
pub trait Role: Sized {
    /// What stands in `_type`.
    const TYPE: &'static str;
    /// Reads what stands in `signed`.
    fn read(signed: &Value) -> Result<Self, FormError>;
    /// What the role says of itself.
    fn head(&self) -> &Head;
}

/// Who may sign for a role, and how many of them must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// The keys by id; one that `keys` does not have can never sign.
    pub ids: BTreeSet<KeyId>,
    /// How many must sign, at least 1.
    pub threshold: u64,
}

/// Which keys every top-level role has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Version and expiry.
    pub head: Head,
    /// Whether files carry their version and targets their hash in their names.
    pub consistent_snapshot: bool,
    /// The keys that can be read here, under ids that are theirs.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// Root's own keys.
    pub root: RoleKeys,
    /// Timestamp's keys.
    pub timestamp: RoleKeys,
    /// Snapshot's keys.
    pub snapshot: RoleKeys,
    /// Targets' keys.
    pub targets: RoleKeys,
}

/// Which snapshot is newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// Version and expiry.
    pub head: Head,
    /// The snapshot.
    pub snapshot: MetaFile,
}

/// Which targets metadata belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Version and expiry.
    pub head: Head,
    /// `targets` and all delegated roles, by the name of their file without version.
    pub meta: BTreeMap<String, MetaFile>,
}

/// Which targets there are, and who else may name some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Version and expiry.
    pub head: Head,
    /// By path.
    pub targets: BTreeMap<String, TargetFile>,
    /// Empty without delegations.
    pub delegations: Delegations,
}

/// A metadata file as another one describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaFile {
    /// Its version.
    pub version: u64,
    /// Its length in bytes, if told.
    pub length: Option<u64>,
    /// Its hashes, if told.
    pub hashes: Option<Hashes>,
}

/// A target as metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its hashes.
    pub hashes: Hashes,
    /// What else the signer says of it.
    pub custom: Option<Value>,
}

/// The hashes of a file; at least one of a kind that is known here, or nothing matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// SHA-512.
    pub sha512: Option<[u8; 64]>,
}

/// Bytes that are not the file which metadata describes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The length differs.
    #[error("{found} bytes came, {expected} are described")]
    Length {
        /// As described.
        expected: u64,
        /// As it came.
        found: u64,
    },
    /// A hash differs.
    #[error("the bytes have another {kind} than is described")]
    Hash {
        /// Which hash.
        kind: &'static str,
    },
    /// There is no hash of a kind that is known here.
    #[error("only hashes of kinds that are unknown here are described: it cannot be checked")]
    NoKnownHash,
}

impl Hashes {
    /// Whether `bytes` have every one of these hashes.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Mismatch> {
        if self.sha256.is_none() && self.sha512.is_none() {
            return Err(Mismatch::NoKnownHash);
        }
        if self.sha256.is_some_and(|expected| expected != <[u8; 32]>::from(Sha256::digest(bytes))) {
            return Err(Mismatch::Hash { kind: "SHA-256" });
        }
        if self.sha512.is_some_and(|expected| expected != <[u8; 64]>::from(Sha512::digest(bytes))) {
            return Err(Mismatch::Hash { kind: "SHA-512" });
        }
        Ok(())
    }
}

impl MetaFile {
    /// Whether `bytes` are the described file, as far as it is described.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Mismatch> {
        if let Some(length) = self.length {
            check_length(bytes, length)?;
        }
        self.hashes.as_ref().map_or(Ok(()), |hashes| hashes.check(bytes))
    }
}

impl TargetFile {
    /// Whether `bytes` are the target.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Mismatch> {
        check_length(bytes, self.length)?;
        self.hashes.check(bytes)
    }
}

fn check_length(bytes: &[u8], expected: u64) -> Result<(), Mismatch> {
    let found = bytes.len() as u64;
    if found == expected { Ok(()) } else { Err(Mismatch::Length { expected, found }) }
}

/// The roles that a targets role trusts with some paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delegations {
    /// Their keys.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// In order of appearance, which is the order of search.
    pub roles: Vec<Delegated>,
}

/// A role that another one trusts with some paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// Its name.
    pub name: RoleName,
    /// Its keys.
    pub keys: RoleKeys,
    /// Whether a search for such a path ends with it.
    pub terminating: bool,
    /// Which paths.
    pub paths: Paths,
}

/// Which paths a role is trusted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paths {
    /// Patterns, matched segment by segment.
    Patterns(Vec<String>),
    /// Beginnings of the path's SHA-256 in hexadecimal digits.
    HashPrefixes(Vec<String>),
}

impl Role for Root {
    const TYPE: &'static str = "root";

    fn read(signed: &Value) -> Result<Root, FormError> {
        let head = head(signed, Root::TYPE)?;
        let consistent_snapshot = match signed.get("consistent_snapshot") {
            Some(consistent) => {
                consistent.as_bool().ok_or_else(|| wrong("consistent_snapshot", "true or false"))?
            }
            None => false,
        };
        let roles = object(signed, "roles")?;
        let role = |name: &str| {
            let role = roles.get(name).ok_or_else(|| wrong(name, "a role in 'roles'"))?;
            role_keys(role)
        };
        Ok(Root {
            head,
            consistent_snapshot,
            keys: keys(object(signed, "keys")?)?,
            root: role("root")?,
            timestamp: role("timestamp")?,
            snapshot: role("snapshot")?,
            targets: role("targets")?,
        })
    }

    fn head(&self) -> &Head {
        &self.head
    }
}

impl Role for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn read(signed: &Value) -> Result<Timestamp, FormError> {
        let head = head(signed, Timestamp::TYPE)?;
        let meta = object(signed, "meta")?;
        let snapshot =
            meta.get("snapshot.json").ok_or_else(|| wrong("meta", "one that has snapshot.json"))?;
        Ok(Timestamp { head, snapshot: meta_file(snapshot)? })
    }

    fn head(&self) -> &Head {
        &self.head
    }
}

impl Role for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn read(signed: &Value) -> Result<Snapshot, FormError> {
        let head = head(signed, Snapshot::TYPE)?;
        let meta = object(signed, "meta")?;
        at_most(meta.len(), ROLES_MAX, "roles in a snapshot")?;
        if !meta.contains_key("targets.json") {
            return Err(wrong("meta", "one that has targets.json"));
        }
        let meta = meta.iter().map(|(name, file)| Ok((name.clone(), meta_file(file)?)));
        Ok(Snapshot { head, meta: meta.collect::<Result<_, FormError>>()? })
    }

    fn head(&self) -> &Head {
        &self.head
    }
}

impl Snapshot {
    /// What is said of a role; `None` if it is not listed.
    pub fn of(&self, role: &RoleName) -> Option<&MetaFile> {
        self.meta.get(&format!("{}.json", role.as_str()))
    }
}

impl Role for Targets {
    const TYPE: &'static str = "targets";

    fn read(signed: &Value) -> Result<Targets, FormError> {
        let head = head(signed, Targets::TYPE)?;
        let targets = object(signed, "targets")?.iter();
        let targets = targets.map(|(path, file)| Ok((path.clone(), target_file(file)?)));
        let targets = targets.collect::<Result<_, FormError>>()?;
        let delegations = match signed.get("delegations") {
            Some(delegations) => read_delegations(delegations)?,
            None => Delegations::default(),
        };
        Ok(Targets { head, targets, delegations })
    }

    fn head(&self) -> &Head {
        &self.head
    }
}

fn read_delegations(value: &Value) -> Result<Delegations, FormError> {
    if value.get("succinct_roles").is_some() {
        return Err(FormError::Unsupported { what: "a delegation to succinct hash bins".into() });
    }
    let list = value.get("roles").and_then(Value::as_list).ok_or_else(|| wrong("roles", "a list"))?;
    at_most(list.len(), ROLES_MAX, "delegated roles")?;
    let mut names = BTreeSet::new();
    let mut roles = Vec::new();
    for role in list {
        let name = role.get("name").and_then(Value::as_text).and_then(RoleName::delegated);
        let name = name.ok_or_else(|| wrong("name", "the name of a delegated role, at most 128 bytes"))?;
        if !names.insert(name.clone()) {
            return Err(wrong("name", "another name for each delegated role"));
        }
        let terminating = role.get("terminating").and_then(Value::as_bool);
        let paths = match (texts(role, "paths")?, texts(role, "path_hash_prefixes")?) {
            (Some(patterns), None) => Paths::Patterns(patterns),
            (None, Some(prefixes)) => Paths::HashPrefixes(prefixes),
            _ => return Err(wrong("paths", "there, or path_hash_prefixes, and not both")),
        };
        roles.push(Delegated {
            name,
            keys: role_keys(role)?,
            terminating: terminating.ok_or_else(|| wrong("terminating", "true or false"))?,
            paths,
        });
    }
    Ok(Delegations { keys: keys(object(value, "keys")?)?, roles })
}

fn wrong(field: &str, expected: &'static str) -> FormError {
    FormError::Field { field: field.chars().take(64).collect(), expected }
}

fn at_most(count: usize, limit: usize, of: &'static str) -> Result<(), FormError> {
    if count > limit { Err(FormError::TooMany { limit, of }) } else { Ok(()) }
}

fn object<'a>(value: &'a Value, field: &str) -> Result<&'a BTreeMap<String, Value>, FormError> {
    value.get(field).and_then(Value::as_object).ok_or_else(|| wrong(field, "an object"))
}

/// A time, if the field is there.
pub fn time(value: &Value, field: &str) -> Result<Option<WallMs>, FormError> {
    let Some(time) = value.get(field) else { return Ok(None) };
    let time = time.as_text().and_then(parse_utc);
    time.map(Some).ok_or_else(|| wrong(field, "a time such as 2026-11-21T20:00:00Z"))
}

/// Refuses an object with members that this reader does not know, where leaving one out would mean more than was signed.
pub fn only(value: &Value, of: &str, members: &[&str]) -> Result<(), FormError> {
    let fields = value.as_object().ok_or_else(|| wrong(of, "an object"))?;
    match fields.keys().find(|name| !members.contains(&name.as_str())) {
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            Err(FormError::Unsupported { what: format!("{name:?} in {of:?}") })
        }
        None => Ok(()),
    }
}

/// What all signed documents begin with; `kind` is what `_type` must be.
pub fn head(signed: &Value, kind: &'static str) -> Result<Head, FormError> {
    let found = signed.get("_type").and_then(Value::as_text).ok_or_else(|| wrong("_type", "a string"))?;
    if found != kind {
        return Err(FormError::Type { expected: kind, found: found.chars().take(64).collect() });
    }
    let spec = signed.get("spec_version").and_then(Value::as_text);
    let spec = spec.ok_or_else(|| wrong("spec_version", "a string"))?;
    if !spec.starts_with("1.") {
        let what = format!("version {:.16} of the TUF specification", spec.escape_debug().to_string());
        return Err(FormError::Unsupported { what });
    }
    let version = signed.get("version").and_then(Value::as_u64).filter(|version| *version > 0);
    Ok(Head {
        version: version.ok_or_else(|| wrong("version", "an integer from 1 up"))?,
        expires_ms: time(signed, "expires")?.ok_or_else(|| wrong("expires", "a time"))?,
        signed_at_ms: time(signed, SIGNED_AT_FIELD)?,
    })
}

/// The keys that can be used: those that can be read, under the id that is theirs. The others are ignored, not
/// refused: the specification asks for it, and repositories with one wrong id are in use.
fn keys(keys: &BTreeMap<String, Value>) -> Result<BTreeMap<KeyId, PublicKey>, FormError> {
    at_most(keys.len(), KEYS_MAX, "keys")?;
    let keys = keys.iter().filter_map(|(id, key)| {
        let id = KeyId::parse(id).filter(|id| *id == KeyId::of(key))?;
        Some((id, PublicKey::read(key)?))
    });
    Ok(keys.collect())
}

fn role_keys(role: &Value) -> Result<RoleKeys, FormError> {
    let ids = texts(role, "keyids")?.ok_or_else(|| wrong("keyids", "a list of key ids"))?;
    let threshold = role.get("threshold").and_then(Value::as_u64).filter(|threshold| *threshold > 0);
    Ok(RoleKeys {
        ids: ids.iter().filter_map(|id| KeyId::parse(id)).collect(),
        threshold: threshold.ok_or_else(|| wrong("threshold", "an integer from 1 up"))?,
    })
}

/// A list of strings, if the field is there; `null` counts as absent.
fn texts(value: &Value, field: &str) -> Result<Option<Vec<String>>, FormError> {
    let list = match value.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(list) => list.as_list().ok_or_else(|| wrong(field, "a list of strings"))?,
    };
    at_most(list.len(), ROLES_MAX, "strings in one list")?;
    let texts = list.iter().map(|text| text.as_text().map(str::to_owned)).collect::<Option<Vec<_>>>();
    texts.map(Some).ok_or_else(|| wrong(field, "a list of strings"))
}

fn meta_file(value: &Value) -> Result<MetaFile, FormError> {
    let version = value.get("version").and_then(Value::as_u64).filter(|version| *version > 0);
    let length = match value.get("length") {
        None => None,
        Some(length) => Some(length.as_u64().ok_or_else(|| wrong("length", "a number of bytes"))?),
    };
    Ok(MetaFile {
        version: version.ok_or_else(|| wrong("version", "an integer from 1 up"))?,
        length,
        hashes: value.get("hashes").map(hashes).transpose()?,
    })
}

fn target_file(value: &Value) -> Result<TargetFile, FormError> {
    let length = value.get("length").and_then(Value::as_u64);
    Ok(TargetFile {
        length: length.ok_or_else(|| wrong("length", "a number of bytes"))?,
        hashes: hashes(value.get("hashes").ok_or_else(|| wrong("hashes", "there"))?)?,
        custom: value.get("custom").cloned(),
    })
}

fn hashes(value: &Value) -> Result<Hashes, FormError> {
    let kinds = value.as_object().filter(|kinds| !kinds.is_empty());
    let kinds = kinds.ok_or_else(|| wrong("hashes", "an object of at least one hash"))?;
    Ok(Hashes { sha256: hash(kinds, "sha256")?, sha512: hash(kinds, "sha512")? })
}

fn hash<const N: usize>(kinds: &BTreeMap<String, Value>, kind: &str) -> Result<Option<[u8; N]>, FormError> {
    let Some(hash) = kinds.get(kind) else { return Ok(None) };
    let bytes = hash.as_text().and_then(from_hex).and_then(|bytes| bytes.try_into().ok());
    bytes.map(Some).ok_or_else(|| wrong(kind, "a hash in hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::canonical::parse;

    #[test]
    fn names_become_one_plain_segment() {
        fn check(name: &str, expected: &str) {
            let role = RoleName::delegated(name).unwrap();
            assert_eq!(FileName::of(&role, None).as_str(), expected);
        }
        check("team-a", "team-a.json");
        check("../x", "..%2Fx.json");
        check("/x?#", "%2Fx%3F%23.json");
        check("..", "%2E%2E.json");
        check("é ", "%C3%A9%20.json");
        assert_eq!(FileName::of(&RoleName::root(), Some(2)).as_str(), "2.root.json");
        for wrong in ["", "root", "targets", "a\0", &"a".repeat(129)] {
            assert_eq!(RoleName::delegated(wrong), None, "{wrong:?}");
        }
    }

    fn timestamp(change: &str, to: &str) -> Result<Timestamp, FormError> {
        let text = r#"{"_type":"timestamp","spec_version":"1.0.31","version":1,"expires":"2030-01-01T00:00:00Z",
            "meta":{"snapshot.json":{"version":1,"length":3,"hashes":{"sha256":"HASH"}}}}"#;
        let text = text.replace(change, to).replace("HASH", &"ab".repeat(32));
        Timestamp::read(&parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn fields_are_what_they_must_be() {
        assert!(timestamp("", "").is_ok());
        let check = |change: &str, to: &str, why: &str| {
            let error = timestamp(change, to).unwrap_err().to_string();
            assert!(error.contains(why), "{to}: {error}");
        };
        check("\"version\":1,\"exp", "\"version\":0,\"exp", "integer from 1");
        check("\"version\":1,\"exp", "\"version\":\"1\",\"exp", "integer from 1");
        check("1.0.31", "2.0.0", "not supported");
        check("2030-01-01T00:00:00Z", "2030-01-01", "a time such as");
        check("timestamp", "snapshot", "type");
        check("snapshot.json", "x.json", "snapshot.json");
        check("\"length\":3", "\"length\":-3", "number of bytes");
        check("\"HASH\"", "\"abcd\"", "hexadecimal");
        check("{\"sha256\":\"HASH\"}", "{}", "at least one hash");
    }

    #[test]
    fn hashes_of_unknown_kinds_prove_nothing() {
        let unknown = timestamp("sha256", "blake9").unwrap().snapshot;
        assert_eq!(unknown.check(b"abc"), Err(Mismatch::NoKnownHash));
        let known = timestamp("", "").unwrap().snapshot;
        assert_eq!(known.check(b"abc"), Err(Mismatch::Hash { kind: "SHA-256" }));
        assert_eq!(known.check(b"ab"), Err(Mismatch::Length { expected: 3, found: 2 }));
    }
}
