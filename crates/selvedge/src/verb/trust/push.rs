//! `selvedge trust push`: hands what is published, and assignments, to a hub.

use std::io::{self, Write as _};
use std::path::PathBuf;

use forge::announce::announce;
use forge::publish::Login;
use reqwest::Url;

use crate::login;

/// Send the published metadata and the assignments of a repository to a hub, which hands them to nodes.
///
/// The hub takes only what a node would believe; no key goes there.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// The hub's address; without it that of `selvedge login`.
    #[arg(long, value_name = "URL", env = "SELVEDGE_HUB", default_value_t = login::hub(), hide_default_value = true)]
    hub: Url,

    /// A file with the token for it; without it that of `selvedge login`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let token = login::token(&args.hub, args.token_file.as_deref())?;
    let login = token.map(|password| Login { user: "selvedge".to_owned(), password });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let announced = runtime.block_on(announce(&args.repository, &args.hub, login.as_ref()))?;
    let mut out = io::stdout();
    match announced.sent.is_empty() {
        true => writeln!(out, "the hub has all {} files", announced.there)?,
        false => writeln!(out, "sent {}", announced.sent.join(", "))?,
    }
    Ok(())
}
