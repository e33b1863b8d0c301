//! Lists the files of a repository that speaks like Hugging Face's.
//!
//! The tree of a revision tells paths, sizes and hashes; mirrors that have no tree have the older description of a
//! repository, whose `siblings` tell the same. Everything in a listing is a stranger's word: bounded, and checked.

use reqwest::Url;
use serde::Deserialize;
use wire::hash::Hash;

use crate::pull::choose::RemoteFile;
use crate::pull::spec::is_path;
use crate::web::http::{Answer, Ask, Web, WebError, shown};

/// The largest page of a listing, the most pages, and the most files that are kept.
const PAGE_MAX_BYTES: usize = 8 << 20;
const PAGES_MAX: usize = 50;
const FILES_MAX: usize = 20_000;

/// The branch that is meant when none is named.
pub(crate) const MAIN: &str = "main";

#[derive(Deserialize)]
struct TreeItem {
    #[serde(rename = "type")]
    kind: Option<String>,
    path: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    /// The tree calls it `oid`, the description `sha256`.
    #[serde(alias = "sha256")]
    oid: Option<String>,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

fn remote(path: String, size: Option<u64>, lfs: Option<Lfs>) -> RemoteFile {
    let (oid, linked) = lfs.map_or((None, None), |lfs| (lfs.oid, lfs.size));
    let sha256 = oid.and_then(|oid| Hash::parse(oid.strip_prefix("sha256:").unwrap_or(&oid)));
    RemoteFile { path, size_bytes: linked.or(size), sha256 }
}

/// All files of a repository at a revision.
pub(crate) async fn files(web: &Web, repository: &str, revision: &str) -> Result<Vec<RemoteFile>, WebError> {
    let api = address(web.endpoint(), ["api", "models"].into_iter().chain(repository.split('/')));
    let mut page = address(&api, ["tree", revision]);
    page.set_query(Some("recursive=true"));
    let mut files = Vec::new();
    for turn in 0..PAGES_MAX {
        let answer = match web.get(&page, &Ask::default()).await {
            Err(error @ WebError::NotFound { .. }) if turn == 0 => {
                return described(web, &api, revision).await.map_err(|_| error);
            }
            answer => answer?,
        };
        let next = answer.header("link").and_then(next_page).and_then(|link| page.join(&link).ok());
        let items: Vec<TreeItem> = read(answer, &page).await?;
        let items = items.into_iter().filter(|item| item.kind.as_deref() != Some("directory"));
        files.extend(
            items.filter(|item| is_path(&item.path)).map(|item| remote(item.path, item.size, item.lfs)),
        );
        match next {
            Some(next) if next.origin() == page.origin() && files.len() < FILES_MAX => page = next,
            _ => break,
        }
    }
    files.truncate(FILES_MAX);
    Ok(files)
}

/// The older way.
async fn described(web: &Web, api: &Url, revision: &str) -> Result<Vec<RemoteFile>, WebError> {
    let mut url = if revision == MAIN { api.clone() } else { address(api, ["revision", revision]) };
    url.set_query(Some("blobs=true"));
    let description: Description = read(web.get(&url, &Ask::default()).await?, &url).await?;
    let siblings = description.siblings.into_iter().take(FILES_MAX).filter(|file| is_path(&file.rfilename));
    Ok(siblings.map(|file| remote(file.rfilename, file.size, file.lfs)).collect())
}

/// Where a file of a repository is.
pub(crate) fn resolve(endpoint: &Url, repository: &str, revision: &str, file: &str) -> Url {
    let parts = repository.split('/').chain(["resolve", revision]).chain(file.split('/'));
    address(endpoint, parts)
}

/// A repository's page, for people.
pub(crate) fn page(endpoint: &Url, repository: &str) -> String {
    shown(&address(endpoint, repository.split('/')))
}

/// `base` with more parts behind it; each part is escaped, so that a revision `refs/pr/1` stays one part.
fn address<'a>(base: &Url, parts: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    url
}

async fn read<T: serde::de::DeserializeOwned>(answer: Answer, url: &Url) -> Result<T, WebError> {
    let body = answer.body(PAGE_MAX_BYTES).await?;
    serde_json::from_slice(&body)
        .map_err(|error| WebError::BadAnswer { url: shown(url), why: format!("no listing: {error}") })
}

/// The address behind `rel="next"` in a `Link` header.
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.split(';').any(|word| word.trim() == "rel=\"next\"").then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_files() {
        let endpoint = Url::parse("http://mirror.lan/hf/").unwrap();
        let url = resolve(&endpoint, "me/tiny", "refs/pr/1", "sub/a b?.gguf");
        assert_eq!(url.as_str(), "http://mirror.lan/hf/me/tiny/resolve/refs%2Fpr%2F1/sub/a%20b%3F.gguf");
        assert_eq!(page(&endpoint, "me/tiny"), "http://mirror.lan/hf/me/tiny");
    }

    #[test]
    fn the_next_page() {
        let link = "<https://h/a?cursor=1>; rel=\"prev\", <https://h/a?cursor=3>; rel=\"next\"";
        assert_eq!(next_page(link).as_deref(), Some("https://h/a?cursor=3"));
        assert_eq!(next_page("<https://h/a>"), None);
        assert_eq!(next_page("nonsense"), None);
    }
}
