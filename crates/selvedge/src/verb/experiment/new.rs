//! `selvedge experiment new`: a plan for the nodes that there are.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use hub::experiment::text;
use package::disk::system::System as Disk;
use package::disk::write_whole;
use serde_json::{Value, json};

use super::ask;
use crate::complaint::Usage;
use crate::hub_client::HubArgs;

/// Plan an experiment. Nothing is kept at the hub.
///
/// Each release runs on its part of the nodes, drawn by lot, until the figure decides, or time is over. The figure is looked at after
/// every node, and is still wrong no more often than `--alpha` says.
///
/// With `--shadow` one release answers beside what runs, on some of what is asked and within a budget; nobody is answered by it. It is
/// watched until it is known whether more than `--effect` per cent of its answers part from those that people got.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge experiment new smollm2:7 smollm2:8 --where 'site == \"oslo\"' --effect 5
  selvedge experiment new smollm2:7 smollm2:8 --where all --percent 20 --metric rss_bytes --at-end stay
  selvedge experiment new --shadow smollm2:8 --where all --share 10 --core 5 --effect 2")]
pub(crate) struct Args {
    /// The release of arm a: smollm2:7.
    #[arg(value_name = "NAME:NUMBER", required_unless_present = "shadow")]
    a: Option<String>,

    /// The release of arm b: smollm2:8.
    #[arg(value_name = "NAME:NUMBER", required_unless_present = "shadow")]
    b: Option<String>,

    /// Instead of two arms: the release that answers beside what runs.
    #[arg(
        long,
        value_name = "NAME:NUMBER",
        conflicts_with_all = ["a", "b", "metric", "better", "against", "at_end", "base"]
    )]
    shadow: Option<String>,

    /// With --shadow: of how many per cent of the answers that can be compared it gives its own.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    share: f64,

    /// With --shadow: how many per cent of one core's time it may take in a minute.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    core: f64,

    /// With --shadow: how many joules a machine may use in a minute while it answers, where that is measured.
    #[arg(long, value_name = "JOULES")]
    joules: Option<u32>,

    /// With --shadow: how many bytes of memory it may take.
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,

    /// With --shadow: how many answers of all nodes are enough, decided or not.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    enough: u32,

    /// With --shadow: how many nodes must have told before anything is decided. None of them may have told of more than 2/(N+1) of all
    /// answers: half, if it is three.
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: u32,

    /// Among whom: an expression over what nodes say of themselves, or a saved group, group.NAME.
    #[arg(long = "where", value_name = "EXPRESSION")]
    group: String,

    /// How many per cent of them take part.
    #[arg(long, value_name = "PERCENT", default_value_t = 100)]
    percent: u8,

    /// What decides: p50_ms, p95_ms, rss_bytes, joules, drift, failed_share or abstained_share.
    #[arg(long, value_name = "FIGURE", default_value = "p95_ms")]
    metric: String,

    /// Which way it is better.
    #[arg(long, value_name = "WAY", default_value = "down", value_parser = ["down", "up"])]
    better: String,

    /// The least difference that matters, in per cent; with --shadow: of how many answers that part.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    effect: f64,

    /// How often it may decide wrongly, in per cent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    alpha: f64,

    /// After how many requests a node's figure is taken; with --shadow: how many answers of a node are enough.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    answers: u32,

    /// Against what a node's figure is held: itself on its last day before, or others alone.
    #[arg(long, value_name = "WHOM", default_value = "itself", value_parser = ["itself", "others"])]
    against: String,

    /// What nodes run once it is decided: back to what they had, or stay with what they have.
    #[arg(long, value_name = "WHAT", default_value = "back", value_parser = ["back", "stay"])]
    at_end: String,

    /// What nodes go back to; without it what most of them run now.
    #[arg(long, value_name = "NAME:NUMBER")]
    base: Option<String>,

    /// How long it takes at most, in seconds; without it 14 days.
    #[arg(long = "for", value_name = "SECONDS")]
    for_s: Option<u32>,

    /// One failing node more than this, in an arm, stops it.
    #[arg(long, value_name = "N", default_value_t = 2)]
    max_failed: u32,

    /// How many nodes get a release in a minute, at most.
    #[arg(long, value_name = "N", default_value_t = 0)]
    nodes_per_min: u32,

    /// How many bytes a second go out, at most.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    bytes_per_s: u64,

    /// The releases may be older than what nodes have.
    #[arg(long)]
    allow_rollback: bool,

    /// Why; people read it.
    #[arg(long, value_name = "WORDS", default_value = "")]
    note: String,

    /// Where the plan goes.
    #[arg(short, long, value_name = "FILE", default_value = "experiment.json")]
    output: PathBuf,

    #[command(flatten)]
    hub: HubArgs,

    /// Print plan and preview as JSON.
    #[arg(long)]
    json: bool,
}

