//! `selvedge rollout sign`: signs everything that a rollout can ever hand out, where the assigner's key is.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hub::rollout::documents::{Planned, check, of};
use hub::rollout::plan::{Kind, Plan};
use hub::rollout::text;
use package::trust::assignment::{countersign, seal};
use package::trust::envelope::Envelope;
use package::trust::sign::Signer;

use super::{ask, documents};
use crate::complaint::Usage;
use crate::hub_client::HubArgs;
use crate::keys::{Keys, Unlocked};
use crate::sure::is_sure;

/// Sign a rollout: every wave, every way back, and what stays.
///
/// What is signed follows from the plan, byte for byte; it is reckoned here, not by the hub. With a plan in a file and `-o`, no
/// network is needed: `upload` brings what was signed to the hub. Where two must sign, the second gives what the first one wrote.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge rollout sign 9f3c --key assigner.age                        at the hub, all of it
  selvedge rollout sign 9f3c --key assigner.age --waves 1              the first wave alone; it waits there for the others
  selvedge rollout sign plan.json --key ann.age -o signed.json         without a network
  selvedge rollout sign plan.json --key bob.age --with signed.json -o signed.json
  selvedge rollout upload 9f3c signed.json")]
pub(crate) struct Args {
    /// The rollout's id, or the first digits of it; or a file with its plan.
    rollout: String,

    #[command(flatten)]
    keys: Keys,

    /// Only these waves, with their ways back: 1,2. Wave 0 are the canaries. What stays is signed with the last.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    waves: Vec<u32>,

    /// What somebody else has signed: our signatures join those.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,

    /// Write what was signed into a file instead of giving it to the hub.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Do not ask.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    hub: HubArgs,
}

/// Give the hub what was signed elsewhere.
#[derive(clap::Args)]
pub(crate) struct Upload {
    /// The rollout's id, or the first digits of it.
    rollout: String,

    /// What `rollout sign -o` wrote.
    file: PathBuf,

    #[command(flatten)]
    hub: HubArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let plan = ask::plan(&hub, &args.rollout)?;
    let id = text::id(&plan);
    if args.keys.files.is_empty() {
        return Err(Usage("with which key? --key FILE.age, one of the role assignments".to_owned()).into());
    }
    let kinds = wanted(&plan, &args.waves)?;
    let mut out = io::stdout().lock();
    writeln!(out, "rollout {id}\n{plan}")?;
    let kinds_shown: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    let question = format!("sign {} documents ({})?", kinds.len(), kinds_shown.join(", "));
    if !args.yes && !is_sure(&question)? {
        anyhow::bail!("nothing was signed");
    }
    let keys = args.keys.unlock()?;
    let signers: Vec<&dyn Signer> = keys.iter().map(Unlocked::signer).collect();
    let signed = sign(&plan, &kinds, &signers, args.with.as_deref())?;
    if let Some(path) = &args.output {
        documents::write(path, &signed)?;
        let path = path.display();
        writeln!(
            out,
            "{} documents in {path}; `selvedge rollout upload {id} {path}` brings them to the hub",
            signed.len()
        )?;
        return Ok(());
    }
    let done = hub.put(&format!("{}/documents", ask::path(id)), documents::body(&signed)?)?;
    told(&mut out, &done, signed.len())
}

pub(super) fn upload(args: &Upload) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let id = ask::id(&hub, &args.rollout)?;
    let signed = documents::read(&args.file)?;
    let done = hub.put(&format!("{}/documents", ask::path(id)), documents::body(&signed)?)?;
    told(&mut io::stdout().lock(), &done, signed.len())
}

fn told(out: &mut impl io::Write, done: &serde_json::Value, count: usize) -> anyhow::Result<()> {
    let word = |name: &str| done.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    writeln!(out, "the hub has {count} signed documents; rollout {} is {}", word("id"), word("phase"))?;
    if word("phase") == "ready" {
        writeln!(out, "start it: selvedge rollout start {}", word("id"))?;
    }
    for need in ask::words(done, "needs") {
        writeln!(out, "it waits for {need}")?;
    }
    Ok(())
}

/// Which documents: all, or those of some waves.
fn wanted(plan: &Plan, waves: &[u32]) -> anyhow::Result<BTreeSet<Kind>> {
    let all = of(plan).into_iter().map(|planned| planned.kind);
    if waves.is_empty() {
        return Ok(all.collect());
    }
    let (first, last) = (plan.first_wave(), plan.last_wave());
    if let Some(wave) = waves.iter().find(|wave| !(first..=last).contains(wave)) {
        return Err(Usage(format!("there is no wave {wave}: this plan has {first} to {last}")).into());
    }
    let mut kinds: BTreeSet<Kind> = waves.iter().flat_map(|wave| plan.needed(*wave)).collect();
    if waves.contains(&last) {
        kinds.insert(Kind::Standing);
    }
    Ok(kinds)
}

/// Signs all of them.
pub(super) fn seal_all(planned: &[Planned], signers: &[&dyn Signer]) -> anyhow::Result<Vec<Vec<u8>>> {
    planned.iter().map(|document| Ok(seal(document.value.clone(), signers)?)).collect()
}

/// Signs them, joining what others have signed.
fn sign(
    plan: &Plan,
    kinds: &BTreeSet<Kind>,
    signers: &[&dyn Signer],
    with: Option<&Path>,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let planned = of(plan);
    let mut others = Vec::new();
    for bytes in with.map(documents::read).transpose()?.unwrap_or_default() {
        let envelope = Envelope::read(&bytes)?;
        others.push((check(&planned, &envelope.signed)?.kind, bytes));
    }
    let mut all = Vec::new();
    for document in &planned {
        let theirs = others.iter().find(|(kind, _)| *kind == document.kind).map(|(_, bytes)| bytes);
        match (kinds.contains(&document.kind), theirs) {
            (true, None) => all.push(seal(document.value.clone(), signers)?),
            (true, Some(bytes)) => {
                let mut bytes = bytes.clone();
                for signer in signers {
                    bytes = countersign(Envelope::read(&bytes)?, *signer)?;
                }
                all.push(bytes);
            }
            (false, Some(bytes)) => all.push(bytes.clone()),
            (false, None) => {}
        }
    }
    Ok(all)
}
