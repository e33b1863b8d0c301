//! A grant: the content key of one sealed file, wrapped to one node.
//!
//! ```text
//! {"form":1,"sealed":"sha256:…","to":"KEY ID","x25519":BASE64,"ml_kem_768":BASE64,"wrapped":BASE64}
//! ```
//!
//! The wrapping key comes from the shared secret and from what the grant says, `sealed` and `to`, which are the associated
//! data, too. It wraps one key, so its nonce is zero. Who made a grant is not said: a false one opens nothing, since the
//! sealed file commits to its key.

use aws_lc_rs::aead::{Aad, Nonce};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use wire::world::Entropy;
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::form::{self, FormError, wrong_value};
use crate::seal::content::{ContentKey, KEY_BYTES, aes, derive};
use crate::seal::hybrid::{Encapsulated, NodeKeyError, NodePublic, NodeSecret, decoded, encapsulate, read};
use crate::trust::key::KeyId;

/// The longest grant that is read.
pub const GRANT_MAX_BYTES: usize = 4 << 10;

const SALT: &[u8] = b"selvedge grant 1";
const WRAPPED_BYTES: usize = KEY_BYTES + 16;

/// A grant that gives no key.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// No grant at all.
    #[error("this is no grant")]
    Form(#[from] FormError),
    /// For another node.
    #[error("the grant is for the node key {to}, ours is {ours}: ask for one that is for ours")]
    Node {
        /// Whose it is.
        to: KeyId,
        /// Who opens it.
        ours: KeyId,
    },
    /// For another file.
    #[error("the grant is for the file {granted}, not for {sealed}")]
    File {
        /// The one it is for.
        granted: Digest,
        /// The one that was to be opened.
        sealed: Digest,
    },
    /// One of the two keys cannot be used.
    #[error("no secret is shared with the node's key")]
    Key(#[from] NodeKeyError),
    /// It says it is ours, and is not.
    #[error("the grant was changed after it was made, or made for a key that only looks like ours")]
    Changed,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

/// The content key of one sealed file, for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    sealed: Digest,
    to: KeyId,
    sent: Encapsulated,
    wrapped: [u8; WRAPPED_BYTES],
}

/// [`Grant`] as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    form: u32,
    sealed: Digest,
    to: String,
    x25519: String,
    ml_kem_768: String,
    wrapped: String,
}

/// Lets a node open a file: wraps the content key of the sealed blob `sealed` to the key `to`.
pub fn wrap(
    key: &ContentKey,
    sealed: Digest,
    to: &NodePublic,
    chance: &mut dyn Entropy,
) -> Result<Grant, GrantError> {
    let (sent, shared) = encapsulate(to, chance)?;
    let info = Info::new(&sealed, &to.id());
    let cipher = derive(SALT, &*shared, &info.parts()).and_then(|key| aes(&key));
    let cipher = cipher.map_err(|_| GrantError::Crypto)?;
    let mut text = Zeroizing::new(*key.bytes());
    let tag = cipher.seal_in_place_separate_tag(nonce(), Aad::from(info.joined()), &mut *text);
    let mut wrapped = [0; WRAPPED_BYTES];
    wrapped[..KEY_BYTES].copy_from_slice(&*text);
    wrapped[KEY_BYTES..].copy_from_slice(tag.map_err(|_| GrantError::Crypto)?.as_ref());
    Ok(Grant { sealed, to: to.id(), sent, wrapped })
}

impl Grant {
    /// Reads a grant of at most [`GRANT_MAX_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Grant, GrantError> {
        let document: Document = read("grant", bytes, GRANT_MAX_BYTES)?;
        if document.form != 1 {
            let found = document.form.to_string();
            return Err(FormError::Unsupported { what: "form of a grant", found, known: "1" }.into());
        }
        let to = KeyId::parse(&document.to);
        let sent = Encapsulated {
            x25519: decoded("x25519", &document.x25519)?,
            ml_kem_768: decoded("ml_kem_768", &document.ml_kem_768)?,
        };
        Ok(Grant {
            sealed: document.sealed,
            to: to.ok_or_else(|| wrong_value("to", &document.to, "it must be the id of a node's key"))?,
            sent,
            wrapped: decoded("wrapped", &document.wrapped)?,
        })
    }

    /// What [`Grant::parse`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        form::write(&Document {
            form: 1,
            sealed: self.sealed,
            to: self.to.to_string(),
            x25519: BASE64_STANDARD.encode(self.sent.x25519),
            ml_kem_768: BASE64_STANDARD.encode(self.sent.ml_kem_768),
            wrapped: BASE64_STANDARD.encode(self.wrapped),
        })
    }

    /// The sealed blob that it opens.
    pub fn sealed(&self) -> Digest {
        self.sealed
    }

    /// The node's key that it is for.
    pub fn to(&self) -> KeyId {
        self.to
    }

    /// The content key of the blob `sealed`, for the node that the grant is for.
    pub fn open(&self, sealed: Digest, secret: &NodeSecret) -> Result<ContentKey, GrantError> {
        let (granted, to, ours) = (self.sealed, self.to, secret.public().id());
        if granted != sealed {
            return Err(GrantError::File { granted, sealed });
        }
        if to != ours {
            return Err(GrantError::Node { to, ours });
        }
        let shared = secret.decapsulate(&self.sent)?;
        let info = Info::new(&sealed, &to);
        let cipher = derive(SALT, &*shared, &info.parts()).and_then(|key| aes(&key));
        let cipher = cipher.map_err(|_| GrantError::Crypto)?;
        let (text, tag) = self.wrapped.split_at(KEY_BYTES);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let opened = cipher.open_separate_gather(nonce(), Aad::from(info.joined()), text, tag, &mut *key);
        opened.map_err(|_| GrantError::Changed)?;
        Ok(ContentKey::from_bytes(key))
    }
}

