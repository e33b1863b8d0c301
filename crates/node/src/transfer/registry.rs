//! An OCI registry as an origin: our hub, anybody's registry, or a neighbour's door.
//!
//! A registry that asks who we are is answered once with what it asks for: name and password, or a token that we get where
//! it sends us. Tokens are kept until they are refused. Secrets go to the registry and to the place it names for tokens,
//! never along a redirect to somewhere else.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::form::DOCUMENT_MAX_BYTES;
use package::media;
use package::registry::{Challenge, Reference, RepoName, Tag};
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Url};
use serde::Deserialize;

use crate::identity::tls::HubTls;
use crate::transfer::origin::{Body, Fault, Later, Origin, Reply, Wanted};
use crate::web::answer::judge_part;
use crate::web::http::{Answer, Ask, Web, WebError, shown};

/// The largest answer with a token.
const TOKEN_MAX_BYTES: usize = 64 << 10;

/// The largest page of tags, and how many pages are read.
const TAGS_MAX_BYTES: usize = 1 << 20;
const TAG_PAGES_MAX: usize = 64;

/// What manifests may be.
const MANIFESTS: [&str; 2] = [media::OCI_MANIFEST, media::OCI_INDEX];

/// A registry that cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not an address.
    #[error("{url:?} is no registry's address; it reads like https://registry.example")]
    Address {
        /// What was given.
        url: String,
    },
    /// A secret that cannot stand in a header.
    #[error("the registry's name or token has a character that cannot be sent; copy it again")]
    Login,
    /// HTTP cannot be set up.
    #[error(transparent)]
    Web(#[from] WebError),
}

/// Who we are, to a registry. `Debug` shows no secret.
#[derive(Clone, Default)]
pub enum Login {
    /// Nobody.
    #[default]
    Anonymous,
    /// A name and a password, sent when they are asked for.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token, sent with every question: our hub's.
    Bearer(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Login::Anonymous => "Anonymous",
            Login::Basic { .. } => "Basic(***)",
            Login::Bearer(_) => "Bearer(***)",
        })
    }
}

/// A repository of a registry.
#[derive(Debug)]
pub struct Registry {
    web: Web,
    repo: RepoName,
    name: String,
    is_near: bool,
    /// Name and password, ready to be sent.
    basic: Option<HeaderValue>,
    /// What the registry took last.
    taken: Mutex<Option<HeaderValue>>,
}

