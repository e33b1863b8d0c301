//! Secret keys in files that a passphrase locks, and their public halves beside them: what `trust` and `sign` share.
//!
//! `root-1.age` holds the secret (mode 0600, `age -d` opens it too), `root-1.pub.json` the public key as TUF writes it; a
//! key for provenance has `maker.pub.pem` besides, which OpenSSF's tools read. A key that seals weights has no public half. Of a
//! key in a token the file holds one half, and the name of the other.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use package::disk::system::System as Disk;
use package::disk::{read_whole, write_whole};
use package::seal::content::{KEY_BYTES, SealKey};
use package::seal::hybrid::NodePublic;
use package::trust::canonical::{Value, parse, to_json};
use package::trust::key::{KeyId, KeyKind, PublicKey, from_pem};
use package::trust::keyfile::{LOG_N, Secret, lock, unlock};
use package::trust::sign::{ECDSA_SECRET_BYTES, EcdsaSigner, HYBRID_SECRET_BYTES, HybridSigner, Signer};
use wire::world::{Entropy as _, System};
use zeroize::Zeroizing;

use crate::{passphrase, token};

/// The largest key file, secret or public.
const FILE_MAX: u64 = 64 << 10;
/// The word in files of keys that seal.
const CONTENT: &str = "content";
/// How often chance is asked for an ECDSA secret: one in 2³² is none.
const TRIES: usize = 8;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Ed25519 and ML-DSA-65 in one: for roles of a repository, and for assignments.
    Trust,
    /// ECDSA over P-256: for provenance, as OpenSSF's tools want it.
    Provenance,
    /// What the keys of sealed weights grow from.
    Content,
}

impl Purpose {
    /// The word in key files.
    fn kind(self) -> &'static str {
        match self {
            Purpose::Trust => "hybrid",
            Purpose::Provenance => "ecdsa-p256",
            Purpose::Content => CONTENT,
        }
    }
}

impl FromStr for Purpose {
    type Err = String;

    fn from_str(word: &str) -> Result<Purpose, String> {
        let all = [Purpose::Trust, Purpose::Provenance, Purpose::Content];
        let known = all.into_iter().find(|known| known.kind() == word);
        known.ok_or_else(|| "it is hybrid, ecdsa-p256 or content".to_owned())
    }
}

/// A secret key that was unlocked.
pub(crate) enum Unlocked {
    Trust(HybridSigner),
    Provenance(EcdsaSigner),
}

impl Unlocked {
    fn of(secret: &Secret) -> anyhow::Result<Unlocked> {
        let bytes = secret.bytes.as_slice();
        match secret.kind.as_str() {
            "hybrid" => {
                let seed = Zeroizing::new(<[u8; HYBRID_SECRET_BYTES]>::try_from(bytes)?);
                Ok(Unlocked::Trust(HybridSigner::from_seed(&seed)?))
            }
            "ecdsa-p256" => {
                let scalar = Zeroizing::new(<[u8; ECDSA_SECRET_BYTES]>::try_from(bytes)?);
                Ok(Unlocked::Provenance(EcdsaSigner::from_scalar(&scalar)?))
            }
            token::KIND => Ok(Unlocked::Trust(token::open(secret)?)),
            CONTENT => anyhow::bail!("it holds a key that seals weights: it signs nothing"),
            other => anyhow::bail!("it holds a key of the kind {other:?}, which signs nothing here"),
        }
    }

    /// What signs.
    pub(crate) fn signer(&self) -> &dyn Signer {
        match self {
            Unlocked::Trust(signer) => signer,
            Unlocked::Provenance(signer) => signer,
        }
    }
}

/// Secret keys as they are named on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Keys {
    /// A secret key to sign with, such as root-1.age; several if need be. Its passphrase is asked for, or stands in the file
    /// that SELVEDGE_PASSPHRASE_FILE names; the PIN of its token, if it has one, is asked for, or stands in the file that
    /// SELVEDGE_PIN_FILE names.
    #[arg(long = "key", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

