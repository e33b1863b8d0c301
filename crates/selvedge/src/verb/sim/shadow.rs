//! `selvedge sim shadow`: a release beside what runs, rehearsed on a simulated fleet, many times.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::sim::files::{self, World};
use crate::sim::fleet::{Fleet, Mix};
use crate::sim::release::Flaw;
use crate::sim::setup::Faults;
use crate::sim::shadow::night::play;
use crate::sim::shadow::report::Report;
use crate::sim::shadow::setup::{Answers, Night, Owners, Parts, Policy, Setup, read};

/// Rehearse an experiment in which a release answers beside what runs: what it would cost the fleet, when it would be over, and how
/// often its verdict would be right.
///
/// Hub and nodes are the real machines, budgets and bounds too; people, the release's answers, network and power are a model of a few
/// numbers. Every run is checked after each event; --seed plays a run again, --events prints it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge sim shadow                                        # as planned by default; one answer in a hundred parts
  selvedge sim shadow experiment.json --parts 0.02 --parts 0.5:0.05 --asked 20 --took 8
  selvedge sim shadow policy.toml --bad crash:0.01 --forbid 0.2 --watts 15")]
pub(crate) struct Args {
    /// A plan, as `selvedge experiment new --shadow` writes it, or a policy: POLICY.toml with any of group, percent, share, core, joules,
    /// answers, effect, enough, nodes, alpha, for_hours, max_failed, nodes_per_min. Without it all as that verb has it.
    #[arg(value_name = "PLAN.json|POLICY.toml")]
    plan: Option<PathBuf>,

    /// With which chance an answer parts, and on which share of nodes; without a share: on all others.
    #[arg(long, value_name = "CHANCE[:SHARE]", default_value = "0.01")]
    parts: Vec<Parts>,

    /// How often a node is asked in an hour for what could be compared, in the mean.
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    asked: f64,

    /// How many seconds an answer takes the release on one thread, in the mean.
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    took: f64,

    /// What a machine uses while it answers, where that is measured; without it none measures it.
    #[arg(long, value_name = "WATTS")]
    watts: Option<f64>,

    /// What is wrong with the release, how often, and where: golden:0.01, crash:0.05, reboot:0.01, silent:0.001, slow=3:1.
    #[arg(long, value_name = "HARM:SHARE[:EXPR]")]
    bad: Vec<Flaw>,

    /// The share of nodes whose owners let nothing answer beside what runs.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    forbid: f64,

    /// The fleet and its faults, as a file: see `selvedge sim --help`.
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["nodes", "away", "power_cuts"])]
    fleet: Option<PathBuf>,

    /// How many nodes the fleet has.
    #[arg(long, default_value_t = 200)]
    nodes: usize,

    /// The share of nodes that is away at any time, for some hours each.
    #[arg(long, value_name = "SHARE", default_value_t = 0.03)]
    away: f64,

    /// Power cuts of a node in a day.
    #[arg(long, value_name = "CUTS", default_value_t = 1.0 / 3.0)]
    power_cuts: f64,

    /// How often it is played.
    #[arg(long, default_value_t = 20)]
    runs: u64,

    /// The seed of the first run.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Print every event of the first run.
    #[arg(long)]
    events: bool,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let world = match &args.fleet {
        Some(file) => files::read(file)?,
        None => World {
            fleet: Mix { nodes: args.nodes, away: args.away, ..Mix::default() },
            faults: Faults { power_cuts: args.power_cuts, ..Faults::default() },
        },
    };
    for (name, number) in [("asked", args.asked), ("took", args.took), ("watts", args.watts.unwrap_or(1.0))] {
        if !(number.is_finite() && number > 0.0) {
            bail!("--{name} is a number above 0");
        }
    }
    let plan = match &args.plan {
        Some(file) => read(file)?,
        None => Policy::default().plan()?,
    };
    let (parts, watts) = (args.parts.clone(), args.watts);
    let answers = Answers { asked_an_hour: args.asked, took_s: args.took, watts, parts };
    let mut setup = Setup::new(plan, Fleet::new(&world.fleet, args.seed), answers)?;
    if setup.meant.is_empty() {
        bail!(
            "no simulated node is meant by {}; they say site (s0, s1, …), ram, isa (avx2, avx512) and version",
            setup.plan.group
        );
    }
    (setup.faults, setup.flaws) = (world.faults, args.bad.clone());
    setup.owners = Owners { forbid: args.forbid, cap: None };
    let nights: Vec<Night> = (0..args.runs.max(1))
        .map(|run| play(&setup, args.seed.wrapping_add(run), args.events && run == 0))
        .collect::<anyhow::Result<_>>()
        .context("something happened that must never be; --seed with --runs 1 --events plays it again")?;
    let report = Report::new(&nights, setup.fleet.nodes.len(), setup.meant.len());
    let mut out = io::stdout().lock();
    for line in nights.first().map(|first| first.lines.as_slice()).unwrap_or_default() {
        writeln!(out, "{line}")?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{}\n\n{report}", setup.plan)?;
    }
    Ok(())
}
