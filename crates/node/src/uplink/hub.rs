//! The hub, as HTTP sees it: three calls, bounded in time and size.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use wire::batch::{self, BatchAnswer};
use wire::checkin::{self, CheckIn, CheckInAnswer};
use wire::id::NodeId;
use wire::world::MonoNs;

use crate::identity::tls::HubTls;
use crate::sync::Failure;
use crate::via::Begun;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that idles so long is closed: ten thousand of them would be what the hub is full of, and a ticket makes the
/// next one cheap.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A held call may come back this much later than it was to be held.
const HELD_LATE: Duration = Duration::from_secs(20);

/// The largest answer to a batch, and the most that is read of a refusal.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// The most characters of a refusal that are kept.
const WHY_MAX: usize = 300;

/// A hub that cannot be called at all, whatever the network does.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// Not an address.
    #[error("{url:?} is not a hub's address ({why}); it reads like http://hub.example:7300")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The address is that of a door for nodes.
    #[error(
        "{url:?} asks for TLS, which is not spoken without a certificate; enrol this node: selvedge node enrol"
    )]
    NoTls {
        /// What was given.
        url: String,
    },
    /// A token that cannot stand in a header.
    #[error("the hub token has a character that cannot be sent; use letters, digits and punctuation")]
    BadToken,
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The hub's calls.
#[derive(Debug)]
pub(crate) struct Hub {
    client: Client,
    check_in: Url,
    records: Url,
    wait: Url,
    bearer: Option<HeaderValue>,
    tls: Option<HubTls>,
}

impl Hub {
    pub(crate) fn new(url: &str, token: Option<&str>, tls: Option<&HubTls>) -> Result<Hub, UplinkError> {
        let bad = |why: String| UplinkError::BadUrl { url: url.to_owned(), why };
        let base = format!("{}/", url.trim().trim_end_matches('/'));
        let base = Url::parse(&base).map_err(|error| bad(error.to_string()))?;
        match base.scheme() {
            "http" => {}
            "https" if tls.is_some() => {}
            "https" => return Err(UplinkError::NoTls { url: url.to_owned() }),
            other => return Err(bad(format!("unknown scheme {other:?}"))),
        }
        let join = |path: &str| base.join(path).map_err(|error| bad(error.to_string()));
        let bearer = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let bearer =
            bearer.transpose().map_err(|_: reqwest::header::InvalidHeaderValue| UplinkError::BadToken)?;
        let client = Client::builder()
            .user_agent(concat!("selvedge-node/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            // A record goes where the operator said, nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE_TIMEOUT);
        let client = match tls {
            Some(tls) => tls.client(client),
            // No TLS here, so no certificates either: reading the system's costs time and memory, and fails where there are none.
            None => client.tls_certs_only([]),
        };
        let client = client.build().map_err(UplinkError::Client)?;
        let (check_in, records, wait) =
            (join("api/v1/checkin")?, join("api/v1/records")?, join("api/v1/wait")?);
        Ok(Hub { client, check_in, records, wait, bearer, tls: tls.cloned() })
    }

    /// Says how the node is.
    pub(crate) async fn check_in(&self, check_in: &CheckIn) -> Result<CheckInAnswer, Failure> {
        let body = serde_json::to_vec(check_in).map_err(|error| bad_answer(&error))?;
        self.call(&self.check_in, "application/json", body, checkin::ANSWER_MAX_BYTES).await
    }

    /// Sends a compressed batch.
    pub(crate) async fn send(&self, batch: Vec<u8>) -> Result<BatchAnswer, Failure> {
        self.call(&self.records, batch::CONTENT_TYPE, batch, ANSWER_MAX_BYTES).await
    }

    /// Waits for news, as far as the hub holds the call: whether there is some that is not of `revision`.
    pub(crate) async fn wait(&self, node: &NodeId, revision: u64, hold: Duration) -> Result<bool, Failure> {
        let mut url = self.wait.clone();
        url.query_pairs_mut()
            .append_pair("node", node.as_str())
            .append_pair("revision", &revision.to_string());
        let request = self.signed(self.client.get(url)).timeout(hold + HELD_LATE);
        let begun = self.begin();
        let response = request.send().await.map_err(|error| unreachable(&begun, &error))?;
        match response.status().as_u16() {
            200 => Ok(true),
            204 => Ok(false),
            status => {
                let retry_after_ns = retry_after_ns(&response);
                Err(Failure::Status { status, retry_after_ns, why: String::new() })
            }
        }
    }

    /// A call begins.
    fn begin(&self) -> Begun<'_> {
        Begun::on(self.tls.as_ref().and_then(HubTls::via))
    }

    /// With the token, where there is one.
    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.bearer {
            Some(bearer) => request.header(AUTHORIZATION, bearer.clone()),
            None => request,
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        url: &Url,
        content_type: &'static str,
        body: Vec<u8>,
        max_bytes: usize,
    ) -> Result<T, Failure> {
        let request = self.client.post(url.clone()).header(CONTENT_TYPE, content_type).body(body);
        let begun = self.begin();
        let mut response = self.signed(request).send().await.map_err(|error| unreachable(&begun, &error))?;
        let status = response.status();
        if !status.is_success() {
            if let (401 | 403, Some(tls)) = (status.as_u16(), &self.tls) {
                tls.refused();
            }
            let retry_after_ns = retry_after_ns(&response);
            // What the hub says of it is worth having, but not worth failing for.
            let said = read(&mut response, ANSWER_MAX_BYTES, &begun).await.unwrap_or_default();
            return Err(Failure::Status { status: status.as_u16(), retry_after_ns, why: shorten(&said) });
        }
        let answer = read(&mut response, max_bytes, &begun).await?;
        serde_json::from_slice(&answer).map_err(|error| bad_answer(&error))
    }
}

/// Reads a body, at most `max_bytes` of it.
async fn read(response: &mut Response, max_bytes: usize, begun: &Begun<'_>) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(begun, &error))? {
        if body.len() + chunk.len() > max_bytes {
            return Err(Failure::BadAnswer { why: format!("it has more than {max_bytes} bytes") });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// `Retry-After` in seconds. The form with a date is not honoured: the node's clock may be wrong.
fn retry_after_ns(response: &Response) -> Option<MonoNs> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000_000_000))
}

