//! The provider over HTTP: where its doors are, which keys it signs with, and the proof that a code is worth.
//!
//! What it publishes is kept for an hour; keys are asked for again where a token names one that is not known, at most every
//! ten seconds, so that nobody has us knock at it for each bad token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wire::world::WallMs;
use zeroize::Zeroizing;

use crate::config::people::OidcConfig;

/// How long one answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The largest answer.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// How long what the provider publishes is kept.
const FRESH_MS: i64 = 3_600_000;
/// How soon keys may be asked for again.
const PAUSE_MS: i64 = 10_000;
/// The most keys that a provider may have.
const KEYS_MAX: usize = 100;

/// Why the provider is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer.
    #[error("the provider {0} does not answer as one")]
    Away(String, #[source] reqwest::Error),
    /// It answers too much.
    #[error("the provider {0} answers too much")]
    TooLarge(String),
    /// It says something else.
    #[error("what the provider {0} says cannot be read")]
    Unreadable(String, #[source] serde_json::Error),
    /// It is another one.
    #[error("the provider calls itself {0:?}, which is not the issuer in the hub's config")]
    OtherIssuer(String),
    /// One of its doors is no address, or not one over TLS.
    #[error("the provider names {0:?} as one of its addresses, which is none over https")]
    Address(String),
    /// It takes no code.
    #[error("the provider does not take the code that it gave: {0}")]
    Code(String),
    /// The client that asks it cannot be made.
    #[error("no client can be made")]
    Client(#[source] reqwest::Error),
}

/// Where a provider's doors are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    issuer: String,
    /// Where people sign in.
    pub authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// Something, and when it was fetched.
type Kept<T> = Mutex<Option<(WallMs, Arc<T>)>>;

/// A provider.
#[derive(Debug)]
pub struct Provider {
    config: OidcConfig,
    secret: Option<Zeroizing<String>>,
    client: Client,
    metadata: Kept<Metadata>,
    keys: Kept<Vec<Jwk>>,
}

impl Provider {
    /// The one of the config; nothing is asked yet.
    pub fn new(config: OidcConfig, secret: Option<Zeroizing<String>>) -> Result<Provider, ProviderError> {
        let client = Client::builder()
            .user_agent(concat!("selvedge-hub/", env!("CARGO_PKG_VERSION")))
            .timeout(ANSWER_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(ProviderError::Client)?;
        Ok(Provider { config, secret, client, metadata: Mutex::default(), keys: Mutex::default() })
    }

    /// What the hub's config says of it.
    pub fn config(&self) -> &OidcConfig {
        &self.config
    }

    /// Where its doors are.
    pub async fn metadata(&self, now_ms: WallMs) -> Result<Arc<Metadata>, ProviderError> {
        if let Some(known) = fresh(&self.metadata, now_ms, FRESH_MS) {
            return Ok(known);
        }
        let issuer = self.config.issuer.trim_end_matches('/');
        let address = format!("{issuer}/.well-known/openid-configuration");
        let found: Metadata = self.read(self.client.get(over_tls(&address)?)).await?;
        if found.issuer != self.config.issuer {
            return Err(ProviderError::OtherIssuer(found.issuer.chars().take(200).collect()));
        }
        for address in [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri] {
            over_tls(address)?;
        }
        Ok(keep(&self.metadata, found, now_ms))
    }

    /// The keys that it signs with.
    pub async fn keys(&self, now_ms: WallMs) -> Result<Arc<Vec<Jwk>>, ProviderError> {
        match fresh(&self.keys, now_ms, FRESH_MS) {
            Some(known) => Ok(known),
            None => self.fetch_keys(now_ms).await,
        }
    }

    /// The keys that it signs with now, unless they were asked for just now.
    pub async fn newer_keys(&self, now_ms: WallMs) -> Result<Arc<Vec<Jwk>>, ProviderError> {
        match fresh(&self.keys, now_ms, PAUSE_MS) {
            Some(known) => Ok(known),
            None => self.fetch_keys(now_ms).await,
        }
    }

    async fn fetch_keys(&self, now_ms: WallMs) -> Result<Arc<Vec<Jwk>>, ProviderError> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let address = over_tls(&self.metadata(now_ms).await?.jwks_uri)?;
        let published: Published = self.read(self.client.get(address)).await?;
        // A key of a kind that is not known here is nobody's fault, and no use.
        let keys = published.keys.into_iter().take(KEYS_MAX);
        let keys = keys.filter_map(|key| serde_json::from_value(key).ok()).collect();
        Ok(keep(&self.keys, keys, now_ms))
    }

    /// Gives a code for the proof of who somebody is.
    pub async fn redeem(&self, code: &str, verifier: &str, now_ms: WallMs) -> Result<String, ProviderError> {
        #[derive(Deserialize)]
        struct Redeemed {
            id_token: Option<String>,
            error: Option<String>,
        }
        let metadata = self.metadata(now_ms).await?;
        let redirect = self.config.redirect();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &redirect),
            ("code_verifier", verifier),
            ("client_id", &self.config.client_id),
        ];
        let mut request = self.client.post(over_tls(&metadata.token_endpoint)?);
        let methods = &metadata.token_endpoint_auth_methods_supported;
        // Unless told otherwise, the secret stands in a header.
        let in_header = methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic");
        match &self.secret {
            Some(secret) if in_header => {
                let encoded = |text: &str| url_encoded(&[("", text)]).trim_start_matches('=').to_owned();
                request = request.basic_auth(encoded(&self.config.client_id), Some(encoded(secret)));
            }
            Some(secret) => form.push(("client_secret", secret)),
            None => {}
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let redeemed: Redeemed = self.read(request.body(url_encoded(&form))).await?;
        redeemed.id_token.ok_or_else(|| {
            let said = redeemed.error.unwrap_or_else(|| "there is no id_token in its answer".to_owned());
            ProviderError::Code(said.chars().filter(|c| !c.is_control()).take(100).collect())
        })
    }

    /// Asks, and reads JSON whatever the status.
    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ProviderError> {
        let who = || self.config.issuer.clone();
        let away = |error: reqwest::Error| ProviderError::Away(who(), error.without_url());
        let mut answer = request.header("accept", "application/json").send().await.map_err(away)?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(away)? {
            if body.len() + piece.len() > ANSWER_MAX_BYTES {
                return Err(ProviderError::TooLarge(who()));
            }
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body).map_err(|error| ProviderError::Unreadable(who(), error))
    }
}

fn fresh<T>(kept: &Kept<T>, now_ms: WallMs, life_ms: i64) -> Option<Arc<T>> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let (at_ms, known) = kept.as_ref()?;
    (0..life_ms).contains(&(now_ms - at_ms)).then(|| known.clone())
}

fn keep<T>(kept: &Kept<T>, found: T, now_ms: WallMs) -> Arc<T> {
    let found = Arc::new(found);
    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((now_ms, found.clone()));
    found
}

/// An address over TLS, or on this machine.
fn over_tls(address: &str) -> Result<Url, ProviderError> {
    let bad = || ProviderError::Address(address.chars().take(200).collect());
    let url = Url::parse(address).map_err(|_| bad())?;
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        _ => Err(bad()),
    }
}

/// An address with more behind its question mark.
pub fn with_query(address: &str, asks: &[(&str, &str)]) -> Result<String, ProviderError> {
    let mut url = over_tls(address)?;
    url.query_pairs_mut().extend_pairs(asks);
    Ok(url.into())
}

/// As a form has it.
fn url_encoded(pairs: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse("https://form/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}
