//! `selvedge hub`: the control plane.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hub::config::database::DatabaseUrl;
use hub::config::{ConfigError as HubConfigError, HubConfig};
use hub::server::Hub;
use node::config::problem::{ConfigError, ConfigErrors};
use wire::world::System;

use crate::interrupt::Interrupt;
use crate::passphrase;

/// Run the hub: take what nodes send, keep it, show it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Settings in TOML; what stands on the command line goes first.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen; anything but this machine itself needs a token.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// The folder of the hub's store.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// A PostgreSQL server instead of a file in that folder: postgres://user@host:port/name. Several hubs may share it.
    #[arg(long, value_name = "URL", env = "SELVEDGE_DATABASE_URL", hide_env_values = true)]
    database: Option<DatabaseUrl>,

    /// A file with the token that nodes and people must show.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut config = args.config.as_deref().map(|file| load(file, &args)).transpose()?.unwrap_or_default();
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(data) = args.data {
        config.data = data;
    }
    if args.database.is_some() {
        config.database = args.database;
        config.database_file = None;
    }
    if args.token_file.is_some() {
        config.token_file = args.token_file;
    }
    config.tuf.passphrase_file = config.tuf.passphrase_file.or_else(passphrase::file);
    let interrupt = Interrupt::listen()?;
    let runtime = runtime()?;
    let data = config.data.display().to_string();
    let running = runtime.block_on(Hub::start(config, System::new()))?;
    let mut out = std::io::stdout();
    writeln!(out, "hub runs; console {}; data {data}. Ctrl-C ends it.", running.url())?;
    while !interrupt.wait(Duration::from_secs(3600)) {}
    runtime.block_on(running.stop());
    writeln!(out, "hub ended; its store is closed")?;
    Ok(())
}

/// The threads that a hub runs on.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("hub")
        .enable_all()
        .build()
        .context("the system gives no threads")
}

/// Reads a config file; a problem in it is shown like one of a node's. What the command line sets instead is not looked
/// at here.
fn load(file: &Path, args: &Args) -> anyhow::Result<HubConfig> {
    let text = node::config::problem::read_text(file)?;
    let refuse = |error: HubConfigError| {
        let (span, message) = match error {
            HubConfigError::Toml(error) => (error.span().unwrap_or(0..0), error.message().to_owned()),
            HubConfigError::Range { field, .. } => (place(&text, field), error.to_string()),
            HubConfigError::Host(_) => (place(&text, "hosts"), error.to_string()),
            other => return anyhow::Error::from(other),
        };
        let text = Arc::clone(&text);
        ConfigErrors(vec![ConfigError { file: file.into(), text, span, message, help: None }]).into()
    };
    let config = HubConfig::parse(&text).map_err(refuse)?;
    match config.check() {
        Err(HubConfigError::OpenToAll(_)) if args.listen.is_some() || args.token_file.is_some() => {}
        checked => checked.map_err(refuse)?,
    }
    Ok(config)
}

/// The line of `text` that sets `field`, in bytes.
fn place(text: &str, field: &str) -> std::ops::Range<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.split('=').next().is_some_and(|key| key.trim().trim_matches('"') == field) {
            return start..start + line.trim_end().len();
        }
        start += line.len();
    }
    0..0
}
