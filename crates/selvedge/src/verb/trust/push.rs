//! `selvedge trust push`: hands what is published, and assignments, to a hub.

use std::io::{self, Write as _};
use std::path::PathBuf;

use forge::announce::announce;
use forge::publish::Login;

use crate::hub_client::HubArgs;

/// Send the published metadata and the assignments of a repository to a hub, which hands them to nodes.
///
/// The hub takes only what a node would believe; no key goes there.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    #[command(flatten)]
    hub: HubArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let authorities = args.hub.authorities()?;
    let login = args.hub.token()?.map(|password| Login { user: "selvedge".to_owned(), password });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let announced =
        runtime.block_on(announce(&args.repository, &args.hub.hub, login.as_ref(), authorities))?;
    let mut out = io::stdout();
    match announced.sent.is_empty() {
        true => writeln!(out, "the hub has all {} files", announced.there)?,
        false => writeln!(out, "sent {}", announced.sent.join(", "))?,
    }
    Ok(())
}
