//! Who may ask: host names against DNS rebinding, the token, the console's session, and the headers that keep a
//! browser from doing what we never asked it to.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use package::registry::Code;
use wire::hash::Hash;
use wire::world::Clock;

use crate::api::refusal::Refusal;
use crate::registry::refusal::Refused;

/// How long a person stays signed in, in seconds.
const SESSION_S: u64 = 12 * 3600;

const COOKIE: &str = "selvedge_session";

/// What a browser may do with our answers: load from us, nothing else, and be framed by nobody.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The rules in force.
pub struct Access {
    /// The digest of the token, so that comparing takes the same time whatever was shown.
    token: Option<Hash>,
    /// Signs sessions; drawn at start, so a restart signs everybody out.
    key: [u8; 32],
    hosts: Vec<String>,
    clock: Arc<dyn Clock + Sync>,
}

impl Access {
    /// `key` must be random. Without a token everybody who reaches the hub may ask.
    pub fn new(token: Option<&str>, hosts: &[String], key: [u8; 32], clock: Arc<dyn Clock + Sync>) -> Access {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Access { token: token.map(|token| Hash::of(token.as_bytes())), key, hosts, clock }
    }

    /// Whether a token is asked for at all.
    pub fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// Whether this is the token.
    pub fn is_token(&self, shown: &str) -> bool {
        self.token.is_none_or(|token| same(&token, &Hash::of(shown.as_bytes())))
    }

    /// The cookie of a person who has just shown the token.
    pub fn session_cookie(&self) -> String {
        let until_s = self.now_s() + SESSION_S;
        let seal = self.seal(until_s);
        format!("{COOKIE}={until_s}.{seal}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_S}")
    }

    /// The cookie that ends a session.
    pub fn no_session_cookie() -> String {
        format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }

    fn is_session(&self, value: &str) -> bool {
        let Some((until, seal)) = value.split_once('.') else { return false };
        let (Ok(until_s), Some(seal)) = (until.parse::<u64>(), Hash::parse(seal)) else { return false };
        same(&seal, &self.seal(until_s)) && self.now_s() < until_s
    }

    /// HMAC in the small: two nested hashes, so that the outer one hides the state of the inner one.
    fn seal(&self, until_s: u64) -> Hash {
        let keyed = |pad: u8, text: &[u8]| {
            let mut bytes = vec![pad; 32];
            bytes.iter_mut().zip(self.key).for_each(|(byte, key)| *byte ^= key);
            bytes.extend_from_slice(text);
            Hash::of(&bytes)
        };
        keyed(0x5c, keyed(0x36, until_s.to_string().as_bytes()).as_bytes())
    }

    fn now_s(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000_000
    }

    /// Whether a `Host` header can only come from somebody who meant us. A page that rebinds its own name to this
    /// machine shows that name here; plain addresses cannot be rebound.
    fn is_our_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.hosts.contains(&name)
    }

    fn is_allowed(&self, headers: &HeaderMap, path: &str) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = shown.and_then(|value| value.strip_prefix("Bearer "));
        let basic = shown.filter(|_| is_registry(path)).and_then(password);
        self.is_open()
            || bearer.is_some_and(|token| self.is_token(token.trim()))
            || basic.is_some_and(|token| self.is_token(&token))
            || cookies(headers).any(|(name, value)| name == COOKIE && self.is_session(value))
    }
}

