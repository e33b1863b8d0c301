//! The calls about identity: small JSON both ways, bounded in time and size, to the hub and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wire::identity::BODY_MAX_BYTES;

use crate::identity::tls;
use crate::via::{Begun, Via};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);

/// The most characters that are kept of what a hub says.
const WHY_MAX: usize = 300;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not an address of a nodes' door.
    #[error("{url:?} is no address of a hub's door for nodes; it reads like https://hub.example:8421")]
    Address {
        /// What was given.
        url: String,
    },
    /// No connection, or with somebody else.
    #[error("{host} cannot be reached, or is not the hub that was meant ({why})")]
    Unreachable {
        /// Who.
        host: String,
        /// Why.
        why: String,
    },
    /// The hub says no.
    #[error("the hub refuses: {message} ({code}, status {status}); {mend}")]
    Refused {
        /// Of the answer.
        status: u16,
        /// The hub's word.
        code: String,
        /// In sentences.
        message: String,
        /// What it says is to be done.
        mend: String,
    },
    /// It says something else.
    #[error("the hub's answer cannot be read ({why}); is its program of a version that fits this one?")]
    BadAnswer {
        /// Why.
        why: String,
    },
}

/// A hub's refusal.
#[derive(Deserialize)]
struct Refusal {
    error: Why,
}

#[derive(Deserialize)]
struct Why {
    code: String,
    message: String,
    mend: String,
}

/// A hub, over TLS with these settings.
pub(crate) struct Caller {
    client: Client,
    base: Url,
    via: Option<Arc<Via>>,
}

impl Caller {
    /// `url` is `https://host:port`. `via`: the relays on the way.
    pub(crate) fn new(url: &str, tls: ClientConfig, via: Option<Arc<Via>>) -> Result<Caller, CallError> {
        let bad = || CallError::Address { url: url.to_owned() };
        let base = Url::parse(url.trim()).map_err(|_| bad())?;
        if base.scheme() != "https" || !base.has_host() {
            return Err(bad());
        }
        let client = tls::client(Client::builder(), tls, via.as_ref())
            .user_agent(concat!("selvedge-node/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build();
        let client = client.map_err(|error| CallError::BadAnswer { why: deepest(&error) })?;
        Ok(Caller { client, base, via })
    }

    /// Asks and hears.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        ask: &impl Serialize,
    ) -> Result<T, CallError> {
        read(&self.post_for(path, ask).await?.1)
    }

    /// Asks, and hears which success it is, too.
    pub(crate) async fn post_for(
        &self,
        path: &str,
        ask: &impl Serialize,
    ) -> Result<(StatusCode, Vec<u8>), CallError> {
        let body = serde_json::to_vec(ask).map_err(|error| bad(error.to_string()))?;
        let request = self.client.post(self.at(path)?).header(CONTENT_TYPE, "application/json");
        self.hear(request.body(body)).await
    }

    /// Asks with a header and without a body.
    pub(crate) async fn get(
        &self,
        path: &str,
        header: (&str, &str),
    ) -> Result<(StatusCode, Vec<u8>), CallError> {
        self.hear(self.client.get(self.at(path)?).header(header.0, header.1)).await
    }

    fn at(&self, path: &str) -> Result<Url, CallError> {
        self.base.join(path).map_err(|error| bad(error.to_string()))
    }

    async fn hear(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), CallError> {
        let host = || self.base.host_str().unwrap_or_default().to_owned();
        let begun = Begun::on(self.via.as_ref());
        let away = |error: reqwest::Error| CallError::Unreachable {
            host: host(),
            why: begun.failed(&error, deepest(&error)),
        };
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let mut said = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if said.len() + chunk.len() > BODY_MAX_BYTES {
                return Err(bad(format!("it has more than {BODY_MAX_BYTES} bytes")));
            }
            said.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok((status, said));
        }
        match serde_json::from_slice::<Refusal>(&said) {
            Ok(Refusal { error: Why { code, message, mend } }) => Err(CallError::Refused {
                status: status.as_u16(),
                code: plain(&code),
                message: plain(&message),
                mend: plain(&mend),
            }),
            Err(_) => Err(bad(format!("status {}", status.as_u16()))),
        }
    }
}

fn bad(why: String) -> CallError {
    CallError::BadAnswer { why }
}

/// What a hub said.
pub(crate) fn read<T: DeserializeOwned>(said: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(said).map_err(|error| bad(error.to_string()))
}

/// A stranger's words, fit for a line on a terminal.
fn plain(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WHY_MAX).collect()
}

/// The deepest cause says more than "error sending request".
fn deepest(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    plain(&cause.to_string())
}
