//! A package goes to a registry: ours, or anybody's who speaks OCI distribution.
//!
//! Blobs first, then the manifests that name them, the index last under its tag: whoever pulls in between sees the old release
//! or the new one. What the registry has is not sent; what was cut goes on where it stopped.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::time::Duration;

use package::descriptor::Descriptor;
use package::digest::Digest;
use package::disk::{Disk, DiskFile, read_full};
use package::form::{DOCUMENT_MAX_BYTES, FormError};
use package::index::Index;
use package::layout::{Layout, LayoutError};
use package::manifest::Manifest;
use package::media;
use package::registry::{
    Challenge, Reference, RegistryErrors, RepoName, Tag, Told, Upload, UploadError, UploadStep,
};
use reqwest::header::{
    AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, Url};
use serde::Deserialize;
use tokio::time::sleep;

/// How much of a blob goes in one request; so much of it is in memory.
const PIECE_BYTES: u64 = 8 << 20;

/// How long nothing may come from the registry.
const SILENCE: Duration = Duration::from_secs(120);

/// How often a request is made again that the registry was too busy for, or that was cut.
const TRIES: u32 = 5;

/// The longest that is waited between.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How deep indices may stand in indices.
const DEPTH_MAX: usize = 4;

/// The most that is read of a refusal or a token.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// Where to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The registry: `https://host:port`, nothing behind.
    pub base: Url,
    /// The repository.
    pub name: RepoName,
    /// What the package shall be called there.
    pub tag: Tag,
    /// Who we are.
    pub login: Option<Login>,
    /// Whom to believe about it, beside the system's authorities.
    pub authorities: Vec<Certificate>,
}

