//! Answers as they come: server-sent events, one stream for each order.
//!
//! A stream is polled by its connection, so a client that reads slowly or goes away slows or ends its own answer and
//! nothing else. While nothing happens a comment goes out now and then, so that nobody on the way thinks it is dead.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde_json::Value;
use tokio::time::timeout;

use super::order::{Heard, Order};
use super::problem::Problem;

/// How long nothing may go out.
const SILENCE: Duration = Duration::from_secs(10);

/// Events on their way out, as text.
#[derive(Default)]
pub(super) struct Frames(String);

impl Frames {
    /// An event without a name.
    pub(super) fn data(&mut self, value: &Value) {
        self.0.push_str("data: ");
        self.0.push_str(&value.to_string());
        self.0.push_str("\n\n");
    }

    /// An event with a name.
    pub(super) fn event(&mut self, name: &str, value: &Value) {
        self.0.push_str("event: ");
        self.0.push_str(name);
        self.0.push('\n');
        self.data(value);
    }

    /// What chat and completions end with.
    pub(super) fn done(&mut self) {
        self.0.push_str("data: [DONE]\n\n");
    }
}

/// Tells an order in the words of an endpoint.
pub(super) trait Scribe: Send + 'static {
    /// Before anything is written.
    fn begin(&mut self, order: &Order, out: &mut Frames);
    /// Something was written.
    fn heard(&mut self, order: &Order, heard: Heard, out: &mut Frames);
    /// All answers are whole.
    fn end(&mut self, order: &Order, out: &mut Frames);
    /// It goes no further.
    fn broken(&mut self, order: &Order, problem: &Problem, out: &mut Frames);
}

/// Where a stream stands.
enum Stand {
    Begin,
    Goes,
    Over,
}

/// The answer to a request: `order` as `scribe` tells it.
pub(super) fn stream(order: Order, scribe: impl Scribe) -> Response {
    let body = futures_util::stream::unfold(
        (order, scribe, Stand::Begin),
        |(mut order, mut scribe, stand)| async move {
            let mut frames = Frames::default();
            let stand = match stand {
                Stand::Over => return None,
                Stand::Begin => {
                    scribe.begin(&order, &mut frames);
                    Stand::Goes
                }
                Stand::Goes => go(&mut order, &mut scribe, &mut frames).await,
            };
            let bytes = Bytes::from(frames.0);
            Some((Ok::<_, std::convert::Infallible>(bytes), (order, scribe, stand)))
        },
    );
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold it back to fill a buffer.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// One turn of a stream that has begun: waits until there is something to tell.
async fn go(order: &mut Order, scribe: &mut impl Scribe, frames: &mut Frames) -> Stand {
    loop {
        match timeout(SILENCE, order.next()).await {
            Err(_) => frames.0.push_str(": still here\n\n"),
            Ok(Ok(Some(heard))) => scribe.heard(order, heard, frames),
            Ok(Ok(None)) => {
                scribe.end(order, frames);
                return Stand::Over;
            }
            Ok(Err(problem)) => {
                scribe.broken(order, &problem, frames);
                return Stand::Over;
            }
        }
        if !frames.0.is_empty() {
            return Stand::Goes;
        }
    }
}
