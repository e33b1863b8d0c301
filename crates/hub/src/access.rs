//! Who may ask: host names against DNS rebinding, tokens, the console's session, and the headers that keep a browser from
//! doing what we never asked it to. Who it is: [`who`]; what they may: [`rules`]; by which token: [`tokens`]; by which cookie:
//! [`session`].

pub mod first;
#[cfg(feature = "oidc")]
pub mod oidc;
pub mod rules;
pub mod session;
pub mod tokens;
pub mod who;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use package::registry::Code;
use wire::hash::Hash;
use wire::world::Clock;

use crate::access::rules::{Found, Needs, Verdict, judge};
use crate::access::session::{COOKIE, Sealer};
use crate::access::tokens::{Directory, RESERVED, same};
use crate::access::who::{Role, Who};
use crate::api::refusal::Refusal;
use crate::identity::peer::{self, Peer, Peers};
use crate::registry::refusal::Refused;

/// How soon a node whose certificate has run out may have the next, in seconds.
const RENEWAL_S: u32 = 2;

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
    /// The digest of the token that stands in a file, so that comparing takes the same time whatever was shown.
    token: Option<Hash>,
    /// Who has tokens of their own.
    directory: RwLock<Arc<Directory>>,
    /// Whether nodes have a door of their own, so that no token acts for them.
    own_door: bool,
    /// Whether nobody is asked who they are, in spite of that.
    open: bool,
    sealer: Sealer,
    /// Where else people sign in.
    sign_in: Option<String>,
    hosts: Vec<String>,
    clock: Arc<dyn Clock + Sync>,
}

impl Access {
    /// Without a token and without operators everybody who reaches the hub may ask, unless nodes have a door of their own:
    /// then the hub is one that tells people apart, if it is not `open`.
    pub fn new(
        token: Option<&str>,
        hosts: &[String],
        own_door: bool,
        open: bool,
        sealer: Sealer,
        clock: Arc<dyn Clock + Sync>,
    ) -> Access {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let token = token.map(|token| Hash::of(token.as_bytes()));
        Access { token, directory: RwLock::default(), own_door, open, sealer, sign_in: None, hosts, clock }
    }

    /// The same, where people sign in at a provider, too.
    #[must_use]
    pub fn with_sign_in(self, label: Option<String>) -> Access {
        Access { sign_in: label, ..self }
    }

    /// What the provider is called where people sign in, too.
    pub fn sign_in(&self) -> Option<&str> {
        self.sign_in.as_deref()
    }

    /// What seals cookies.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Takes what the store says of operators and tokens.
    pub fn learn(&self, directory: Directory) {
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }

    fn directory(&self) -> Arc<Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a token is asked for at all.
    pub fn is_open(&self) -> bool {
        let asks = self.token.is_some() || self.sign_in.is_some() || self.own_door && !self.open;
        !asks && self.directory().is_empty()
    }

    /// Whether a token in a file stands for an admin whom nobody can disable.
    pub fn has_token_file(&self) -> bool {
        self.token.is_some()
    }

    /// Whoever has this token.
    pub fn by_token(&self, shown: &str) -> Option<Who> {
        let is_file = self.token.is_some_and(|token| same(&token, &Hash::of(shown.as_bytes())));
        if is_file || self.is_open() {
            return Some(admin(if is_file { TOKEN_FILE } else { OPEN }));
        }
        self.directory().by_token(shown, self.clock.wall_ms())
    }

    /// The cookie of somebody who has just shown who they are; `None` for nodes, who have no pages.
    pub fn session_cookie(&self, who: &Who) -> Option<String> {
        let Who::Operator { name, role } = who else { return None };
        Some(self.sealer.cookie(name, *role, self.now_s()))
    }

    /// Whose session this is.
    fn by_session(&self, value: &str) -> Option<Who> {
        let (name, role) = self.sealer.read(value, self.now_s())?;
        match name {
            TOKEN_FILE => self.token.is_some().then(|| admin(TOKEN_FILE)),
            OPEN => self.is_open().then(|| admin(OPEN)),
            name => self.directory().operator(name, role),
        }
    }

