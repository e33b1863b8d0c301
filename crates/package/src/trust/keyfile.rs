//! A secret in a file, locked with a passphrase: the age format, version 1, with one scrypt recipient, so that `age -d` opens
//! it too (C2SP, `age-encryption.org/v1`).
//!
//! ```text
//! age-encryption.org/v1
//! -> scrypt SALT LOG_N           the file key, sealed with scrypt(passphrase, SALT, 2^LOG_N)
//! WRAPPED
//! --- MAC                        over the lines above, keyed from the file key
//! NONCE, CHUNK                   the secret; one chunk, since secrets are short
//! ```
//!
//! What is inside is one line, `selvedge-secret-1 KIND BASE64`, and after it, of a key whose other half lies in a token,
//! a space and that half's PKCS#11 URI: programs that know of no tokens refuse such a line. Salt, nonce and file key come from the caller's entropy.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use wire::world::Entropy;
use zeroize::{Zeroize, Zeroizing};

/// What is written: 2^17 × 1 KiB = 128 MiB and about half a second for each guess.
pub const LOG_N: u8 = 17;
/// What is read at most: 1 GiB of memory.
const LOG_N_MAX: u8 = 20;

const INTRO: &str = "age-encryption.org/v1\n";
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const SECRET_LABEL: &str = "selvedge-secret-1";
const SALT_BYTES: usize = 16;
const FILE_KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// The most bytes of a file, and of age's one chunk.
const FILE_MAX: usize = 16 << 10;
/// The longest URI of a key in a token.
const URI_MAX: usize = 1 << 10;

/// A key file that cannot be opened, or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// The passphrase is wrong, or the file was changed.
    #[error("the passphrase is wrong, or the file is damaged")]
    Passphrase,
    /// Not such a file.
    #[error("this is no key file: {why}")]
    Form {
        /// What is wrong.
        why: &'static str,
    },
    /// A file of another kind of age.
    #[error("the file is locked for a {kind:?}; key files are locked with a passphrase")]
    Unsupported {
        /// The kind of recipient.
        kind: String,
    },
    /// A file that would cost more memory than is sensible.
    #[error("the file asks for 2^{log_n} KiB of memory, at most 2^{LOG_N_MAX} are given")]
    TooHard {
        /// Its work factor.
        log_n: u32,
    },
    /// The cryptographic library failed.
    #[error("the file could not be locked")]
    Crypto,
}

/// A secret and what it is for; wiped from memory when dropped.
#[derive(PartialEq, Eq)]
pub struct Secret {
    /// `hybrid`, `ecdsa-p256`, `token`: one word.
    pub kind: String,
    /// The secret itself.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The PKCS#11 URI of the half that lies in a token, if one does: visible ASCII, at most 1 KiB.
    pub token: Option<String>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({}, {} bytes)", self.kind, self.bytes.len())
    }
}

/// Locks a secret. `log_n`: [`LOG_N`], or less in tests.
pub fn lock(
    secret: &Secret,
    pass: &str,
    log_n: u8,
    chance: &mut dyn Entropy,
) -> Result<Vec<u8>, KeyFileError> {
    if !secret.token.as_deref().is_none_or(is_uri) {
        return Err(KeyFileError::Form { why: "the URI of its token is too long, or has spaces" });
    }
    let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
    let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
    chance.fill(&mut salt);
    chance.fill(&mut nonce);
    chance.fill(&mut *file_key);
    let wrapping = wrapping_key(pass, &salt, log_n)?;
    let wrapped = seal(&wrapping, [0; 12], &*file_key)?;
    let text = |bytes: &[u8]| BASE64_STANDARD_NO_PAD.encode(bytes);
    let head = format!("{INTRO}-> scrypt {} {log_n}\n{}\n---", text(&salt), text(&wrapped));
    let mac = mac_of(&*file_key, head.as_bytes())?;
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*secret.bytes));
    let token = secret.token.as_ref().map(|uri| format!(" {uri}")).unwrap_or_default();
    let line = Zeroizing::new(format!("{SECRET_LABEL} {} {}{token}\n", secret.kind, *encoded));
    let payload = seal(&*derive(&*file_key, &nonce, b"payload")?, LAST_CHUNK, line.as_bytes())?;
    let mut file = format!("{head} {}\n", text(&mac)).into_bytes();
    file.extend(nonce);
    file.extend(payload);
    Ok(file)
}

