//! What a running node says of itself: its local API, asked for its state.

use std::time::Duration;

use anyhow::Context as _;
use node::config::Config;
use node::config::token::read_token;
use reqwest::Client;
use serde_json::Value;

/// The node answers at once, or is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// The local API of a node.
pub(crate) struct LocalApi {
    client: Client,
    url: String,
    token: Option<String>,
}

impl LocalApi {
    /// The one that a node's settings name.
    pub(crate) fn of(config: &Config) -> anyhow::Result<LocalApi> {
        let api = config.api.as_ref().with_context(|| {
            format!("{} has no [api]: add one, and `listen = \"127.0.0.1:8421\"`", config.file.display())
        })?;
        Ok(LocalApi {
            client: Client::builder().timeout(PATIENCE).no_proxy().build()?,
            url: format!("http://{}/v1/state", api.listen),
            token: api.token_file.as_deref().map(read_token).transpose()?,
        })
    }

    /// Asks for the state of the node, whatever it is called in its version.
    pub(crate) async fn state(&self) -> anyhow::Result<Value> {
        let url = &self.url;
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut answer =
            request.send().await.with_context(|| format!("no node answers at {url}: is it running?"))?;
        if !answer.status().is_success() {
            anyhow::bail!("the node at {url} refused: {}", answer.status());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            anyhow::ensure!(
                body.len() + chunk.len() <= ANSWER_MAX_BYTES,
                "the node says more than it should"
            );
            body.extend_from_slice(&chunk);
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
