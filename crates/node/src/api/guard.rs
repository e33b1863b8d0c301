//! Who may ask a door of this node: by which host, from whose pages, with which token.
//!
//! A web page in somebody's browser can reach a loopback address. So the `Host` must be ours, which a name that was
//! rebound to our address is not, and an `Origin` must be ours as well. What a stranger is told is the door's affair.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Who may ask.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
    /// Any address as a number may stand in `Host`: no name was rebound to get there.
    numbers: bool,
    token: Option<String>,
}

/// Why somebody may not ask.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// By a name that is not ours.
    Host(String),
    /// From a page that is not ours.
    Origin(String),
    /// Without the token, or with another.
    Token,
}

impl Guard {
    /// Requests for `listen` itself, `localhost`, and `hosts`; with `token`, if there is one.
    pub(crate) fn new(listen: SocketAddr, hosts: Vec<String>, token: Option<String>) -> Guard {
        let mut known: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        known.push("localhost".to_owned());
        known.push(listen.ip().to_string());
        Guard { hosts: known, origins: Vec::new(), numbers: !listen.ip().is_loopback(), token }
    }

    /// Pages of `origins` may ask as well; `*` is every page.
    #[cfg_attr(not(feature = "language"), expect(dead_code, reason = "for the server of language models"))]
    pub(crate) fn with_origins(self, origins: Vec<String>) -> Guard {
        Guard { origins, ..self }
    }

    /// Whether a `Host` header, or the host of an origin, is ours. The port is not looked at: it may be forwarded.
    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(""),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.to_ascii_lowercase();
        let number = name.parse::<IpAddr>().ok();
        self.hosts.contains(&name) || number.is_some_and(|number| self.numbers || number.is_loopback())
    }

    /// Whether pages of this origin were let in by name.
    pub(crate) fn welcomes(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }

    /// Whether a token is asked for at all.
    #[cfg_attr(not(feature = "language"), expect(dead_code, reason = "for the server of language models"))]
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The host alone.
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), Stranger> {
        match text(headers, HOST) {
            Some(host) if self.knows(host) => Ok(()),
            host => Err(Stranger::Host(host.unwrap_or("").to_owned())),
        }
    }

    /// The origin alone; who is no page has none.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Stranger> {
        let Some(origin) = text(headers, ORIGIN) else { return Ok(()) };
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        if self.knows(host) || self.welcomes(origin) {
            Ok(())
        } else {
            Err(Stranger::Origin(origin.to_owned()))
        }
    }

    /// The token alone.
    pub(crate) fn check_token(&self, headers: &HeaderMap) -> Result<(), Stranger> {
        let Some(token) = &self.token else { return Ok(()) };
        let shown =
            text(headers, AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
        if same(shown.as_bytes(), token.as_bytes()) { Ok(()) } else { Err(Stranger::Token) }
    }

    /// All of it.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Stranger> {
        self.check_host(headers)?;
        self.check_origin(headers)?;
        self.check_token(headers)
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"))
}

/// Compares in a time that does not tell where the two differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, headers: &[(&'static str, &'static str)], expected: Result<(), Stranger>) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(guard.check(&headers), expected, "{headers:?}");
    }

    #[test]
    fn who_may_ask() {
        let guard = |token: Option<&str>| {
            let hosts = vec!["pump.local".to_owned()];
            Guard::new("127.0.0.1:8421".parse().unwrap(), hosts, token.map(str::to_owned))
        };
        let host = |name: &str| Err(Stranger::Host(name.to_owned()));
        let origin = |name: &str| Err(Stranger::Origin(name.to_owned()));
        let open = guard(None);
        check(&open, &[("host", "127.0.0.1:8421")], Ok(()));
        check(&open, &[("host", "LocalHost:1")], Ok(()));
        check(&open, &[("host", "[::1]:8421")], Ok(()));
        check(&open, &[("host", "pump.local")], Ok(()));
        check(&open, &[("host", "evil.example")], host("evil.example"));
        check(&open, &[("host", "10.0.0.1")], host("10.0.0.1"));
        check(&open, &[("host", "127.0.0.1.evil.example")], host("127.0.0.1.evil.example"));
        check(&open, &[], host(""));
        check(&open, &[("host", "localhost"), ("origin", "http://localhost:8421")], Ok(()));
        check(
            &open,
            &[("host", "localhost"), ("origin", "https://evil.example")],
            origin("https://evil.example"),
        );
        check(&open, &[("host", "localhost"), ("origin", "null")], origin("null"));
        let page = [("host", "localhost"), ("origin", "https://app.example")];
        check(&open.with_origins(vec!["https://app.example".to_owned()]), &page, Ok(()));
        let locked = guard(Some("secret"));
        check(&locked, &[("host", "localhost")], Err(Stranger::Token));
        check(&locked, &[("host", "localhost"), ("authorization", "Bearer secreT")], Err(Stranger::Token));
        check(&locked, &[("host", "localhost"), ("authorization", "Bearer secret")], Ok(()));
    }

    #[test]
    fn a_door_to_the_network_answers_to_numbers_but_not_to_any_name() {
        let guard = Guard::new("0.0.0.0:80".parse().unwrap(), Vec::new(), None);
        check(&guard, &[("host", "192.168.1.7:80")], Ok(()));
        check(&guard, &[("host", "evil.example")], Err(Stranger::Host("evil.example".to_owned())));
    }
}
