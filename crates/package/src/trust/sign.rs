//! Secret keys, and what they sign.
//!
//! Keys grow from seeds that the caller draws from `wire::world::Entropy`. Two signatures of ML-DSA or ECDSA over the
//! same bytes differ: aws-lc hedges them with randomness of its own, the one place where chance does not come from
//! the world. Verifying is unaffected, and nothing here compares signatures.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ML_DSA_65_SIGNING, PqdsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::trust::canonical::Value;
use crate::trust::hex::to_hex;
use crate::trust::key::{KeyId, ML_DSA_FIELD, to_pem};

/// Bytes of the secret of a hybrid key: an Ed25519 seed, then an ML-DSA seed.
pub const HYBRID_SECRET_BYTES: usize = 64;

/// Bytes of the secret of an ECDSA key: its scalar.
pub const ECDSA_SECRET_BYTES: usize = 32;

/// A key that cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The secret does not make a key.
    #[error("the secret makes no {kind} key: it must be {bytes} bytes that were drawn for one")]
    Secret {
        /// Which kind of key.
        kind: &'static str,
        /// How many bytes that kind has.
        bytes: usize,
    },
    /// The cryptographic library, or the token that holds the key, did not sign.
    #[error("the {kind} key {id} did not sign")]
    Refused {
        /// Which kind of key.
        kind: &'static str,
        /// Which key.
        id: String,
    },
    /// The Ed25519 half of a hybrid key lies elsewhere, and did not sign there.
    #[error("the Ed25519 half of the key {id} did not sign: {why}")]
    Away {
        /// Which key.
        id: String,
        /// What was said there.
        why: String,
    },
}

/// The Ed25519 half of a hybrid key, here or in a token.
pub trait Ed25519: Send + Sync {
    /// Its public key, 32 bytes.
    fn public(&self) -> &[u8];
    /// A signature over `message`, 64 bytes; or why there is none.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String>;
}

impl Ed25519 for Ed25519KeyPair {
    fn public(&self) -> &[u8] {
        self.public_key().as_ref()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let signed = self.try_sign(message).map(|signature| signature.as_ref().to_vec());
        signed.map_err(|_| "the cryptographic library failed".to_owned())
    }
}

/// A secret key, wherever it lies.
pub trait Signer {
    /// The public half, as a key object of TUF.
    fn key(&self) -> &Value;
    /// What the key is called.
    fn id(&self) -> KeyId;
    /// A signature object of TUF over `message`.
    fn sign(&self, message: &[u8]) -> Result<Value, SignError>;
}

/// Ed25519 and ML-DSA-65 in one key.
pub struct HybridSigner {
    ed25519: Box<dyn Ed25519>,
    ml_dsa_65: PqdsaKeyPair,
    key: Value,
    id: KeyId,
}

const HYBRID_WRONG: SignError = SignError::Secret { kind: "hybrid", bytes: HYBRID_SECRET_BYTES };

impl HybridSigner {
    /// The key that grows from two seeds: Ed25519's, then ML-DSA's.
    pub fn from_seed(seed: &[u8; HYBRID_SECRET_BYTES]) -> Result<HybridSigner, SignError> {
        let (first, second) = seed.split_at(32);
        let ed25519 = Ed25519KeyPair::from_seed_unchecked(first).map_err(|_| HYBRID_WRONG)?;
        HybridSigner::from_halves(Box::new(ed25519), second)
    }

    /// The key of an Ed25519 half that lies anywhere, and of the ML-DSA half that grows from a seed of 32 bytes.
    pub fn from_halves(ed25519: Box<dyn Ed25519>, seed: &[u8]) -> Result<HybridSigner, SignError> {
        let ml_dsa_65 = PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, seed).map_err(|_| HYBRID_WRONG)?;
        let second = BASE64_STANDARD.encode(ml_dsa_65.public_key());
        let key = ed25519_key(ed25519.public(), Some(second));
        Ok(HybridSigner { id: KeyId::of(&key), ed25519, ml_dsa_65, key })
    }
}

impl Signer for HybridSigner {
    fn key(&self) -> &Value {
        &self.key
    }

    fn id(&self) -> KeyId {
        self.id
    }

    fn sign(&self, message: &[u8]) -> Result<Value, SignError> {
        let refused = || SignError::Refused { kind: "hybrid", id: self.id.to_string() };
        let first = self.ed25519.sign(message);
        let first = first.map_err(|why| SignError::Away { id: self.id.to_string(), why })?;
        let mut second = vec![0; ML_DSA_65_SIGNING.signature_len()];
        self.ml_dsa_65.sign(message, &mut second).map_err(|_| refused())?;
        Ok(Value::object([
            ("keyid", self.id.to_string().into()),
            ("sig", to_hex(&first).into()),
            (ML_DSA_FIELD, BASE64_STANDARD.encode(second).into()),
        ]))
    }
}

/// Ed25519 alone, for repositories that others read and policies that allow it.
pub struct Ed25519Signer {
    ed25519: Ed25519KeyPair,
    key: Value,
    id: KeyId,
}

impl Ed25519Signer {
    /// The key that grows from a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Ed25519Signer, SignError> {
        let wrong = SignError::Secret { kind: "ed25519", bytes: 32 };
        let ed25519 = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| wrong)?;
        let key = ed25519_key(ed25519.public(), None);
        Ok(Ed25519Signer { id: KeyId::of(&key), ed25519, key })
    }
}

impl Signer for Ed25519Signer {
    fn key(&self) -> &Value {
        &self.key
    }

    fn id(&self) -> KeyId {
        self.id
    }

