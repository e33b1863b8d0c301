//! The hub, as the relay asks it for what it keeps: bounded in time, and left alone for a while where it cannot be reached, so that who
//! asks the relay is answered from what is here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response, Url};
use wire::world::MonoNs;

use crate::api::connections::Now;
use crate::identity::tls::HubTls;
use crate::via::Begun;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that says nothing for so long does not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// After a failure the hub is left alone for so long, doubled each time.
const REST_NS: MonoNs = 1_000_000_000;
const REST_MAX_NS: MonoNs = 30_000_000_000;

/// Whether the hub is worth a question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Away {
    failures: u32,
    until_ns: MonoNs,
    why: Option<String>,
}

impl Away {
    /// Whether it may be asked now.
    pub(super) fn may_ask(&self, now: MonoNs) -> bool {
        self.failures == 0 || now >= self.until_ns
    }

    /// It could not be reached.
    pub(super) fn failed(&mut self, why: String, now: MonoNs) {
        self.failures = self.failures.saturating_add(1);
        let rest_ns = REST_NS << self.failures.saturating_sub(1).min(10);
        self.until_ns = now.saturating_add(rest_ns.min(REST_MAX_NS));
        self.why = Some(why);
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&mut self) {
        *self = Away::default();
    }

    /// Why it is not asked.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The hub is out of reach.
    #[error("the relay cannot reach the hub now ({0})")]
    Away(String),
    /// It answers with another status.
    #[error("the hub answers with status {0}")]
    Status(u16),
    /// It answers with what cannot be.
    #[error("the hub's answer cannot be used: {0}")]
    Wrong(&'static str),
}

/// The hub.
pub(super) struct Upstream {
    client: Client,
    base: Url,
    tls: HubTls,
    away: Mutex<Away>,
    /// When it was last asked, and whether it could be reached.
    tried: Mutex<Option<(MonoNs, bool)>>,
    /// What came of questions.
    pub(super) counts: Counts,
    now: Now,
}

/// What came of questions to the hub, since the node began.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// It answered with what was asked for, or that there is none.
    pub(super) answered: AtomicU64,
    /// It answered something else.
    pub(super) refused: AtomicU64,
    /// It could not be reached.
    pub(super) failed: AtomicU64,
    /// Of those that were answered: the answer broke off.
    pub(super) broken: AtomicU64,
}

impl Upstream {
    /// The hub at `base`, as this node knows it.
    pub(super) fn new(base: Url, tls: HubTls, now: Now) -> Result<Upstream, reqwest::Error> {
        let client = tls
            .client(Client::builder())
            .user_agent(concat!("selvedge-relay/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(2)
            .build()?;
        let (away, tried, counts) = (Mutex::default(), Mutex::default(), Counts::default());
        Ok(Upstream { client, base, tls, away, tried, counts, now })
    }

    /// What is in the way, if the hub could not be reached the last time.
    pub(super) fn trouble(&self) -> Option<String> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).why().map(str::to_owned)
    }

    /// When it was last asked, and whether it could be reached; `None`: it never was.
    pub(super) fn tried(&self) -> Option<(MonoNs, bool)> {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for what is at `path` below the hub's address, which begins without a slash. Answers other than 2xx, 304 and 404 are
    /// none.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        query: Option<(&str, &str)>,
        headers: HeaderMap,
    ) -> Result<Response, NoAnswer> {
        {
            let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
            if !away.may_ask((self.now)()) {
                return Err(NoAnswer::Away(away.why().unwrap_or_default().to_owned()));
            }
        }
        let mut url = self.base.join(path).map_err(|_| NoAnswer::Wrong("it is no path"))?;
        if let Some((name, value)) = query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let begun = Begun::on(self.tls.via());
        let sent = self.client.request(method, url).headers(headers).send().await;
        let response = sent.map_err(|error| {
            let why = begun.failed(&error, deepest(&error));
            self.counts.failed.fetch_add(1, Relaxed);
            self.failed(why.clone());
            NoAnswer::Away(why)
        })?;
        self.note(true);
        self.away.lock().unwrap_or_else(PoisonError::into_inner).answered();
        match response.status().as_u16() {
            200..=299 | 304 | 404 => {
                self.counts.answered.fetch_add(1, Relaxed);
                Ok(response)
            }
            status => {
                self.counts.refused.fetch_add(1, Relaxed);
                if matches!(status, 401 | 403) {
                    self.tls.refused();
                }
                Err(NoAnswer::Status(status))
            }
        }
    }

    /// An answer broke off.
    pub(super) fn broke_off(&self, error: &reqwest::Error) -> NoAnswer {
        let why = deepest(error);
        self.counts.broken.fetch_add(1, Relaxed);
        self.failed(why.clone());
        NoAnswer::Away(why)
    }

    fn note(&self, reached: bool) {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(((self.now)(), reached));
    }

    fn failed(&self, why: String) {
        self.note(false);
        let now = (self.now)();
        self.away.lock().unwrap_or_else(PoisonError::into_inner).failed(why, now);
    }
}

/// The deepest cause says more than "error sending request".
fn deepest(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_cannot_be_reached_is_left_alone_for_ever_longer() {
        let mut away = Away::default();
        assert!(away.may_ask(0));
        away.failed("no route".to_owned(), 10);
        assert!(!away.may_ask(REST_NS) && away.may_ask(REST_NS + 10));
        assert_eq!(away.why(), Some("no route"));
        for _ in 0..50 {
            away.failed("no route".to_owned(), 0);
        }
        assert!(!away.may_ask(REST_MAX_NS - 1) && away.may_ask(REST_MAX_NS));
        away.answered();
        assert!(away.may_ask(0) && away.why().is_none());
    }
}