/// Who we are.
#[derive(Clone)]
pub struct Login {
    /// A name; a hub takes any.
    pub user: String,
    /// A password or token.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A blob of so many bytes is next.
    Blob {
        /// Which.
        digest: Digest,
        /// Its size.
        bytes: u64,
    },
    /// The registry has it already.
    There,
    /// So many bytes of it have gone.
    Sent {
        /// From its beginning.
        bytes: u64,
    },
    /// The registry is busy or gone; again in so many milliseconds.
    Waiting {
        /// How long.
        wait_ms: u64,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The digest that the tag names now.
    pub digest: Digest,
    /// Blobs that went.
    pub blobs: usize,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Blobs that were there.
    pub there: usize,
}

/// A package that did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The package on this side.
    #[error("the package cannot be read")]
    Layout(#[from] LayoutError),
    /// A document of it.
    #[error("{digest} in the package cannot be read")]
    Form {
        /// Which.
        digest: Digest,
        /// Why.
        source: FormError,
    },
    /// A file of it.
    #[error("{digest} in the package cannot be read: is the disk in order?")]
    File {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// Shorter than the manifest says.
    #[error("{digest} has not the {bytes} bytes that its manifest says: the package is not whole")]
    Short {
        /// Which.
        digest: Digest,
        /// How many it should have.
        bytes: u64,
    },
    /// An index in an index, and so on.
    #[error("indices stand in one another more than {DEPTH_MAX} deep")]
    Deep,
    /// HTTPS cannot be set up.
    #[error("no secure connection can be made; are ca-certificates installed?")]
    Setup(#[source] reqwest::Error),
    /// The registry cannot be reached.
    #[error("{host} cannot be reached; is the address right, and does it speak {scheme}?")]
    Unreachable {
        /// Who.
        host: String,
        /// How we spoke.
        scheme: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It asks who we are, and we do not know or are not let in.
    #[error("{host} does not let us in: {}", if *had_login { "it knows no such name and token" } else { "it asks for a token" })]
    NotLetIn {
        /// Who.
        host: String,
        /// Whether we said who we are.
        had_login: bool,
    },
    /// It says no.
    #[error("{host} refuses {what} (status {status}){}", if why.is_empty() { String::new() } else { format!(": {why}") })]
    Refused {
        /// Who.
        host: String,
        /// What we did.
        what: String,
        /// The status.
        status: u16,
        /// Why, in its words.
        why: String,
    },
    /// A blob does not arrive.
    #[error("{host} does not take a blob")]
    Upload {
        /// Who.
        host: String,
        /// Why.
        source: UploadError,
    },
    /// An address that is none.
    #[error("{host} sends us to {place:?}, which is no address")]
    Place {
        /// Who.
        host: String,
        /// The beginning of what it said.
        place: String,
    },
}

/// Sends what has a name in a layout, and all that it needs.
pub async fn publish<D: Disk>(
    layout: &Layout<D>,
    root: &Descriptor,
    to: &Target,
    tell: &mut dyn FnMut(Step),
) -> Result<Published, PublishError> {
    let client = Client::builder().connect_timeout(Duration::from_secs(20)).read_timeout(SILENCE);
    let client = client.tls_certs_merge(to.authorities.clone()).build().map_err(PublishError::Setup)?;
    let mut sender = Sender { client, to, shown: None, tell };
    sender.enter().await?;
    let mut tree = Tree::default();
    tree.read(layout, root, 0)?;
    let mut published = Published { digest: root.digest, blobs: 0, sent_bytes: 0, there: 0 };
    for blob in &tree.blobs {
        match sender.blob(layout, blob).await? {
            0 => published.there += 1,
            bytes => {
                published.blobs += 1;
                published.sent_bytes += bytes;
            }
        }
    }
    let last = tree.manifests.len().saturating_sub(1);
    for (at, (kind, digest, bytes)) in tree.manifests.into_iter().enumerate() {
        let reference = match at == last {
            true => Reference::Tag(to.tag.clone()),
            false => Reference::Digest(digest),
        };
        sender.manifest(&reference, &kind, bytes).await?;
    }
    Ok(published)
}

/// All of a package, in the order in which it goes.
#[derive(Default)]
struct Tree {
    blobs: Vec<Descriptor>,
    manifests: Vec<(String, Digest, Vec<u8>)>,
    seen: BTreeSet<Digest>,
}

impl Tree {
    fn read<D: Disk>(
        &mut self,
        layout: &Layout<D>,
        entry: &Descriptor,
        depth: usize,
    ) -> Result<(), PublishError> {
        if !self.seen.insert(entry.digest) {
            return Ok(());
        }
        let digest = entry.digest;
        let form = |source| PublishError::Form { digest, source };
        let bytes = layout.read_blob(&digest, DOCUMENT_MAX_BYTES as u64)?;
        if entry.media_type == media::OCI_INDEX {
            if depth >= DEPTH_MAX {
                return Err(PublishError::Deep);
            }
            for child in &Index::parse(&bytes).map_err(form)?.manifests {
                self.read(layout, child, depth + 1)?;
            }
        } else {
            let Manifest { config, layers, .. } = Manifest::parse(&bytes).map_err(form)?;
            for blob in [config].into_iter().chain(layers) {
                if self.seen.insert(blob.digest) {
                    self.blobs.push(blob);
                }
            }
        }
        self.manifests.push((entry.media_type.clone(), digest, bytes));
        Ok(())
    }
}

/// A conversation with a registry.
struct Sender<'a> {
    client: Client,
    to: &'a Target,
    /// The header that lets us in.
    shown: Option<String>,
    tell: &'a mut dyn FnMut(Step),
}

/// A token of a registry's own office.
#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl Sender<'_> {
    fn host(&self) -> String {
        self.to.base.host_str().unwrap_or_default().to_owned()
    }

    fn unreachable(&self, source: reqwest::Error) -> PublishError {
        let scheme = self.to.base.scheme().to_owned();
        PublishError::Unreachable { host: self.host(), scheme, source: source.without_url() }
    }

    /// Says who we are, the way the registry asks for it.
    async fn enter(&mut self) -> Result<(), PublishError> {
        let answer = self.send(|sender| sender.request(Method::GET, "/v2/")).await?;
        if answer.status() != 401 {
            return Ok(());
        }
        let host = self.host();
        let not_let_in = |had_login| PublishError::NotLetIn { host: host.clone(), had_login };
        let login = self.to.login.clone().ok_or_else(|| not_let_in(false))?;
        match text(&answer, WWW_AUTHENTICATE).and_then(Challenge::parse) {
            Some(Challenge::Bearer { realm, service, scope: _ }) => {
                let mut url = self.place(&realm)?;
                let scope = format!("repository:{}:pull,push", self.to.name);
                url.query_pairs_mut().append_pair("scope", &scope);
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", &service);
                }
                let Login { user, password } = &login;
                let asked = self.client.get(url).basic_auth(user, Some(password));
                let answer = asked.send().await.map_err(|error| self.unreachable(error))?;
                let body = body(answer).await;
                let token: Token = serde_json::from_slice(&body).map_err(|_| not_let_in(true))?;
                self.shown = Some(format!("Bearer {}", token.token));
                Ok(())
            }
            _ => {
                let basic =
                    self.client.get(self.to.base.clone()).basic_auth(login.user, Some(login.password));
                let built = basic.build().map_err(|error| self.unreachable(error))?;
                let shown = built.headers().get(AUTHORIZATION).and_then(|shown| shown.to_str().ok());
                self.shown = shown.map(str::to_owned);
                let answer = self.send(|sender| sender.request(Method::GET, "/v2/")).await?;
                if answer.status() == 401 { Err(not_let_in(true)) } else { Ok(()) }
            }
        }
    }

    /// An address as a registry gives it: whole, or a path.
    fn place(&self, place: &str) -> Result<Url, PublishError> {
        let wrong = || PublishError::Place { host: self.host(), place: place.chars().take(120).collect() };
        let url = self.to.base.join(place).map_err(|_| wrong())?;
        if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(wrong()) }
    }

