//! A P-256 key for certificates, as the file that every tool reads: PEM of RFC 5915.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use wire::world::Entropy;
use zeroize::Zeroizing;

use crate::trust::key::from_pem;
use crate::trust::sign::{ECDSA_SECRET_BYTES, EcdsaSigner, SignError};

/// The label of the key's file.
const LABEL: &str = "EC PRIVATE KEY";

/// ECPrivateKey: version 1, then the scalar's 32 bytes.
const HEAD: [u8; 5] = [0x02, 0x01, 0x01, 0x04, 0x20];

/// The curve's name, prime256v1, as its parameter.
const CURVE: [u8; 12] = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Bytes of a point that is not compressed: 4, x, y.
const POINT_BYTES: usize = 65;

/// A P-256 key and its public half.
pub struct EcKey {
    scalar: Zeroizing<[u8; ECDSA_SECRET_BYTES]>,
    signer: EcdsaSigner,
    public: Vec<u8>,
}

impl EcKey {
    /// Draws one.
    pub fn draw(entropy: &mut dyn Entropy) -> EcKey {
        loop {
            let mut scalar = Zeroizing::new([0; ECDSA_SECRET_BYTES]);
            entropy.fill(&mut *scalar);
            // One in 2³² is none.
            if let Some(key) = EcKey::new(scalar) {
                return key;
            }
        }
    }

    fn new(scalar: Zeroizing<[u8; ECDSA_SECRET_BYTES]>) -> Option<EcKey> {
        let signer = EcdsaSigner::from_scalar(&scalar).ok()?;
        let public = from_pem(signer.pem()).filter(|public| public.len() > POINT_BYTES)?;
        Some(EcKey { scalar, signer, public })
    }

    /// Reads a key's file, ours or OpenSSL's.
    pub fn read(pem: &str) -> Option<EcKey> {
        let der = Zeroizing::new(unwrap(LABEL, pem)?);
        let body = der.strip_prefix(&[0x30]).filter(|rest| rest.first().is_some_and(|len| *len < 0x80))?;
        let rest = body[1..].strip_prefix(&HEAD)?;
        let (scalar, rest) = rest.split_at_checked(ECDSA_SECRET_BYTES)?;
        rest.starts_with(&CURVE).then_some(())?;
        EcKey::new(Zeroizing::new(scalar.try_into().ok()?))
    }

    /// The key as DER.
    pub fn der(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(64));
        der.extend([0x30, (HEAD.len() + ECDSA_SECRET_BYTES + CURVE.len()) as u8]);
        der.extend(HEAD);
        der.extend(*self.scalar);
        der.extend(CURVE);
        der
    }

    /// The key as its file.
    pub fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(wrap(LABEL, &self.der()))
    }

    /// The public half, SubjectPublicKeyInfo as DER.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The public half as a point: 4, x, y.
    pub fn point(&self) -> &[u8] {
        &self.public[self.public.len() - POINT_BYTES..]
    }

    /// An ASN.1 signature over SHA-256 of `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.signer.sign_der(message)
    }
}

impl std::fmt::Debug for EcKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EcKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// DER as PEM, lines of 64.
pub fn wrap(label: &str, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    let digits = Zeroizing::new(BASE64_STANDARD.encode(der));
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The DER of a PEM text of one block with this label.
pub fn unwrap(label: &str, pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::world::Simulated;

    #[test]
    fn a_key_survives_its_file() {
        let key = EcKey::draw(&mut Simulated::new(1));
        let again = EcKey::read(&key.pem()).unwrap();
        assert_eq!((again.public(), again.der()), (key.public(), key.der()));
        assert_eq!((key.point().len(), key.point()[0]), (65, 4));
        assert!(!format!("{key:?}").contains("scalar"));
    }

    #[test]
    fn what_is_no_key_is_none() {
        let good = EcKey::draw(&mut Simulated::new(1)).der();
        let check = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut der = good.to_vec();
            change(&mut der);
            EcKey::read(&wrap(LABEL, &der)).is_some()
        };
        assert!(check(&|_| ()));
        // OpenSSL writes the public half behind the curve.
        assert!(check(&|der| der.extend([0xa1, 0x44])));
        assert!(!check(&Vec::clear));
        assert!(!check(&|der| der.truncate(20)));
        assert!(!check(&|der| der[7..39].fill(0)));
        assert!(!check(&|der| der[40] ^= 1));
        assert!(EcKey::read("").is_none() && EcKey::read(&wrap("PRIVATE KEY", &good)).is_none());
    }
}
