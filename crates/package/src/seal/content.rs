//! The key of one sealed file, and what is derived from it.
//!
//! The file is not sealed with the content key itself but with one that depends on the file's salt, too; so a content key
//! may seal a second file without a nonce being used twice. Content keys grow from a [`SealKey`], which whoever seals keeps:
//! with it, and the salt in a file's header, the file can be granted to further nodes, and a grant of one file opens no other.

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use wire::world::Entropy;
use zeroize::Zeroizing;

/// Bytes of a content key.
pub const KEY_BYTES: usize = 32;

/// Bytes of a file's salt.
pub const SALT_BYTES: usize = 16;

const CONTENT_LABEL: &[u8] = b"selvedge seal content";
const DATA_LABEL: &[u8] = b"selvedge seal data";
const COMMIT_LABEL: &[u8] = b"selvedge seal commit";

/// What the content keys of any number of files grow from; wiped from memory when dropped. Stays with whoever seals.
pub struct SealKey(Zeroizing<[u8; KEY_BYTES]>);

impl SealKey {
    /// A new key.
    pub fn draw(chance: &mut dyn Entropy) -> SealKey {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        chance.fill(&mut *key);
        SealKey(key)
    }

    /// A key whose bytes are kept elsewhere.
    pub fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> SealKey {
        SealKey(bytes)
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key of the file with this salt.
    pub(super) fn content(&self, salt: &[u8; SALT_BYTES]) -> Result<ContentKey, Unspecified> {
        derive(salt, &*self.0, &[CONTENT_LABEL]).map(ContentKey)
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

/// What opens one sealed file; wiped from memory when dropped.
pub struct ContentKey(Zeroizing<[u8; KEY_BYTES]>);

impl ContentKey {
    /// A new key.
    pub fn draw(chance: &mut dyn Entropy) -> ContentKey {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        chance.fill(&mut *key);
        ContentKey(key)
    }

    /// A key whose bytes are kept elsewhere.
    pub fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> ContentKey {
        ContentKey(bytes)
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// What the chunks of a file with this salt are sealed with.
    pub(super) fn cipher(&self, salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
        aes(&*derive(salt, &*self.0, &[DATA_LABEL])?)
    }

    /// What a file says of its key without giving it away. AES-GCM alone would let two keys open one file to different
    /// plain bytes, if who sealed it wanted that; two keys with one commitment would be a collision of SHA-256.
    pub(super) fn commitment(&self) -> Result<[u8; 32], Unspecified> {
        let mut commitment = [0; 32];
        Prk::new_less_safe(HKDF_SHA256, &*self.0)
            .expand(&[COMMIT_LABEL], HKDF_SHA256)?
            .fill(&mut commitment)?;
        Ok(commitment)
    }
}

impl std::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentKey")
    }
}

/// HKDF-SHA-256 to 32 bytes. The parts of `info` stand there without a border: each must have a fixed length.
pub(super) fn derive(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, salt).extract(secret).expand(info, HKDF_SHA256)?.fill(&mut *key)?;
    Ok(key)
}

/// AES-256-GCM with this key.
pub(super) fn aes(key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new)
}