/// Opens what [`lock`] or `age -p` has written, if it holds a secret of ours.
pub fn unlock(file: &[u8], pass: &str) -> Result<Secret, KeyFileError> {
    let form = |why| KeyFileError::Form { why };
    if file.len() > FILE_MAX {
        return Err(form("it is too long"));
    }
    let mut lines = file.splitn(5, |byte| *byte == b'\n');
    let mut line = || lines.next().and_then(|line| std::str::from_utf8(line).ok());
    if line().map(|intro| format!("{intro}\n")).as_deref() != Some(INTRO) {
        return Err(form("it does not begin as age files do"));
    }
    let stanza = line().and_then(|line| line.strip_prefix("-> ")).ok_or(form("it has no recipient"))?;
    let mut words = stanza.split(' ');
    let kind = words.next().unwrap_or_default();
    if kind != "scrypt" {
        return Err(KeyFileError::Unsupported { kind: kind.chars().take(32).collect() });
    }
    let (salt, log_n, none) = (words.next(), words.next(), words.next());
    let salt: [u8; SALT_BYTES] = decoded(salt).ok_or(form("its salt is wrong"))?;
    let log_n = log_n.filter(|text| !text.starts_with(['0', '+']) && text.len() <= 3 && none.is_none());
    let log_n: u32 = log_n.and_then(|text| text.parse().ok()).ok_or(form("its work factor is wrong"))?;
    let log_n =
        u8::try_from(log_n).ok().filter(|n| *n <= LOG_N_MAX).ok_or(KeyFileError::TooHard { log_n })?;
    let wrapped: [u8; FILE_KEY_BYTES + TAG_BYTES] = decoded(line()).ok_or(form("its sealed key is wrong"))?;
    let mac = line().and_then(|line| line.strip_prefix("--- "));
    let mac_text = mac.ok_or(form("its last line is wrong, or it is locked for more than one"))?;
    let mac: [u8; 32] = decoded(Some(mac_text)).ok_or(form("its checksum is wrong"))?;
    let payload = lines.next().unwrap_or_default();
    let head = &file[..file.len() - payload.len() - mac_text.len() - " \n".len()];

    let file_key = open(&*wrapping_key(pass, &salt, log_n)?, [0; 12], &wrapped)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*derive(&file_key, &[], b"header")?);
    hmac::verify(&key, head, &mac).map_err(|_| KeyFileError::Passphrase)?;
    let (nonce, chunk) = payload.split_at_checked(NONCE_BYTES).ok_or(form("it ends too early"))?;
    let inside = open(&*derive(&file_key, nonce, b"payload")?, LAST_CHUNK, chunk)?;
    secret_of(&inside).ok_or(form("what it holds is no secret of ours"))
}

/// What may be the URI of a key in a token.
fn is_uri(text: &str) -> bool {
    text.starts_with("pkcs11:") && text.len() <= URI_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `selvedge-secret-1 KIND BASE64`, perhaps a URI, and a line's end.
fn secret_of(inside: &[u8]) -> Option<Secret> {
    let mut words = std::str::from_utf8(inside).ok()?.strip_suffix('\n')?.split(' ');
    let (label, kind, encoded) = (words.next()?, words.next()?, words.next()?);
    let token = words.next();
    let is_ours =
        label == SECRET_LABEL && !kind.is_empty() && token.is_none_or(is_uri) && words.next().is_none();
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(encoded).ok()?);
    is_ours.then(|| Secret { kind: kind.to_owned(), bytes, token: token.map(str::to_owned) })
}

/// Exactly `N` bytes in base64 without padding, in the one form that there is for them.
fn decoded<const N: usize>(text: Option<&str>) -> Option<[u8; N]> {
    BASE64_STANDARD_NO_PAD.decode(text?).ok()?.try_into().ok()
}

/// age's STREAM: an 11-byte counter, here 0, and whether the chunk is the last, here 1.
const LAST_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn wrapping_key(pass: &str, salt: &[u8], log_n: u8) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let params = scrypt::Params::new(log_n, 8, 1).map_err(|_| KeyFileError::Crypto)?;
    let mut key = Zeroizing::new([0; 32]);
    let salt = [SALT_LABEL, salt].concat();
    scrypt::scrypt(pass.as_bytes(), &salt, &params, &mut *key).map_err(|_| KeyFileError::Crypto)?;
    Ok(key)
}

