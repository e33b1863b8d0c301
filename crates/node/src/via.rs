//! The ways to the hub: through relays, in their order, then directly if the settings allow it.
//!
//! A relay carries TLS from end to end, so the way changes nothing of who is believed, and whoever asks the hub anything takes
//! the same ways. Which one, [`Choice`] says purely: the first that opens; a later one for a while, then the first again.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::HeaderValue;
use reqwest::{Proxy, Url};
use wire::world::{Clock, MonoNs};

use crate::config::relay::ViaConfig;
use crate::config::token::{TokenError, read_token};

/// After so long on a later way the first is tried again.
const RETURN_NS: MonoNs = 300_000_000_000;

/// Why the ways of the settings cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ViaError {
    /// The relays' token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Not an address.
    #[error("{relay:?} is no relay's address; it reads like http://relay:7444")]
    Address {
        /// What was given.
        relay: String,
    },
    /// A token that cannot stand in a header.
    #[error("the relays' token has a character that cannot be sent; copy it again")]
    Header,
}

/// Which of several ways is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    ways: usize,
    at: usize,
    since_ns: MonoNs,
}

impl Choice {
    /// The first of so many ways; at least one.
    pub fn new(ways: usize) -> Choice {
        Choice { ways: ways.max(1), at: 0, since_ns: 0 }
    }

    /// The way to take now.
    pub fn now(&mut self, now: MonoNs) -> usize {
        if self.at > 0 && now.saturating_sub(self.since_ns) >= RETURN_NS {
            (self.at, self.since_ns) = (0, now);
        }
        self.at
    }

    /// A way did not open. Several calls that took it together count once.
    pub fn failed(&mut self, way: usize, now: MonoNs) {
        if way == self.at {
            (self.at, self.since_ns) = ((self.at + 1) % self.ways, now);
        }
    }
}

/// One way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Through the relay at this address.
    Relay(Url),
    /// Straight to the hub.
    Direct,
}

/// The ways to the hub, for whoever asks it anything.
pub struct Via {
    ways: Vec<Way>,
    token: Option<String>,
    auth: Option<HeaderValue>,
    choice: Mutex<Choice>,
    clock: Mutex<Box<dyn Clock>>,
}

impl std::fmt::Debug for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Via").field("ways", &self.ways).finish_non_exhaustive()
    }
}

impl Via {
    /// As the settings say. Reads the token's file.
    pub fn open(config: &ViaConfig, clock: impl Clock + 'static) -> Result<Arc<Via>, ViaError> {
        let bad = |relay: &String| ViaError::Address { relay: relay.clone() };
        let relays = config.relays.iter().map(|relay| Url::parse(relay).map_err(|_| bad(relay)));
        let relays: Result<Vec<Url>, ViaError> = relays.collect();
        let ways = relays?.into_iter().map(Way::Relay).chain(config.direct.then_some(Way::Direct));
        let ways: Vec<Way> = ways.collect();
        let token = config.token_file.as_deref().map(read_token).transpose()?;
        let auth = token.as_ref().map(|token| {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ViaError::Header)?;
            value.set_sensitive(true);
            Ok::<_, ViaError>(value)
        });
        let (auth, choice) = (auth.transpose()?, Mutex::new(Choice::new(ways.len())));
        Ok(Arc::new(Via { ways, token, auth, choice, clock: Mutex::new(Box::new(clock)) }))
    }

    /// The relays' addresses, without a slash at their end.
    pub fn relays(&self) -> impl Iterator<Item = String> {
        self.ways.iter().filter_map(|way| match way {
            Way::Relay(url) => Some(url.as_str().trim_end_matches('/').to_owned()),
            Way::Direct => None,
        })
    }

    /// What relays are shown.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The same, as it stands in a header.
    pub(crate) fn auth(&self) -> Option<&HeaderValue> {
        self.auth.as_ref()
    }

    /// The way to take now, and its number for [`Via::failed`].
    pub(crate) fn way(&self) -> (usize, &Way) {
        let now = self.now();
        let at = self.choice.lock().unwrap_or_else(PoisonError::into_inner).now(now);
        (at, &self.ways[at])
    }

    /// The way with this number did not open.
    pub(crate) fn failed(&self, way: usize) {
        let now = self.now();
        self.choice.lock().unwrap_or_else(PoisonError::into_inner).failed(way, now);
    }

    fn now(&self) -> MonoNs {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).mono_ns()
    }

    /// For a client that asks the hub alone.
    pub(crate) fn proxy(self: &Arc<Via>) -> Proxy {
        let via = Arc::clone(self);
        let proxy = Proxy::custom(move |_| match via.way().1 {
            Way::Relay(url) => Some(url.clone()),
            Way::Direct => None,
        });
        match &self.auth {
            Some(auth) => proxy.custom_http_auth(auth.clone()),
            None => proxy,
        }
    }
}

/// The way that a call to the hub began on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun<'a>(Option<(&'a Via, usize)>);

impl<'a> Begun<'a> {
    /// Of a call that begins now.
    pub(crate) fn on(via: Option<&'a Arc<Via>>) -> Begun<'a> {
        Begun(via.map(|via| (&**via, via.way().0)))
    }

    /// The call failed: where nothing opened, the next one goes another way. Gives the words for it, with the relay that did not
    /// open.
    pub(crate) fn failed(&self, error: &reqwest::Error, why: String) -> String {
        let Some((via, way)) = self.0.filter(|_| error.is_connect()) else { return why };
        via.failed(way);
        match &via.ways[way] {
            Way::Direct => why,
            Way::Relay(url) => {
                let url = url.as_str().trim_end_matches('/');
                match why.as_str() {
                    "tunnel error: unsuccessful" => {
                        format!("the relay {url} has no way to the hub now, or is for another one")
                    }
                    "tunnel error: proxy authorization required" => {
                        format!(
                            "the relay {url} does not know our token; is `relay_token_file` the same as there?"
                        )
                    }
                    _ => format!("through the relay {url}: {why}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_way_that_opens_is_taken_and_the_first_is_tried_again() {
        let mut choice = Choice::new(3);
        assert_eq!(choice.now(0), 0);
        choice.failed(0, 10);
        choice.failed(0, 11);
        assert_eq!(choice.now(12), 1, "two calls that failed together are one step");
        choice.failed(1, 20);
        assert_eq!(choice.now(RETURN_NS), 2, "not yet");
        assert_eq!(choice.now(RETURN_NS + 20), 0, "time to go back");
        choice.failed(0, RETURN_NS + 30);
        choice.failed(1, RETURN_NS + 31);
        choice.failed(2, RETURN_NS + 32);
        assert_eq!(choice.now(RETURN_NS + 33), 0, "after the last comes the first");
        let mut only = Choice::new(1);
        only.failed(0, 1);
        assert_eq!(only.now(2), 0);
    }
}
