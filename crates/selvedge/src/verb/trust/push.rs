//! `selvedge trust push`: hands what is published, and assignments, to a hub.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use forge::announce::announce;
use forge::publish::Login;
use reqwest::Url;

/// Send the published metadata and the assignments of a repository to a hub, which hands them to nodes.
///
/// The hub takes only what a node would believe; no key goes there.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// The hub's address.
    #[arg(long, value_name = "URL", env = "SELVEDGE_HUB", default_value = "http://127.0.0.1:8420")]
    hub: Url,

    /// A file with the token for it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let login = match &args.token_file {
        Some(file) => {
            let token = std::fs::read_to_string(file);
            let token = token.with_context(|| format!("{} cannot be read", file.display()))?;
            Some(Login { user: "selvedge".to_owned(), password: token.trim().to_owned() })
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let announced = runtime.block_on(announce(&args.repository, &args.hub, login.as_ref()))?;
    let mut out = io::stdout();
    match announced.sent.is_empty() {
        true => writeln!(out, "the hub has all {} files", announced.there)?,
        false => writeln!(out, "sent {}", announced.sent.join(", "))?,
    }
    Ok(())
}
