//! Coming in: a code, or the certificate of the device's maker, in; a certificate out. The key is made here and stays here.
//!
//! Where a person looks first, the hub gives a ticket, and the node asks again until somebody has said yes or no.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::StatusCode;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use wire::facts::Facts;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::identity::{
    Code, ENROL_PATH, EnrolAnswer, EnrolAsk, NoCode, PROOF_HEADER, TicketAnswer, ticket_path,
};
use wire::world::Entropy;

use crate::config::EnrolBy;
use crate::identity::call::{CallError, Caller, read};
use crate::identity::csr::csr;
use crate::identity::files::{Files, FilesError, HubFacts, Life, public_of};
use crate::identity::tls::{by_code, by_maker};
use crate::judged::Judged;
use crate::via::Via;

/// The largest file that says how one comes in.
const FILE_MAX_BYTES: u64 = 64 << 10;

/// The longest that a hub may have a node wait before it asks again, in seconds.
const RETRY_MAX_S: u32 = 3600;

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
    /// A file that says how it comes in cannot be read.
    #[error("cannot read {}", path.display())]
    Way {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no code in it.
    #[error("{} holds no code that could let this node in", path.display())]
    NoCode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NoCode,
    },
    /// There is no certificate or key in it.
    #[error("{} holds no certificate or key in PEM", path.display())]
    NoPem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
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
    /// The hub gave it another name.
    #[error(
        "the hub calls this node {given}, and its settings say {configured}: write `name = \"{given}\"` there, and enrol again"
    )]
    OtherName {
        /// The hub's name.
        given: NodeId,
        /// Its own.
        configured: NodeId,
    },
}

/// By what a node comes in.
#[derive(Debug)]
pub enum Way {
    /// A code or a token.
    Code(Code),
    /// The certificate that its maker gave it.
    Maker {
        /// The certificate with its key.
        shown: Arc<CertifiedKey>,
        /// The authority of the one hub that is meant.
        authority: CertificateDer<'static>,
    },
}

impl Way {
    /// Reads the files that the node's settings name.
    pub fn open(by: &EnrolBy) -> Result<Way, EnrolError> {
        match by {
            EnrolBy::Code(path) => {
                let text = String::from_utf8(bytes(path)?).unwrap_or_default();
                let line = text.lines().next().unwrap_or_default();
                let no_code = |source| EnrolError::NoCode { path: path.clone(), source };
                Code::parse(line).map(Way::Code).map_err(no_code)
            }
            EnrolBy::Maker { certificate, key, authority } => {
                let no_pem = |path: &PathBuf| {
                    let path = path.clone();
                    move |source| EnrolError::NoPem { path, source }
                };
                let chain =
                    CertificateDer::pem_slice_iter(&bytes(certificate)?).collect::<Result<Vec<_>, _>>();
                let chain = chain.map_err(no_pem(certificate))?;
                let secret = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(no_pem(key))?;
                let root = CertificateDer::from_pem_slice(&bytes(authority)?).map_err(no_pem(authority))?;
                let signer = aws_lc_rs::sign::any_supported_type(&secret)?;
                let shown = CertifiedKey::new(chain, signer);
                shown.keys_match()?;
                Ok(Way::Maker { shown: Arc::new(shown), authority: root.into_owned() })
            }
        }
    }

    fn is_authority(&self, public: &[u8]) -> bool {
        match self {
            Way::Code(code) => code.is_authority(public),
            Way::Maker { authority, .. } => public_of(authority).as_deref() == Some(public),
        }
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, EnrolError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX_BYTES).read_to_end(&mut bytes));
    read.map_err(|source| EnrolError::Way { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// A person at the hub looks first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// Its ticket there.
    pub ticket: String,
    /// SHA-256 of this node's public key: the person sees the same.
    pub key: Hash,
}

/// Who comes in.
#[derive(Debug)]
pub struct Comer<'a> {
    /// Where its identity will be.
    pub files: &'a Files,
    /// The hub's door for nodes.
    pub url: &'a str,
    /// What it is called.
    pub name: &'a NodeId,
    /// What it says of itself to the person who looks.
    pub facts: &'a Facts,
    /// The time, as far as it is known.
    pub judged: Arc<Judged>,
    /// The relays on the way to the hub, if there are any.
    pub via: Option<Arc<Via>>,
}

/// Has a node come in. If the answer is lost, the same call gets it again. Where a person looks first, `waits` hears so once,
/// and this returns when they have said something.
pub async fn enrol(
    comer: &Comer<'_>,
    way: &Way,
    entropy: &mut dyn Entropy,
    waits: impl FnOnce(&Waits),
) -> Result<HubFacts, EnrolError> {
    let Comer { files, url, name, facts, judged, via } = comer;
    if let Some((facts, _)) = files.open()? {
        let folder = files.folder().display().to_string();
        return Err(EnrolError::Already { facts: Box::new(facts), folder });
    }
    let key = files.next_key(entropy)?;
    let request = BASE64_STANDARD.encode(csr(&key)?);
    let (settings, code) = match way {
        Way::Code(code) => (by_code(code.clone(), judged.clone())?, Some(code.to_string())),
        Way::Maker { shown, authority } => {
            (by_maker(shown.clone(), authority.clone(), judged.clone())?, None)
        }
    };
    let ask = EnrolAsk {
        code,
        csr: request.clone(),
        name: Some((*name).clone()),
        facts: (*facts).clone(),
        extra: serde_json::Map::new(),
    };
    let caller = Caller::new(url, settings, via.clone())?;
    let mut heard = caller.post_for(ENROL_PATH, &ask).await?;
    let mut waits = Some(waits);
    while heard.0 == StatusCode::ACCEPTED {
        let TicketAnswer { ticket, retry_s, .. } = read(&heard.1)?;
        if let Some(waits) = waits.take() {
            waits(&Waits { ticket: ticket.clone(), key: Hash::of(key.public()) });
        }
        tokio::time::sleep(Duration::from_secs(retry_s.clamp(1, RETRY_MAX_S).into())).await;
        match caller.get(&ticket_path(&ticket), (PROOF_HEADER, &request)).await {
            Ok(next) => heard = next,
            // Somebody may look for days; a hub that is away in the meantime comes back.
            Err(CallError::Unreachable { .. }) => {}
            Err(CallError::Refused { status: 429 | 500.., .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let answer: EnrolAnswer = read(&heard.1)?;
    let der = |text: &str| BASE64_STANDARD.decode(text).map(CertificateDer::from).ok();
    let certificate =
        der(&answer.certificate).filter(|leaf| public_of(leaf).as_deref() == Some(key.public()));
    let certificate = certificate.ok_or(EnrolError::Answer("the certificate is for another key"))?;
    let is_meant = |authority: &CertificateDer<'static>| {
        public_of(authority).is_some_and(|public| way.is_authority(&public))
    };
    if !der(&answer.authority).as_ref().is_some_and(is_meant) {
        return Err(EnrolError::Answer("the authority is not the one that was meant"));
    }
    if answer.node != **name {
        return Err(EnrolError::OtherName { given: answer.node, configured: (*name).clone() });
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