    /// By the wall clock, which replicas share and a restart does not begin anew.
    fn now_s(&self) -> i64 {
        self.clock.wall_ms() / 1000
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

    /// Who asks, by what the request shows: a bearer, a password where tools of others come, or a session.
    fn who(&self, headers: &HeaderMap, path: &str) -> Who {
        if self.is_open() {
            return admin(OPEN);
        }
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = || self.by_token(shown?.strip_prefix("Bearer ")?.trim());
        let basic = || self.by_token(&shown.filter(|_| is_registry(path)).and_then(password)?);
        let session = || {
            let mut found = cookies(headers).filter(|(name, _)| *name == COOKIE);
            found.find_map(|(_, value)| self.by_session(value))
        };
        bearer().or_else(basic).or_else(session).unwrap_or(Who::Nobody)
    }
}

/// Names that no operator can have.
const OPEN: &str = RESERVED[0];
const TOKEN_FILE: &str = RESERVED[1];

fn admin(name: &str) -> Who {
    Who::Operator { name: name.into(), role: Role::Admin }
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

/// The cookies that a browser shows.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// What the guard knows.
#[derive(Clone)]
pub struct Guard {
    /// Operators.
    pub access: Arc<Access>,
    /// Nodes.
    pub peers: Arc<Peers>,
}

/// Lets a request through, or answers it.
pub async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let admitted = match peer {
        Some(peer) => {
            let (needs, is_registry) = (needs(&request), is_registry(request.uri().path()));
            let key = peer.key;
            let admitted = admit_peer(&guard, key, needs, is_registry).await;
            if let (Err(_), Some(key), Some(shown)) = (&admitted, key, peer.chain.first())
                && !guard.peers.knows(&key)
            {
                guard.peers.strangers.knock(key, shown, guard.access.clock.wall_ms());
            }
            // Whoever is refused for a certificate shows the next one on another connection.
            admitted.map_err(|mut refused| {
                refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                refused
            })
        }
        None => admit(&guard.access, &request),
    };
    let mut response = match admitted {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(refused) => *refused,
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Who asks at the nodes' door, if they may. Tokens and cookies say nothing there, and neither does the name by which
/// the hub was found: its certificate does.
async fn admit_peer(
    guard: &Guard,
    key: Option<Hash>,
    needs: Result<Needs, Refusal>,
    is_registry: bool,
) -> Result<Who, Box<Response>> {
    let needs = needs.map_err(boxed)?;
    if needs == Needs::Nothing {
        return Ok(Who::Nobody);
    }
    let found = match key {
        Some(key) => guard.peers.find(&key, guard.access.clock.wall_ms()).await,
        None => Ok(peer::Found::Who(Who::Nobody)),
    };
    let who = match found {
        Ok(peer::Found::Who(who)) => who,
        Ok(peer::Found::Denied) => return Err(boxed(denied())),
        Err(error) => return Err(boxed(Refusal::from(error))),
    };
    match judge(needs, &who, true) {
        Verdict::Yes => Ok(who),
        Verdict::WhoAreYou => Err(boxed(no_certificate(key.is_some()))),
        verdict => {
            let mut refused = match is_registry {
                true => registry_refusal(verdict),
                false => not_you(verdict, &who).into_response(),
            };
            if verdict == Verdict::Expired {
                // The next connection may show the certificate that was renewed in the meantime.
                refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Err(Box::new(refused))
        }
    }
}

/// An answer is large, and a refusal seldom.
fn boxed(refusal: Refusal) -> Box<Response> {
    Box::new(refusal.into_response())
}

fn denied() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "denied",
        "this node's key was denied".to_owned(),
        "what runs on it goes on; an admin of the hub knows why, and can make a new code for it",
    )
}

fn no_certificate(has_one: bool) -> Refusal {
    let (code, message) = match has_one {
        true => ("key-unknown", "the hub does not know the key of this certificate"),
        false => ("certificate-needed", "this door asks for a node's certificate"),
    };
    let mend = "enrol the node: selvedge node enrol --hub https://… --code …";
    Refusal::new(StatusCode::UNAUTHORIZED, code, message.to_owned(), mend)
}

/// Who asks, if they may.
fn admit(access: &Access, request: &Request) -> Result<Who, Box<Response>> {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !access.is_our_host(host) {
        let refusal = Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown-host",
            format!("this hub is not known as {:?}", host.chars().take(100).collect::<String>()),
            "use its IP address or localhost, or add the name to `hosts` in the hub's config",
        );
        return Err(boxed(refusal));
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if request.method() != Method::GET && site == Some(b"cross-site") {
        let refusal = Refusal::new(
            StatusCode::FORBIDDEN,
            "cross-site",
            "another web site asked your browser to do this".to_owned(),
            "do it from the hub's own pages",
        );
        return Err(boxed(refusal));
    }
    let path = request.uri().path();
    let needs = needs(request).map_err(boxed)?;
    let who = access.who(headers, path);
    match judge(needs, &who, access.own_door) {
        Verdict::Yes => Ok(who),
        Verdict::WhoAreYou => Err(Box::new(who_are_you(request))),
        verdict if is_registry(path) => Err(Box::new(registry_refusal(verdict))),
        verdict => Err(boxed(not_you(verdict, &who))),
    }
}

/// What the route asks for. What is no route needs what reading needs, and is then not found.
fn needs(request: &Request) -> Result<Needs, Refusal> {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(route) = route.filter(|route| !route.contains("__private__axum")) else {
        return Ok(Needs::Read);
    };
    match rules::find(request.method().as_str(), route) {
        Found::Rule(needs) => Ok(needs),
        Found::OtherMethod => Err(Refusal::other_method(rules::allowed(route))),
        Found::NoRule => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "no-rule",
            "nobody has said who may do this".to_owned(),
            "this is a mistake in the hub: tell its authors",
        )),
    }
}