/// HKDF-SHA-256 to 32 bytes.
fn derive(file_key: &[u8], salt: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let mut key = Zeroizing::new([0; 32]);
    let secret = Salt::new(HKDF_SHA256, salt).extract(file_key);
    let filled = secret.expand(&[info], HKDF_SHA256).and_then(|okm| okm.fill(&mut *key));
    filled.map_err(|_| KeyFileError::Crypto)?;
    Ok(key)
}

fn mac_of(file_key: &[u8], head: &[u8]) -> Result<Vec<u8>, KeyFileError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*derive(file_key, &[], b"header")?);
    Ok(hmac::sign(&key, head).as_ref().to_vec())
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, KeyFileError> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new).map_err(|_| KeyFileError::Crypto)
}

fn seal(key: &[u8; 32], nonce: [u8; 12], bytes: &[u8]) -> Result<Vec<u8>, KeyFileError> {
    let mut sealed = bytes.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let done = cipher(key)?.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed);
    if done.is_err() {
        sealed.zeroize();
        return Err(KeyFileError::Crypto);
    }
    Ok(sealed)
}

fn open(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = cipher(key)?.open_in_place(nonce, Aad::empty(), &mut bytes);
    let length = opened.map_err(|_| KeyFileError::Passphrase)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use wire::world::Simulated;

    use super::*;

    fn secret() -> Secret {
        Secret { kind: "hybrid".into(), bytes: Zeroizing::new((0..64).collect()), token: None }
    }

    #[test]
    fn locked_and_opened() {
        let file = lock(&secret(), "correct horse", 4, &mut Simulated::new(1)).unwrap();
        assert!(file.starts_with(b"age-encryption.org/v1\n-> scrypt "));
        assert_eq!(unlock(&file, "correct horse"), Ok(secret()));
        assert_eq!(unlock(&file, "correct horse "), Err(KeyFileError::Passphrase));
        assert_ne!(file, lock(&secret(), "correct horse", 4, &mut Simulated::new(2)).unwrap());
    }

    #[test]
    fn a_token_is_named() {
        let named = |uri: &str| Secret { kind: "token".into(), token: Some(uri.to_owned()), ..secret() };
        let locked = |uri: &str| lock(&named(uri), "pass", 1, &mut Simulated::new(1));
        let uri = "pkcs11:token=trust;object=root-1";
        assert_eq!(unlock(&locked(uri).unwrap(), "pass"), Ok(named(uri)));
        for wrong in ["", "root-1", "pkcs11:token=two words", &format!("pkcs11:{}", "a".repeat(1 << 10))] {
            assert!(matches!(locked(wrong), Err(KeyFileError::Form { .. })), "{wrong}");
        }
        let line = b"selvedge-secret-1 token AAAA ";
        for (rest, is_secret) in
            [("pkcs11:id=%01\n", true), ("pkcs11: x\n", false), ("\n", false), ("http:\n", false)]
        {
            assert_eq!(secret_of(&[line, rest.as_bytes()].concat()).is_some(), is_secret, "{rest}");
        }
    }

    #[test]
    fn every_byte_counts() {
        let file = lock(&secret(), "pass", 1, &mut Simulated::new(1)).unwrap();
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(unlock(&changed, "pass").is_err(), "byte {at}");
            assert!(unlock(&file[..at], "pass").is_err(), "cut at {at}");
        }
        assert!(unlock(&[&file[..], b"x"].concat(), "pass").is_err());
    }

    #[test]
    fn what_is_refused() {
        let check =
            |head: &str, expected: KeyFileError| assert_eq!(unlock(head.as_bytes(), "x"), Err(expected));
        let salt = "AAAAAAAAAAAAAAAAAAAAAA";
        check(&format!("{INTRO}-> scrypt {salt} 21\n"), KeyFileError::TooHard { log_n: 21 });
        check(&format!("{INTRO}-> scrypt {salt} 999\n"), KeyFileError::TooHard { log_n: 999 });
        check(
            &format!("{INTRO}-> scrypt {salt} 017\n"),
            KeyFileError::Form { why: "its work factor is wrong" },
        );
        check(&format!("{INTRO}-> X25519 abc\n"), KeyFileError::Unsupported { kind: "X25519".into() });
        check("PGP\n", KeyFileError::Form { why: "it does not begin as age files do" });
        check("", KeyFileError::Form { why: "it does not begin as age files do" });
    }
}
