//! Which hub a user works with, as `selvedge login` wrote it: the address, a token, and whom to believe about the hub's
//! certificate. What a command line or the environment says goes first.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::{Certificate, Url};
use serde::{Deserialize, Serialize};

/// Where a hub is if nobody says.
const LOOPBACK: &str = "http://127.0.0.1:8420";

/// A hub that somebody signed in at.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// The hub's address.
    pub(crate) url: String,
    /// What its user shows there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Certificates of the authorities that vouch for the hub, as PEM, beside those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
}

/// Where it stands: `$XDG_CONFIG_HOME/selvedge/hub.toml`, or `~/.config/selvedge/hub.toml`.
pub(crate) fn path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("selvedge/hub.toml"))
}

/// What stands there; `None` if nobody has signed in.
pub(crate) fn find() -> anyhow::Result<Option<Login>> {
    let Some(path) = path() else { return Ok(None) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let login = toml::from_str(&text);
    login.map(Some).with_context(|| format!("{} is not as `selvedge login` writes it", path.display()))
}

/// Keeps it, for this user's eyes only.
pub(crate) fn keep(path: &Path, login: &Login) -> anyhow::Result<()> {
    let text = toml::to_string(login)?;
    let folder = path.parent().context("it has no folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    // Such a file is nobody else's from the first byte on, and takes its place whole.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(())
}

/// The hub of whoever names none.
pub(crate) fn hub() -> Url {
    let known = find().ok().flatten().and_then(|login| Url::parse(&login.url).ok());
    known.unwrap_or_else(|| {
        Url::parse(LOOPBACK).unwrap_or_else(|_| unreachable!("the address is written here"))
    })
}

/// The login for this very hub.
pub(crate) fn of(hub: &Url) -> anyhow::Result<Option<Login>> {
    Ok(find()?.filter(|login| Url::parse(&login.url).is_ok_and(|url| url.origin() == hub.origin())))
}

/// The token for a hub: the one in the file that was named, or that of the login.
pub(crate) fn token(hub: &Url, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match file {
        Some(file) => read_token(file).map(Some),
        None => Ok(of(hub)?.and_then(|login| login.token)),
    }
}

/// Whom to believe about a hub's certificate, beside the system's authorities: those in the file that was named, or those of
/// the login.
pub(crate) fn authorities(hub: &Url, file: Option<&Path>) -> anyhow::Result<Vec<Certificate>> {
    let pem = match file {
        Some(file) => Some(read_authorities(file)?),
        None => of(hub)?.and_then(|login| login.ca),
    };
    pem.as_deref().map_or(Ok(Vec::new()), certificates)
}

/// The authorities in a file, as PEM.
pub(crate) fn read_authorities(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// The certificates in PEM.
pub(crate) fn certificates(pem: &str) -> anyhow::Result<Vec<Certificate>> {
    Certificate::from_pem_bundle(pem.as_bytes()).context("the authorities of the hub are not in PEM")
}

/// The token in a file.
pub(crate) fn read_token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_kept_whole_and_to_oneself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("selvedge/hub.toml");
        for token in ["svt_1", "svt_2"] {
            let login = Login { url: "https://hub.example.org/".into(), token: Some(token.into()), ca: None };
            keep(&path, &login).unwrap();
            let found: Login = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(found.token.as_deref(), Some(token));
        }
        #[cfg(unix)]
        {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
