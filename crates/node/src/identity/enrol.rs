//! Coming in: a code in, a certificate out. The key is made here and stays here.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::pki_types::CertificateDer;
use wire::id::NodeId;
use wire::identity::{Code, ENROL_PATH, EnrolAnswer, EnrolAsk};
use wire::world::Entropy;

use crate::identity::call::{CallError, Caller};
use crate::identity::csr::csr;
use crate::identity::files::{Files, FilesError, HubFacts, Life, public_of};
use crate::identity::tls::by_code;
use crate::judged::Judged;

/// Why a node did not come in.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It is in already.
    #[error(
        "this node belongs to {} as {} already; remove {folder} to have it enrol anew", facts.url, facts.node
    )]
    Already {
        /// Where.
        facts: Box<HubFacts>,
        /// The folder of its identity.
        folder: String,
    },
    /// The files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The hub.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The request for a certificate.
    #[error("the request for a certificate could not be made")]
    Csr(#[from] rcgen::Error),
    /// TLS.
    #[error("TLS could not be set up")]
    Tls(#[from] rustls::Error),
    /// The hub's answer is not for this node.
    #[error("the hub's answer is not what was asked for: {0}")]
    Answer(&'static str),
}

/// Enrols this node under `name` at the hub at `url`. If the answer is lost, the same call gets it again.
pub async fn enrol(
    files: &Files,
    url: &str,
    code: &Code,
    name: &NodeId,
    judged: Arc<Judged>,
    entropy: &mut dyn Entropy,
) -> Result<HubFacts, EnrolError> {
    if let Some((facts, _)) = files.open()? {
        let folder = files.folder().display().to_string();
        return Err(EnrolError::Already { facts: Box::new(facts), folder });
    }
    let key = files.next_key(entropy)?;
    let ask = EnrolAsk {
        code: code.to_string(),
        csr: BASE64_STANDARD.encode(csr(&key)?),
        name: Some(name.clone()),
        extra: serde_json::Map::new(),
    };
    let caller = Caller::new(url, by_code(code.clone(), judged)?)?;
    let answer: EnrolAnswer = caller.post(ENROL_PATH, &ask).await?;
    let der = |text: &str| BASE64_STANDARD.decode(text).map(CertificateDer::from).ok();
    let certificate =
        der(&answer.certificate).filter(|leaf| public_of(leaf).as_deref() == Some(key.public()));
    let certificate = certificate.ok_or(EnrolError::Answer("the certificate is for another key"))?;
    let is_meant = |authority: &CertificateDer<'static>| {
        public_of(authority).is_some_and(|public| code.is_authority(&public))
    };
    if !der(&answer.authority).as_ref().is_some_and(is_meant) {
        return Err(EnrolError::Answer("the authority is not the one that the code names"));
    }
    if answer.node != *name {
        return Err(EnrolError::Answer("the name is another one"));
    }
    let facts = HubFacts {
        url: url.trim().trim_end_matches('/').to_owned(),
        node: answer.node,
        authority: answer.authority,
        time_key: answer.time_key,
    };
    let life = Life { not_before_ms: answer.not_before_ms, not_after_ms: answer.not_after_ms };
    files.take(&certificate, life, Some(&facts))?;
    Ok(facts)
}
