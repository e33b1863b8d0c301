//! What is played of a release beside what runs, and what comes of it.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use hub::experiment::draft::{Draft, plan};
use hub::experiment::plan::{Bound, Harm, Plan, Shadow, What};
use hub::experiment::split::{place, ring};
use hub::experiment::text;
use hub::rollout::plan::{Rate, Target};
use node::install::cap::Cap;
use package::name::ModelName;
use package::trust::shadow::Limits;
use serde::Deserialize;
use wire::hash::Hash;
use wire::select::Selector;

use crate::sim::files;
use crate::sim::fleet::{Fleet, HOUR_MS, START_MS};
use crate::sim::release::Flaw;
use crate::sim::setup::Faults;

/// The release that nodes run, and the one that answers beside it.
pub(crate) const BASE: u64 = 6;
pub(crate) const CANDIDATE: u64 = 7;

/// How a release is watched: `policy.toml`. What is not told is as `selvedge experiment new --shadow` has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) group: String,
    /// How many per cent of the group take part.
    pub(crate) percent: u8,
    /// Of how many per cent of the answers that can be compared it gives its own.
    pub(crate) share: f64,
    /// How many per cent of a core it may take in a minute.
    pub(crate) core: f64,
    pub(crate) joules: Option<u32>,
    /// So many answers are enough of one node.
    pub(crate) answers: u32,
    /// In how many per cent of answers it may say something else.
    pub(crate) effect: f64,
    /// So many answers of all nodes are enough.
    pub(crate) enough: u32,
    /// So many nodes must have told.
    pub(crate) nodes: u32,
    /// How often it may decide wrongly, in per cent.
    pub(crate) alpha: f64,
    pub(crate) for_hours: u32,
    pub(crate) max_failed: u32,
    pub(crate) nodes_per_min: u32,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            group: "all".to_owned(),
            percent: 100,
            share: 10.0,
            core: 5.0,
            joules: None,
            answers: 1000,
            effect: 5.0,
            enough: 100_000,
            nodes: 3,
            alpha: 5.0,
            for_hours: 14 * 24,
            max_failed: 2,
            nodes_per_min: 0,
        }
    }
}

impl Policy {
    /// Makes a plan of it.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let ppm = |percent: f64| (percent * 1e4).round() as u32;
        ensure!((1..=100).contains(&self.percent), "percent is 1 to 100");
        let index = Hash::of(&CANDIDATE.to_be_bytes());
        let model = ModelName::new("model").context("a model's name")?;
        let shadow = Shadow {
            release: Target { model, release: CANDIDATE, index, size: 1 << 20, variant: None },
            to: ring(self.percent),
            limits: Limits {
                share_ppm: ppm(self.share),
                core_ppm: ppm(self.core),
                joules: self.joules,
                memory_bytes: None,
                answers: self.answers,
            },
            bound: Bound {
                max_ppm: ppm(self.effect),
                answers: self.enough,
                nodes: self.nodes,
                alpha_ppm: ppm(self.alpha),
            },
        };
        let for_s = self.for_hours.saturating_mul(3600);
        let wanted = Draft {
            what: What::Shadow(shadow),
            group: self.group.clone(),
            for_s,
            harm: Harm { max_failed: self.max_failed, p0_ppm: 5000, alpha_ppm: 10_000 },
            rate: Rate { bytes_per_s: 0, nodes_per_min: self.nodes_per_min },
            allow_rollback: false,
            valid_s: for_s.saturating_add(7 * 86_400),
            created_by: "sim".to_owned(),
            note: String::new(),
        };
        plan(wanted, 1, START_MS).context("the policy cannot be followed")
    }
}

/// Reads a plan of `selvedge experiment new --shadow`, or a policy: a file that ends in `.toml`.
pub(crate) fn read(file: &Path) -> anyhow::Result<Plan> {
    if file.extension().is_some_and(|extension| extension == "toml") {
        return files::read::<Policy>(file)?.plan();
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut plan = text::read(&bytes).with_context(|| format!("{} is no plan", file.display()))?;
    if plan.shadow().is_none() {
        bail!("{} compares two arms: a release beside what runs is what can be rehearsed", file.display());
    }
    // It begins when the simulation does.
    plan.created_ms = START_MS;
    Ok(plan)
}

/// With which chance an answer parts, on which share of nodes; without a share: on all others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Parts {
    pub(crate) chance: f64,
    pub(crate) of_nodes: Option<f64>,
}