/// Per cent as parts of a million.
fn ppm(percent: f64, name: &str) -> anyhow::Result<u32> {
    let parts = (percent * 1e4).round();
    if !(0.0..=1e9).contains(&parts) {
        return Err(Usage(format!("--{name} {percent} is no share in per cent")).into());
    }
    Ok(parts as u32)
}

/// What is asked of the hub, and where.
fn draft(args: &Args) -> anyhow::Result<(&'static str, Value)> {
    let (effect, alpha) = (ppm(args.effect, "effect")?, ppm(args.alpha, "alpha")?);
    if let Some(release) = &args.shadow {
        let draft = json!({
            "release": release, "share_ppm": ppm(args.share, "share")?, "core_ppm": ppm(args.core, "core")?,
            "joules": args.joules, "memory_bytes": args.memory, "answers": args.answers, "max_ppm": effect,
            "enough": args.enough, "nodes": args.nodes, "alpha_ppm": alpha, "group": args.group, "percent": args.percent,
            "for_s": args.for_s, "max_failed": args.max_failed, "nodes_per_min": args.nodes_per_min,
            "bytes_per_s": args.bytes_per_s, "allow_rollback": args.allow_rollback, "note": args.note,
        });
        return Ok(("/api/v1/experiments/draft/shadow", draft));
    }
    let draft = json!({
        "a": args.a, "b": args.b, "metric": args.metric, "better": args.better, "against": args.against,
        "at_end": args.at_end, "answers": args.answers,
        "min_effect_ppm": effect, "alpha_ppm": alpha,
        "group": args.group, "percent": args.percent, "base": args.base, "for_s": args.for_s,
        "max_failed": args.max_failed, "nodes_per_min": args.nodes_per_min, "bytes_per_s": args.bytes_per_s,
        "allow_rollback": args.allow_rollback, "note": args.note,
    });
    Ok(("/api/v1/experiments/draft", draft))
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (path, draft) = draft(args)?;
    let hub = args.hub.client()?;
    let made = hub.post(path, &draft)?;
    let plan = made.get("plan").context("the hub made no plan")?;
    let plan = text::read(&serde_json::to_vec(plan)?).context("the hub's plan cannot be read here")?;
    write_whole(&Disk, &args.output, &text::write(&plan))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&made)?)?;
        return Ok(());
    }
    let nodes = made.get("nodes").and_then(Value::as_u64).unwrap_or_default();
    let arms = made.get("arms").and_then(Value::as_array).into_iter().flatten();
    let arms: Vec<String> = arms.filter_map(Value::as_u64).map(|count| count.to_string()).collect();
    writeln!(out, "{plan}\n\n{nodes} nodes are meant; {} take part", arms.join(" and "))?;
    for problem in ask::words(&made, "problems") {
        writeln!(out, "it cannot go about like this: {problem}")?;
    }
    for warning in ask::words(&made, "warnings") {
        writeln!(out, "beware: {warning}")?;
    }
    let path = args.output.display();
    let id = text::id(&plan);
    writeln!(
        out,
        "{path} is the plan of experiment {id}; `selvedge experiment create {path}` gives it to the hub"
    )?;
    Ok(())
}
