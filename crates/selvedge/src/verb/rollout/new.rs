//! `selvedge rollout new`: a plan for the nodes that there are.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use hub::rollout::text;
use package::disk::system::System as Disk;
use package::disk::write_whole;
use serde_json::{Value, json};

use super::show::previewed;
use crate::hub_client::HubArgs;

/// Plan a rollout: which releases, to whom, how carefully. Nothing is kept at the hub.
///
/// The hub counts who is meant and cuts the waves; the plan is a file that says all of it, and its hash is the rollout's id. Gates
/// may be edited in it before it is created.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge rollout new smollm2:7 --where all
  selvedge rollout new smollm2:7 --where 'site == \"oslo\" && ram >= 2GiB' --policy careful --when 'mon-fri 22:00-05:00'
  selvedge rollout new smollm2:7 --where group.pumps --canary pump-1 --canary pump-2 --max-unavailable site=1")]
pub(crate) struct Args {
    /// What goes about: smollm2:7; several models if need be.
    #[arg(value_name = "NAME:NUMBER", required = true)]
    releases: Vec<String>,

    /// To whom: an expression over what nodes say of themselves, or a saved group, group.NAME.
    #[arg(long = "where", value_name = "EXPRESSION")]
    group: String,

    /// How carefully: usual, careful or emergency.
    #[arg(long, value_name = "WORD", default_value = "usual", value_parser = ["usual", "careful", "emergency"])]
    policy: String,

    /// A node that goes first; several if need be.
    #[arg(long, value_name = "NODE")]
    canary: Vec<String>,

    /// What nodes go back to; without it what most of them run now.
    #[arg(long, value_name = "NAME:NUMBER", conflicts_with = "no_revert")]
    revert: Vec<String>,

    /// Where it stops, it stops: nobody goes back.
    #[arg(long)]
    no_revert: bool,

    /// When nodes may change, by their own clocks: 'mon-fri 22:00-05:00'.
    #[arg(long, value_name = "DAYS HOURS")]
    when: Option<String>,

    /// The share of nodes that changes last, in per cent, so that the others can be compared with it.
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    hold_out: u8,

    /// How many nodes with the same value of a label may be away at once: site=1.
    #[arg(long, value_name = "LABEL=N", value_parser = parse_budget)]
    max_unavailable: Vec<(String, u32)>,

    /// How many nodes get it in a minute, at most.
    #[arg(long, value_name = "N", default_value_t = 0)]
    nodes_per_min: u32,

    /// How many bytes a second go out, at most.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    bytes_per_s: u64,

    /// How long each gate looks before the next wave, in seconds, if not as long as the policy says.
    #[arg(long, value_name = "SECONDS")]
    soak: Option<u32>,

    /// How many others than you must approve it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    approvals: u8,

    /// The release may be older than what nodes have.
    #[arg(long)]
    allow_rollback: bool,

    /// How many days its documents hold.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    valid: u32,

    /// Why; people read it.
    #[arg(long, value_name = "WORDS", default_value = "")]
    note: String,

    /// Where the plan goes.
    #[arg(short, long, value_name = "FILE", default_value = "plan.json")]
    output: PathBuf,

    #[command(flatten)]
    hub: HubArgs,

    /// Print plan and preview as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_budget(word: &str) -> Result<(String, u32), String> {
    let budget =
        word.split_once('=').and_then(|(label, count)| Some((label.to_owned(), count.parse().ok()?)));
    budget.filter(|(label, _)| !label.is_empty()).ok_or_else(|| "it reads like site=1".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let budget = |(by, count): &(String, u32)| json!({ "by": by, "max_unavailable": count });
    let revert = match (args.no_revert, args.revert.is_empty()) {
        (true, _) => json!([]),
        (false, true) => Value::Null,
        (false, false) => json!(args.revert),
    };
    let draft = json!({
        "what": args.releases, "group": args.group, "policy": args.policy, "canary": args.canary, "revert": revert,
        "when": args.when, "hold_out_percent": args.hold_out,
        "budget": args.max_unavailable.iter().map(budget).collect::<Vec<_>>(),
        "nodes_per_min": args.nodes_per_min, "bytes_per_s": args.bytes_per_s, "soak_s": args.soak,
        "approvals": args.approvals, "allow_rollback": args.allow_rollback,
        "valid_s": args.valid.saturating_mul(86_400), "note": args.note,
    });
    let made = hub.post("/api/v1/plans/draft", &draft)?;
    let plan = made.get("plan").context("the hub made no plan")?;
    let plan = text::read(&serde_json::to_vec(plan)?).context("the hub's plan cannot be read here")?;
    write_whole(&Disk, &args.output, &text::write(&plan))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&made)?)?;
        return Ok(());
    }
    write!(out, "{}", previewed(&made))?;
    let path = args.output.display();
    writeln!(
        out,
        "{path} is the plan of rollout {}; `selvedge rollout create {path}` gives it to the hub",
        text::id(&plan)
    )?;
    Ok(())
}
