//! The key pair of a node: X25519 and ML-KEM-768 together, so that weights which are recorded today stay sealed if one of
//! the two is broken later.
//!
//! Both give a shared secret, and the combiner of X-Wing makes one of them (draft-connolly-cfrg-xwing-kem):
//! SHA3-256(secret of ML-KEM ‖ secret of X25519 ‖ ephemeral X25519 key ‖ the node's X25519 key ‖ label). The key pairs are
//! not X-Wing's, which grow from one seed: aws-lc draws its own for ML-KEM. So it draws what an encapsulation needs,
//! too; all else comes from the caller's entropy.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{Context, SHA3_256, digest};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use wire::hash::Hash;
use wire::world::Entropy;
use zeroize::Zeroizing;

use crate::form::{self, FormError, wrong_value};
use crate::trust::key::KeyId;

/// Bytes of an X25519 secret, public key or shared secret.
pub const X25519_BYTES: usize = 32;
/// Bytes of an ML-KEM-768 encapsulation key (FIPS 203, table 3).
pub const ML_KEM_PUBLIC_BYTES: usize = 1184;
/// Bytes of an ML-KEM-768 decapsulation key in its expanded form, which holds the encapsulation key.
pub const ML_KEM_SECRET_BYTES: usize = 2400;
/// Bytes of an ML-KEM-768 ciphertext.
pub const ML_KEM_CIPHERTEXT_BYTES: usize = 1088;
/// Bytes of a node's secret: X25519's, then ML-KEM's.
pub const NODE_SECRET_BYTES: usize = X25519_BYTES + ML_KEM_SECRET_BYTES;
/// The longest public key of a node that is read, as JSON.
const PUBLIC_MAX_BYTES: usize = 4 << 10;

const XWING_LABEL: &[u8] = br"\.//^\";

/// A key of a node that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeKeyError {
    /// No public key of a node.
    #[error("this is no public key of a node")]
    Public(#[from] FormError),
    /// No secret key of a node.
    #[error("this is no secret key of a node: {why}")]
    Secret {
        /// What is wrong.
        why: &'static str,
    },
    /// X25519 gave nothing that only two could know (RFC 7748, section 6.1).
    #[error("the X25519 key gives zero with every secret: it was made to, and protects nothing")]
    Zero,
    /// ML-KEM refused the key or the ciphertext.
    #[error("the ML-KEM-768 half is damaged: it is neither a key nor for one")]
    MlKem,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

/// What weights are sealed to.
#[derive(Clone, PartialEq, Eq)]
pub struct NodePublic {
    x25519: [u8; X25519_BYTES],
    ml_kem_768: [u8; ML_KEM_PUBLIC_BYTES],
}

/// [`NodePublic`] as JSON. The fields stand in the order of canonical JSON, and base64 has nothing to escape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicDocument {
    ml_kem_768: String,
    x25519: String,
}

impl NodePublic {
    /// Reads a public key, of at most 4 KiB of JSON.
    pub fn parse(bytes: &[u8]) -> Result<NodePublic, NodeKeyError> {
        let document: PublicDocument = read("public key of a node", bytes, PUBLIC_MAX_BYTES)?;
        Ok(NodePublic {
            x25519: decoded("x25519", &document.x25519)?,
            ml_kem_768: decoded("ml_kem_768", &document.ml_kem_768)?,
        })
    }

    /// The key as canonical JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        form::write(&PublicDocument {
            ml_kem_768: BASE64_STANDARD.encode(self.ml_kem_768),
            x25519: BASE64_STANDARD.encode(self.x25519),
        })
    }

    /// What the key is called: the SHA-256 of its canonical JSON.
    pub fn id(&self) -> KeyId {
        KeyId(Hash::of(&self.to_bytes()))
    }
}

impl std::fmt::Debug for NodePublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodePublic({})", self.id())
    }
}

/// What only the node has; wiped from memory when dropped.
pub struct NodeSecret {
    x25519: Zeroizing<[u8; X25519_BYTES]>,
    ml_kem_768: Zeroizing<[u8; ML_KEM_SECRET_BYTES]>,
    public: NodePublic,
}

