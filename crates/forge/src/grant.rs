//! Lets nodes open what was sealed before they were known: grants for them, and the way of grants to a hub.
//!
//! Stands beside `pack`, which grants the nodes it is told of. The content key of a file grows from the key that it was sealed
//! with and from the salt in its header, so nothing but that key need be kept.

use std::time::Duration;

use package::name::VariantName;
use package::seal::content::SealKey;
use package::seal::hybrid::NodePublic;
use package::seal::stream::{SealError, content_key};
use package::seal::wrap::{self, Grant, wrap};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, Response, Url};
use serde_json::Value;
use tokio::time::sleep;
use wire::world::Entropy;

use crate::parcel::{Entry, Parcel, ParcelError};

/// How long a hub may take for a grant.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How often a hub that is busy is asked again.
const TRIES: u32 = 5;

/// The most that is read of a refusal.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// The most of it that is shown, in characters.
const WHY_MAX: usize = 300;

/// Nodes that could not be let in.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The package.
    #[error(transparent)]
    Parcel(#[from] ParcelError),
    /// Nothing to open.
    #[error("{name} is not sealed: every node can read it")]
    Plain {
        /// The release.
        name: String,
    },
    /// Sealed with another key, or damaged.
    #[error("the weights of {variant} cannot be granted with this key")]
    Seal {
        /// Which variant.
        variant: VariantName,
        /// Why.
        source: SealError,
    },
    /// Too short to be sealed at all.
    #[error("the weights of {variant} are cut off: get the package again")]
    Short {
        /// Which variant.
        variant: VariantName,
    },
    /// A key that cannot be granted anything.
    #[error("the node key {to} cannot be granted anything: is it what `selvedge trust key node` wrote?")]
    Node {
        /// Which.
        to: String,
        /// Why.
        source: wrap::GrantError,
    },
    /// HTTP cannot be set up.
    #[error("no secure connection can be made; are ca-certificates installed?")]
    Setup(#[source] reqwest::Error),
    /// The hub cannot be reached.
    #[error("the hub at {host} cannot be reached; is the address right?")]
    Unreachable {
        /// Where.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The hub says no.
    #[error("the hub at {host} does not take a grant (status {status}): {why}")]
    Refused {
        /// Where.
        host: String,
        /// The status.
        status: u16,
        /// The beginning of what it says.
        why: String,
    },
}

/// Grants for nodes, for each sealed file of a release that was sealed with `key`.
pub fn grants(
    parcel: &Parcel,
    entry: &Entry,
    key: &SealKey,
    to: &[NodePublic],
    chance: &mut dyn Entropy,
) -> Result<Vec<Grant>, GrantError> {
    let sealed = parcel.sealed(entry)?;
    if sealed.is_empty() {
        return Err(GrantError::Plain { name: entry.name() });
    }
    let mut grants = Vec::new();
    for file in sealed {
        let variant = || file.variant.clone();
        let digest = file.weights.digest;
        let found = parcel.seal_header(&digest)?;
        let (header, size) = found.ok_or_else(|| GrantError::Short { variant: variant() })?;
        let content = content_key(key, &header, size);
        let content = content.map_err(|source| GrantError::Seal { variant: variant(), source })?;
        for node in to {
            let grant = wrap(&content, digest, node, chance);
            let failed = |source| GrantError::Node { to: node.id().to_string(), source };
            grants.push(grant.map_err(failed)?);
        }
    }
    Ok(grants)
}

/// Gives grants to a hub, which hands each to the node that it is for. `token`: the hub's, if it has one;
/// `authorities`: whom to believe about the hub, beside the system's.
pub async fn send(
    hub: &Url,
    token: Option<&str>,
    authorities: Vec<Certificate>,
    grants: &[Grant],
) -> Result<(), GrantError> {
    let client = Client::builder().timeout(ANSWER_TIME).tls_certs_merge(authorities);
    let client = client.build().map_err(GrantError::Setup)?;
    let host = || hub.host_str().unwrap_or_default().to_owned();
    for grant in grants {
        let mut url = hub.clone();
        url.set_path(&format!("/api/v1/grants/{}/{}", grant.sealed(), grant.to()));
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let request = client.put(url.clone()).header(CONTENT_TYPE, "application/json");
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            match request.body(grant.to_bytes()).send().await {
                Ok(answer) if answer.status().as_u16() != 503 || tries == TRIES => break answer,
                Err(source) if tries == TRIES || source.is_connect() => {
                    return Err(GrantError::Unreachable { host: host(), source: source.without_url() });
                }
                Ok(_) | Err(_) => sleep(Duration::from_secs(2)).await,
            }
        };
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            return Err(GrantError::Refused { host: host(), status, why: why(answer).await });
        }
    }
    Ok(())
}

/// What a hub says of a refusal.
async fn why(mut answer: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_MAX_BYTES {
            break;
        }
    }
    let said: Option<Value> = serde_json::from_slice(&body).ok();
    let said = said.as_ref().and_then(|said| said["error"]["message"].as_str());
    let said = said.unwrap_or("it does not say why");
    said.chars().filter(|c| !c.is_control()).take(WHY_MAX).collect()
}
