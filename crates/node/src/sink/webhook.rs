//! A sink that posts each record to an address, one after the other, until it is taken.
//!
//! `Idempotency-Key` is the record's id: whoever gets it twice takes it once. What the receiver says it will never take (400, 413,
//! 422) is left out and told; everything else is tried again.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::{Client, StatusCode};

use super::choose::Item;
use super::feed::Feed;
use super::pass::Sink;
use super::post::{authorization, client, first_bytes, later_s, plain};
use super::trouble::SinkError;
use crate::why::why;

/// What is read of a refusal.
const ANSWER_BYTES: usize = 300;

/// Where records are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// The address.
    pub url: String,
    /// The file with a token that is shown as `Authorization: Bearer`.
    pub token_file: Option<PathBuf>,
    /// One post may take so long.
    pub timeout: Duration,
}

/// Posts.
pub struct Webhook {
    settings: WebhookSettings,
    left_out: u64,
}

impl Webhook {
    /// A sink.
    pub fn new(settings: WebhookSettings) -> Webhook {
        Webhook { settings, left_out: 0 }
    }

    async fn pass(&mut self, feed: &mut Feed) -> Result<(), SinkError> {
        let client = client(self.settings.timeout)?;
        let authorization = authorization(self.settings.token_file.as_deref())?;
        while let Some(group) = feed.next().await? {
            for item in &group.items {
                if let Some(refusal) = self.post(&client, authorization.as_ref(), item).await? {
                    self.left_out += 1;
                    let left_out = self.left_out;
                    tracing::warn!(sink = %feed.name(), record = item.id, refusal, left_out, "a record was refused for good");
                    feed.tell("failed", format!("{} was refused for good and left out: {refusal}", item.id));
                } else {
                    feed.tell("running", format!("{} takes records", self.settings.url));
                }
                feed.passed(item)?;
            }
            feed.done(group)?;
        }
        Ok(())
    }

    /// Posts one record; gives the receiver's word if it will never take it.
    async fn post(
        &self,
        client: &Client,
        authorization: Option<&HeaderValue>,
        item: &Item,
    ) -> Result<Option<String>, SinkError> {
        let mut post = client
            .post(&self.settings.url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("selvedge/", env!("CARGO_PKG_VERSION")))
            .header("Idempotency-Key", &item.id)
            .body(item.json());
        if let Some(authorization) = authorization {
            post = post.header(AUTHORIZATION, authorization);
        }
        let answer = post.send().await.map_err(|error| SinkError::Outside(why(&error.without_url())))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(None);
        }
        let later = later_s(answer.headers());
        let word = plain(&first_bytes(answer, ANSWER_BYTES).await);
        let why = format!("it answered {status}{}{word}", if word.is_empty() { "" } else { ": " });
        match (status, later) {
            (
                StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY,
                _,
            ) => Ok(Some(why)),
            (_, Some(seconds)) => Err(SinkError::Later { why, seconds }),
            (_, None) => Err(SinkError::Outside(why)),
        }
    }
}

impl Sink for Webhook {
    fn run(&mut self, feed: &mut Feed) -> Result<(), SinkError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SinkError::Runtime)?;
        runtime.block_on(self.pass(feed))
    }
}
