//! `selvedge ps` and `selvedge stop`: what a running server has loaded.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::Value;

use crate::amount::{show_bytes, show_number, show_parameters};
use crate::recording::show_count;
use crate::table::{Side, Table};

/// Show which models a running server has loaded, and what they are doing.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: Server,

    /// Print what the server says as JSON.
    #[arg(long)]
    json: bool,
}

/// Unload a model of a running server. Answers under way are written first.
#[derive(clap::Args)]
pub(crate) struct Stop {
    /// The model, as `selvedge ps` calls it.
    name: String,

    #[command(flatten)]
    server: Server,
}

/// A server that runs.
#[derive(Debug, clap::Args)]
struct Server {
    /// Where the server is.
    #[arg(long, value_name = "URL", env = "SELVEDGE_URL", default_value = "http://127.0.0.1:8422")]
    url: Url,

    /// A file with the server's API key; without it SELVEDGE_API_KEY.
    #[arg(long, value_name = "FILE")]
    key_file: Option<std::path::PathBuf>,
}

/// A server on this machine answers at once, one far away a little later.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that is read of an answer.
const ANSWER_MAX_BYTES: usize = 4 << 20;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (_, answer) = args.server.ask(Method::GET, "")?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer["data"])?)?;
        return Ok(());
    }
    let models = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if models.is_empty() {
        writeln!(out, "no model is loaded: the server loads one when it is first asked for")?;
        return Ok(());
    }
    let mut table = Table::new([
        ("name", Side::Left),
        ("parameters", Side::Right),
        ("quantisation", Side::Left),
        ("context", Side::Right),
        ("memory", Side::Right),
        ("writing", Side::Right),
        ("waiting", Side::Right),
        ("tokens/s", Side::Right),
        ("", Side::Left),
    ]);
    for model in models {
        let count = |key: &str| model[key].as_u64().unwrap_or(0);
        let state = match (model["unloading"].as_bool(), model["idle_s"].as_f64()) {
            (Some(true), _) => "unloading".to_owned(),
            (_, Some(idle)) => format!("idle for {}", show_idle(idle)),
            _ => String::new(),
        };
        table.row([
            plain(&model["id"]),
            show_parameters(count("parameters")),
            plain(&model["quantisation"]),
            show_count(count("context")),
            show_bytes(count("memory_bytes")),
            show_count(count("running")),
            show_count(count("waiting")),
            model["tokens_per_s"].as_f64().map_or_else(|| "–".to_owned(), show_number),
            state,
        ]);
    }
    write!(out, "{table}")?;
    Ok(())
}

pub(crate) fn stop(args: &Stop) -> anyhow::Result<()> {
    let (_, answer) = args.server.ask(Method::DELETE, &args.name)?;
    let mut out = io::stdout().lock();
    let name = answer["id"].as_str().map_or_else(|| args.name.clone(), |_| plain(&answer["id"]));
    match answer["waits_for"].as_u64() {
        Some(users) if users > 0 => {
            let answers =
                if users == 1 { "one answer is".to_owned() } else { format!("{users} answers are") };
            writeln!(out, "{name} is unloaded as soon as {answers} written")?;
        }
        _ => writeln!(out, "{name} is unloaded")?,
    }
    Ok(())
}

/// A word of the server, without what could write elsewhere on the terminal.
fn plain(value: &Value) -> String {
    value.as_str().unwrap_or("–").chars().filter(|c| !c.is_control()).collect()
}

fn show_idle(seconds: f64) -> String {
    match seconds as u64 {
        s @ 0..120 => format!("{s} s"),
        s => format!("{} min", s / 60),
    }
}

impl Server {
    /// Asks for the models, or for one of them.
    fn ask(&self, method: Method, model: &str) -> anyhow::Result<(StatusCode, Value)> {
        let mut url = self.url.clone();
        let shown = self.url.as_str().trim_end_matches('/').to_owned();
        let mut path =
            url.path_segments_mut().map_err(|()| anyhow::anyhow!("{shown} is no address of a server"))?;
        path.pop_if_empty().extend(["selvedge", "models"]);
        // A name has one slash at most; the server takes it as it stands.
        path.extend(model.split('/').filter(|part| !part.is_empty()));
        drop(path);
        let key = match &self.key_file {
            Some(file) => {
                let key = std::fs::read_to_string(file);
                Some(key.with_context(|| format!("{} cannot be read", file.display()))?.trim().to_owned())
            }
            None => std::env::var("SELVEDGE_API_KEY").ok().filter(|key| !key.is_empty()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, body) = runtime.block_on(async {
            // A server on this machine is not to be looked for behind a proxy.
            let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
            let mut request = client.request(method, url);
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            let mut answer = request.send().await.map_err(|error| self.unreachable(&error))?;
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                body.extend_from_slice(&piece);
                anyhow::ensure!(body.len() <= ANSWER_MAX_BYTES, "the answer of {shown} has no end");
            }
            Ok::<_, anyhow::Error>((answer.status(), body))
        })?;
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, answer) {
            (status, Some(answer)) if status.is_success() => Ok((status, answer)),
            (StatusCode::UNAUTHORIZED, _) => {
                anyhow::bail!(
                    "{shown} wants its API key: put it into SELVEDGE_API_KEY, or name a file with --key-file"
                )
            }
            (_, Some(answer)) if answer["error"]["message"].is_string() => {
                anyhow::bail!("{}", plain(&answer["error"]["message"]))
            }
            _ => anyhow::bail!("{shown} answers {status}, and not as a `selvedge serve` does"),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let url = self.url.as_str().trim_end_matches('/');
        if error.is_connect() {
            return anyhow::anyhow!(
                "no server answers at {url}: start one with `selvedge serve`, or say where it is with --url"
            );
        }
        let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { error.to_string() };
        anyhow::anyhow!("{url} cannot be asked: {why}")
    }
}
