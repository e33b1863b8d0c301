//! `selvedge rollout renew`: what a rollout hands out ends one day; another one, which says the same, goes on from there.
//!
//! Documents follow from their plan, with the day on which they end. So what ends later is a new plan: the same releases, to the
//! same nodes, through the same gates. Nodes that have the release have nothing to do; those that come back find one that holds.

use std::io::{self, Write as _};

use hub::rollout::documents;
use hub::rollout::plan::{Kind, Plan};
use hub::rollout::text;
use package::trust::sign::Signer;
use serde_json::json;
use wire::world::{Clock as _, System, WallMs};

use super::sign::seal_all;
use super::{ask, documents as files};
use crate::complaint::Usage;
use crate::hub_client::{HubArgs, word};
use crate::keys::{Keys, Unlocked};
use crate::recording::show_time;
use crate::sure::is_sure;

/// A wave that ends within this is renewed.
const WAVES_SOON_MS: i64 = 14 * 86_400_000;
/// A document that stays and ends within this is renewed.
const STANDING_SOON_MS: i64 = 90 * 86_400_000;

/// Renew a rollout whose documents end soon: the same plan from today on, signed and given to the hub.
///
/// It goes by a new id, and waits to be started. When it is done, the older one hands out nothing more.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge rollout renew 9f3c --key assigner.age
  selvedge rollout renew 9f3c --key assigner.age --start --why 'the old one ends in May'")]
pub(crate) struct Args {
    /// The rollout: its id, or the first digits of it.
    rollout: String,

    #[command(flatten)]
    keys: Keys,

    /// Also if nothing ends soon.
    #[arg(long)]
    now: bool,

    /// Start it, too.
    #[arg(long)]
    start: bool,

    /// Why; people read it.
    #[arg(long, value_name = "WORDS", default_value = "")]
    why: String,

    /// Do not ask.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    hub: HubArgs,

    /// Print how the new rollout stands as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    if args.keys.files.is_empty() {
        return Err(Usage("with which key? --key FILE.age, one of the role assignments".to_owned()).into());
    }
    let old = ask::plan(&hub, &args.rollout)?;
    let old_id = text::id(&old);
    let phase = hub.get(&ask::path(old_id))?;
    let is_done = word(&phase, "phase") == "done";
    let now_ms = System::new().wall_ms();
    let ends_ms = ends(&old, is_done);
    if !args.now && !ends_soon(ends_ms, is_done, now_ms) {
        let until = show_time(ends_ms);
        return Err(Usage(format!(
            "its documents hold until {until} UTC: nothing ends soon; --now renews it"
        ))
        .into());
    }
    let me = hub.get("/api/v1/me")?;
    let new = renewed(&old, word(&me, "name"), now_ms, &args.why);
    new.check()?;
    let planned = documents::of(&new);
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(out, "rollout {}, in the place of {old_id}\n{new}", text::id(&new))?;
    }
    if !args.yes && !is_sure(&format!("sign {} documents?", planned.len()))? {
        anyhow::bail!("nothing was signed");
    }
    let keys = args.keys.unlock()?;
    let signers: Vec<&dyn Signer> = keys.iter().map(Unlocked::signer).collect();
    let signed = seal_all(&planned, &signers)?;
    hub.post("/api/v1/rollouts", &serde_json::from_slice(&text::write(&new))?)?;
    let at = ask::path(text::id(&new));
    let mut stands = hub.put(&format!("{at}/documents"), files::body(&signed)?)?;
    if args.start {
        stands = hub.post(&format!("{at}/order"), &json!({ "do": "start", "why": args.why }))?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&stands)?)?;
        return Ok(());
    }
    let until = show_time(ends(&new, true));
    writeln!(
        out,
        "rollout {} is {}; what stays holds until {until} UTC",
        word(&stands, "id"),
        word(&stands, "phase")
    )?;
    if !args.start {
        writeln!(out, "start it: selvedge rollout start {}", word(&stands, "id"))?;
    }
    Ok(())
}

/// When what a rollout hands out ends: what stays, once it is done; its waves before.
fn ends(plan: &Plan, is_done: bool) -> WallMs {
    let of = documents::of(plan).into_iter();
    let standing =
        of.filter(|document| document.kind == Kind::Standing).map(|document| document.expires_ms).next();
    standing.filter(|_| is_done).unwrap_or_else(|| plan.expires_ms())
}

fn ends_soon(ends_ms: WallMs, is_done: bool, now_ms: WallMs) -> bool {
    let soon_ms = if is_done { STANDING_SOON_MS } else { WAVES_SOON_MS };
    ends_ms < now_ms.saturating_add(soon_ms)
}

/// The same plan, made now by `who`.
fn renewed(old: &Plan, who: &str, now_ms: WallMs, why: &str) -> Plan {
    let mut new = Plan {
        created_by: who.to_owned(),
        created_ms: now_ms - now_ms.rem_euclid(1000),
        note: if why.is_empty() { old.note.clone() } else { why.to_owned() },
        ..old.clone()
    };
    new.salt = text::salt(&new);
    new
}
