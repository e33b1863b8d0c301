//! Where the metadata of a repository of trust comes from: a folder, a server, or a package that brings it along. None of them
//! is believed more than another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forge::repository::metadata_in;
use node::trust::{FILE_TIME, Repository};
use package::trust::metadata::FileName;
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

use crate::login;

/// The largest page of assignments, and how many are read.
const PAGE_MAX_BYTES: usize = 16 << 20;
const PAGES_MAX: usize = 1 << 10;

/// A source of metadata.
pub(crate) enum Source {
    Folder(PathBuf),
    Server(Box<Server>),
    /// Files by name.
    Carried(BTreeMap<String, Vec<u8>>),
}

/// A server, and what it takes to ask it.
pub(crate) struct Server {
    repository: Repository,
    url: Url,
    token: Option<String>,
    authorities: Vec<Certificate>,
    runtime: Runtime,
}

impl Source {
    /// A folder, or the address of a server; a token goes to that server only. At the hub of `selvedge login` its token counts
    /// where none is named, and so do its authorities.
    pub(crate) fn of(words: &Path, token_file: Option<&Path>) -> anyhow::Result<Source> {
        let is_url = |words: &&str| words.starts_with("http://") || words.starts_with("https://");
        let Some(url) = words.to_str().filter(is_url) else { return Ok(Source::Folder(words.to_owned())) };
        let parsed = Url::parse(url).with_context(|| format!("{url:?} is no address"))?;
        let (token, authorities) = (login::token(&parsed, token_file)?, login::authorities(&parsed, None)?);
        let repository = Repository::at(url, token.as_deref(), FILE_TIME)?.with_authorities(&authorities)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = Server { repository, url: parsed, token, authorities, runtime };
        Ok(Source::Server(Box::new(server)))
    }

    /// A file of at most `max_bytes`; `None` if there is none.
    pub(crate) fn fetch(&self, file: &FileName, max_bytes: u64) -> Result<Option<Vec<u8>>, String> {
        match self {
            Source::Folder(folder) => metadata_in(folder, file, max_bytes),
            Source::Server(it) => it.runtime.block_on(it.repository.fetch(file, max_bytes)),
            Source::Carried(files) => {
                Ok(files.get(file.as_str()).filter(|bytes| bytes.len() as u64 <= max_bytes).cloned())
            }
        }
    }

    /// All assignments that a hub keeps, each as it was signed; says why there are none to be had.
    pub(crate) fn assignments(&self) -> Result<Vec<Vec<u8>>, String> {
        match self {
            Source::Server(it) => it.runtime.block_on(pages(it)),
            Source::Folder(_) | Source::Carried(_) => Err("only a hub is asked for them".to_owned()),
        }
    }
}

/// A page of a hub's assignments.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    assignments: Vec<&'a RawValue>,
    next_after: Option<String>,
}

/// Asks the hub that serves the metadata.
async fn pages(server: &Server) -> Result<Vec<Vec<u8>>, String> {
    let failed = |error: reqwest::Error| error.without_url().to_string();
    let client = Client::builder().timeout(FILE_TIME).tls_certs_merge(server.authorities.clone());
    let client = client.build().map_err(failed)?;
    let (mut found, mut after) = (Vec::new(), None::<String>);
    for _ in 0..PAGES_MAX {
        let mut page = server.url.join("/api/v1/assignments").map_err(|error| error.to_string())?;
        if let Some(after) = &after {
            page.query_pairs_mut().append_pair("after", after);
        }
        let request = client.get(page);
        let request = match &server.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let mut answer =
            request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&piece);
            if body.len() > PAGE_MAX_BYTES {
                return Err(format!("a page of them has more than {PAGE_MAX_BYTES} bytes"));
            }
        }
        let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        found.extend(page.assignments.iter().map(|one| one.get().as_bytes().to_vec()));
        match page.next_after {
            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
            _ => return Ok(found),
        }
    }
    Err(format!("there are more than {PAGES_MAX} pages of them"))
}
