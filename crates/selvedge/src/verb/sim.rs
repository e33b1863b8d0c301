//! `selvedge sim`: a rollout rehearsed on a simulated fleet, many times.

#[cfg(feature = "language")]
mod shadow;

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use hub::rollout::plan::{Plan, Target};
use hub::rollout::policy::Preset;
use hub::rollout::text;
use package::name::ModelName;
use wire::hash::Hash;

use crate::sim::files::{self, Policy, World};
use crate::sim::fleet::{Fleet, Mix, START_MS};
use crate::sim::night::play;
use crate::sim::picture;
use crate::sim::release::Flaw;
use crate::sim::report::Report;
use crate::sim::setup::{Faults, Night, Setup};

/// Rehearse a rollout on a simulated fleet: what it would stop, how far a bad release gets, how long a good one takes.
///
/// The machines that lead the rollout are the hub's own; nodes, network and power are a model of a few numbers. Every
/// run is checked after each event; --seed plays a run again, --events prints it.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[cfg(feature = "language")]
    #[command(subcommand)]
    other: Option<Other>,

    /// A plan, as `selvedge rollout new` writes it, or a policy: POLICY.toml; without it one of the preset, for all nodes.
    #[arg(value_name = "PLAN.json|POLICY.toml")]
    plan: Option<PathBuf>,

    /// What is wrong with the release, as a file: `[[flaw]]` with harm, share, only.
    #[arg(long, value_name = "FILE.toml")]
    release: Option<PathBuf>,

    /// The fleet and its faults, as a file: `[fleet]` with nodes, of_a_site, away, away_hours, office, ships, dead; `[faults]`
    /// with loss, power_cuts, by_itself.
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["nodes", "away", "office", "ships", "power_cuts"])]
    fleet: Option<PathBuf>,

    /// Without a plan: usual, careful or emergency.
    #[arg(long, default_value = "usual", value_parser = preset)]
    policy: Preset,

    /// Without a plan: which nodes are meant.
    #[arg(long, value_name = "EXPR", default_value = "all")]
    r#where: String,

    /// Without a plan: at most so many nodes in a minute.
    #[arg(long, value_name = "NODES", default_value_t = 0)]
    rate: u32,

    /// How many nodes the fleet has.
    #[arg(long, default_value_t = 10_000)]
    nodes: usize,

    /// The share of nodes that is away at any time, for some hours each.
    #[arg(long, value_name = "SHARE", default_value_t = 0.03)]
    away: f64,

    /// The share of nodes that keeps office hours.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    office: f64,

    /// The share of nodes at sea: three days away, one here.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    ships: f64,

    /// Power cuts of a node in a day.
    #[arg(long, value_name = "CUTS", default_value_t = 1.0 / 3.0)]
    power_cuts: f64,

    /// What is wrong with the release, how often, and where: crash:0.05, golden:1:'isa has "avx512"', slow=3:1; also
    /// reboot and silent. Without it the release is good.
    #[arg(long, value_name = "HARM:SHARE[:EXPR]")]
    bad: Vec<Flaw>,

    /// How often it is played.
    #[arg(long, default_value_t = 100)]
    runs: u64,

    /// The seed of the first run.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// End each run as soon as this wave has passed.
    #[arg(long, value_name = "WAVE")]
    until: Option<u32>,

    /// Print every event of the first run.
    #[arg(long)]
    events: bool,

    /// Draw the first run into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What else can be rehearsed.
#[cfg(feature = "language")]
#[derive(clap::Subcommand)]
enum Other {
    Shadow(shadow::Args),
}

fn preset(word: &str) -> Result<Preset, String> {
    Preset::parse(word).ok_or_else(|| "it is one of usual, careful and emergency".to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    #[cfg(feature = "language")]
    if let Some(Other::Shadow(args)) = &args.other {
        return shadow::run(args);
    }
    let world = match &args.fleet {
        Some(file) => files::read(file)?,
        None => World {
            fleet: Mix {
                nodes: args.nodes,
                away: args.away,
                office: args.office,
                ships: args.ships,
                ..Mix::default()
            },
            faults: Faults { power_cuts: args.power_cuts, ..Faults::default() },
        },
    };
    let fleet = Fleet::new(&world.fleet, args.seed);
    let plan = match &args.plan {
        Some(file) if file.extension().is_some_and(|extension| extension == "toml") => {
            files::read::<Policy>(file)?.plan(example(args), &fleet)?
        }
        Some(file) => {
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let mut plan = text::read(&bytes).with_context(|| format!("{} is no plan", file.display()))?;
            // It begins when the simulation does.
            plan.created_ms = START_MS;
            plan
        }
        None => fleet.plan(example(args), args.policy, 5)?,
    };
    let mut flaws = args.bad.clone();
    if let Some(file) = &args.release {
        flaws.extend(files::flaws(file)?);
    }
    let mut setup = Setup::new(plan, fleet, flaws)?;
    if setup.lots.is_empty() {
        bail!(
            "no simulated node is meant by {}; they say site (s0, s1, …), ram, isa (avx2, avx512) and version",
            setup.plan.group
        );
    }
    setup.faults = world.faults;
    setup.until_wave = args.until;
    let nights: Vec<Night> = (0..args.runs.max(1))
        .map(|run| play(&setup, args.seed.wrapping_add(run), args.events && run == 0))
        .collect::<anyhow::Result<_>>()
        .context("something happened that must never be; --seed with --runs 1 --events plays it again")?;
    let report = Report::new(&nights, setup.fleet.nodes.len(), setup.lots.len());
    if let (Some(file), Some(first)) = (&args.svg, nights.first()) {
        let svg = picture::svg(first, setup.lots.len());
        std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut out = io::stdout().lock();
    for line in nights.first().map(|first| first.lines.as_slice()).unwrap_or_default() {
        writeln!(out, "{line}")?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(())
}

/// Release 7 of a model for nodes that run release 6.
fn example(args: &Args) -> Plan {
    let target = |release: u64| Target {
        model: ModelName::new("model").expect("a model's name"),
        release,
        index: Hash::of(&release.to_be_bytes()),
        size: 1 << 30,
        variant: None,
    };
    let mut plan = Plan::to_all(vec![target(7)], vec![target(6)], "sim", START_MS);
    (plan.group, plan.hold_out_percent) = (args.r#where.clone(), 5);
    plan.rate.nodes_per_min = args.rate;
    plan
}
