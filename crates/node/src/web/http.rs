//! Asks a server for a file or a listing: redirects, the token, and what refusals mean.
//!
//! The token goes to the endpoint that it belongs to and to nobody else: redirects lead to other hosts, so they are walked
//! here, one by one. What a server says is shortened before anybody sees it, and addresses are shown without their query,
//! which may be a signature.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
    IF_RANGE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Certificate, Client, Response, Url};
use wire::hash::Hash;

use crate::identity::tls::HubTls;
use crate::via::{Begun, Via};
use crate::web::answer::{Head, strong};

/// The most redirects of one question; browsers stop at twenty, repositories need two.
const REDIRECTS_MAX: usize = 8;

/// The most that is read of a refusal, and kept of it.
const WHY_MAX_BYTES: usize = 16 << 10;
const WHY_MAX: usize = 300;

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// No connection, or none that lasted.
    #[error("{host} cannot be reached ({why})")]
    Unreachable {
        /// Who.
        host: String,
        /// Why.
        why: String,
    },
    /// Its certificate is not one that this machine trusts.
    #[error(
        "{host} has no certificate that this machine trusts ({why}); check the clock, the system's certificates \
         (SSL_CERT_FILE names others) and who answers at that address"
    )]
    NotTrusted {
        /// Who.
        host: String,
        /// Why.
        why: String,
    },
    /// This machine trusts nobody.
    #[error(
        "no certificates are found on this machine ({why}); install its ca-certificates, or name a file in SSL_CERT_FILE"
    )]
    NoCertificates {
        /// Why.
        why: String,
    },
    /// The answer's body ended early.
    #[error("{host} broke off ({why})")]
    Broken {
        /// Who.
        host: String,
        /// Why.
        why: String,
    },
    /// Terms must be accepted first.
    #[error(
        "{url} is gated: log in there, accept its terms, make a token under Settings, Access Tokens, and set HF_TOKEN to it{}",
        if *had_token { "; the token that is set has not been let in" } else { "" }
    )]
    Gated {
        /// What was asked for.
        url: String,
        /// Whether a token was sent.
        had_token: bool,
    },
    /// 401 or 403.
    #[error(
        "{url} may not be loaded (status {status}{}); {}",
        because(why),
        if *had_token { "the token that is set is not accepted there: check it and what it may read" }
        else { "if it is private, set HF_TOKEN to a token that may read it; if not, check its spelling" }
    )]
    NotAllowed {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What the server says.
        why: String,
        /// Whether a token was sent.
        had_token: bool,
        /// What would be accepted, `WWW-Authenticate`.
        challenge: Option<String>,
    },
    /// 404 or 410.
    #[error("there is nothing at {url}{}; check the spelling", because(why))]
    NotFound {
        /// What was asked for.
        url: String,
        /// What the server says.
        why: String,
    },
    /// Any other status.
    #[error("{url} answers with status {status}{}", because(why))]
    Refused {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What the server says.
        why: String,
        /// How long it wants to be left alone.
        asked_ms: Option<u64>,
    },
    /// Redirected too often, or in a circle.
    #[error("{url} redirects more than {REDIRECTS_MAX} times")]
    Redirects {
        /// Where it began.
        url: String,
    },
    /// A redirect that is none, or that gives up encryption.
    #[error("{url} redirects to where we do not follow ({why})")]
    BadRedirect {
        /// Who redirects.
        url: String,
        /// Why not.
        why: &'static str,
    },
    /// A body that is not what was asked for.
    #[error("{url} answers with what cannot be read ({why})")]
    BadAnswer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(", {why:?}") }
}

impl WebError {
    /// Whether another attempt may succeed, and how long the server wants to be left alone before it.
    pub(crate) fn passes(&self) -> Option<Option<u64>> {
        match self {
            WebError::Unreachable { .. } | WebError::Broken { .. } => Some(None),
            // 408 and 425 ask for it, 429 and 503 say when, the rest of 5xx is trouble of a moment; 501 and 505 are not.
            WebError::Refused { status: 408 | 425 | 429 | 500 | 502..=504 | 506..=599, asked_ms, .. } => {
                Some(*asked_ms)
            }
            _ => None,
        }
    }
}

/// Which bytes, and under which conditions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// From this byte on.
    pub(crate) from: u64,
    /// Up to this byte, itself not included; `None`: to the end.
    pub(crate) until: Option<u64>,
    /// Only if the content still has this mark, else the whole.
    pub(crate) if_range: Option<String>,
    /// Nothing if the content has this mark.
    pub(crate) if_none_match: Option<String>,
    /// Only one of these media types; empty: any.
    pub(crate) accept: Vec<&'static str>,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response,
    host: String,
    /// What its head says.
    pub(crate) head: Head,
    /// The content's hash, as the repository says on the way.
    #[cfg_attr(
        not(feature = "language"),
        expect(dead_code, reason = "it is those who pull that compare it")
    )]
    pub(crate) sha256: Option<Hash>,
    /// The commit that the file belongs to.
    #[cfg_attr(not(feature = "language"), expect(dead_code, reason = "it is those who pull that keep it"))]
    pub(crate) commit: Option<String>,
}

