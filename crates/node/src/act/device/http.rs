//! A device behind a server: one request sets it, another asks what it is set to.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Url};
use serde::{Deserialize, Serialize};
use wire::body::act::Setting;

use super::face::{ANSWER_MAX_BYTES, Device, DeviceError, shortened};
use super::told::setting;
use crate::act::limits::Allowed;
use crate::config::token::read_token;

/// Requests, and how long they may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Http {
    /// Where the device is set; `{value}` stands for the setting.
    pub url: String,
    /// By which method: `PUT`, `POST` or `GET`.
    pub method: String,
    /// What is sent; `{value}` stands for the setting as JSON. Absent: nothing.
    pub body: Option<String>,
    /// Where it is asked; absent: it cannot be.
    pub read_url: Option<String>,
    /// Where the setting stands in the JSON that it answers, as RFC 6901 has it; empty: the whole answer, also as plain text.
    pub pointer: String,
    /// The file whose first line is the token to show.
    pub token_file: Option<PathBuf>,
    /// Each request ends within this.
    pub timeout_ms: u64,
}

/// The server.
pub(super) struct Server {
    http: Http,
    allowed: Allowed,
    client: Client,
    token: Option<HeaderValue>,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(super) fn open(http: &Http, allowed: &Allowed) -> Result<Server, DeviceError> {
        let web = |why: String| DeviceError::Web { host: http.url.clone(), why };
        let token = http.token_file.as_deref().map(read_token).transpose()?;
        let token = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let token =
            token.transpose().map_err(|bad: reqwest::header::InvalidHeaderValue| web(bad.to_string()))?;
        let client = Client::builder()
            .user_agent(concat!("selvedge/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_millis(http.timeout_ms))
            // What moves something is sent where the flow says, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1);
        let is_plain = [Some(&http.url), http.read_url.as_ref()]
            .into_iter()
            .flatten()
            .all(|url| url.starts_with("http://"));
        // No TLS, so no certificates: reading the system's costs time, and fails where there are none.
        let client = if is_plain { client.tls_certs_only([]) } else { client };
        let client = client.build().map_err(|error| web(crate::why::why(&error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| web(error.to_string()))?;
        Ok(Server { http: http.clone(), allowed: allowed.clone(), client, token, runtime })
    }

    /// Asks, and gives the body of a good answer.
    fn call(&self, url: &str, ask: impl FnOnce(Url) -> RequestBuilder) -> Result<Vec<u8>, DeviceError> {
        let url = Url::parse(url)
            .map_err(|error| DeviceError::Web { host: self.http.url.clone(), why: error.to_string() })?;
        let host = url.host_str().unwrap_or("?").to_owned();
        let web = |error: reqwest::Error| {
            // The address may hold what is nobody's business.
            DeviceError::Web { host: host.clone(), why: crate::why::why(&error.without_url()) }
        };
        let ask = ask(url);
        let ask = match &self.token {
            Some(token) => ask.header(AUTHORIZATION, token.clone()),
            None => ask,
        };
        self.runtime.block_on(async {
            let mut answer = ask.send().await.map_err(web)?;
            let status = answer.status();
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(web)? {
                if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                    let why = format!("it has more than {ANSWER_MAX_BYTES} bytes");
                    return Err(DeviceError::Answer { why });
                }
                body.extend_from_slice(&chunk);
            }
            if !status.is_success() {
                let told = shortened(&String::from_utf8_lossy(&body));
                return Err(DeviceError::Refused { host: host.clone(), status: status.as_u16(), told });
            }
            Ok(body)
        })
    }
}

/// A setting as a part of an address: what is not a letter, a digit or one of `-._~` is escaped, as RFC 3986 has it.
fn escaped(to: &Setting) -> String {
    let mut text = String::new();
    for byte in to.to_string().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

impl Device for Server {
    fn set(&mut self, to: &Setting) -> Result<(), DeviceError> {
        let url = self.http.url.replace("{value}", &escaped(to));
        let method = Method::from_bytes(self.http.method.as_bytes())
            .map_err(|error| DeviceError::Web { host: self.http.url.clone(), why: error.to_string() })?;
        let body = self.http.body.as_ref().map(|body| {
            // A word or a number is always JSON.
            body.replace("{value}", &serde_json::to_string(to).unwrap_or_default())
        });
        self.call(&url, |url| {
            let ask = self.client.request(method, url);
            match body {
                Some(body) => ask.header(CONTENT_TYPE, "application/json").body(body),
                None => ask,
            }
        })
        .map(drop)
    }

    fn read(&mut self) -> Result<Option<Setting>, DeviceError> {
        let Some(url) = &self.http.read_url else { return Ok(None) };
        let body = self.call(url, |url| self.client.get(url))?;
        setting(&body, &self.http.pointer, &self.allowed).map(Some).map_err(|why| DeviceError::Answer { why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_in_addresses() {
        assert_eq!(escaped(&Setting::Word("a b/ü".into())), "a%20b%2F%C3%BC");
        assert_eq!(escaped(&Setting::Number(-1.5)), "-1.5");
    }
}
