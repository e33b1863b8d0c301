//! A request for a certificate: the key, and the proof that this node has it. Names it asks for would not be heard.

use package::trust::eckey::EcKey;
use rcgen::{CertificateParams, DistinguishedName, Error, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};

/// PKCS#10, as DER.
pub fn csr(key: &EcKey) -> Result<Vec<u8>, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&Own(key))?.der().to_vec())
}

/// Our key as rcgen wants it.
struct Own<'a>(&'a EcKey);

impl PublicKeyData for Own<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Own<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message).map_err(|_| Error::RemoteKeyError)
    }
}