impl Keys {
    /// Unlocks all of them.
    pub(crate) fn unlock(&self) -> anyhow::Result<Vec<Unlocked>> {
        self.files.iter().map(|path| open(path)).collect()
    }
}

/// Unlocks a key file of one that signs.
pub(crate) fn open(path: &Path) -> anyhow::Result<Unlocked> {
    open_as(path, Unlocked::of)
}

/// Unlocks a key file of one that seals.
pub(crate) fn open_seal(path: &Path) -> anyhow::Result<SealKey> {
    open_as(path, |secret| {
        let bytes = <[u8; KEY_BYTES]>::try_from(secret.bytes.as_slice()).map(Zeroizing::new);
        match bytes {
            Ok(bytes) if secret.kind == CONTENT => Ok(SealKey::from_bytes(bytes)),
            _ => anyhow::bail!(
                "it holds a key of the kind {:?}: `selvedge trust key new FILE --kind content` makes one that seals",
                secret.kind
            ),
        }
    })
}

fn open_as<T>(path: &Path, read: impl FnOnce(&Secret) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let bytes = read_whole(&Disk, path, FILE_MAX)?;
    let bytes = bytes.with_context(|| format!("there is no key file {}", path.display()))?;
    if parse(&bytes).is_ok() {
        anyhow::bail!("{} is a public key, which cannot sign: name the .age file beside it", path.display());
    }
    let passphrase = passphrase::ask(path)?;
    let unlocked = unlock(&bytes, &passphrase).map_err(anyhow::Error::from);
    let unlocked = unlocked.and_then(|secret| read(&secret));
    unlocked.with_context(|| format!("{} cannot be opened", path.display()))
}

/// Makes a key that seals: the secret at `path`, which must not be there.
pub(crate) fn create_seal(path: &Path, passphrase: &str, work: u8) -> anyhow::Result<()> {
    let key = SealKey::draw(&mut System::new());
    let bytes = Zeroizing::new(key.bytes().to_vec());
    write_secret(path, &Secret { kind: CONTENT.to_owned(), bytes, token: None }, passphrase, work)
}

/// Makes a key that signs: the secret at `path`, which must not be there, its public half beside it. `work` is the logarithm
/// of what each guess of the passphrase costs.
pub(crate) fn create(path: &Path, purpose: Purpose, passphrase: &str, work: u8) -> anyhow::Result<Unlocked> {
    let mut chance = System::new();
    let length = match purpose {
        Purpose::Trust => HYBRID_SECRET_BYTES,
        Purpose::Provenance => ECDSA_SECRET_BYTES,
        Purpose::Content => anyhow::bail!("a key that seals signs nothing"),
    };
    let mut draw = || {
        let mut bytes = Zeroizing::new(vec![0; length]);
        chance.fill(&mut bytes);
        let secret = Secret { kind: purpose.kind().to_owned(), bytes, token: None };
        Unlocked::of(&secret).map(|unlocked| (secret, unlocked))
    };
    let (secret, unlocked) = (0..TRIES).find_map(|_| draw().ok()).context("no key could be drawn")?;
    write(path, &secret, &unlocked, passphrase, work)?;
    Ok(unlocked)
}

/// Makes a key for trust of which one half lies in a token: the one that `uri` names, which must not be there. `module`: what
/// speaks with the token.
pub(crate) fn create_in_token(
    path: &Path,
    uri: &str,
    module: Option<&Path>,
    passphrase: &str,
    work: u8,
) -> anyhow::Result<Unlocked> {
    let (secret, signer) = token::create(uri, module)?;
    let unlocked = Unlocked::Trust(signer);
    write(path, &secret, &unlocked, passphrase, work).with_context(|| {
        let uri = secret.token.as_deref().unwrap_or_default();
        format!("{uri} was made, but is half a key alone: remove it from its token")
    })?;
    Ok(unlocked)
}

