//! `selvedge sim`: a rollout rehearsed on a simulated fleet, many times.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use hub::rollout::plan::{Lane, Plan, Rate, Target};
use hub::rollout::policy::Preset;
use hub::rollout::text;
use package::name::ModelName;
use wire::hash::Hash;

use crate::sim::fleet::{Fleet, Mix, START_MS};
use crate::sim::night::play;
use crate::sim::picture;
use crate::sim::release::Flaw;
use crate::sim::report::Report;
use crate::sim::setup::{Night, Setup};

/// Rehearse a rollout on a simulated fleet: what it would stop, how far a bad release gets, how long a good one takes.
///
/// The machines that lead the rollout are the hub's own; nodes, network and power are a model of a few numbers. Every
/// run is checked after each event; --seed plays a run again, --events prints it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A plan, as `selvedge rollout new` writes it; without it one of the preset, for all nodes.
    plan: Option<PathBuf>,

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

fn preset(word: &str) -> Result<Preset, String> {
    Preset::parse(word).ok_or_else(|| "it is one of usual, careful and emergency".to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mix =
        Mix { nodes: args.nodes, away: args.away, office: args.office, ships: args.ships, ..Mix::default() };
    let fleet = Fleet::new(&mix, args.seed);
    let plan = match &args.plan {
        Some(file) => {
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let mut plan = text::read(&bytes).with_context(|| format!("{} is no plan", file.display()))?;
            // It begins when the simulation does.
            plan.created_ms = START_MS;
            plan
        }
        None => fleet.plan(example(args), args.policy, 5)?,
    };
    let mut setup = Setup::new(plan, fleet, args.bad.clone())?;
    if setup.lots.is_empty() {
        bail!(
            "no simulated node is meant by {}; they say site (s0, s1, …), ram, isa (avx2, avx512) and version",
            setup.plan.group
        );
    }
    setup.faults.power_cuts = args.power_cuts;
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
    Plan {
        what: vec![target(7)],
        revert: vec![target(6)],
        group: args.r#where.clone(),
        canary: Vec::new(),
        waves: Vec::new(),
        hold_out_percent: 5,
        budget: Vec::new(),
        rate: Rate { nodes_per_min: args.rate, bytes_per_s: 0 },
        when: None,
        lane: Lane::Normal,
        valid_s: 30 * 86_400,
        revert_on_stop: true,
        approvals: 0,
        allow_rollback: false,
        created_by: "sim".to_owned(),
        created_ms: START_MS,
        note: String::new(),
        targets_version: 1,
        salt: [0; 8],
    }
}