/// What a server of tokens answers.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// A page of a repository's tags.
#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Registry {
    /// The repository `repo` of the registry at `url`, `https://host:port`. Every wait for bytes ends after `idle`.
    pub fn new(url: &str, repo: RepoName, login: &Login, idle: Duration) -> Result<Registry, RegistryError> {
        let bad = || RegistryError::Address { url: url.to_owned() };
        let base = Url::parse(url.trim()).map_err(|_| bad())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(bad());
        }
        let (basic, taken) = match login {
            Login::Anonymous => (None, None),
            Login::Basic { user, password } => {
                (Some(secret("Basic", &BASE64_STANDARD.encode(format!("{user}:{password}")))?), None)
            }
            Login::Bearer(token) => (None, Some(secret("Bearer", token.trim())?)),
        };
        let name = format!("{}{repo}", shown(&base));
        let web = Web::new(base, None, CONNECT.min(idle), idle)?;
        Ok(Registry { web, repo, name, is_near: false, basic, taken: Mutex::new(taken) })
    }

    /// The same, where the registry is our hub, which knows us by a certificate.
    pub fn with_tls(self, tls: Option<&HubTls>) -> Result<Registry, RegistryError> {
        Ok(Registry { web: self.web.with_tls(tls)?, ..self })
    }

    /// The same, where these authorities vouch for the registry beside the system's.
    pub fn with_authorities(self, authorities: &[Certificate]) -> Result<Registry, RegistryError> {
        Ok(Registry { web: self.web.with_authorities(authorities)?, ..self })
    }

    /// The same, next to us: no rate is kept.
    #[must_use]
    pub fn near(self) -> Registry {
        Registry { is_near: true, ..self }
    }

    /// The manifest or index that a tag names now, or that has this digest. Whoever asks by tag believes the registry.
    pub async fn manifest(&self, reference: &Reference) -> Result<Vec<u8>, Fault> {
        let ask = Ask { accept: MANIFESTS.to_vec(), ..Ask::default() };
        let answer = self.get(&self.repo.manifest(reference), &ask).await?;
        let body = answer.body(DOCUMENT_MAX_BYTES).await.map_err(fault)?;
        match reference {
            Reference::Digest(digest) if Digest::of(&body) != *digest => {
                Err(Fault::WrongBytes { range: 0..body.len() as u64 })
            }
            _ => Ok(body),
        }
    }

    /// A document that is no manifest, such as a config.
    pub async fn document(&self, blob: &Descriptor) -> Result<Vec<u8>, Fault> {
        if blob.size > DOCUMENT_MAX_BYTES as u64 {
            let why = format!("a document of {} bytes, at most {DOCUMENT_MAX_BYTES} are read", blob.size);
            return Err(Fault::WrongRange { why });
        }
        let answer = self.get(&self.repo.blob(&blob.digest), &Ask::default()).await?;
        let body = answer.body(DOCUMENT_MAX_BYTES).await.map_err(fault)?;
        match Digest::of(&body) == blob.digest {
            true => Ok(body),
            false => Err(Fault::WrongBytes { range: 0..body.len() as u64 }),
        }
    }

    /// The tags of the repository, as the registry orders them; what is no tag is passed over.
    pub async fn tags(&self) -> Result<Vec<Tag>, Fault> {
        let (mut tags, mut path) = (Vec::<Tag>::new(), self.repo.tags());
        for _ in 0..TAG_PAGES_MAX {
            let answer = self.get(&path, &Ask::default()).await?;
            let is_last = answer.header("link").is_none();
            let body = answer.body(TAGS_MAX_BYTES).await.map_err(fault)?;
            let no_list = || Fault::Denied { why: "its list of tags cannot be read".to_owned() };
            let page: Tags = serde_json::from_slice(&body).map_err(|_| no_list())?;
            tags.extend(page.tags.unwrap_or_default().iter().filter_map(|tag| Tag::new(tag).ok()));
            match tags.last().filter(|_| !is_last) {
                Some(last) => path = format!("{}?last={last}", self.repo.tags()),
                None => break,
            }
        }
        Ok(tags)
    }

    fn taken(&self) -> Option<HeaderValue> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks; answers one challenge.
    async fn get(&self, path: &str, ask: &Ask) -> Result<Answer, Fault> {
        let home = self.web.endpoint();
        let url = home.join(path).map_err(|_| Fault::Denied { why: format!("{path} is no path") })?;
        let taken = self.taken();
        let challenge = match self.web.get_as(&url, ask, home, taken.as_ref()).await {
            Err(WebError::NotAllowed { status: 401, challenge: Some(challenge), .. }) => challenge,
            answer => return answer.map_err(fault),
        };
        let answer = self.answer(&challenge).await?;
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
        self.web.get_as(&url, ask, home, Some(&answer)).await.map_err(fault)
    }

    /// What a challenge asks for.
    async fn answer(&self, challenge: &str) -> Result<HeaderValue, Fault> {
        let denied = |why: &str| Fault::Denied { why: why.to_owned() };
        match Challenge::parse(challenge) {
            Some(Challenge::Basic) => {
                self.basic.clone().ok_or_else(|| denied("it asks for a name and a password"))
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let mut url = Url::parse(&realm).map_err(|_| denied("it sends us nowhere for a token"))?;
                let schemes = (self.web.endpoint().scheme(), url.scheme());
                let is_safe = matches!(schemes, ("http", "http") | (_, "https"));
                if !is_safe {
                    return Err(denied("it sends us for a token to where we do not follow"));
                }
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repo));
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", &service);
                }
                url.query_pairs_mut().append_pair("scope", &scope);
                let answer = self.web.get_as(&url, &Ask::default(), &url, self.basic.as_ref()).await;
                let body = answer.map_err(fault)?.body(TOKEN_MAX_BYTES).await.map_err(fault)?;
                let token: Option<Token> = serde_json::from_slice(&body).ok();
                let token = token.and_then(|token| token.token.or(token.access_token));
                let token = token.and_then(|token| secret("Bearer", &token).ok());
                token.ok_or_else(|| denied("its server of tokens gives none"))
            }
            None => Err(denied("it asks for what we do not have")),
        }
    }
}

