//! Signed bytes: a document, its signatures, and whether enough of the right keys stand behind it.
//!
//! A signature counts if its key is one of the role's, of a kind that policy allows, and verifies the canonical form of
//! what is signed. A key counts once, under whatever ids it stands, and each of its halves counts once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::trust::canonical::{StrictError, Value, canonical, parse};
use crate::trust::key::{KeyId, KindSet, PublicKey};
use crate::trust::metadata::{FormError, Role, RoleKeys};

const SIGNATURES_MAX: usize = 256;

/// A document that is not what it should be, or not signed by those who should have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not strict JSON.
    #[error("the document cannot be read")]
    Strict(#[from] StrictError),
    /// Not `signed` and `signatures`.
    #[error("the document is not an object with 'signed' and a list 'signatures' of objects with a 'keyid'")]
    NoEnvelope,
    /// More signatures than any role needs.
    #[error("the document has more than {SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// Two signatures of one key.
    #[error("the key {id:?} signs twice; each key may sign once")]
    DuplicateSignature {
        /// The key's id as it stands there, shortened.
        id: String,
    },
    /// Too few signatures count.
    #[error("{valid} of {threshold} signatures are valid; the document is not accepted")]
    Threshold {
        /// How many count.
        valid: u64,
        /// How many must.
        threshold: u64,
    },
    /// What is signed has a wrong form.
    #[error("what is signed has a wrong form")]
    Form(#[from] FormError),
}

/// A document whose signatures were checked, and the bytes it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    /// As received; what is stored and served is these.
    pub bytes: Arc<[u8]>,
    /// What they say.
    pub body: T,
}

/// A document with signatures that nobody has checked yet.
pub struct Envelope {
    /// What is signed.
    pub signed: Value,
    canonical: Vec<u8>,
    signatures: BTreeMap<String, Value>,
}

impl Envelope {
    /// Takes a document apart.
    pub fn read(bytes: &[u8]) -> Result<Envelope, VerifyError> {
        let Value::Object(mut fields) = parse(bytes)? else { return Err(VerifyError::NoEnvelope) };
        let (signed, list) = (fields.remove("signed"), fields.remove("signatures"));
        let (Some(signed @ Value::Object(_)), Some(Value::List(list))) = (signed, list) else {
            return Err(VerifyError::NoEnvelope);
        };
        if list.len() > SIGNATURES_MAX {
            return Err(VerifyError::TooManySignatures);
        }
        let mut signatures = BTreeMap::new();
        for signature in list {
            let id = signature.get("keyid").and_then(Value::as_text).ok_or(VerifyError::NoEnvelope)?;
            let id = id.to_owned();
            if signatures.contains_key(&id) {
                return Err(VerifyError::DuplicateSignature { id: id.chars().take(64).collect() });
            }
            signatures.insert(id, signature);
        }
        Ok(Envelope { canonical: canonical(&signed), signed, signatures })
    }

    /// The signatures, checked or not.
    pub fn signatures(&self) -> impl Iterator<Item = &Value> {
        self.signatures.values()
    }

    /// Whether enough of a role's keys have signed.
    pub fn check(
        &self,
        keys: &BTreeMap<KeyId, PublicKey>,
        role: &RoleKeys,
        kinds: &KindSet,
    ) -> Result<(), VerifyError> {
        let mut counted: BTreeSet<&[u8]> = BTreeSet::new();
        let mut valid = 0;
        for (id, signature) in &self.signatures {
            let key = KeyId::parse(id).filter(|id| role.ids.contains(id)).and_then(|id| keys.get(&id));
            let Some(key) = key.filter(|key| kinds.has(key.kind())) else { continue };
            let is_new = key.halves().all(|half| !counted.contains(half));
            if is_new && key.verifies(&self.canonical, signature) {
                counted.extend(key.halves());
                valid += 1;
            }
        }
        // A threshold of 0 is refused on reading; here it would mean nobody, so one is the least.
        if valid >= role.threshold.max(1) {
            Ok(())
        } else {
            Err(VerifyError::Threshold { valid, threshold: role.threshold })
        }
    }
}

/// Reads a role's metadata and checks that enough of `role`'s keys have signed it.
pub fn verify<T: Role>(
    bytes: &[u8],
    keys: &BTreeMap<KeyId, PublicKey>,
    role: &RoleKeys,
    kinds: &KindSet,
) -> Result<Signed<T>, VerifyError> {
    let envelope = Envelope::read(bytes)?;
    envelope.check(keys, role, kinds)?;
    Ok(Signed { bytes: bytes.into(), body: T::read(&envelope.signed)? })
}