/// Writes a key that signs, and its public half beside it.
fn write(
    path: &Path,
    secret: &Secret,
    unlocked: &Unlocked,
    passphrase: &str,
    work: u8,
) -> anyhow::Result<()> {
    write_secret(path, secret, passphrase, work)?;
    write_whole(&Disk, &public_path(path), &line(unlocked.signer().key()))?;
    if let Unlocked::Provenance(signer) = unlocked {
        write_whole(&Disk, &path.with_extension("pub.pem"), signer.pem().as_bytes())?;
    }
    Ok(())
}

/// Locks a secret into a file that must not be there.
fn write_secret(path: &Path, secret: &Secret, passphrase: &str, work: u8) -> anyhow::Result<()> {
    if path.exists() {
        anyhow::bail!("{} is there already: a key is never overwritten", path.display());
    }
    let locked = lock(secret, passphrase, work, &mut System::new())?;
    let mut file = OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(&locked)?;
        file.sync_all()
    });
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// Where the public half of a secret lies.
pub(crate) fn public_path(secret: &Path) -> PathBuf {
    secret.with_extension("pub.json")
}

/// The work factor of new key files: tests take less.
pub(crate) const WORK: u8 = LOG_N;

fn line(value: &Value) -> Vec<u8> {
    let mut bytes = to_json(value);
    bytes.push(b'\n');
    bytes
}

/// Reads a public key: a TUF key object, or PEM.
pub(crate) fn read_public(path: &Path) -> anyhow::Result<(Value, PublicKey)> {
    let bytes = read_whole(&Disk, path, FILE_MAX)?;
    let bytes = bytes.with_context(|| format!("there is no public key {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let value = match from_pem(&text) {
        Some(_) => Value::object([
            ("keytype", "ecdsa".into()),
            ("scheme", "ecdsa-sha2-nistp256".into()),
            ("keyval", Value::object([("public", text.as_ref().into())])),
        ]),
        None => parse(&bytes).with_context(|| {
            let hint =
                if text.starts_with("age-") { ": it is a secret; name the .pub.json beside it" } else { "" };
            format!("{} is no public key{hint}", path.display())
        })?,
    };
    let key = PublicKey::read(&value);
    let key = key.with_context(|| format!("{} is no public key of a kind that is known", path.display()))?;
    Ok((value, key))
}

/// Reads the public keys of nodes.
pub(crate) fn read_nodes(paths: &[PathBuf]) -> anyhow::Result<Vec<NodePublic>> {
    let one = |path: &PathBuf| -> anyhow::Result<NodePublic> {
        let bytes = read_whole(&Disk, path, FILE_MAX)?;
        let bytes = bytes.with_context(|| format!("there is no node key {}", path.display()))?;
        NodePublic::parse(bytes.trim_ascii()).with_context(|| {
            let what = "name the node.pub.json that `selvedge trust key node` wrote on the node";
            format!("{} is no public key of a node: {what}", path.display())
        })
    };
    paths.iter().map(one).collect()
}

/// Reads the public keys of a role, which must be hybrid.
pub(crate) fn read_holders(paths: &[PathBuf]) -> anyhow::Result<Vec<Value>> {
    let one = |path: &PathBuf| -> anyhow::Result<Value> {
        let (value, key) = read_public(path)?;
        if key.kind() != KeyKind::Hybrid {
            anyhow::bail!(
                "{} is of the kind {}: roles have hybrid keys, which `selvedge trust key new` makes",
                path.display(),
                kind_name(&key)
            );
        }
        Ok(value)
    };
    paths.iter().map(one).collect()
}

/// What people call a kind of key.
pub(crate) fn kind_name(key: &PublicKey) -> &'static str {
    match key.kind() {
        KeyKind::Hybrid => "Ed25519 with ML-DSA-65",
        KeyKind::Ed25519 => "Ed25519",
        KeyKind::EcdsaP256 => "ECDSA P-256",
        KeyKind::RsaPss => "RSA-PSS",
    }
}

/// The beginning of an id, enough to tell keys apart.
pub(crate) fn short(id: &KeyId) -> String {
    id.to_string().chars().take(12).collect()
}
