//! OpenSSF model signing: who made a model's files, in the form that its own tool `model_signing` writes and verifies with a key.
//!
//! A sigstore bundle holds a DSSE envelope, which holds an in-toto statement, which lists the files with their SHA-256. It
//! proves origin to strangers; what a node trusts is decided by TUF alone. Their tool takes elliptic curves only, so these
//! keys are ECDSA over P-256, and the post-quantum half of the proof is TUF's.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use wire::hash::Hash;

use crate::trust::canonical::{StrictError, Value, parse, to_json};
use crate::trust::hex::to_hex;
use crate::trust::key::{PublicKey, to_pem};
use crate::trust::sign::{EcdsaSigner, SignError};

/// The media type of a bundle, and the artifact type of the manifest that carries one.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// Its path in the model.
    pub name: String,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// What a bundle proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// What the signer calls the model.
    pub model: String,
    /// SHA-256 over the digests of all files, which names them all.
    pub digest: Hash,
}

/// A bundle that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvenanceError {
    /// Not strict JSON.
    #[error("the bundle or the statement in it cannot be read")]
    Strict(#[from] StrictError),
    /// A field is missing or wrong.
    #[error("the bundle has no {field}, or a wrong one")]
    Form {
        /// Which.
        field: &'static str,
    },
    /// A bundle or statement of another kind.
    #[error("the bundle's {field} is {found:?}, which is not supported here")]
    Unsupported {
        /// Which field.
        field: &'static str,
        /// What it is.
        found: String,
    },
    /// A key of another kind.
    #[error("provenance is signed with ECDSA keys over P-256; this key is of another kind")]
    Key,
    /// Signed by somebody else.
    #[error("the bundle names another key")]
    OtherKey,
    /// A wrong signature.
    #[error("the bundle's signature is not this key's")]
    Signature,
    /// Other files than these.
    #[error("the bundle is about other files: {name:?} is not as it was signed")]
    Files {
        /// The first that differs.
        name: String,
    },
}

/// What is signed of a model: its files by name, as JSON of in-toto.
pub fn statement(model: &str, files: &[File]) -> Vec<u8> {
    let files = sorted(files);
    let resources = files.iter().map(|file| {
        Value::object([
            ("name", file.name.as_str().into()),
            ("algorithm", "sha256".into()),
            ("digest", to_hex(&file.sha256).into()),
        ])
    });
    let serialization = Value::object([
        ("method", "files".into()),
        ("hash_type", "sha256".into()),
        ("allow_symlinks", false.into()),
        ("ignore_paths", Value::List(Vec::new())),
    ]);
    let digest = Value::object([("sha256", root_digest(&files).to_string().into())]);
    let subject = Value::object([("name", model.into()), ("digest", digest)]);
    to_json(&Value::object([
        ("_type", STATEMENT_TYPE.into()),
        ("subject", Value::List(vec![subject])),
        ("predicateType", PREDICATE_TYPE.into()),
        (
            "predicate",
            Value::object([
                ("serialization", serialization),
                ("resources", Value::List(resources.collect())),
            ]),
        ),
    ]))
}

/// A bundle over a statement.
pub fn bundle(statement: &[u8], signer: &EcdsaSigner) -> Result<Vec<u8>, SignError> {
    let signature = BASE64_STANDARD.encode(signer.sign_der(&pre_authentication(statement))?);
    let signature = Value::object([("sig", signature.into()), ("keyid", "".into())]);
    let hint = Hash::of(signer.pem().as_bytes()).to_string();
    let material = Value::object([
        ("publicKey", Value::object([("hint", hint.into())])),
        ("tlogEntries", Value::List(Vec::new())),
    ]);
    let envelope = Value::object([
        ("payload", BASE64_STANDARD.encode(statement).into()),
        ("payloadType", PAYLOAD_TYPE.into()),
        ("signatures", Value::List(vec![signature])),
    ]);
    Ok(to_json(&Value::object([
        ("mediaType", BUNDLE_TYPE.into()),
        ("verificationMaterial", material),
        ("dsseEnvelope", envelope),
    ])))
}