impl Answer {
    /// The next piece of the body; `None`: it is complete.
    pub(crate) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, WebError> {
        let host = || self.host.clone();
        self.response.chunk().await.map_err(|error| WebError::Broken { host: host(), why: cause(&error) })
    }

    /// The whole body, at most `max_bytes` of it.
    pub(crate) async fn body(mut self, max_bytes: usize) -> Result<Vec<u8>, WebError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            let chunk = chunk.as_ref();
            if body.len() + chunk.len() > max_bytes {
                let why = format!("it has more than {max_bytes} bytes");
                return Err(WebError::BadAnswer { url: shown(self.response.url()), why });
            }
            body.extend_from_slice(chunk);
        }
        Ok(body)
    }

    /// A header, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

/// The way to servers.
#[derive(Debug)]
pub(crate) struct Web {
    /// Reads no certificates: a machine that has none can still load from its own network.
    plain: Client,
    secure: OnceLock<Client>,
    connect: Duration,
    idle: Duration,
    endpoint: Url,
    token: Option<HeaderValue>,
    /// For `endpoint`, if it is our hub: it knows us by a certificate, and we know it by its authority.
    hub: Option<Client>,
    /// The relays on the way to that.
    via: Option<Arc<Via>>,
}

impl Web {
    /// `token` goes to `endpoint` only. Every wait for bytes ends after `idle`.
    pub(crate) fn new(
        endpoint: Url,
        token: Option<HeaderValue>,
        connect: Duration,
        idle: Duration,
    ) -> Result<Web, WebError> {
        let plain = client(connect, idle).tls_certs_only([]).build();
        let plain = plain.map_err(|error| WebError::NoCertificates { why: cause(&error) })?;
        Ok(Web { plain, secure: OnceLock::new(), connect, idle, endpoint, token, hub: None, via: None })
    }

    /// The same, where `endpoint` is our hub's door for nodes.
    pub(crate) fn with_tls(self, tls: Option<&HubTls>) -> Result<Web, WebError> {
        let build = |tls: &HubTls| tls.client(client(self.connect, self.idle)).https_only(true).build();
        let hub = tls.map(build).transpose();
        let hub = hub.map_err(|error| WebError::NoCertificates { why: cause(&error) })?;
        let via = tls.and_then(HubTls::via).cloned();
        Ok(Web { hub, via, ..self })
    }

    /// The same, where these authorities vouch for the server beside the system's: for that server only.
    pub(crate) fn with_authorities(self, authorities: &[Certificate]) -> Result<Web, WebError> {
        if authorities.is_empty() {
            return Ok(self);
        }
        let hub = client(self.connect, self.idle).tls_certs_merge(authorities.to_vec()).https_only(true);
        let hub = hub.build().map_err(|error| WebError::NoCertificates { why: cause(&error) })?;
        Ok(Web { hub: Some(hub), ..self })
    }

    /// The repository server.
    pub(crate) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    fn client(&self, url: &Url) -> Result<&Client, WebError> {
        if url.scheme() != "https" {
            return Ok(&self.plain);
        }
        if let Some(hub) = self.hub.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
            return Ok(hub);
        }
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let client = client(self.connect, self.idle).https_only(true).build();
        let client = client.map_err(|error| WebError::NoCertificates { why: cause(&error) })?;
        Ok(self.secure.get_or_init(|| client))
    }

    /// Asks, and follows redirects. Gives statuses 200, 206, 304 and 416; others are errors.
    pub(crate) async fn get(&self, begin: &Url, ask: &Ask) -> Result<Answer, WebError> {
        self.get_as(begin, ask, &self.endpoint, self.token.as_ref()).await
    }

    /// The same with a token that goes to the origin of `home` only.
    pub(crate) async fn get_as(
        &self,
        begin: &Url,
        ask: &Ask,
        home: &Url,
        token: Option<&HeaderValue>,
    ) -> Result<Answer, WebError> {
        let mut url = begin.clone();
        let (mut sha256, mut commit) = (None, None);
        for _ in 0..=REDIRECTS_MAX {
            let is_home = url.origin() == home.origin();
            let token = token.filter(|_| is_home);
            let mut request = self.client(&url)?.get(url.clone()).headers(headers(ask));
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, token.clone());
            }
            let host = url.host_str().unwrap_or_default().to_owned();
            let is_hub = url.scheme() == "https" && url.origin() == self.endpoint.origin();
            let begun = Begun::on(self.via.as_ref().filter(|_| is_hub));
            let response = request.send().await.map_err(|error| unreachable(host.clone(), &begun, &error))?;
            let status = response.status().as_u16();
            let text = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.trim().to_owned());
            // The content's hash and commit stand on the repository's own answer, which is mostly a redirect.
            let linked = text("x-linked-etag").and_then(|etag| Hash::parse(etag.trim_matches('"')));
            sha256 = sha256.or(linked);
            let named = text("x-repo-commit").filter(|commit| {
                commit.len() <= 64
                    && !commit.is_empty()
                    && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
            commit = commit.or(named);
            match status {
                200 | 206 | 304 | 416 => {
                    let length = response.content_length();
                    let etag = text(ETAG.as_str()).as_deref().and_then(strong);
                    let head = Head { status, etag, length, range: text(CONTENT_RANGE.as_str()) };
                    return Ok(Answer { response, host, head, sha256, commit });
                }
                301 | 302 | 303 | 307 | 308 => {
                    let bad = |why| WebError::BadRedirect { url: shown(&url), why };
                    let location = text(LOCATION.as_str()).ok_or_else(|| bad("it does not say where"))?;
                    let next = url.join(&location).map_err(|_| bad("it is no address"))?;
                    match (url.scheme(), next.scheme()) {
                        ("https", "http") => return Err(bad("from https to http")),
                        (_, "http" | "https") => url = next,
                        _ => return Err(bad("it is not http")),
                    }
                }
                _ => return Err(refusal(&url, response, token.is_some()).await),
            }
        }
        Err(WebError::Redirects { url: shown(begin) })
    }
}

