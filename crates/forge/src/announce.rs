//! Hands a repository's published metadata and its assignments to a hub, in the order in which a client can follow.
//!
//! The hub believes nothing of it: it takes a file only if a client would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use package::disk::system::System;
use package::disk::{Disk, FileError, read_whole};
use package::trust::Limits;
use package::trust::assignment::BYTES_MAX;
use reqwest::{Certificate, Client, StatusCode, Url};
use serde::Deserialize;

use crate::publish::Login;

/// A hub that is silent for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that is read of a refusal.
const REFUSAL_MAX_BYTES: usize = 64 << 10;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    /// Files that the hub did not have, in the order in which they went.
    pub sent: Vec<String>,
    /// How many it had.
    pub there: usize,
}

/// A repository that did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing is published in it.
    #[error("{} has no timestamp.json: publish first, with `selvedge trust refresh`", folder.display())]
    Unpublished {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The address has no place below it.
    #[error("{url} is no hub's address; it reads like http://hub:8420")]
    Address {
        /// What was given.
        url: Url,
    },
    /// The hub cannot be reached, or does not answer.
    #[error("{url} does not answer")]
    Unreachable {
        /// Whom we asked.
        url: Url,
        /// Why.
        source: reqwest::Error,
    },
    /// It says no.
    #[error("the hub does not take {file} (status {status}): {why}")]
    Refused {
        /// Which file.
        file: String,
        /// The status.
        status: StatusCode,
        /// Its words.
        why: String,
    },
}

/// Sends all that is published in the folder of a repository, and the assignments beside it. `authorities`: whom to believe
/// about the hub, beside the system's.
pub async fn announce(
    repository: &Path,
    hub: &Url,
    login: Option<&Login>,
    authorities: Vec<Certificate>,
) -> Result<Announced, AnnounceError> {
    let metadata = repository.join("metadata");
    let client = Client::builder().read_timeout(PATIENCE).connect_timeout(PATIENCE);
    let client = client.tls_certs_merge(authorities).build();
    let client = client.map_err(|source| AnnounceError::Unreachable { url: hub.clone(), source })?;
    let turn = Turn { client, hub, login };
    let mut announced = Announced::default();
    for file in in_order(&names(&metadata)?, &metadata)? {
        let path = format!("api/v1/tuf/metadata/{}", percent(&file));
        let bytes = read(&metadata.join(&file), Limits::default().targets_bytes)?;
        turn.put(&path, &file, bytes, &mut announced).await?;
    }
    let assignments = repository.join("assignments");
    if assignments.is_dir() {
        for file in names(&assignments)? {
            let bytes = read(&assignments.join(&file), BYTES_MAX as u64)?;
            turn.put("api/v1/assignments", &file, bytes, &mut announced).await?;
        }
    }
    Ok(announced)
}

fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let entries = System.list(folder).map_err(FileError::at(folder))?;
    let files = entries.into_iter().filter(|entry| entry.is_file && entry.name.ends_with(".json"));
    let mut names: Vec<String> = files.map(|entry| entry.name).collect();
    names.sort();
    Ok(names)
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let gone = || FileError::at(path)(std::io::ErrorKind::NotFound.into());
    read_whole(&System, path, max_bytes)?.ok_or_else(gone)
}

/// Every root, the newest of each other role, the newest snapshot, the timestamp.
fn in_order(names: &[String], folder: &Path) -> Result<Vec<String>, AnnounceError> {
    let (mut roots, mut roles) = (BTreeMap::new(), BTreeMap::new());
    let mut has_timestamp = false;
    for name in names {
        let version_and_role = name.strip_suffix(".json").and_then(|name| name.split_once('.'));
        match version_and_role.and_then(|(version, role)| Some((version.parse::<u64>().ok()?, role))) {
            Some((version, "root")) => drop(roots.insert(version, name.clone())),
            Some((version, role)) => {
                let newest = roles.entry(role.to_owned()).or_insert((version, name.clone()));
                if version > newest.0 {
                    *newest = (version, name.clone());
                }
            }
            None => has_timestamp |= name == "timestamp.json",
        }
    }
    let Some((_, snapshot)) = roles.remove("snapshot").filter(|_| has_timestamp) else {
        return Err(AnnounceError::Unpublished { folder: folder.to_owned() });
    };
    let roles = roles.into_values().map(|(_, name)| name);
    Ok(roots.into_values().chain(roles).chain([snapshot, "timestamp.json".to_owned()]).collect())
}

/// A file's name as a part of a path: roles' names are encoded already, and `%` must not be read twice.
fn percent(file: &str) -> String {
    file.replace('%', "%25")
}

struct Turn<'a> {
    client: Client,
    hub: &'a Url,
    login: Option<&'a Login>,
}

/// How a hub says no.
#[derive(Deserialize)]
struct Refusal {
    error: Words,
}

#[derive(Deserialize)]
struct Words {
    message: String,
}

impl Turn<'_> {
    async fn put(
        &self,
        path: &str,
        file: &str,
        bytes: Vec<u8>,
        announced: &mut Announced,
    ) -> Result<(), AnnounceError> {
        let url = self.hub.join(path).map_err(|_| AnnounceError::Address { url: self.hub.clone() })?;
        let failed = |source| AnnounceError::Unreachable { url: self.hub.clone(), source };
        let mut request = self.client.put(url).header("content-type", "application/json").body(bytes);
        if let Some(login) = self.login {
            request = request.bearer_auth(&login.password);
        }
        let mut answer = request.send().await.map_err(failed)?;
        match answer.status() {
            StatusCode::NO_CONTENT => announced.there += 1,
            status if status.is_success() => announced.sent.push(file.to_owned()),
            status => {
                let mut body = Vec::new();
                while let Some(piece) = answer.chunk().await.map_err(failed)? {
                    body.extend_from_slice(&piece[..piece.len().min(REFUSAL_MAX_BYTES - body.len())]);
                    if body.len() == REFUSAL_MAX_BYTES {
                        break;
                    }
                }
                let words = serde_json::from_slice(&body).map(|refusal: Refusal| refusal.error.message);
                let why = words.unwrap_or_else(|_| "it does not say why".to_owned());
                return Err(AnnounceError::Refused { file: file.to_owned(), status, why });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_come_first_and_the_timestamp_last() {
        let order = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            in_order(&names, Path::new("repo")).map(|order| order.join(" "))
        };
        let all = [
            "1.root.json",
            "1.snapshot.json",
            "1.targets.json",
            "10.snapshot.json",
            "2.root.json",
            "2.team-a.json",
            "9.snapshot.json",
            "timestamp.json",
        ];
        let expected = "1.root.json 2.root.json 1.targets.json 2.team-a.json 10.snapshot.json timestamp.json";
        assert_eq!(order(&all).unwrap(), expected);
        assert!(matches!(order(&all[..3]), Err(AnnounceError::Unpublished { .. })));
    }
}
