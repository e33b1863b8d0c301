//! Talking with a hub's API as an operator: an address, a token, JSON both ways.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Client, Method, RequestBuilder, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

/// How long one answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The largest answer.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// Which hub, and who asks it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HubArgs {
    /// The hub's address.
    #[arg(long, value_name = "URL", env = "SELVEDGE_HUB", default_value = "http://127.0.0.1:8420")]
    pub(crate) hub: Url,

    /// A file with your token for the hub.
    #[arg(long, value_name = "FILE", env = "SELVEDGE_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl HubArgs {
    /// Ready to ask.
    pub(crate) fn client(&self) -> anyhow::Result<HubClient> {
        let token = self.token_file.as_deref().map(read_token).transpose()?;
        let client = Client::builder().timeout(ANSWER_TIME).build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(HubClient { base: self.hub.clone(), token, client, runtime })
    }
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.trim().to_owned())
}

/// Asks one hub.
#[derive(Debug)]
pub(crate) struct HubClient {
    base: Url,
    token: Option<String>,
    client: Client,
    runtime: Runtime,
}

/// What a hub says when it does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("the hub says: {message}; {mend}")]
pub(crate) struct Refused {
    /// A word for programs.
    pub(crate) code: String,
    message: String,
    mend: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Why,
}

#[derive(Deserialize)]
struct Why {
    code: String,
    message: String,
    mend: String,
}

impl HubClient {
    /// Asks for `path`.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(self.request(Method::GET, path)?)
    }

    /// Sends JSON to `path`; what the hub answers, or null.
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path)?.header("content-type", "application/json");
        self.ask(request.body(serde_json::to_vec(body)?))
    }

    /// Puts JSON, as it is, to `path`.
    pub(crate) fn put(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        self.ask(self.request(Method::PUT, path)?.header("content-type", "application/json").body(body))
    }

    /// Waits, as long as nobody interrupts.
    pub(crate) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(time) => Ok(()),
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; the rollout goes on without us"),
            }
        })
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let request = self.client.request(method, self.base.join(path)?);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    fn ask(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let (status, body) = self.runtime.block_on(answer(request)).with_context(|| {
            format!("the hub at {} does not answer: is it running? --hub says where it is", self.base)
        })?;
        if let Ok(ErrorBody { error }) = serde_json::from_slice::<ErrorBody>(&body) {
            return Err(Refused { code: error.code, message: error.message, mend: error.mend }.into());
        }
        anyhow::ensure!(status.is_success(), "{} answers {status}: is that a hub?", self.base);
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| format!("{} does not answer as a hub", self.base))
    }
}

async fn answer(request: RequestBuilder) -> anyhow::Result<(reqwest::StatusCode, Vec<u8>)> {
    let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        body.extend_from_slice(&piece);
        anyhow::ensure!(body.len() <= ANSWER_MAX_BYTES, "the answer has more than {ANSWER_MAX_BYTES} bytes");
    }
    Ok((answer.status(), body))
}