/// Where tools of others come, who know no bearer that they were not sent for.
fn is_registry(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// The password of `Basic`, whatever the name before it.
fn password(shown: &str) -> Option<String> {
    let pair = BASE64_STANDARD.decode(shown.strip_prefix("Basic ")?.trim()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// Compares without stopping at the first difference.
fn same(a: &Hash, b: &Hash) -> bool {
    a.as_bytes().iter().zip(b.as_bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Lets a request through, or answers it.
pub async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let mut response = match refuse(&access, &request) {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn refuse(access: &Access, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !access.is_our_host(host) {
        let refusal = Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown-host",
            format!("this hub is not known as {:?}", host.chars().take(100).collect::<String>()),
            "use its IP address or localhost, or add the name to `hosts` in the hub's config",
        );
        return Some(refusal.into_response());
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if request.method() != Method::GET && site == Some(b"cross-site") {
        let refusal = Refusal::new(
            StatusCode::FORBIDDEN,
            "cross-site",
            "another web site asked your browser to do this".to_owned(),
            "do it from the hub's own pages",
        );
        return Some(refusal.into_response());
    }
    let path = request.uri().path();
    let open = matches!(path, "/health" | "/login") || path.starts_with("/assets/");
    if open || access.is_allowed(headers, path) {
        return None;
    }
    if is_registry(path) {
        let message = "this hub asks for a token: give any name, and the token as password";
        let challenge = HeaderValue::from_static("Basic realm=\"selvedge\", charset=\"UTF-8\"");
        let refused = Refused::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message);
        return Some(refused.with(header::WWW_AUTHENTICATE, challenge).into_response());
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if request.method() == Method::GET && accept.contains("text/html") {
        return Some(Redirect::to("/login").into_response());
    }
    let refusal = Refusal::new(
        StatusCode::UNAUTHORIZED,
        "token-needed",
        "this hub asks for a token".to_owned(),
        "send it as `Authorization: Bearer …`; the hub's operator has it",
    );
    let mut response = refusal.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::world::Simulated;

    fn access(world: &Simulated) -> Access {
        let hosts = ["Hub.Example.org".to_owned()];
        Access::new(Some("0123456789abcdef"), &hosts, [7; 32], Arc::new(world.clone()))
    }

    #[test]
    fn hosts() {
        let access = access(&Simulated::new(1));
        for (host, ours) in [
            ("localhost", true),
            ("localhost:8420", true),
            ("LOCALHOST.:8420", true),
            ("127.0.0.1:8420", true),
            ("[::1]:8420", true),
            ("192.168.7.2", true),
            ("hub.example.org:443", true),
            ("evil.example.com:8420", false),
            ("localhost.evil.example.com", false),
            ("hub.example.org.evil.com", false),
            ("", false),
            ("[::1", false),
        ] {
            assert_eq!(access.is_our_host(host), ours, "{host}");
        }
    }

    #[test]
    fn tokens_and_sessions() {
        let world = Simulated::new(1);
        let access = access(&world);
        let allowed = |name: HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
            access.is_allowed(&headers, "/api/v1/nodes")
        };
        assert!(!access.is_allowed(&HeaderMap::new(), "/v2/"));
        assert!(allowed(header::AUTHORIZATION, "Bearer 0123456789abcdef"));
        assert!(!allowed(header::AUTHORIZATION, "Bearer 0123456789abcdeg"));
        assert!(!allowed(header::AUTHORIZATION, "0123456789abcdef"));
        let basic = |text: &str, path: &str| {
            let shown = format!("Basic {}", BASE64_STANDARD.encode(text));
            let shown = HeaderValue::from_str(&shown).unwrap();
            access.is_allowed(&HeaderMap::from_iter([(header::AUTHORIZATION, shown)]), path)
        };
        assert!(basic("any:0123456789abcdef", "/v2/a/tags/list"));
        assert!(!basic("any:0123456789abcdef", "/api/v1/nodes"));
        assert!(!basic("0123456789abcdef", "/v2/") && !basic("0123456789abcdef:", "/v2/"));
        assert!(!allowed(header::AUTHORIZATION, "Basic MDEy"));
        let cookie = access.session_cookie();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let value = cookie.split(';').next().unwrap();
        assert!(allowed(header::COOKIE, &format!("a=b; {value}")));
        let longer = value.replace("=43200.", "=93200.");
        assert_ne!(longer, value);
        assert!(!allowed(header::COOKIE, &longer));
        assert!(!allowed(header::COOKIE, "selvedge_session=1"));
        world.advance_ms(SESSION_S * 1000);
        assert!(!allowed(header::COOKIE, value));
    }
}