/// What a grant says, as it stands in its JSON: 71 characters and 64.
struct Info {
    sealed: String,
    to: String,
}

impl Info {
    fn new(sealed: &Digest, to: &KeyId) -> Info {
        Info { sealed: sealed.to_string(), to: to.to_string() }
    }

    fn parts(&self) -> [&[u8]; 2] {
        [self.sealed.as_bytes(), self.to.as_bytes()]
    }

    fn joined(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

/// The nonce of a key that seals once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use wire::world::Simulated;

    use super::*;

    fn node(seed: u64) -> NodeSecret {
        NodeSecret::generate(&mut Simulated::new(seed)).unwrap()
    }

    fn granted(to: &NodePublic) -> (ContentKey, Digest, Grant) {
        let (key, sealed) = (ContentKey::draw(&mut Simulated::new(7)), Digest::of(b"sealed"));
        let grant = wrap(&key, sealed, to, &mut Simulated::new(8)).unwrap();
        (key, sealed, grant)
    }

    #[test]
    fn granted_and_opened() {
        let node = node(1);
        let (key, sealed, grant) = granted(node.public());
        let read = Grant::parse(&grant.to_bytes()).unwrap();
        assert_eq!(read, grant);
        assert_eq!(read.open(sealed, &node).unwrap().bytes(), key.bytes());
        assert_ne!(granted(node.public()).2, grant, "aws-lc draws, too");
    }

    #[test]
    fn another_node_or_file() {
        let (ours, other) = (node(1), node(2));
        let (_, sealed, grant) = granted(ours.public());
        assert!(matches!(grant.open(sealed, &other), Err(GrantError::Node { .. })));
        assert!(matches!(grant.open(Digest::of(b"x"), &ours), Err(GrantError::File { .. })));
        // Relabelled, it opens no more.
        let relabelled = Grant { to: other.public().id(), ..grant.clone() };
        assert!(matches!(relabelled.open(sealed, &other), Err(GrantError::Changed)));
        let relabelled = Grant { sealed: Digest::of(b"x"), ..grant };
        assert!(matches!(relabelled.open(Digest::of(b"x"), &ours), Err(GrantError::Changed)));
    }

    #[test]
    fn every_part_counts() {
        let node = node(1);
        let (_, sealed, grant) = granted(node.public());
        let check = |change: fn(&mut Grant)| {
            let mut changed = grant.clone();
            change(&mut changed);
            assert!(matches!(changed.open(sealed, &node), Err(GrantError::Changed)));
        };
        check(|grant| grant.wrapped[0] ^= 1);
        check(|grant| grant.wrapped[47] ^= 1);
        check(|grant| grant.sent.x25519[0] ^= 1);
        check(|grant| grant.sent.ml_kem_768[1087] ^= 1);
        let zero = Grant { sent: Encapsulated { x25519: [0; 32], ..grant.sent.clone() }, ..grant.clone() };
        assert!(matches!(zero.open(sealed, &node), Err(GrantError::Key(NodeKeyError::Zero))));
    }

    #[test]
    fn documents_that_are_refused() {
        let (_, _, grant) = granted(node(1).public());
        let text = String::from_utf8(grant.to_bytes()).unwrap();
        assert!(text.starts_with(r#"{"form":1,"sealed":"sha256:"#));
        for wrong in [
            text.replace("\"form\":1", "\"form\":2"),
            text.replace("\"form\":1", "\"form\":1,\"form\":1"),
            text.replace("\"form\":1", "\"form\":1,\"more\":1"),
            text.replace("sha256:", "sha512:"),
            text.replace("\"to\":\"", "\"to\":\"0"),
            text.replace("\"wrapped\":\"", "\"wrapped\":\"AAAA"),
            text.clone() + &" ".repeat(GRANT_MAX_BYTES),
            text[..text.len() - 1].to_string(),
        ] {
            assert!(matches!(Grant::parse(wrong.as_bytes()), Err(GrantError::Form(_))), "{wrong}");
        }
    }
}
