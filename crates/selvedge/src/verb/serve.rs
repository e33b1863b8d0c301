//! `selvedge serve`: language models for apps on this machine, over OpenAI's API.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kernels::page::CacheFormat;
use node::config::quantity::{duration_ms, size_bytes};
use node::config::token::read_token;
use node::serve::offer::{Offer, Offers};
use node::serve::settings::{EngineSettings, PORT, Settings};
use wire::world::System;

use crate::engine::Ahead;
use crate::interrupt::Interrupt;
use crate::models::Models;

/// Serve language models over OpenAI's API: chat, completions, responses, embeddings.
///
/// Point any OpenAI client at the address that is printed. Models are loaded when they are first asked for, and several
/// requests are answered at once. Only this machine can ask, unless --host says otherwise.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to serve: GGUF files, or names of models that are on the shelf; `NAME=FILE` gives a file another name.
    /// Without any: all that is on the shelf.
    #[arg(value_name = "MODEL")]
    wanted: Vec<String>,

    /// One more model to serve.
    #[arg(long = "model", value_name = "MODEL")]
    files: Vec<String>,

    #[command(flatten)]
    models: Models,

    /// Where to listen; anything but this machine itself needs a key, or --insecure.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = PORT)]
    port: u16,

    /// The key that requests must show. Other users of this machine can see a command line: a file is safer.
    #[arg(
        long,
        value_name = "KEY",
        env = "SELVEDGE_API_KEY",
        hide_env_values = true,
        conflicts_with = "api_key_file"
    )]
    api_key: Option<String>,

    /// A file whose first line is the key.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Let other machines ask without a key.
    #[arg(long)]
    insecure: bool,

    /// A name, beside the address itself and localhost, under which clients may ask.
    #[arg(long = "allow-host", value_name = "NAME")]
    hosts: Vec<String>,

    /// An origin whose web pages may ask, such as http://localhost:3000; `*` is every page.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,

    /// Tokens of prompt and answer together; without it what the model was trained for, at most 8192.
    #[arg(long, value_name = "TOKENS")]
    context: Option<NonZeroUsize>,

    /// Answers written at once.
    #[arg(long, value_name = "ANSWERS", default_value = "8")]
    parallel: NonZeroUsize,

    /// Answers that wait for their turn; more are told to come again (429).
    #[arg(long, value_name = "ANSWERS", default_value_t = 64)]
    queue: usize,

    /// How keys and values are kept: q8_0 takes about half of f16.
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = cache_type)]
    cache_type: CacheFormat,

    /// Memory for keys and values of answers under way, such as 2GiB.
    #[arg(long, value_name = "SIZE", value_parser = size_bytes)]
    cache: Option<u64>,

    /// A folder where keys and values of what was read last outlive the server, so that it is not read again. They tell what
    /// was asked: keep it to yourself.
    #[arg(long, value_name = "DIR")]
    prefixes: Option<PathBuf>,

    /// Memory that all loaded models may need together, such as 8GiB; idle ones make room for others.
    #[arg(long, value_name = "SIZE", value_parser = size_bytes)]
    memory: Option<u64>,

    /// Threads; without it as many as this process may use cores.
    #[arg(long)]
    threads: Option<NonZeroUsize>,

    #[command(flatten)]
    ahead: Ahead,

    /// A model that nobody asked for so long is unloaded, such as 30m; or `never`.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = keep_alive)]
    keep_alive: KeepAlive,

    /// On Ctrl-C, answers under way have so long to end.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    grace: Duration,
}

/// How long an idle model stays.
#[derive(Clone, Copy)]
struct KeepAlive(Option<Duration>);

fn cache_type(text: &str) -> Result<CacheFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "f32" => Ok(CacheFormat::F32),
        "f16" => Ok(CacheFormat::F16),
        "q8_0" => Ok(CacheFormat::Q8_0),
        _ => Err("it is f16, q8_0 or f32".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(u64::try_from(duration_ms(text)?).unwrap_or(0)))
}

fn keep_alive(text: &str) -> Result<KeepAlive, String> {
    match text {
        "never" | "forever" => Ok(KeepAlive(None)),
        text => Ok(KeepAlive(Some(duration(text)?))),
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let key = match &args.api_key_file {
        Some(file) => Some(read_token(file)?),
        None => args.api_key.clone(),
    };
    let has_key = key.is_some();
    let offers = offers(&args)?;
    let draft = args.ahead.draft.as_deref().map(|word| args.models.locate(word)).transpose()?;
    let draft = draft.map(|located| located.path);
    let settings = Settings {
        listen: SocketAddr::new(args.host, args.port),
        key,
        insecure: args.insecure,
        hosts: args.hosts,
        origins: args.origins,
        engine: EngineSettings {
            context: args.context.map(NonZeroUsize::get),
            parallel: args.parallel.get(),
            queue: args.queue,
            cache: args.cache_type,
            cache_bytes: args
                .cache
                .map(usize::try_from)
                .transpose()
                .context("--cache is more than this machine has")?,
            threads: args.threads,
            guess: !args.ahead.no_guess,
            draft,
            prefixes: args.prefixes,
        },
        keep_alive: args.keep_alive.0,
        memory_bytes: args.memory,
        grace: args.grace,
    };
    let interrupt = Interrupt::listen()?;
    let listed = match &offers {
        Offers::Listed(offers) => offers.iter().map(|offer| offer.name.clone()).collect(),
        Offers::Shelf(shelf) => {
            let models = shelf.list()?.models;
            if models.is_empty() {
                let root = shelf.root().display();
                bail!(
                    "there is no model on the shelf {root}: name a GGUF file, or bring one with `selvedge pull`"
                );
            }
            models.iter().map(|entry| entry.facts.name.to_string()).collect::<Vec<_>>()
        }
    };
    let serving = node::serve::start(settings, offers, None, System::new())?;
    // A model that was named alone will be asked: whether it can be, is said now.
    if let [only] = &listed[..] {
        serving.load(only)?;
    }
    let mut out = std::io::stdout();
    let key = if has_key { "YOUR_KEY" } else { "none" };
    let address = serving.address();
    let shown = if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    };
    writeln!(
        out,
        "serving {} at http://{shown}/v1; OpenAI(base_url=\"http://{shown}/v1\", api_key=\"{key}\"). Ctrl-C ends it.",
        listed.join(", ")
    )?;
    while !interrupt.wait(Duration::from_millis(200)) {
        if serving.failed() {
            bail!("the server ended by itself; its log says why");
        }
    }
    serving.stop();
    writeln!(out, "the server ended")?;
    Ok(())
}

/// What was named, or the shelf.
fn offers(args: &Args) -> anyhow::Result<Offers> {
    if args.wanted.is_empty() && args.files.is_empty() {
        return Ok(Offers::Shelf(args.models.shelf()?));
    }
    let mut offers: Vec<Offer> = Vec::new();
    for text in args.wanted.iter().chain(&args.files) {
        let (name, word) = match text.split_once('=') {
            Some((name, word)) => (Some(name), word),
            None => (None, text.as_str()),
        };
        // Says what is wrong with a word that is neither.
        let located = args.models.locate(word)?;
        let mut offer = match located.path == Path::new(word) {
            true => Offer::of_file(&located.path),
            false => Offer::of_shelf(args.models.find(word)?),
        };
        if let Some(name) = name {
            offer.name = name.to_owned();
        }
        if offers.iter().any(|other| other.name == offer.name) {
            bail!("two models would be called {:?}: give one another name with NAME={word}", offer.name);
        }
        offers.push(offer);
    }
    Ok(Offers::Listed(offers))
}