/// A stranger's words, fit for a log line.
fn shorten(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(&said[..said.len().min(4 * WHY_MAX)]);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WHY_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

fn unreachable(begun: &Begun<'_>, error: &reqwest::Error) -> Failure {
    // The cause says more than "error sending request".
    let mut why = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        why = error.to_string();
        cause = error.source();
    }
    if error.is_timeout() {
        why = "no answer in time".to_owned();
    } else if why.is_empty() {
        why = error.to_string();
    }
    Failure::Unreachable { why: begun.failed(error, why) }
}

fn bad_answer(error: &serde_json::Error) -> Failure {
    Failure::BadAnswer { why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        fn check(url: &str, expected: Result<&str, &str>) {
            match (Hub::new(url, Some("abc"), None), expected) {
                (Ok(hub), Ok(records)) => assert_eq!(hub.records.as_str(), records),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{url}: {error}"),
                (got, _) => panic!("{url}: {got:?}"),
            }
        }
        check("http://hub:7300", Ok("http://hub:7300/api/v1/records"));
        check(" http://hub:7300/ ", Ok("http://hub:7300/api/v1/records"));
        check("http://[::1]:80/plant/7", Ok("http://[::1]/plant/7/api/v1/records"));
        check("https://hub", Err("without a certificate"));
        check("hub:7300", Err("unknown scheme"));
        check("", Err("not a hub's address"));
        check("file:///etc/passwd", Err("unknown scheme"));
    }

    #[test]
    fn a_token_is_never_shown() {
        assert!(matches!(Hub::new("http://hub", Some("line\nbreak"), None), Err(UplinkError::BadToken)));
        let hub = Hub::new("http://hub", Some("very-secret"), None).unwrap();
        assert!(!format!("{hub:?}").contains("very-secret"));
    }

    #[test]
    fn what_a_stranger_says_is_shortened() {
        assert_eq!(shorten(b" no\r\nway\x1b[31m "), "no  way [31m");
        assert_eq!(shorten(&[0xff; 10_000]).chars().count(), WHY_MAX);
    }
}
