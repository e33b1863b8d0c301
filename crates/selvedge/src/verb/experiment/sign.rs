//! `selvedge experiment sign`: signs everything that an experiment can ever hand out, where the assigner's key is.

use std::io::{self, Write as _};

use hub::experiment::documents::of;
use hub::experiment::text;
use package::trust::assignment::seal;
use package::trust::sign::Signer;
use serde_json::Value;

use super::ask;
use crate::complaint::Usage;
use crate::hub_client::HubArgs;
use crate::keys::{Keys, Unlocked};
use crate::sure::is_sure;
use crate::verb::rollout::documents;

/// Sign an experiment: each arm, and the way back.
///
/// What is signed follows from the plan, byte for byte; it is reckoned here, not by the hub.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The experiment's id, or the first digits of it; or a file with its plan.
    experiment: String,

    #[command(flatten)]
    keys: Keys,

    /// Do not ask.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    hub: HubArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let plan = ask::plan(&hub, &args.experiment)?;
    let id = text::id(&plan);
    if args.keys.files.is_empty() {
        return Err(Usage("with which key? --key FILE.age, one of the role assignments".to_owned()).into());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "experiment {id}\n{plan}")?;
    let planned = of(&plan);
    let names: Vec<String> = planned.iter().map(|one| one.kind.to_string()).collect();
    if !args.yes && !is_sure(&format!("sign {} documents ({})?", planned.len(), names.join(", ")))? {
        anyhow::bail!("nothing was signed");
    }
    let keys = args.keys.unlock()?;
    let signers: Vec<&dyn Signer> = keys.iter().map(Unlocked::signer).collect();
    let mut signed = Vec::new();
    for one in planned {
        signed.push(seal(one.value, &signers)?);
    }
    let done = hub.put(&format!("{}/documents", ask::path(id)), documents::body(&signed)?)?;
    let phase = done.get("phase").and_then(Value::as_str).unwrap_or_default();
    writeln!(out, "the hub has {} signed documents; experiment {id} is {phase}", signed.len())?;
    if phase == "ready" {
        writeln!(out, "start it: selvedge experiment start {id}")?;
    }
    for need in ask::words(&done, "needs") {
        writeln!(out, "it waits for {need}")?;
    }
    Ok(())
}