impl NodeSecret {
    /// A new key pair: X25519's half from `chance`, ML-KEM's from aws-lc.
    pub fn generate(chance: &mut dyn Entropy) -> Result<NodeSecret, NodeKeyError> {
        let mut bytes = Zeroizing::new(vec![0; NODE_SECRET_BYTES]);
        let (first, second) = bytes.split_at_mut(X25519_BYTES);
        chance.fill(first);
        let key = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| NodeKeyError::Crypto)?;
        second.copy_from_slice(key.key_bytes().map_err(|_| NodeKeyError::Crypto)?.as_ref());
        NodeSecret::from_bytes(&bytes)
    }

    /// The key pair that [`NodeSecret::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<NodeSecret, NodeKeyError> {
        let wrong = |why| NodeKeyError::Secret { why };
        let halves = bytes.split_first_chunk::<X25519_BYTES>();
        let (x25519, rest) = halves.ok_or(wrong("it is too short"))?;
        let ml_kem_768: &[u8; ML_KEM_SECRET_BYTES] =
            rest.try_into().map_err(|_| wrong("its length is wrong"))?;
        // FIPS 203, algorithm 16: the key that decrypts, the encapsulation key, its SHA3-256, and 32 bytes of chance.
        let held = ml_kem_768[1152..].split_first_chunk::<ML_KEM_PUBLIC_BYTES>();
        let (held, rest) = held.ok_or(NodeKeyError::Crypto)?;
        if digest(&SHA3_256, held).as_ref() != &rest[..32] {
            return Err(wrong("its ML-KEM-768 half is damaged"));
        }
        let half = PrivateKey::from_private_key(&X25519, x25519).map_err(|_| NodeKeyError::Crypto)?;
        let half = half.compute_public_key().map_err(|_| NodeKeyError::Crypto)?;
        let half = half.as_ref().try_into().map_err(|_| NodeKeyError::Crypto)?;
        Ok(NodeSecret {
            x25519: Zeroizing::new(*x25519),
            ml_kem_768: Zeroizing::new(*ml_kem_768),
            public: NodePublic { x25519: half, ml_kem_768: *held },
        })
    }

    /// The same of bytes that were read from a file, which are wiped.
    pub fn taken_from(bytes: Vec<u8>) -> Result<NodeSecret, NodeKeyError> {
        NodeSecret::from_bytes(&Zeroizing::new(bytes))
    }

    /// The secret: X25519's bytes, then ML-KEM's expanded key. Where it is kept and how it is locked is the caller's matter.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&self.x25519[..], &self.ml_kem_768[..]].concat())
    }

    /// The public half.
    pub fn public(&self) -> &NodePublic {
        &self.public
    }

    /// The shared secret that [`encapsulate`] gave.
    pub(super) fn decapsulate(&self, sent: &Encapsulated) -> Result<Zeroizing<[u8; 32]>, NodeKeyError> {
        let key = DecapsulationKey::new(&ML_KEM_768, &*self.ml_kem_768).map_err(|_| NodeKeyError::MlKem)?;
        let first =
            key.decapsulate(Ciphertext::from(&sent.ml_kem_768[..])).map_err(|_| NodeKeyError::MlKem)?;
        let second = agree(&self.x25519, &sent.x25519)?;
        combine(first.as_ref(), &second, &sent.x25519, &self.public.x25519)
    }
}

impl std::fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeSecret({})", self.public.id())
    }
}

/// What makes a shared secret, for the one who can open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encapsulated {
    /// An ephemeral public key.
    pub x25519: [u8; X25519_BYTES],
    /// A ciphertext.
    pub ml_kem_768: [u8; ML_KEM_CIPHERTEXT_BYTES],
}