/// `0.02`, `0.2:0.1`.
impl FromStr for Parts {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Parts> {
        let share = |text: &str| -> anyhow::Result<f64> {
            let share: f64 = text.parse().with_context(|| format!("{text:?} is no share"))?;
            ensure!((0.0..=1.0).contains(&share), "a share is 0 to 1, {share} is not");
            Ok(share)
        };
        Ok(match text.split_once(':') {
            Some((chance, of_nodes)) => Parts { chance: share(chance)?, of_nodes: Some(share(of_nodes)?) },
            None => Parts { chance: share(text)?, of_nodes: None },
        })
    }
}

/// How nodes are asked, and how the release answers.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    /// How often a node is asked in an hour for what could be compared, in the mean; nodes differ.
    pub(crate) asked_an_hour: f64,
    /// What an answer takes on one thread, in seconds, in the mean.
    pub(crate) took_s: f64,
    /// What a machine uses meanwhile, where that is measured.
    pub(crate) watts: Option<f64>,
    pub(crate) parts: Vec<Parts>,
}

impl Answers {
    /// The chance of a node of this lot.
    pub(crate) fn chance(&self, lot: f64) -> f64 {
        let mut until = 0.0;
        for parts in &self.parts {
            if let Some(of_nodes) = parts.of_nodes {
                until += of_nodes;
                if lot < until {
                    return parts.chance;
                }
            }
        }
        let rest = self.parts.iter().find(|parts| parts.of_nodes.is_none());
        rest.map_or(0.0, |parts| parts.chance)
    }
}

/// What owners of nodes allow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Owners {
    /// The share of them that lets nothing answer beside what runs.
    pub(crate) forbid: f64,
    /// The share that allows at most this.
    pub(crate) cap: Option<(f64, Cap)>,
}

/// A mistake that a node could make; each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The budget is not looked at.
    BlankPurse,
    /// The order to answer beside what runs is taken for one to serve.
    Serves,
    /// The way back is not taken.
    Keeps,
}

/// What is played.
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    pub(crate) fleet: Fleet,
    pub(crate) answers: Answers,
    pub(crate) flaws: Vec<Flaw>,
    pub(crate) faults: Faults,
    pub(crate) owners: Owners,
    /// How long a run may take, in virtual time.
    pub(crate) most_ms: i64,
    /// A mistake on purpose.
    pub(crate) mutant: Option<Mutant>,
    /// The places among all nodes of those that the plan means.
    pub(crate) meant: Vec<usize>,
}

impl Setup {
    /// A setup with everything usual.
    pub(crate) fn new(plan: Plan, fleet: Fleet, answers: Answers) -> anyhow::Result<Setup> {
        let group = Selector::parse(&plan.group)?;
        let is_meant = |node: &crate::sim::fleet::Resident| {
            group.has(&node.facts) && plan.arm_of(place(&plan, &node.name)).is_some()
        };
        let meant = fleet.nodes.iter().enumerate().filter(|(_, node)| is_meant(node)).map(|(at, _)| at);
        let meant: Vec<usize> = meant.collect();
        let most_ms = i64::from(plan.for_s) * 1000 + 24 * HOUR_MS;
        let (faults, owners) = (Faults::default(), Owners::default());
        Ok(Setup { plan, fleet, answers, flaws: Vec::new(), faults, owners, most_ms, mutant: None, meant })
    }
}

/// What came of a run.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Night {
    pub(crate) seed: u64,
    /// The verdict in words; absent: it was not over in time.
    pub(crate) verdict: Option<String>,
    pub(crate) why: String,
    /// Whether it says the truth of the answers that were compared; absent: it says nothing.
    pub(crate) right: Option<bool>,
    /// The same of all answers that all nodes that are meant would give.
    pub(crate) right_of_fleet: Option<bool>,
    /// The mean chance of an answer that was compared, and told in time.
    pub(crate) truth: Option<f64>,
    /// The mean chance over all that is asked where the plan means.
    pub(crate) truth_of_fleet: f64,
    /// From its start to the verdict.
    pub(crate) took_ms: i64,
    /// How many nodes told.
    pub(crate) nodes: u32,
    pub(crate) compared: u64,
    pub(crate) skipped: u64,
    /// How many records of single disagreements nodes wrote.
    pub(crate) disagreements: u64,
    /// What it took of a core, on all nodes.
    pub(crate) core_s: f64,
    /// What the busiest node gave of one core, while it was watched there.
    pub(crate) busiest: f64,
    /// Of machines that measure it.
    pub(crate) joules: Option<f64>,
    /// How many nodes fetched it.
    pub(crate) fetched: u32,
    pub(crate) failed: u32,
    /// A line an event, if that was asked for.
    #[serde(skip)]
    pub(crate) lines: Vec<String>,
}
