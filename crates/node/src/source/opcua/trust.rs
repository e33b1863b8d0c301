//! Which certificate an OPC UA server must show: the one whose digest, or copy, the flow names.
//!
//! Certificates in plants are self-signed, and outlive the clocks around them. So what is trusted is one certificate, byte for byte; who made
//! it and until when it wants to be good is not asked.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wire::hash::Hash;

/// A file with a certificate has at most this.
const FILE_MAX_BYTES: u64 = 64 << 10;

/// What a certificate is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// The SHA-256 digest of its DER form.
    Digest(Hash),
    /// A copy of it, in DER or PEM.
    File(PathBuf),
}

/// Reads a digest: 64 hexadecimal digits, large or small, also in pairs with colons between.
pub fn read_digest(text: &str) -> Result<Hash, String> {
    let plain: String = text.trim().chars().filter(|c| *c != ':').collect();
    Hash::parse(&plain.to_ascii_lowercase()).ok_or_else(|| {
        "a digest is SHA-256: 64 hexadecimal digits (a thumbprint of 40 is SHA-1, which can be forged)"
            .to_owned()
    })
}

/// The server's own certificate of what it shows, which may be a chain with those that vouch for it behind.
pub fn leaf(shown: &[u8]) -> Option<&[u8]> {
    // A sequence, its length in one to four further bytes.
    let (tag, length) = (*shown.first()?, *shown.get(1)?);
    if tag != 0x30 {
        return None;
    }
    let bytes = usize::from(length & 0x7f);
    let (head, body) = match length {
        0..=0x7f => (2, bytes),
        _ if (1..=4).contains(&bytes) => {
            let digits = shown.get(2..2 + bytes)?;
            (2 + bytes, digits.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        }
        _ => return None,
    };
    shown.get(..head.checked_add(body)?)
}

/// Whether a server that shows this certificate (DER) is the one that is meant; the error says what to do.
pub fn check(pin: Option<&Pin>, certificate: &[u8]) -> Result<(), String> {
    let shown = Hash::of(certificate);
    let meant = match pin {
        None => {
            return Err(format!(
                "the server shows a certificate with the SHA-256 digest {shown}, and the flow does not say which to trust: read the digest \
                 at the server itself, and if it is this one, write `server_digest = \"{shown}\"`"
            ));
        }
        Some(Pin::Digest(digest)) => *digest,
        Some(Pin::File(file)) => Hash::of(&read_file(file)?),
    };
    if meant == shown {
        return Ok(());
    }
    Err(format!(
        "the server shows another certificate than the flow trusts: its SHA-256 digest is {shown}, and not {meant}. Somebody may stand \
         between; if it was renewed, read the digest at the server itself before you write `server_digest = \"{shown}\"`"
    ))
}

/// A certificate's DER form.
fn read_file(file: &Path) -> Result<Vec<u8>, String> {
    let shown = file.display();
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(FILE_MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|error| format!("the server's certificate {shown} cannot be read: {error}"))?;
    let der = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("-----BEGIN") => of_pem(text),
        _ => Some(bytes),
    };
    der.as_deref()
        .and_then(leaf)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| format!("{shown} holds no certificate: it is one in DER or PEM"))
}

/// The first certificate of a PEM text.
fn of_pem(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let digits: String = body.split_whitespace().collect();
    STANDARD.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let digest = Hash::of(b"x");
        let large = digest.to_string().to_ascii_uppercase();
        let pairs: Vec<&str> = (0..32).map(|at| &large[2 * at..2 * at + 2]).collect();
        assert_eq!(read_digest(&digest.to_string()), Ok(digest));
        assert_eq!(read_digest(&format!(" {} ", pairs.join(":"))), Ok(digest));
        assert!(read_digest("ab").unwrap_err().contains("64 hexadecimal digits"));
        assert!(read_digest(&"g".repeat(64)).is_err());
    }

    #[test]
    fn the_first_of_a_chain() {
        fn check(shown: &[u8], expected: Option<&[u8]>) {
            assert_eq!(leaf(shown), expected, "{shown:x?}");
        }
        check(&[0x30, 2, 7, 8, 0x30, 1, 9], Some(&[0x30, 2, 7, 8]));
        check(&[0x30, 0x81, 2, 7, 8], Some(&[0x30, 0x81, 2, 7, 8]));
        check(&[0x30, 0x82, 0, 1, 7, 8], Some(&[0x30, 0x82, 0, 1, 7]));
        check(&[0x30, 3, 7, 8], None);
        check(&[0x30, 0x80, 7], None);
        check(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], None);
        check(&[0x30, 0x85, 1, 1, 1, 1, 1], None);
        check(&[0x31, 0], None);
        check(&[0x30], None);
        check(&[], None);
    }

    #[test]
    fn one_certificate_is_trusted_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = [0x30, 2, 7, 8];
        let (der, pem) = (dir.path().join("server.der"), dir.path().join("server.pem"));
        std::fs::write(&der, certificate).unwrap();
        let text = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(certificate)
        );
        std::fs::write(&pem, text).unwrap();
        for pin in [Pin::Digest(Hash::of(&certificate)), Pin::File(der), Pin::File(pem)] {
            assert_eq!(check(Some(&pin), &certificate), Ok(()));
            let other = [0x30, 1, 9];
            let told = check(Some(&pin), &other).unwrap_err();
            assert!(told.contains(&Hash::of(&other).to_string()), "{told}");
            assert!(told.contains("another certificate"), "{told}");
        }
        let told = check(None, &certificate).unwrap_err();
        assert!(told.contains(&format!("server_digest = \"{}\"", Hash::of(&certificate))), "{told}");
        let nowhere = Pin::File(dir.path().join("nowhere.der"));
        assert!(check(Some(&nowhere), &certificate).unwrap_err().contains("cannot be read"));
        let empty = dir.path().join("empty.der");
        std::fs::write(&empty, "").unwrap();
        assert!(check(Some(&Pin::File(empty)), &certificate).unwrap_err().contains("holds no certificate"));
    }
}