/// Neighbours as origins, in the order of `peers`, each asked with `token`.
pub fn neighbours(
    peers: &[String],
    token: Option<&str>,
    repo: &RepoName,
    idle: Duration,
) -> Result<Vec<Box<dyn Origin>>, RegistryError> {
    let login = token.map_or(Login::Anonymous, |token| Login::Bearer(token.to_owned()));
    let peers = peers.iter().map(|peer| {
        let origin: Box<dyn Origin> = Box::new(Registry::new(peer, repo.clone(), &login, idle)?.near());
        Ok(origin)
    });
    peers.collect()
}

const CONNECT: Duration = Duration::from_secs(10);

fn secret(kind: &str, text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(&format!("{kind} {text}")).map_err(|_| RegistryError::Login)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Origin for Registry {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_near(&self) -> bool {
        self.is_near
    }

    fn read<'a>(&'a self, wanted: &'a Wanted, range: Option<Range<u64>>) -> Later<'a, Result<Reply, Fault>> {
        Box::pin(async move {
            let (path, accept) = match wanted.is_manifest {
                true => (self.repo.manifest(&Reference::Digest(wanted.digest)), MANIFESTS.to_vec()),
                false => (self.repo.blob(&wanted.digest), Vec::new()),
            };
            // Who asks for all of it needs no range.
            let range = range.filter(|range| *range != (0..wanted.size));
            let (from, until) = range.as_ref().map_or((0, None), |range| (range.start, Some(range.end)));
            let answer = self.get(&path, &Ask { from, until, accept, ..Ask::default() }).await?;
            let wrong = |why: &str| Fault::WrongRange { why: why.to_owned() };
            let range = judge_part(&answer.head, range.as_ref(), wanted.size).map_err(wrong)?;
            let body: Box<dyn Body> = Box::new(answer);
            Ok(Reply { range, body })
        })
    }
}

impl Body for Answer {
    fn next(&mut self) -> Later<'_, Result<Option<Vec<u8>>, Fault>> {
        Box::pin(async move {
            let piece = self.chunk().await.map_err(fault)?;
            Ok(piece.map(|piece| piece.as_ref().to_vec()))
        })
    }
}

/// What an error of HTTP means for a transfer.
fn fault(error: WebError) -> Fault {
    let passes = error.passes();
    match error {
        WebError::Unreachable { why, .. } => Fault::Unreachable { why },
        WebError::Broken { why, .. } => Fault::Reset { why },
        WebError::NotFound { .. } => Fault::NotThere,
        WebError::NotAllowed { status, .. } => {
            Fault::Denied { why: format!("status {status}: check the name, and the login for this registry") }
        }
        WebError::Gated { .. } => Fault::Denied { why: "its terms must be accepted first".to_owned() },
        WebError::Refused { status, .. } => match passes {
            Some(asked_ms) => Fault::Busy { why: format!("status {status}"), asked_ms },
            None => Fault::Denied { why: format!("status {status}") },
        },
        error => Fault::Denied { why: error.to_string() },
    }
}