fn who_are_you(request: &Request) -> Response {
    let (headers, path) = (request.headers(), request.uri().path());
    if is_registry(path) {
        let message = "this hub asks for a token: give any name, and the token as password";
        let challenge = HeaderValue::from_static("Basic realm=\"selvedge\", charset=\"UTF-8\"");
        let refused = Refused::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message);
        return refused.with(header::WWW_AUTHENTICATE, challenge).into_response();
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if request.method() == Method::GET && accept.contains("text/html") {
        return Redirect::to("/login").into_response();
    }
    let refusal = Refusal::new(
        StatusCode::UNAUTHORIZED,
        "token-needed",
        "this hub asks for a token".to_owned(),
        "send it as `Authorization: Bearer …`; the hub's operator has it",
    );
    let mut response = refusal.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Why somebody whom the hub knows may not.
fn not_you(verdict: Verdict, who: &Who) -> Refusal {
    let no = |code, message: String, mend| Refusal::new(StatusCode::FORBIDDEN, code, message, mend);
    match (verdict, who) {
        (Verdict::OnlyNodes, _) => no(
            "only-nodes",
            "only a node does this, with its certificate, at the nodes' door".to_owned(),
            "enrol it: selvedge node enrol --hub https://… --code …",
        ),
        (Verdict::NotNodes, _) => no(
            "not-nodes",
            "a node's certificate does not open this".to_owned(),
            "ask as an operator, with a token",
        ),
        (Verdict::Expired, _) => no(
            "expired",
            "this node's certificate has run out".to_owned(),
            "renew it: POST /api/v1/identity/renew; nodes do so by themselves",
        )
        .passing(RENEWAL_S),
        (_, Who::Operator { name, role }) => no(
            "role",
            format!("{name} is {} here, which does not reach so far", role.as_str()),
            "an admin gives roles; docs/identity.md says what each may do",
        ),
        _ => no("role", "this is not yours to do".to_owned(), "an admin gives roles"),
    }
}

/// The same in the registry's own words.
fn registry_refusal(verdict: Verdict) -> Response {
    let message = match verdict {
        Verdict::Expired => "this node's certificate has run out: it may renew it, and nothing else",
        Verdict::NotNodes => "a node may pull, and nothing else",
        _ => "this token may pull, and nothing else",
    };
    Refused::new(StatusCode::FORBIDDEN, Code::Denied, message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::session::SESSION_S;
    use wire::world::Simulated;
    use zeroize::Zeroizing;

    fn sealer() -> Sealer {
        Sealer::new(Zeroizing::new([7; 32]), false)
    }

    fn access(world: &Simulated) -> Access {
        let hosts = ["Hub.Example.org".to_owned()];
        Access::new(Some("0123456789abcdef"), &hosts, false, false, sealer(), Arc::new(world.clone()))
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
        let who = |name: HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
            access.who(&headers, "/api/v1/nodes")
        };
        let allowed = |name: HeaderName, value: &str| who(name, value) == admin(TOKEN_FILE);
        assert_eq!(access.who(&HeaderMap::new(), "/v2/"), Who::Nobody);
        assert!(allowed(header::AUTHORIZATION, "Bearer 0123456789abcdef"));
        assert!(!allowed(header::AUTHORIZATION, "Bearer 0123456789abcdeg"));
        assert!(!allowed(header::AUTHORIZATION, "0123456789abcdef"));
        let basic = |text: &str, path: &str| {
            let shown = format!("Basic {}", BASE64_STANDARD.encode(text));
            let shown = HeaderValue::from_str(&shown).unwrap();
            access.who(&HeaderMap::from_iter([(header::AUTHORIZATION, shown)]), path) != Who::Nobody
        };
        assert!(basic("any:0123456789abcdef", "/v2/a/tags/list"));
        assert!(!basic("any:0123456789abcdef", "/api/v1/nodes"));
        assert!(!basic("0123456789abcdef", "/v2/") && !basic("0123456789abcdef:", "/v2/"));
        assert!(!allowed(header::AUTHORIZATION, "Basic MDEy"));
        let cookie = access.session_cookie(&admin(TOKEN_FILE)).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let value = cookie.split(';').next().unwrap();
        assert!(allowed(header::COOKIE, &format!("a=b; {value}")));
        let until_s = world.wall_ms() / 1000 + SESSION_S;
        let longer = value.replace(&format!(".{until_s}."), &format!(".{}.", until_s + 1));
        assert_ne!(longer, value);
        assert!(!allowed(header::COOKIE, &longer));
        assert!(!allowed(header::COOKIE, "selvedge_session=1"));
        world.advance_ms(SESSION_S.unsigned_abs() * 1000);
        assert!(!allowed(header::COOKIE, value));
    }

    #[test]
    fn a_session_is_worth_what_its_operator_is_now() {
        use crate::access::tokens::Account;
        let world = Simulated::new(1);
        let access = access(&world);
        let learn = |role, disabled| {
            let operators = [("ann.b".into(), Account { role, disabled })].into();
            access.learn(Directory { operators, tokens: [].into() });
        };
        let cookie = access.session_cookie(&Who::Operator { name: "ann.b".into(), role: Role::Operator });
        let value = cookie.unwrap().split(';').next().unwrap().to_owned();
        let role = || {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&value).unwrap())]);
            match access.who(&headers, "/") {
                Who::Operator { role, .. } => Some(role),
                _ => None,
            }
        };
        assert_eq!(role(), None);
        learn(Role::Admin, false);
        assert_eq!(role(), Some(Role::Operator));
        learn(Role::Viewer, false);
        assert_eq!(role(), Some(Role::Viewer));
        learn(Role::Admin, true);
        assert_eq!(role(), None);
    }

    #[test]
    fn without_anybody_it_is_open_and_with_somebody_it_is_not() {
        use crate::access::tokens::Account;
        let world = Simulated::new(1);
        let access =
            |own_door, open| Access::new(None, &[], own_door, open, sealer(), Arc::new(world.clone()));
        assert_eq!(access(false, false).who(&HeaderMap::new(), "/"), admin(OPEN));
        assert_eq!(access(true, true).who(&HeaderMap::new(), "/"), admin(OPEN));
        assert_eq!(access(true, false).who(&HeaderMap::new(), "/"), Who::Nobody);
        let access = access(false, true);
        let account = Account { role: Role::Viewer, disabled: true };
        access.learn(Directory { operators: [("ann".into(), account)].into(), tokens: [].into() });
        assert_eq!(access.who(&HeaderMap::new(), "/"), Who::Nobody);
    }
}