/// Checks that a bundle is `key`'s and is about exactly these files.
pub fn check(bundle: &[u8], key: &PublicKey, files: &[File]) -> Result<Provenance, ProvenanceError> {
    let PublicKey::EcdsaP256(der) = key else { return Err(ProvenanceError::Key) };
    let bundle = parse(bundle)?;
    is_kind(bundle.get("mediaType"), "mediaType", BUNDLE_TYPE)?;
    let form = |field| ProvenanceError::Form { field };
    let material = bundle.get("verificationMaterial").ok_or(form("verificationMaterial"))?;
    let hint = material.get("publicKey").and_then(|key| key.get("hint")).and_then(Value::as_text);
    if hint.is_some_and(|hint| !hint.is_empty() && hint != Hash::of(to_pem(der).as_bytes()).to_string()) {
        return Err(ProvenanceError::OtherKey);
    }
    let envelope = bundle.get("dsseEnvelope").ok_or(form("dsseEnvelope"))?;
    is_kind(envelope.get("payloadType"), "payloadType", PAYLOAD_TYPE)?;
    let payload = bytes(envelope.get("payload")).ok_or(form("payload"))?;
    let signatures = envelope.get("signatures").and_then(Value::as_list).unwrap_or_default();
    let [signature] = signatures else { return Err(form("single signature")) };
    let signature = bytes(signature.get("sig")).ok_or(form("signature"))?;
    // The key checks what TUF's signature objects hold, in hexadecimal digits.
    let signature = Value::object([("sig", to_hex(&signature).into())]);
    if !key.verifies(&pre_authentication(&payload), &signature) {
        return Err(ProvenanceError::Signature);
    }
    is_about(&parse(&payload)?, &sorted(files))
}

/// Whether a statement lists these files, in their order, and no others.
fn is_about(statement: &Value, files: &[File]) -> Result<Provenance, ProvenanceError> {
    let form = |field| ProvenanceError::Form { field };
    is_kind(statement.get("_type"), "_type", STATEMENT_TYPE)?;
    is_kind(statement.get("predicateType"), "predicateType", PREDICATE_TYPE)?;
    let predicate = statement.get("predicate").ok_or(form("predicate"))?;
    let method = predicate.get("serialization").and_then(|serialization| serialization.get("method"));
    is_kind(method, "method", "files")?;
    let listed = predicate.get("resources").and_then(Value::as_list).ok_or(form("resources"))?;
    for (place, resource) in listed.iter().enumerate() {
        is_kind(resource.get("algorithm"), "algorithm", "sha256")?;
        let name = resource.get("name").and_then(Value::as_text).ok_or(form("name"))?;
        let digest = resource.get("digest").and_then(Value::as_text).ok_or(form("digest"))?;
        let is_it = |file: &File| file.name == name && to_hex(&file.sha256) == digest;
        if !files.get(place).is_some_and(is_it) {
            return Err(ProvenanceError::Files { name: name.chars().take(128).collect() });
        }
    }
    if let Some(missing) = files.get(listed.len()) {
        return Err(ProvenanceError::Files { name: missing.name.clone() });
    }
    let subjects = statement.get("subject").and_then(Value::as_list).unwrap_or_default();
    let [subject] = subjects else { return Err(form("single subject")) };
    let digest = root_digest(files);
    let found = subject.get("digest").and_then(|digest| digest.get("sha256")).and_then(Value::as_text);
    if found != Some(&*digest.to_string()) {
        return Err(form("digest of its subject"));
    }
    let model = subject.get("name").and_then(Value::as_text).ok_or(form("name of its subject"))?;
    Ok(Provenance { model: model.to_owned(), digest })
}

/// DSSE's encoding of what is signed: no payload can be taken for another type's.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn sorted(files: &[File]) -> Vec<File> {
    let mut files = files.to_vec();
    files.sort();
    files
}