    /// Who we are is told to the registry itself and to nobody whom it names.
    fn request(&self, method: Method, place: &str) -> Result<RequestBuilder, PublishError> {
        let url = self.place(place)?;
        let shown = self.shown.as_ref().filter(|_| url.origin() == self.to.base.origin());
        let request = self.client.request(method, url);
        Ok(match shown {
            Some(shown) => request.header(AUTHORIZATION, shown),
            None => request,
        })
    }

    /// Asks until there is an answer that does not say "later".
    async fn send(
        &mut self,
        request: impl Fn(&Self) -> Result<RequestBuilder, PublishError>,
    ) -> Result<Response, PublishError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let asked = request(self)?.send().await;
            let wait = match asked {
                Ok(answer) if is_later(&answer) && tries < TRIES => {
                    let after = text(&answer, RETRY_AFTER).and_then(|after| after.parse().ok());
                    after.map(Duration::from_secs)
                }
                Ok(answer) => return Ok(answer),
                Err(error) if tries >= TRIES => return Err(self.unreachable(error)),
                Err(_) => None,
            };
            self.wait(wait.unwrap_or(Duration::from_millis(500 << tries))).await;
        }
    }

    async fn wait(&mut self, wait: Duration) {
        let wait = wait.min(WAIT_MAX);
        (self.tell)(Step::Waiting { wait_ms: u64::try_from(wait.as_millis()).unwrap_or_default() });
        sleep(wait).await;
    }

    /// Sends a blob; gives how many bytes went, none if it was there.
    async fn blob<D: Disk>(&mut self, layout: &Layout<D>, blob: &Descriptor) -> Result<u64, PublishError> {
        let (digest, size) = (blob.digest, blob.size);
        (self.tell)(Step::Blob { digest, bytes: size });
        let file = layout.blob(&digest)?;
        let mut upload = Upload::new(&self.to.name, digest, size, PIECE_BYTES);
        let mut sent = 0;
        loop {
            let answer = match upload.step().clone() {
                UploadStep::Done if sent == 0 => {
                    (self.tell)(Step::There);
                    return Ok(0);
                }
                UploadStep::Done => return Ok(sent),
                UploadStep::Look { path } => Some(self.send(|it| it.request(Method::HEAD, &path)).await?),
                UploadStep::Begin { path } => Some(self.send(|it| it.request(Method::POST, &path)).await?),
                UploadStep::Ask { location } => {
                    Some(self.send(|it| it.request(Method::GET, &location)).await?)
                }
                UploadStep::Finish { location } => {
                    Some(self.send(|it| it.request(Method::PUT, &location)).await?)
                }
                UploadStep::Send { location, range } => {
                    let piece = read(&file, range.clone())
                        .map_err(|source| PublishError::File { digest, source })?
                        .ok_or(PublishError::Short { digest, bytes: size })?;
                    let place = format!("{}-{}", range.start, range.end - 1);
                    let request = self.request(Method::PATCH, &location)?.header(CONTENT_RANGE, place);
                    let answer = request.body(piece).send().await.ok();
                    let answer = answer.filter(|answer| !is_later(answer));
                    if answer.is_some() {
                        sent += range.end - range.start;
                        (self.tell)(Step::Sent { bytes: range.end });
                    }
                    answer
                }
            };
            let host = self.host();
            let failed = |source| PublishError::Upload { host, source };
            match answer {
                Some(answer) if is_refusal(&answer) => {
                    return Err(self.refused(format!("the blob {digest}"), answer).await);
                }
                Some(answer) => {
                    let status = answer.status().as_u16();
                    let (location, range) = (text(&answer, LOCATION), text(&answer, RANGE));
                    upload.take(Told { status, location, range }).map_err(failed)?;
                }
                None => {
                    // Of a piece that was cut nobody knows how much arrived: that is asked next.
                    upload.take(Told { status: 416, ..Told::default() }).map_err(failed)?;
                    self.wait(Duration::from_secs(2)).await;
                }
            }
        }
    }

    async fn manifest(
        &mut self,
        reference: &Reference,
        kind: &str,
        bytes: Vec<u8>,
    ) -> Result<(), PublishError> {
        let path = self.to.name.manifest(reference);
        let put = self.send(|it| {
            let request = it.request(Method::PUT, &path)?;
            Ok(request.header(CONTENT_TYPE, kind).body(bytes.clone()))
        });
        let answer = put.await?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(self.refused(format!("the manifest {reference}"), answer).await),
        }
    }

    async fn refused(&self, what: String, answer: Response) -> PublishError {
        let (host, status) = (self.host(), answer.status().as_u16());
        if status == 401 || status == 403 {
            return PublishError::NotLetIn { host, had_login: self.shown.is_some() };
        }
        let why = RegistryErrors::parse(&body(answer).await).map(|why| why.to_string());
        PublishError::Refused { host, what, status, why: why.unwrap_or_default() }
    }
}

/// A piece of a blob's file; `None` if it ends before.
fn read(file: &impl DiskFile, range: Range<u64>) -> io::Result<Option<Vec<u8>>> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut piece = vec![0; length];
    Ok((read_full(file, range.start, &mut piece)? == length).then_some(piece))
}

/// Busy, or broken for now.
fn is_later(answer: &Response) -> bool {
    matches!(answer.status().as_u16(), 429 | 500 | 502..=504)
}

/// A no that is not one of the words by which a push is steered.
fn is_refusal(answer: &Response) -> bool {
    answer.status().is_client_error() && !matches!(answer.status().as_u16(), 404 | 416)
}

fn text(answer: &Response, name: HeaderName) -> Option<&str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

/// The beginning of a body.
async fn body(mut answer: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_MAX_BYTES {
            body.truncate(ANSWER_MAX_BYTES);
            break;
        }
    }
    body
}
