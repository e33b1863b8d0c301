//! Brings a model from the network onto the shelf: from an address, or from a repository that speaks like Hugging Face's.
//!
//! Stands before `shelf`. In reading order: [`spec`] reads what a person asks for, [`repository`] lists the files and
//! [`choose`] takes one of them, [`fetch`] brings its bytes over `web` into the [`sink`]; [`event`] is what is told meanwhile.
//!
//! What always holds: a download may be dropped or killed at any instant, and the next one goes on where it stopped; the
//! bytes are the repository's own (SHA-256) where it says which they are; the token goes to its endpoint and nowhere else.

pub mod choose;
pub mod event;
pub mod fetch;
pub mod repository;
pub mod sink;
pub mod spec;

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use wire::hash::Hash;
use wire::world::World;

use self::choose::{ChooseError, RemoteFile};
use self::event::Event;
use self::fetch::{FetchError, Fetched, Job};
use self::sink::{Desk, Sink, SinkError};
use self::spec::{Spec, SpecError, Wanted};
use crate::shelf::facts::{Facts, Origin, Weights};
use crate::shelf::name::ModelName;
use crate::shelf::part::PartState;
use crate::shelf::{Entry, Shelf, State};
use crate::web::http::{Web, WebError, shown};
use crate::web::retry::Patience;

/// Where repositories are, unless told otherwise.
pub const ENDPOINT: &str = "https://huggingface.co";

/// How to pull. `Debug` does not show the token.
#[derive(Clone)]
pub struct Settings {
    /// The repository server, `HF_ENDPOINT`.
    pub endpoint: String,
    /// The token for it, `HF_TOKEN`.
    pub token: Option<String>,
    /// The longest wait for a connection.
    pub connect: Duration,
    /// The longest time without a byte.
    pub idle: Duration,
    /// How much failure is borne.
    pub patience: Patience,
    /// The largest file that is loaded.
    pub max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            endpoint: ENDPOINT.to_owned(),
            token: None,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            patience: Patience::default(),
            // No model in one file is larger; a body without an end stops here at the latest.
            max_bytes: 2 << 40,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "***");
        let Settings { endpoint, connect, idle, patience, max_bytes, .. } = self;
        f.debug_struct("Settings")
            .field("endpoint", endpoint)
            .field("token", &token)
            .field("connect", connect)
            .field("idle", idle)
            .field("patience", patience)
            .field("max_bytes", max_bytes)
            .finish()
    }
}

/// Why a model did not come.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The endpoint is no address.
    #[error("{endpoint:?} is not a repository server's address; it reads like {ENDPOINT}")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
    },
    /// A token that cannot stand in a header.
    #[error("the token has a character that cannot be sent; copy it again, without blanks and line ends")]
    BadToken,
    /// Nothing to pull.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No file of the repository fits.
    #[error(transparent)]
    Choose(#[from] ChooseError),
    /// The repository does not answer.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The repository failed too often in a row.
    #[error("gave up after {failures} failures")]
    GaveUp {
        /// How many.
        failures: u32,
        /// The last one.
        source: WebError,
    },
    /// The file does not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The shelf refuses.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Another model has the name.
    #[error("there is already another model {name} (from {from}); choose another name, or replace it")]
    Taken {
        /// The name.
        name: ModelName,
        /// Where that one is from.
        from: String,
    },
    /// The server says that the model here is its own, but it is not whole here.
    #[error("{name} is damaged here, and {url} does not send it again; remove it and pull again")]
    Damaged {
        /// The model.
        name: ModelName,
        /// Where it was asked for.
        url: String,
    },
}

/// What to do with what comes.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The model's name; `None`: after the repository and the file.
    pub name: Option<ModelName>,
    /// Take the place of another model of the same name.
    pub replace: bool,
}

/// A file that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    url: Url,
    /// The name it gets if none is chosen.
    pub name: ModelName,
    /// The file, as the server calls it.
    pub file: String,
    /// Its size, if the repository says it.
    pub size_bytes: Option<u64>,
    /// Its hash, if the repository says it.
    pub sha256: Option<Hash>,
    origin: Origin,
}