    fn sign(&self, message: &[u8]) -> Result<Value, SignError> {
        let refused = |_| SignError::Refused { kind: "ed25519", id: self.id.to_string() };
        let signature = self.ed25519.try_sign(message).map_err(refused)?;
        Ok(Value::object([("keyid", self.id.to_string().into()), ("sig", to_hex(signature.as_ref()).into())]))
    }
}

/// ECDSA over P-256, the one kind that OpenSSF model signing takes.
pub struct EcdsaSigner {
    pair: EcdsaKeyPair,
    pem: String,
    key: Value,
    id: KeyId,
}

impl EcdsaSigner {
    /// The key of a scalar; about one in 2³² random scalars is none.
    pub fn from_scalar(scalar: &[u8; ECDSA_SECRET_BYTES]) -> Result<EcdsaSigner, SignError> {
        let wrong = || SignError::Secret { kind: "ecdsa-p256", bytes: ECDSA_SECRET_BYTES };
        // ECPrivateKey of RFC 5915: version 1, the scalar, and the curve's name prime256v1.
        let mut der = vec![0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
        der.extend(scalar);
        der.extend([0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
        let der = zeroize::Zeroizing::new(der);
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der);
        let pair = pair.map_err(|_| wrong())?;
        let public = pair.public_key().as_der().map_err(|_| wrong())?;
        let pem = to_pem(public.as_ref());
        let key = Value::object([
            ("keytype", "ecdsa".into()),
            ("scheme", "ecdsa-sha2-nistp256".into()),
            ("keyval", Value::object([("public", pem.as_str().into())])),
        ]);
        Ok(EcdsaSigner { id: KeyId::of(&key), pair, pem, key })
    }

    /// The public half as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// An ASN.1 signature over SHA-256 of `message`.
    pub fn sign_der(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let refused = |_| SignError::Refused { kind: "ecdsa-p256", id: self.id.to_string() };
        let signature = self.pair.sign_digest(&digest(&SHA256, message)).map_err(refused)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl Signer for EcdsaSigner {
    fn key(&self) -> &Value {
        &self.key
    }

    fn id(&self) -> KeyId {
        self.id
    }

    fn sign(&self, message: &[u8]) -> Result<Value, SignError> {
        let signature = self.sign_der(message)?;
        Ok(Value::object([("keyid", self.id.to_string().into()), ("sig", to_hex(&signature).into())]))
    }
}

fn ed25519_key(public: &[u8], second: Option<String>) -> Value {
    let mut key = Value::object([
        ("keytype", "ed25519".into()),
        ("scheme", "ed25519".into()),
        ("keyval", Value::object([("public", to_hex(public).into())])),
    ]);
    if let (Some(fields), Some(second)) = (key.as_object_mut(), second) {
        fields.insert(ML_DSA_FIELD.to_owned(), second.into());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::key::{KeyKind, PublicKey};

    fn check(signer: &dyn Signer, kind: KeyKind) {
        let key = PublicKey::read(signer.key()).unwrap();
        assert_eq!(key.kind(), kind);
        let signature = signer.sign(b"message").unwrap();
        assert_eq!(signature.get("keyid").unwrap().as_text(), Some(&*signer.id().to_string()));
        assert!(key.verifies(b"message", &signature), "{kind:?}");
        assert!(!key.verifies(b"massage", &signature), "{kind:?}");
        assert!(!key.verifies(b"message", &Value::object([("sig", "".into())])), "{kind:?}");
    }

    #[test]
    fn what_is_signed_verifies() {
        check(&HybridSigner::from_seed(&[7; 64]).unwrap(), KeyKind::Hybrid);
        check(&Ed25519Signer::from_seed(&[7; 32]).unwrap(), KeyKind::Ed25519);
        check(&EcdsaSigner::from_scalar(&[7; 32]).unwrap(), KeyKind::EcdsaP256);
        assert!(EcdsaSigner::from_scalar(&[0; 32]).is_err());
        assert!(EcdsaSigner::from_scalar(&[255; 32]).is_err());
    }

    #[test]
    fn a_half_that_lies_elsewhere_signs_or_says_why_not() {
        struct Away(Ed25519KeyPair);
        impl Ed25519 for Away {
            fn public(&self) -> &[u8] {
                self.0.public()
            }

            fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
                if message.is_empty() { Err("not that".into()) } else { Ed25519::sign(&self.0, message) }
            }
        }
        let half = Box::new(Away(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()));
        let signer = HybridSigner::from_halves(half, &[7; 32]).unwrap();
        assert_eq!(signer.id(), HybridSigner::from_seed(&[7; 64]).unwrap().id());
        check(&signer, KeyKind::Hybrid);
        let away = SignError::Away { id: signer.id().to_string(), why: "not that".into() };
        assert_eq!(signer.sign(b""), Err(away));
    }

    #[test]
    fn one_half_of_a_hybrid_signature_is_none() {
        let (a, b) = (HybridSigner::from_seed(&[1; 64]).unwrap(), HybridSigner::from_seed(&[2; 64]).unwrap());
        let key = PublicKey::read(a.key()).unwrap();
        let (of_a, of_b, other) = (a.sign(b"m").unwrap(), b.sign(b"m").unwrap(), a.sign(b"n").unwrap());
        for field in ["sig", ML_DSA_FIELD] {
            for from in [&of_b, &other] {
                let mut mixed = of_a.clone();
                mixed.as_object_mut().unwrap().insert(field.into(), from.get(field).unwrap().clone());
                assert!(!key.verifies(b"m", &mixed), "{field}");
            }
            let mut without = of_a.clone();
            without.as_object_mut().unwrap().remove(field);
            assert!(!key.verifies(b"m", &without), "{field}");
        }
    }
}
