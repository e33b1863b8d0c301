//! Public keys, as objects of TUF, and whether a signature is theirs.
//!
//! Our own kind is *hybrid*: an `ed25519` key of TUF with one more field, the public half of an ML-DSA-65 key (FIPS 204), and
//! signatures with one more field to match. Other implementations see an Ed25519 key; here a signature counts only if
//! both halves verify the same bytes, so whoever breaks one of the two algorithms has gained nothing. A key with a
//! second half that cannot be read is no key: it never falls back to its first.
//!
//! The cryptography is aws-lc's.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ML_DSA_65, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use wire::hash::Hash;

use crate::trust::canonical::{Value, canonical};
use crate::trust::hex::from_hex;

/// The field of keys and signatures that holds their post-quantum half, in base64.
pub const ML_DSA_FIELD: &str = "x-selvedge-ml-dsa-65";

/// Bytes of an ML-DSA-65 public key (FIPS 204, table 2).
pub const ML_DSA_PUBLIC_BYTES: usize = 1952;

/// What a key is called: the SHA-256 of its canonical form, with all its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub Hash);

impl PartialOrd for KeyId {
    fn partial_cmp(&self, other: &KeyId) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyId {
    fn cmp(&self, other: &KeyId) -> std::cmp::Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl KeyId {
    /// The id of a key object.
    pub fn of(key: &Value) -> KeyId {
        KeyId(Hash::of(&canonical(key)))
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<KeyId> {
        Hash::parse(text).map(KeyId)
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Ed25519 and ML-DSA-65 together.
    Hybrid,
    /// Ed25519 alone.
    Ed25519,
    /// ECDSA over P-256 with SHA-256.
    EcdsaP256,
    /// RSA-PSS with SHA-256, at least 2048 bits.
    RsaPss,
}

/// Which kinds of keys count at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindSet(BTreeSet<KeyKind>);

impl KindSet {
    /// What a node accepts unless its settings say otherwise.
    pub fn hybrid() -> KindSet {
        KindSet([KeyKind::Hybrid].into())
    }

    /// Every kind there is, for repositories of others.
    pub fn all() -> KindSet {
        KindSet([KeyKind::Hybrid, KeyKind::Ed25519, KeyKind::EcdsaP256, KeyKind::RsaPss].into())
    }

    /// Whether keys of this kind count.
    pub fn has(&self, kind: KeyKind) -> bool {
        self.0.contains(&kind)
    }
}

impl FromIterator<KeyKind> for KindSet {
    fn from_iter<I: IntoIterator<Item = KeyKind>>(kinds: I) -> KindSet {
        KindSet(kinds.into_iter().collect())
    }
}

/// A public key that signatures can be checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// Both halves must verify.
    Hybrid {
        /// The Ed25519 half.
        ed25519: [u8; 32],
        /// The ML-DSA-65 half, [`ML_DSA_PUBLIC_BYTES`] long.
        ml_dsa_65: Vec<u8>,
    },
    /// An Ed25519 key.
    Ed25519([u8; 32]),
    /// An ECDSA key, as DER of a `SubjectPublicKeyInfo`.
    EcdsaP256(Vec<u8>),
    /// An RSA key, as DER of a `SubjectPublicKeyInfo`.
    RsaPss(Vec<u8>),
}

impl PublicKey {
    /// Reads a key object of TUF; `None` for kinds that are not known here and for keys that cannot be read: both are
    /// ignored, as the specification asks, so that a role may have keys of tomorrow.
    pub fn read(key: &Value) -> Option<PublicKey> {
        let keytype = key.get("keytype")?.as_text()?;
        let scheme = key.get("scheme")?.as_text()?;
        let public = key.get("keyval")?.get("public")?.as_text()?;
        match (keytype, scheme) {
            ("ed25519", "ed25519") => {
                let ed25519 = from_hex(public)?.try_into().ok()?;
                let Some(second) = key.get(ML_DSA_FIELD) else { return Some(PublicKey::Ed25519(ed25519)) };
                let ml_dsa_65 = BASE64_STANDARD.decode(second.as_text()?).ok()?;
                (ml_dsa_65.len() == ML_DSA_PUBLIC_BYTES).then_some(PublicKey::Hybrid { ed25519, ml_dsa_65 })
            }
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                Some(PublicKey::EcdsaP256(from_pem(public)?))
            }
            ("rsa", "rsassa-pss-sha256") => Some(PublicKey::RsaPss(from_pem(public)?)),
            _ => None,
        }
    }

    /// What the key is made of.
    pub fn kind(&self) -> KeyKind {
        match self {
            PublicKey::Hybrid { .. } => KeyKind::Hybrid,
            PublicKey::Ed25519(_) => KeyKind::Ed25519,
            PublicKey::EcdsaP256(_) => KeyKind::EcdsaP256,
            PublicKey::RsaPss(_) => KeyKind::RsaPss,
        }
    }

    /// The keys that this one is made of, by which the same key under two ids is found out.
    pub fn halves(&self) -> impl Iterator<Item = &[u8]> {
        let (first, second) = match self {
            PublicKey::Hybrid { ed25519, ml_dsa_65 } => (&ed25519[..], Some(&ml_dsa_65[..])),
            PublicKey::Ed25519(ed25519) => (&ed25519[..], None),
            PublicKey::EcdsaP256(der) | PublicKey::RsaPss(der) => (&der[..], None),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether `signature`, a signature object of TUF, is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &Value) -> bool {
        let Some(first) = signature.get("sig").and_then(Value::as_text).and_then(from_hex) else {
            return false;
        };
        let verifies = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], signature: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match self {
            PublicKey::Hybrid { ed25519, ml_dsa_65 } => {
                let second = signature.get(ML_DSA_FIELD).and_then(Value::as_text);
                let second = second.and_then(|text| BASE64_STANDARD.decode(text).ok());
                let second = second.is_some_and(|second| verifies(&ML_DSA_65, ml_dsa_65, &second));
                second && verifies(&ED25519, ed25519, &first)
            }
            PublicKey::Ed25519(key) => verifies(&ED25519, key, &first),
            PublicKey::EcdsaP256(key) => verifies(&ECDSA_P256_SHA256_ASN1, key, &first),
            PublicKey::RsaPss(key) => verifies(&RSA_PSS_2048_8192_SHA256, key, &first),
        }
    }
}

/// The DER inside a PEM text with one `PUBLIC KEY`.
pub fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
    let body = body.strip_suffix("-----END PUBLIC KEY-----")?;
    let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(digits).ok()
}

/// A PEM text of one `PUBLIC KEY`, lines of 64.
pub fn to_pem(der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    let digits = BASE64_STANDARD.encode(der);
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::canonical::parse;

    #[test]
    fn kinds_and_what_is_ignored() {
        let public = "ab".repeat(32);
        let check = |keytype: &str, scheme: &str, expected: Option<KeyKind>| {
            let text =
                format!(r#"{{"keytype":"{keytype}","scheme":"{scheme}","keyval":{{"public":"{public}"}}}}"#);
            let key = PublicKey::read(&parse(text.as_bytes()).unwrap());
            assert_eq!(key.map(|key| key.kind()), expected, "{keytype} {scheme}");
        };
        check("ed25519", "ed25519", Some(KeyKind::Ed25519));
        check("ed25519", "ed25519ph", None);
        check("ecdsa", "ecdsa-sha2-nistp256", None);
        check("sphincs+", "sphincs+", None);
    }

    #[test]
    fn a_broken_second_half_is_no_key() {
        let with = |second: &str| {
            let fields = [
                ("keytype", "ed25519".into()),
                ("scheme", "ed25519".into()),
                ("keyval", Value::object([("public", "ab".repeat(32).into())])),
                (ML_DSA_FIELD, second.into()),
            ];
            PublicKey::read(&Value::object(fields)).map(|key| key.kind())
        };
        assert_eq!(with(&BASE64_STANDARD.encode([7; ML_DSA_PUBLIC_BYTES])), Some(KeyKind::Hybrid));
        assert_eq!(with(&BASE64_STANDARD.encode([7; ML_DSA_PUBLIC_BYTES - 1])), None);
        assert_eq!(with(""), None);
        assert_eq!(with("?"), None);
    }

    #[test]
    fn pem_there_and_back() {
        let der = [9; 91];
        assert_eq!(from_pem(&to_pem(&der)), Some(der.to_vec()));
        assert_eq!(from_pem("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"), None);
    }
}