/// How a pull ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The model.
    pub entry: Entry,
    /// Whether it was here already, the same as the server's.
    pub was_here: bool,
}

/// Brings models from the network.
#[derive(Debug)]
pub struct Puller {
    web: Web,
    settings: Settings,
}

impl Puller {
    /// Checks the settings; talks to nobody yet.
    pub fn new(settings: Settings) -> Result<Puller, PullError> {
        let bad = || PullError::BadEndpoint { endpoint: settings.endpoint.clone() };
        let endpoint = Url::parse(settings.endpoint.trim()).map_err(|_| bad())?;
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
            return Err(bad());
        }
        let token = settings.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        let token = token.map(|token| {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| PullError::BadToken)?;
            value.set_sensitive(true);
            Ok::<_, PullError>(value)
        });
        let web = Web::new(endpoint, token.transpose()?, settings.connect, settings.idle)?;
        Ok(Puller { web, settings })
    }

    /// All files of a repository, for those who want to choose themselves. `revision`: `None` is the main branch.
    pub async fn files(
        &self,
        repository: &str,
        revision: Option<&str>,
        world: &mut impl World,
        mut tell: impl FnMut(Event),
    ) -> Result<Vec<RemoteFile>, PullError> {
        tell(Event::Listing { repository: repository.to_owned() });
        let revision = revision.unwrap_or(repository::MAIN);
        let mut failures = 0;
        loop {
            let error = match repository::files(&self.web, repository, revision).await {
                Ok(files) => return Ok(files),
                Err(WebError::Gated { had_token, .. }) => {
                    let url = repository::page(self.web.endpoint(), repository);
                    return Err(WebError::Gated { url, had_token }.into());
                }
                Err(error) => error,
            };
            let Some(asked_ms) = error.passes() else { return Err(error.into()) };
            failures += 1;
            let Some(wait_ms) = self.settings.patience.wait_ms(failures, asked_ms, world) else {
                return Err(PullError::GaveUp { failures, source: error });
            };
            tell(Event::Waiting { wait_ms, why: error.to_string() });
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    /// Finds the file that is meant: `owner/name`, `owner/name:q4_k_m`, `owner/name/file.gguf` or an address. Of a repository the
    /// listing is asked for; an address is not asked yet.
    pub async fn look_up(
        &self,
        spec: &str,
        world: &mut impl World,
        tell: impl FnMut(Event),
    ) -> Result<Target, PullError> {
        match Spec::parse(spec, self.web.endpoint())? {
            Spec::Address(url) => {
                let file = url.path().rsplit('/').next().unwrap_or_default().to_owned();
                let origin = Origin { url: Some(shown(&url)), ..Origin::default() };
                Ok(Target {
                    name: ModelName::of_file(&file),
                    file,
                    size_bytes: None,
                    sha256: None,
                    url,
                    origin,
                })
            }
            Spec::Repository { repository, revision, wanted } => {
                let files = self.files(&repository, revision.as_deref(), world, tell).await?;
                Ok(self.target(&repository, revision, &files, &wanted)?)
            }
        }
    }

    /// The file of a repository that is wanted, of those that [`Puller::files`] gave.
    pub fn target(
        &self,
        repository: &str,
        revision: Option<String>,
        files: &[RemoteFile],
        wanted: &Wanted,
    ) -> Result<Target, ChooseError> {
        let RemoteFile { path, size_bytes, sha256 } = choose::choose(repository, files, wanted)?.clone();
        let branch = revision.as_deref().unwrap_or(repository::MAIN);
        let url = repository::resolve(self.web.endpoint(), repository, branch, &path);
        let origin = Origin {
            url: Some(shown(&url)),
            repository: Some(repository.to_owned()),
            revision,
            file: Some(path.clone()),
            ..Origin::default()
        };
        Ok(Target {
            name: ModelName::of_repository(repository, &path),
            file: path,
            size_bytes,
            sha256,
            url,
            origin,
        })
    }

    /// Brings a model onto the shelf: [`Puller::look_up`], then [`Puller::bring`].
    pub async fn pull(
        &self,
        shelf: &Shelf,
        spec: &str,
        order: &Order,
        world: &mut impl World,
        mut tell: impl FnMut(Event),
    ) -> Result<Pulled, PullError> {
        let target = self.look_up(spec, world, &mut tell).await?;
        self.bring(shelf, &target, order, world, tell).await
    }

    /// Brings a file onto the shelf. A model that came from the same place before is brought up to date: nothing comes if the
    /// server still has the same. Dropping the future leaves a part that the next call goes on with.
    pub async fn bring(
        &self,
        shelf: &Shelf,
        target: &Target,
        order: &Order,
        world: &mut impl World,
        mut tell: impl FnMut(Event),
    ) -> Result<Pulled, PullError> {
        let name = order.name.clone().unwrap_or_else(|| target.name.clone());
        let (file, total_bytes) = (target.file.clone(), target.size_bytes);
        tell(Event::Chosen { name: name.clone(), file, total_bytes });
        let wanted = PartState {
            source_key: Hash::of(target.url.as_str().as_bytes()),
            etag: None,
            total_bytes,
            sha256: target.sha256,
            synced_bytes: 0,
            origin: target.origin.clone(),
        };
        let (place, max_bytes) = ((shelf.clone(), name.clone()), self.settings.max_bytes);
        let open = move || {
            let (shelf, name) = place;
            let sink = Sink::open(shelf.take(&name)?, shelf.room().clone(), wanted, max_bytes)?;
            let there = sink.facts()?.map(|(folder, facts)| Entry::new(&folder, facts));
            Ok::<_, SinkError>((sink, there))
        };
        let (sink, there) = match tokio::task::spawn_blocking(open).await {
            Ok(opened) => opened?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let mut if_none_match = None;
        if let Some(entry) = &there {
            let facts = &entry.facts;
            let is_whole = entry.state == State::Ready;
            if is_whole && target.sha256.is_some() && facts.sha256 == target.sha256 {
                return Ok(Pulled { entry: entry.clone(), was_here: true });
            }
            let same_place = facts.origin.same_place(&target.origin);
            if !same_place && !order.replace {
                return Err(PullError::Taken { name, from: source_of(facts) });
            }
            if_none_match = facts.origin.etag.clone().filter(|_| same_place && is_whole);
        }
        let job = Job {
            url: target.url.clone(),
            promised_bytes: target.size_bytes,
            if_none_match,
            idle: self.settings.idle,
            patience: self.settings.patience,
        };
        let mut desk = Desk::new(sink);
        let sha256 = match fetch::fetch(&self.web, &job, &mut desk, world, &mut tell)
            .await
            .map_err(|error| self.told(error, target))?
        {
            Fetched::All(sha256) => sha256,
            Fetched::NotModified => match there {
                Some(entry) if entry.state == State::Ready => return Ok(Pulled { entry, was_here: true }),
                _ => return Err(PullError::Damaged { name, url: shown(&target.url) }),
            },
        };
        let origin = desk.sink().state.origin.clone();
        let weights = Weights::Own { file: String::new() };
        let facts = Facts { name, weights, size_bytes: 0, sha256: None, added_ms: world.wall_ms(), origin };
        let entry = desk.work(move |sink| {
            let (folder, facts) = sink.keep(facts, sha256)?;
            Ok(Entry::new(&folder, facts))
        });
        Ok(Pulled { entry: entry.await?, was_here: false })
    }

    /// A gated file is told by the page where its terms are accepted, not by its own address.
    fn told(&self, error: FetchError, target: &Target) -> FetchError {
        match (error, &target.origin.repository) {
            (FetchError::Web(WebError::Gated { had_token, .. }), Some(repository)) => {
                let url = repository::page(self.web.endpoint(), repository);
                FetchError::Web(WebError::Gated { url, had_token })
            }
            (error, _) => error,
        }
    }
}

fn source_of(facts: &Facts) -> String {
    let Origin { url, repository, file, .. } = &facts.origin;
    let place = repository.as_ref().or(url.as_ref()).or(file.as_ref());
    place.map_or_else(|| "this machine".to_owned(), Clone::clone)
}