fn client(connect: Duration, idle: Duration) -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("selvedge/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .read_timeout(idle)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .pool_max_idle_per_host(1)
}

fn headers(ask: &Ask) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // A range of a compressed form is a range of nothing.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut put = |name, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    };
    put(ACCEPT, Some(ask.accept.join(", ")).filter(|accept| !accept.is_empty()));
    put(IF_NONE_MATCH, ask.if_none_match.clone());
    match ask.until {
        Some(until) if until > ask.from => put(RANGE, Some(format!("bytes={}-{}", ask.from, until - 1))),
        None if ask.from > 0 => put(RANGE, Some(format!("bytes={}-", ask.from))),
        _ => return headers,
    }
    put(IF_RANGE, ask.if_range.clone());
    headers
}

/// What a refusal means. Repositories of Hugging Face's kind say more in `X-Error-Code` than in the status.
async fn refusal(url: &Url, mut response: Response, had_token: bool) -> WebError {
    let status = response.status().as_u16();
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.trim().to_owned());
    let code = header("x-error-code").unwrap_or_default();
    let asked_ms = header(RETRY_AFTER.as_str()).and_then(|text| text.parse::<u64>().ok());
    let asked_ms = asked_ms.map(|seconds| seconds.saturating_mul(1000));
    let challenge = header(WWW_AUTHENTICATE.as_str());
    let mut why = header("x-error-message").map(|text| shorten(text.as_bytes())).unwrap_or_default();
    let is_page = header("content-type").is_some_and(|kind| kind.contains("html"));
    if why.is_empty() && !is_page {
        // What it says is worth having, but not worth failing for.
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            said.extend_from_slice(&chunk);
            if said.len() > WHY_MAX_BYTES {
                break;
            }
        }
        why = shorten(&said);
    }
    let url = shown(url);
    match (status, &*code) {
        (401 | 403, "GatedRepo") => WebError::Gated { url, had_token },
        (404 | 410, _) => WebError::NotFound { url, why },
        (401 | 403, _) => WebError::NotAllowed { url, status, why, had_token, challenge },
        _ => WebError::Refused { url, status, why, asked_ms },
    }
}

/// An address without what must not be shown: names, passwords, signatures.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Only addresses without a host refuse this, and they have no password.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// A stranger's words, fit for a line on a terminal.
fn shorten(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(&said[..said.len().min(4 * WHY_MAX)]);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WHY_MAX);
    plain.collect::<String>().trim().to_owned()
}

/// The deepest cause says more than "error sending request".
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut why = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        why = error.to_string();
        next = error.source();
    }
    why
}

fn unreachable(host: String, begun: &Begun<'_>, error: &reqwest::Error) -> WebError {
    let why = begun.failed(error, cause(error));
    // rustls says "invalid peer certificate: …"; waiting does not mend it.
    if why.contains("certificate") {
        WebError::NotTrusted { host, why }
    } else {
        WebError::Unreachable { host, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        let url = Url::parse("https://me:pass@cdn.example/a%20b.gguf?Signature=s#f").unwrap();
        assert_eq!(shown(&url), "https://cdn.example/a%20b.gguf");
    }

    #[test]
    fn only_trouble_of_a_moment_passes() {
        for (status, expected) in
            [(429, true), (500, true), (503, true), (400, false), (451, false), (501, false)]
        {
            let error =
                WebError::Refused { url: String::new(), status, why: String::new(), asked_ms: Some(5) };
            assert_eq!(error.passes(), expected.then_some(Some(5)), "{status}");
        }
    }
}
