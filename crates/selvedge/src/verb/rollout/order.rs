//! Orders to a rollout: start, pause, resume, approve, skip-unknown, abort, revert.

use std::io::{self, Write as _};

use serde_json::json;

use super::ask;
use crate::hub_client::HubArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The rollout: its id, or the first digits of it.
    rollout: String,

    /// Why; it stands in the audit log.
    #[arg(long, value_name = "WORDS", default_value = "")]
    why: String,

    #[command(flatten)]
    hub: HubArgs,

    /// Print how the rollout stands as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(order: &str, args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let id = ask::id(&hub, &args.rollout)?;
    let done = hub.post(&format!("{}/order", ask::path(id)), &json!({ "do": order, "why": args.why }))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&done)?)?;
        return Ok(());
    }
    let phase = done.get("phase").and_then(serde_json::Value::as_str).unwrap_or_default();
    writeln!(out, "rollout {id} is {phase}")?;
    for need in ask::words(&done, "needs") {
        writeln!(out, "it waits for {need}")?;
    }
    Ok(())
}
