//! Talking with a hub's API as an operator: an address, a token, JSON both ways.
//!
//! Each write has a name of its own, drawn by chance. One whose answer was lost is asked for again under the same name, and
//! the hub does it once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;
use wire::base32;
use wire::world::System;

use crate::login;

/// How long one answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The largest answer.
const ANSWER_MAX_BYTES: usize = 16 << 20;
/// How often a write is asked for whose answer is lost.
const TRIES: u32 = 5;
/// How long to wait before the second time; then twice as long each time.
const PAUSE: Duration = Duration::from_millis(300);
/// Characters of a write's name: 130 random bits.
const NAME_CHARS: usize = 26;

/// Which hub, and who asks it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HubArgs {
    /// The hub's address; without it that of `selvedge login`.
    #[arg(long, value_name = "URL", env = "SELVEDGE_HUB", default_value_t = login::hub(), hide_default_value = true)]
    pub(crate) hub: Url,

    /// A file with your token for the hub; without it that of `selvedge login`.
    #[arg(long, value_name = "FILE", env = "SELVEDGE_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// A file with certificates of authorities that vouch for the hub, beside those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

impl HubArgs {
    /// Ready to ask.
    pub(crate) fn client(&self) -> anyhow::Result<HubClient> {
        HubClient::new(self.hub.clone(), self.token()?, self.authorities()?)
    }

    /// Who asks.
    pub(crate) fn token(&self) -> anyhow::Result<Option<String>> {
        login::token(&self.hub, self.token_file.as_deref())
    }

    /// Whom to believe about the hub, beside the system's authorities.
    pub(crate) fn authorities(&self) -> anyhow::Result<Vec<Certificate>> {
        login::authorities(&self.hub, self.ca.as_deref())
    }
}

/// Asks one hub.
#[derive(Debug)]
pub(crate) struct HubClient {
    base: Url,
    token: Option<String>,
    client: Client,
    runtime: Runtime,
}

/// What a hub says when it does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("the hub says: {message}; {mend}")]
pub(crate) struct Refused {
    /// A word for programs.
    pub(crate) code: String,
    message: String,
    mend: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Why,
}

#[derive(Deserialize)]
struct Why {
    code: String,
    message: String,
    mend: String,
}

impl HubClient {
    /// `authorities`: whom to believe beside the system's.
    pub(crate) fn new(
        base: Url,
        token: Option<String>,
        authorities: Vec<Certificate>,
    ) -> anyhow::Result<HubClient> {
        let client = Client::builder().timeout(ANSWER_TIME).tls_certs_merge(authorities).build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(HubClient { base, token, client, runtime })
    }

    /// The hub's address.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Asks for `path`.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.answered(path, ANSWER_MAX_BYTES)?;
        self.told(status, &body)
    }

    /// What stands at `path`, as it is: at most `max_bytes` of it, and one more if there is more; `None` if nothing does.
    pub(crate) fn bytes(&self, path: &str, max_bytes: usize) -> anyhow::Result<Option<Vec<u8>>> {
        match self.answered(path, max_bytes)? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) if status.is_success() => Ok(Some(body)),
            (status, body) => self.told(status, &body).map(|_| None),
        }
    }

    fn answered(&self, path: &str, max_bytes: usize) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let asked = answer(self.request(Method::GET, path)?, max_bytes);
        self.runtime.block_on(asked).map_err(|error| self.absent(error))
    }

    /// Asks for `path` with a query.
    pub(crate) fn find(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        let mut url = self.base.join(path)?;
        url.query_pairs_mut().extend_pairs(query);
        self.get(&format!("{}?{}", url.path(), url.query().unwrap_or_default()))
    }

    /// Sends JSON to `path`; what the hub answers, or null.
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.write(Method::POST, path, serde_json::to_vec(body)?)
    }

    /// Puts JSON, as it is, to `path`.
    pub(crate) fn put(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        self.write(Method::PUT, path, body)
    }

    /// Removes `path`.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.write(Method::DELETE, path, Vec::new())
    }

    /// Waits, as long as nobody interrupts.
    pub(crate) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(time) => Ok(()),
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; the rollout goes on without us"),
            }
        })
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let request = self.client.request(method, self.base.join(path)?);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Asks for a write until it is answered, under one name.
    fn write(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let name = base32::draw(&mut System::new(), NAME_CHARS);
        let mut tried = 0;
        loop {
            let request = self.request(method.clone(), path)?.header("idempotency-key", &name);
            let request = request.header("content-type", "application/json").body(body.clone());
            let answered = self.runtime.block_on(answer(request, ANSWER_MAX_BYTES));
            tried += 1;
            let is_last = tried == TRIES;
            match answered {
                // The hub still does it, or is busy: nothing was changed.
                Ok((status, body)) if !is_last && passes(status, &body) => {}
                Ok((status, body)) => return self.told(status, &body),
                // Nothing was sent yet the first time; later a hub may be starting anew.
                Err(error) if is_last || tried == 1 && error.is_connect() => return Err(self.absent(error)),
                Err(_) => {}
            }
            let pause = PAUSE * 2_u32.pow(tried - 1);
            self.runtime.block_on(async { tokio::time::sleep(pause).await });
        }
    }

    fn absent(&self, error: reqwest::Error) -> anyhow::Error {
        let said = format!("the hub at {} does not answer: is it running? --hub says where it is", self.base);
        anyhow::Error::from(error).context(said)
    }

    fn told(&self, status: StatusCode, body: &[u8]) -> anyhow::Result<Value> {
        if let Ok(ErrorBody { error }) = serde_json::from_slice::<ErrorBody>(body) {
            return Err(Refused { code: error.code, message: error.message, mend: error.mend }.into());
        }
        anyhow::ensure!(status.is_success(), "{} answers {status}: is that a hub?", self.base);
        anyhow::ensure!(body.len() <= ANSWER_MAX_BYTES, "the answer has more than {ANSWER_MAX_BYTES} bytes");
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(body).with_context(|| format!("{} does not answer as a hub", self.base))
    }
}