/// A new secret that is shared with a node, and what the node needs to have it, too.
pub(super) fn encapsulate(
    to: &NodePublic,
    chance: &mut dyn Entropy,
) -> Result<(Encapsulated, Zeroizing<[u8; 32]>), NodeKeyError> {
    let key = EncapsulationKey::new(&ML_KEM_768, &to.ml_kem_768).map_err(|_| NodeKeyError::MlKem)?;
    let (ciphertext, first) = key.encapsulate().map_err(|_| NodeKeyError::MlKem)?;
    let mut ephemeral = Zeroizing::new([0; X25519_BYTES]);
    chance.fill(&mut *ephemeral);
    let second = agree(&ephemeral, &to.x25519)?;
    let public = PrivateKey::from_private_key(&X25519, &*ephemeral).map_err(|_| NodeKeyError::Crypto)?;
    let public = public.compute_public_key().map_err(|_| NodeKeyError::Crypto)?;
    let sent = Encapsulated {
        x25519: public.as_ref().try_into().map_err(|_| NodeKeyError::Crypto)?,
        ml_kem_768: ciphertext.as_ref().try_into().map_err(|_| NodeKeyError::Crypto)?,
    };
    let shared = combine(first.as_ref(), &second, &sent.x25519, &to.x25519)?;
    Ok((sent, shared))
}

/// X25519. A result of zero is refused, by aws-lc and here.
fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, NodeKeyError> {
    let secret = PrivateKey::from_private_key(&X25519, secret).map_err(|_| NodeKeyError::Crypto)?;
    agreement::agree(&secret, UnparsedPublicKey::new(&X25519, public), NodeKeyError::Zero, |agreed| {
        let mut shared = Zeroizing::new([0; 32]);
        if agreed.len() != shared.len() || agreed.iter().all(|byte| *byte == 0) {
            return Err(NodeKeyError::Zero);
        }
        shared.copy_from_slice(agreed);
        Ok(shared)
    })
}

/// X-Wing's combiner (draft-connolly-cfrg-xwing-kem, section 5.3).
fn combine(
    ml_kem: &[u8],
    x25519: &[u8; 32],
    ephemeral: &[u8; 32],
    public: &[u8; 32],
) -> Result<Zeroizing<[u8; 32]>, NodeKeyError> {
    let mut hash = Context::new(&SHA3_256);
    let parts: [&[u8]; 5] = [ml_kem, x25519, ephemeral, public, XWING_LABEL];
    parts.into_iter().for_each(|part| hash.update(part));
    let shared = hash.finish();
    let shared = shared.as_ref().try_into().map_err(|_| NodeKeyError::Crypto)?;
    Ok(Zeroizing::new(shared))
}

/// Reads a document that is far shorter than those of a package.
pub(super) fn read<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    max_bytes: usize,
) -> Result<T, FormError> {
    if bytes.len() > max_bytes {
        return Err(FormError::TooLong { what, bytes: bytes.len(), max_bytes });
    }
    form::read(what, bytes)
}

