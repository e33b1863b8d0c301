//! `selvedge hub adopt`: after a backup was restored, what nodes know that the hub does not, and believing them.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::hub_client::HubArgs;
use crate::recording::show_time;
use crate::sure::is_sure;
use crate::table::{Side, Table};

/// Show both sides after a backup was restored; believe the nodes, and let in keys that the restored database does not know.
///
/// Nodes that know more than the hub get nothing from it until somebody has looked. Adoption raises the hub's revision and the waves
/// of rollouts to what the nodes report; nothing is taken back on any node. It stands in the audit log.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge hub adopt --plan                                  both sides, and what would be done
  selvedge hub adopt --yes --why 'disk of the hub replaced'
  selvedge hub adopt --yes --keys                            and all keys of our authority that knock")]
pub(crate) struct Args {
    /// Show both sides, and end.
    #[arg(long, conflicts_with = "yes")]
    plan: bool,

    /// Do not ask.
    #[arg(long)]
    yes: bool,

    /// Let all keys in, too, that this hub's authority vouches for, but those that were denied since the backup.
    #[arg(long)]
    keys: bool,

    /// Let this key in, 64 digits; several if need be.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,

    /// Why; it stands in the audit log.
    #[arg(long, value_name = "WORDS", default_value = "")]
    why: String,

    #[command(flatten)]
    hub: HubArgs,

    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let view = hub.get("/api/v1/recovery")?;
    let mut out = io::stdout().lock();
    if args.plan {
        match args.json {
            true => writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?,
            false => show(&mut out, &view)?,
        }
        return Ok(());
    }
    if view["behind"] != true {
        writeln!(out, "no node knows more than the hub: there is nothing to adopt")?;
        return Ok(());
    }
    if !args.yes {
        show(&mut io::stderr().lock(), &view)?;
        if !is_sure("Believe the nodes?")? {
            return Ok(());
        }
    }
    let ask = json!({ "adopt": true, "all_keys": args.keys, "keys": args.key, "why": args.why });
    let done = hub.post("/api/v1/recovery", &ask)?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&done)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{} nodes are believed, {} rollouts raised, {} keys let in",
        done["nodes"], done["rollouts"], done["keys"]
    )?;
    Ok(())
}

/// Both sides, for people.
fn show(out: &mut impl io::Write, view: &Value) -> anyhow::Result<()> {
    let word =
        |value: &Value| value.as_str().unwrap_or("-").chars().filter(|c| !c.is_control()).collect::<String>();
    let each = |name: &str| view[name].as_array().cloned().unwrap_or_default();
    let unknown = |out: &mut dyn io::Write| -> anyhow::Result<()> {
        for it in each("unknown") {
            writeln!(
                out,
                "rollout {} is not known here, and {} nodes name it: create it anew from its plan, upload its documents, \
                 and adopt after that",
                word(&it["id"]),
                it["nodes"]
            )?;
        }
        Ok(())
    };
    if view["behind"] != true {
        writeln!(out, "no node knows more than the hub")?;
        return unknown(out);
    }
    let (hub, nodes) = (&view["hub"], &view["nodes"]);
    let mut sides = Table::new([
        ("", Side::Left),
        ("hub", Side::Left),
        ("revision", Side::Right),
        ("log entries", Side::Right),
    ]);
    for (name, side) in [("this hub", hub), ("its nodes", nodes)] {
        sides.row([
            name.to_owned(),
            word(&side["hub"]),
            side["revision"].to_string(),
            side["log"].to_string(),
        ]);
    }
    writeln!(out, "{sides}\n{} nodes know more than the hub", view["count"])?;
    for node in each("ahead").iter().take(20) {
        writeln!(out, "  {}: {}", word(&node["node"]), word(&node["why"]))?;
    }
    for it in each("rollouts") {
        writeln!(
            out,
            "rollout {}: {} in wave {} becomes {} in wave {}, as {} nodes say",
            word(&it["id"]),
            word(&it["phase"]),
            it["wave"],
            word(&it["phase_after"]),
            it["wave_after"],
            it["nodes"]
        )?;
    }
    unknown(out)?;
    if view["lost"]["count"] != 0 {
        writeln!(
            out,
            "{} entries of the audit log came back; what they did is not done again:",
            view["lost"]["count"]
        )?;
    }
    for act in view["lost"]["acts"].as_array().into_iter().flatten().take(20) {
        let when = act["at_ms"].as_i64().map_or_else(String::new, show_time);
        writeln!(out, "  {when}  {}  {}  {}", word(&act["who"]), word(&act["act"]), word(&act["on"]))?;
    }
    for key in each("keys") {
        let denied = if key["denied"] == true { ", denied since the backup" } else { "" };
        writeln!(out, "key {} of {} knocks and is not known{denied}", word(&key["key"]), word(&key["node"]))?;
    }
    Ok(())
}