/// The path of something in the API, with every part written as an address has it.
pub(crate) fn path(parts: &[&str]) -> String {
    let mut path = String::from("/api/v1");
    for part in parts {
        path.push('/');
        for byte in part.bytes() {
            match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                    path.push(char::from(byte));
                }
                other => path += &format!("%{other:02X}"),
            }
        }
    }
    path
}

/// A text in what a hub told; empty if there is none.
pub(crate) fn word<'a>(told: &'a Value, name: &str) -> &'a str {
    told.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A whole number in what a hub told; 0 if there is none.
pub(crate) fn number(told: &Value, name: &str) -> i64 {
    told.get(name).and_then(Value::as_i64).unwrap_or_default()
}

/// A list in what a hub told.
pub(crate) fn list<'a>(told: &'a Value, name: &str) -> &'a [Value] {
    told.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a refusal passes by itself.
fn passes(status: StatusCode, body: &[u8]) -> bool {
    let code = || serde_json::from_slice::<ErrorBody>(body).map(|body| body.error.code);
    match status {
        StatusCode::SERVICE_UNAVAILABLE => code().is_ok_and(|code| code == "busy"),
        StatusCode::CONFLICT => code().is_ok_and(|code| code == "under-way"),
        _ => false,
    }
}

/// The status and the body; one byte more than the most if there is more.
async fn answer(request: RequestBuilder, max_bytes: usize) -> reqwest::Result<(StatusCode, Vec<u8>)> {
    let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        body.extend_from_slice(&piece);
        if body.len() > max_bytes {
            body.truncate(max_bytes + 1);
            break;
        }
    }
    Ok((answer.status(), body))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection after the other: nothing, then what is given.
    fn lossy(answers: Vec<Option<&'static str>>) -> (Url, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let served = std::thread::spawn(move || {
            let mut names = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut text = Vec::new();
                let mut piece = [0; 1024];
                while !text.ends_with(b"{}") {
                    let read = stream.read(&mut piece).unwrap();
                    assert!(read > 0);
                    text.extend_from_slice(&piece[..read]);
                }
                let text = String::from_utf8(text).unwrap();
                let name = text.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
                names.push(name.unwrap().to_owned());
                if let Some(answer) = answer {
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
            names
        });
        (url, served)
    }

    #[test]
    fn paths_are_written_as_addresses_have_them() {
        assert_eq!(path(&["nodes", "a/b c", "é"]), "/api/v1/nodes/a%2Fb%20c/%C3%A9");
    }

    #[test]
    fn a_write_whose_answer_was_lost_is_asked_for_again_under_its_name() {
        let busy = r#"{"error":{"code":"under-way","message":"","mend":""}}"#;
        let busy = format!(
            "HTTP/1.1 409 Conflict\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{busy}",
            busy.len()
        );
        let done = "HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        let (url, served) = lossy(vec![None, Some(busy.leak()), Some(done)]);
        let client = HubClient::new(url, None, Vec::new()).unwrap();
        assert_eq!(client.post("/api/v1/tokens", &serde_json::json!({})).unwrap()["a"], 1);
        let names = served.join().unwrap();
        assert!(
            names.len() == 3 && names.iter().all(|name| *name == names[0] && name.len() == 26),
            "{names:?}"
        );
    }
}
