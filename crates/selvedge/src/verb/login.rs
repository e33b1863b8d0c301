//! `selvedge login`: which hub the other verbs ask, and as whom.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use reqwest::Url;
use serde_json::Value;

use crate::hub_client::{HubClient, word};
use crate::login::{self, Login};
use crate::passphrase;

/// Sign in at a hub: the verbs that ask a hub ask this one from then on.
///
/// The address, the token and who vouches for the hub's certificate are kept in ~/.config/selvedge/hub.toml, which nobody else can
/// read. --hub, --token-file and the variables SELVEDGE_HUB and SELVEDGE_TOKEN_FILE go before it; the token goes to that hub alone.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge login --hub https://hub.example.org                         asks for the token
  selvedge login --hub https://hub.example.org --token-file ann.token --ca hub-ca.pem
  selvedge login --hub http://127.0.0.1:8420 --open                    a hub that asks for no token")]
pub(crate) struct Args {
    /// The hub's address.
    #[arg(long, value_name = "URL", env = "SELVEDGE_HUB")]
    hub: Url,

    /// A file with your token; without it the token is asked for.
    #[arg(long, value_name = "FILE", env = "SELVEDGE_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// The hub asks for no token.
    #[arg(long, conflicts_with = "token_file")]
    open: bool,

    /// A file with certificates of authorities that vouch for the hub, beside those of the system.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Print who you are there as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let path = login::path().context("neither HOME nor XDG_CONFIG_HOME says where your settings are")?;
    let token = match (&args.token_file, args.open) {
        (_, true) => None,
        (Some(file), _) => Some(login::read_token(file)?),
        (None, _) => Some(passphrase::ask_token(args.hub.as_str())?.trim().to_owned()),
    };
    let ca = args.ca.as_deref().map(login::read_authorities).transpose()?;
    let authorities = ca.as_deref().map_or(Ok(Vec::new()), login::certificates)?;
    // What does not work is not kept.
    let me = HubClient::new(args.hub.clone(), token.clone(), authorities)?.get("/api/v1/me")?;
    login::keep(&path, &Login { url: args.hub.to_string(), token, ca })?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&me)?)?;
        return Ok(());
    }
    let role = me.get("role").and_then(Value::as_str).unwrap_or("nobody");
    let name = word(&me, "name");
    writeln!(out, "{} is {role} at {}", name.strip_prefix("operator:").unwrap_or(name), args.hub)?;
    writeln!(out, "{} says so to the other verbs", path.display())?;
    Ok(())
}
