//! `[tls]` and `[oidc]`: how people reach the hub, and how it knows them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::access::who::Role;

/// `[tls]`: the certificate that people see. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, and those between it and its authority, as PEM.
    pub cert: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
}

/// Where a browser comes back to.
pub const BACK_PATH: &str = "/login/oidc/callback";

/// The longest secret.
const SECRET_MAX: u64 = 4096;

/// `[oidc]`: people sign in at a provider that speaks OpenID Connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcConfig {
    /// The provider, exactly as it calls itself.
    pub issuer: String,
    /// What the hub is called there.
    pub client_id: String,
    /// A file with its secret there; absent: it has none.
    pub client_secret_file: Option<PathBuf>,
    /// The address under which people reach this hub; they come back to `/login/oidc/callback` below it.
    pub url: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Which claim says what an operator is called.
    pub name_claim: String,
    /// Which claim has the words that give roles.
    pub role_claim: String,
    /// Which word gives which role. Who has none of them stays out.
    pub roles: BTreeMap<String, Role>,
    /// What the provider is called on the page.
    pub label: String,
}

impl Default for OidcConfig {
    fn default() -> OidcConfig {
        OidcConfig {
            issuer: String::new(),
            client_id: String::new(),
            client_secret_file: None,
            url: String::new(),
            scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
            name_claim: "preferred_username".to_owned(),
            role_claim: "groups".to_owned(),
            roles: BTreeMap::new(),
            label: "your organisation".to_owned(),
        }
    }
}

impl OidcConfig {
    /// Where a browser comes back to.
    pub fn redirect(&self) -> String {
        format!("{}{BACK_PATH}", self.url.trim_end_matches('/'))
    }

    /// What is missing or wrong, if something is.
    pub fn problem(&self) -> Option<&'static str> {
        let is_address = |text: &str| {
            let here = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
            let plain = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
            let here = here.iter().any(|at| text.strip_prefix(at).is_some_and(|rest| !rest.starts_with('.')));
            (plain || here) && !text.contains(char::is_whitespace)
        };
        match () {
            () if !cfg!(feature = "oidc") => {
                Some("this selvedge was built without it: build with --features oidc")
            }
            () if !is_address(&self.issuer) => Some("issuer is no address that begins with https://"),
            () if !is_address(&self.url) => Some("url is no address of this hub that begins with https://"),
            () if self.client_id.is_empty() => Some("client_id is missing"),
            () if !self.scopes.iter().any(|scope| scope == "openid") => Some("scopes lacks \"openid\""),
            () if self.roles.is_empty() => Some("roles is empty, so nobody could come in"),
            () => None,
        }
    }

    /// The secret, if there is one.
    pub fn secret(&self) -> io::Result<Option<Zeroizing<String>>> {
        let Some(path) = &self.client_secret_file else { return Ok(None) };
        let mut text = Zeroizing::new(String::new());
        File::open(path)?.take(SECRET_MAX).read_to_string(&mut text)?;
        Ok(Some(Zeroizing::new(text.trim().to_owned())))
    }
}