/// Exactly `N` bytes in base64, in the one form that there is for them.
pub(super) fn decoded<const N: usize>(key: &'static str, text: &str) -> Result<[u8; N], FormError> {
    let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| wrong_value(key, text, format_args!("it must be {N} bytes in base64")))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::SHA3_512;
    use wire::world::Simulated;

    use super::*;
    use crate::trust::canonical::{canonical, parse};
    use crate::trust::hex::{from_hex, to_hex};

    fn node(seed: u64) -> NodeSecret {
        NodeSecret::generate(&mut Simulated::new(seed)).unwrap()
    }

    #[test]
    fn both_have_the_same_secret() {
        let node_a = node(1);
        let (sent, shared) = encapsulate(node_a.public(), &mut Simulated::new(2)).unwrap();
        assert_eq!(node_a.decapsulate(&sent).unwrap(), shared);
        let kept = NodeSecret::from_bytes(&node_a.to_bytes()).unwrap();
        assert_eq!(kept.public(), node_a.public());
        assert_eq!(kept.decapsulate(&sent).unwrap(), shared);
        assert_ne!(node(3).decapsulate(&sent).unwrap(), shared);
        // Each half counts.
        let mut changed = sent.clone();
        changed.ml_kem_768[0] ^= 1;
        assert_ne!(node_a.decapsulate(&changed).unwrap(), shared);
        let mut changed = sent;
        changed.x25519[0] ^= 1;
        assert_ne!(node_a.decapsulate(&changed).unwrap(), shared);
    }

    /// The first vector of appendix C of draft-connolly-cfrg-xwing-kem-08. Its ML-KEM half follows from FIPS 203,
    /// algorithm 17: the secret is the first half of SHA3-512(chance ‖ SHA3-256(encapsulation key)); of the
    /// encapsulation key only that hash stands here.
    #[test]
    fn the_combiner_is_x_wings() {
        let bytes = |text: &str| -> [u8; 32] { from_hex(text).unwrap().try_into().unwrap() };
        let chance = bytes("3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2");
        let ephemeral = bytes("35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2");
        let key_hash = bytes("cbd7ed3b8a90f2b40603d89f10cdf585897189f91fc51fb8cdd25c6c7dfee0c3");
        let public = bytes("859edb06eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534");
        let sent = bytes("e56f17576740ce2a32fc5145030145cfb97e63e0e41d354274a079d3e6fb2e15");
        let ml_kem = digest(&SHA3_512, &[chance, key_hash].concat());
        let shared = combine(&ml_kem.as_ref()[..32], &agree(&ephemeral, &public).unwrap(), &sent, &public);
        let expected = "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384";
        assert_eq!(to_hex(&*shared.unwrap()), expected);
    }

    #[test]
    fn zero_is_refused() {
        // The points of small order that RFC 7748 warns of: 0, 1, and one of order 8.
        let mut one = [0; 32];
        one[0] = 1;
        let eight = from_hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800").unwrap();
        let node = node(1);
        for point in [[0; 32], one, eight.try_into().unwrap()] {
            let to = NodePublic { x25519: point, ..node.public().clone() };
            assert!(matches!(encapsulate(&to, &mut Simulated::new(2)), Err(NodeKeyError::Zero)));
            let (sent, _) = encapsulate(node.public(), &mut Simulated::new(2)).unwrap();
            let sent = Encapsulated { x25519: point, ..sent };
            assert!(matches!(node.decapsulate(&sent), Err(NodeKeyError::Zero)));
        }
    }

    #[test]
    fn public_keys_as_json() {
        let node = node(1);
        let bytes = node.public().to_bytes();
        assert_eq!(NodePublic::parse(&bytes).unwrap(), *node.public());
        let value = parse(&bytes).unwrap();
        assert_eq!((canonical(&value), KeyId::of(&value)), (bytes.clone(), node.public().id()));
        let text = String::from_utf8(bytes).unwrap();
        for wrong in [
            text.replace("x25519", "x448"),
            text.replace('}', ",\"more\":1}"),
            text.replace("=\"}", "\"}"),
            text.replace("\"x25519\":\"", "\"x25519\":\"AAAA"),
            text.clone() + &" ".repeat(PUBLIC_MAX_BYTES),
            "{}".into(),
        ] {
            assert!(matches!(NodePublic::parse(wrong.as_bytes()), Err(NodeKeyError::Public(_))), "{wrong}");
        }
        // Coefficients beyond the modulus: FIPS 203 wants the key refused.
        let to = NodePublic { ml_kem_768: [0xff; ML_KEM_PUBLIC_BYTES], ..node.public().clone() };
        assert!(matches!(encapsulate(&to, &mut Simulated::new(2)), Err(NodeKeyError::MlKem)));
    }

    #[test]
    fn damaged_secrets() {
        let bytes = node(1).to_bytes();
        assert_eq!(bytes.len(), NODE_SECRET_BYTES);
        for wrong in [&bytes[..31], &bytes[1..], &[&bytes[..], &[0]].concat()] {
            assert!(matches!(NodeSecret::from_bytes(wrong), Err(NodeKeyError::Secret { .. })));
        }
        let mut wrong = bytes.clone();
        wrong[X25519_BYTES + 1152] ^= 1;
        assert!(matches!(NodeSecret::from_bytes(&wrong), Err(NodeKeyError::Secret { .. })));
        assert!(!format!("{:?}", node(1)).contains("x25519"));
    }
}