/// SHA-256 over the raw digests, in order.
fn root_digest(files: &[File]) -> Hash {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.sha256);
    }
    hasher.into()
}

fn bytes(value: Option<&Value>) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(value?.as_text()?).ok()
}

fn is_kind(value: Option<&Value>, field: &'static str, expected: &str) -> Result<(), ProvenanceError> {
    let found = value.and_then(Value::as_text).ok_or(ProvenanceError::Form { field })?;
    if found == expected {
        Ok(())
    } else {
        Err(ProvenanceError::Unsupported { field, found: found.chars().take(128).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::sign::Signer;

    fn files() -> Vec<File> {
        let file = |name: &str, byte| File { name: name.into(), sha256: [byte; 32] };
        vec![file("model.gguf", 1), file("LICENSE", 2), file("a/b", 3)]
    }

    #[test]
    fn what_is_signed_is_found_again_in_any_order() {
        let signer = EcdsaSigner::from_scalar(&[5; 32]).unwrap();
        let key = PublicKey::read(signer.key()).unwrap();
        let bundle = bundle(&statement("smollm2", &files()), &signer).unwrap();
        let mut others = files();
        others.reverse();
        let provenance = check(&bundle, &key, &others).unwrap();
        assert_eq!(provenance.model, "smollm2");

        others[0].sha256[31] ^= 1;
        assert!(matches!(check(&bundle, &key, &others), Err(ProvenanceError::Files { .. })), "another byte");
        assert!(
            matches!(check(&bundle, &key, &files()[1..]), Err(ProvenanceError::Files { .. })),
            "one less"
        );
        others = files();
        others.push(File { name: "z".into(), sha256: [4; 32] });
        assert!(matches!(check(&bundle, &key, &others), Err(ProvenanceError::Files { .. })), "one more");

        let stranger = EcdsaSigner::from_scalar(&[6; 32]).unwrap();
        let other = PublicKey::read(stranger.key()).unwrap();
        assert_eq!(check(&bundle, &other, &files()), Err(ProvenanceError::OtherKey));
        assert_eq!(check(&bundle, &PublicKey::Ed25519([0; 32]), &files()), Err(ProvenanceError::Key));
    }

    #[test]
    fn a_statement_under_anothers_signature() {
        let signer = EcdsaSigner::from_scalar(&[5; 32]).unwrap();
        let key = PublicKey::read(signer.key()).unwrap();
        let mut one = parse(&bundle(&statement("a", &files()), &signer).unwrap()).unwrap();
        let two = parse(&bundle(&statement("b", &files()), &signer).unwrap()).unwrap();
        let payload = two.get("dsseEnvelope").unwrap().get("payload").unwrap().clone();
        let envelope = one.as_object_mut().unwrap().get_mut("dsseEnvelope").unwrap();
        envelope.as_object_mut().unwrap().insert("payload".into(), payload);
        assert_eq!(check(&to_json(&one), &key, &files()), Err(ProvenanceError::Signature));
    }

    #[test]
    fn the_statement_reads_as_the_specification_says() {
        let file = File { name: "f".into(), sha256: [0; 32] };
        let text = String::from_utf8(statement("m", &[file])).unwrap();
        // SHA-256 over 32 zero bytes.
        let digest = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
        let zeros = "0".repeat(64);
        let expected = [
            r#"{"_type":"https://in-toto.io/Statement/v1","predicate":{"resources":[{"algorithm":"sha256","digest":""#,
            &zeros,
            r#"","name":"f"}],"serialization":{"allow_symlinks":false,"hash_type":"sha256","ignore_paths":[],"#,
            r#""method":"files"}},"predicateType":"https://model_signing/signature/v1.0","#,
            r#""subject":[{"digest":{"sha256":""#,
            digest,
            r#""},"name":"m"}]}"#,
        ];
        assert_eq!(text, expected.concat());
    }
}
