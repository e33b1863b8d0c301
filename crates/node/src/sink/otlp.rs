//! A sink that exports to a collector of OpenTelemetry: OTLP over HTTP, in JSON.
//!
//! Summaries and readings become points of gauges; everything else a log record, and its numbers points too. A request that the
//! collector will never take (400) is left out and told, and so is what it says that it left out of one that it took; one that is too large
//! is sent in halves. Everything else is tried again.

mod shape;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::{Client, StatusCode};
use wire::id::NodeId;

use self::shape::Point;
use super::feed::Feed;
use super::pass::Sink;
use super::post::{authorization, client, first_bytes, later_s, plain};
use super::trouble::SinkError;
use crate::why::why;

/// Points are sent once there are so many.
const POINTS: usize = 2_000;
/// What is read of an answer.
const ANSWER_BYTES: usize = 4_096;

/// Which collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpSettings {
    /// Its address, without `/v1/logs`.
    pub url: String,
    /// The file with a token that is shown as `Authorization: Bearer`.
    pub token_file: Option<PathBuf>,
    /// One request may take so long.
    pub timeout: Duration,
}

/// Exports.
pub struct Otlp {
    settings: OtlpSettings,
    /// Of the group under way: records whose logs the collector has. If the rest fails, these are not sent again.
    logged: BTreeSet<String>,
    left_out: u64,
}

/// What is sent to one of the two addresses.
trait Signal: Sized {
    const PATH: &'static str;
    fn request(node: &NodeId, all: &[Self]) -> Vec<u8>;
    /// By which it is sent once, however often the rest of its group fails; a point that comes twice is the same point.
    fn once(&self) -> Option<&str> {
        None
    }
}

/// A log record, and the id of the record that it is made of.
struct Log {
    id: String,
    log: serde_json::Value,
}

impl Signal for Log {
    const PATH: &'static str = "v1/logs";
    fn request(node: &NodeId, all: &[Self]) -> Vec<u8> {
        shape::logs_request(node, all.iter().map(|it| &it.log))
    }
    fn once(&self) -> Option<&str> {
        Some(&self.id)
    }
}

impl Signal for Point {
    const PATH: &'static str = "v1/metrics";
    fn request(node: &NodeId, all: &[Self]) -> Vec<u8> {
        shape::metrics_request(node, all)
    }
}

/// What came of a request.
enum Told {
    Taken,
    /// It was taken but for so many.
    Partly(u64, String),
    TooLarge(String),
    Refused(String),
}

/// Where requests go.
struct Collector {
    client: Client,
    url: String,
    authorization: Option<HeaderValue>,
}

impl Otlp {
    /// A sink.
    pub fn new(settings: OtlpSettings) -> Otlp {
        Otlp { settings, logged: BTreeSet::new(), left_out: 0 }
    }

    async fn pass(&mut self, feed: &mut Feed) -> Result<(), SinkError> {
        let OtlpSettings { url, token_file, timeout } = &self.settings;
        let collector = Collector {
            client: client(*timeout)?,
            url: url.trim_end_matches('/').to_owned(),
            authorization: authorization(token_file.as_deref())?,
        };
        while let Some(group) = feed.next().await? {
            let fresh = group
                .items
                .iter()
                .filter(|item| !shape::is_numbers(&item.kind) && !self.logged.contains(&item.id));
            let logs: Vec<Log> =
                fresh.map(|item| Log { id: item.id.clone(), log: shape::log(item) }).collect();
            self.send(&collector, &logs, feed).await?;
            let mut points = Vec::new();
            for item in &group.items {
                points.extend(shape::points(item));
                if points.len() >= POINTS {
                    self.send(&collector, &points, feed).await?;
                    points.clear();
                }
            }
            self.send(&collector, &points, feed).await?;
            self.logged.clear();
            feed.done(group)?;
        }
        Ok(())
    }

    /// Sends all of them, in as few requests as the collector takes.
    async fn send<S: Signal>(
        &mut self,
        collector: &Collector,
        all: &[S],
        feed: &mut Feed,
    ) -> Result<(), SinkError> {
        let mut waiting = vec![all];
        while let Some(some) = waiting.pop() {
            if some.is_empty() {
                continue;
            }
            let told = collector.post(S::PATH, S::request(feed.node(), some)).await?;
            if !matches!(told, Told::TooLarge(_)) {
                self.logged.extend(some.iter().filter_map(S::once).map(str::to_owned));
            }
            let (count, why) = match told {
                Told::Taken => {
                    feed.tell("running", format!("{} takes records", collector.url));
                    continue;
                }
                Told::TooLarge(_) if some.len() > 1 => {
                    let (first, second) = some.split_at(some.len() / 2);
                    waiting.extend([second, first]);
                    continue;
                }
                Told::Partly(count, why) => (count, why),
                Told::TooLarge(why) | Told::Refused(why) => (some.len() as u64, why),
            };
            self.left_out += count;
            let left_out = self.left_out;
            tracing::warn!(sink = %feed.name(), count, why, left_out, "a collector refused some for good");
            feed.tell("failed", format!("{count} refused for good at {} and left out: {why}", S::PATH));
        }
        Ok(())
    }
}

impl Collector {
    async fn post(&self, path: &str, body: Vec<u8>) -> Result<Told, SinkError> {
        let mut post = self
            .client
            .post(format!("{}/{path}", self.url))
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("selvedge/", env!("CARGO_PKG_VERSION")))
            .body(body);
        if let Some(authorization) = &self.authorization {
            post = post.header(AUTHORIZATION, authorization);
        }
        let answer = post.send().await.map_err(|error| SinkError::Outside(why(&error.without_url())))?;
        let (status, later) = (answer.status(), later_s(answer.headers()));
        let said = first_bytes(answer, ANSWER_BYTES).await;
        if status.is_success() {
            return Ok(shape::left_out(&said).map_or(Told::Taken, |(count, why)| Told::Partly(count, why)));
        }
        let word: String = plain(&said).chars().take(300).collect();
        let why = format!("it answered {status}{}{word}", if word.is_empty() { "" } else { ": " });
        match (status, later) {
            (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, _) => Ok(Told::Refused(why)),
            (StatusCode::PAYLOAD_TOO_LARGE, _) => Ok(Told::TooLarge(why)),
            (_, Some(seconds)) => Err(SinkError::Later { why, seconds }),
            (_, None) => Err(SinkError::Outside(why)),
        }
    }
}

impl Sink for Otlp {
    fn run(&mut self, feed: &mut Feed) -> Result<(), SinkError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SinkError::Runtime)?;
        runtime.block_on(self.pass(feed))
    }
}
