//! A policy, a release and a fleet as files: what `selvedge sim` plays, written by people in TOML.
//!
//! ```toml
//! # policy.toml: to whom, in which waves
//! group = 'ram >= 2GiB'
//! nodes_per_min = 100
//! [[wave]]
//! percent = 1.0
//! least = 102          # nodes, whatever the share
//! soak_min = 60
//! [[wave]]
//! percent = 100.0      # the last one
//! max_unknown = 20
//!
//! # bad.toml: what is wrong with the release, how often, and where
//! [[flaw]]
//! harm = "crash"       # or golden, reboot, silent, slow=3
//! share = 0.05
//! only = 'isa has "avx512"'
//!
//! # fleet.toml: what there is, and what goes wrong by itself
//! [fleet]
//! nodes = 2000
//! away = 0.1
//! [faults]
//! power_cuts = 1.0     # a day and node
//! ```

use std::path::Path;

use anyhow::{Context as _, ensure};
use hub::rollout::plan::{Disruption, Gate, Lane, Plan, RING, Then, Wave};
use hub::rollout::policy::{Preset, members, ring};
use hub::rollout::text;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::sim::fleet::{Fleet, Mix};
use crate::sim::release::Flaw;
use crate::sim::setup::Faults;

/// How a release goes about.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    /// `usual`, `careful` or `emergency`; its waves are taken where the file has none.
    preset: Option<String>,
    group: Option<String>,
    lane: Option<Lane>,
    hold_out_percent: u8,
    nodes_per_min: u32,
    /// How many nodes of a site may be away at once.
    max_unavailable: Option<u32>,
    keeps_going: bool,
    wave: Vec<WaveToml>,
}

/// A wave; what is not told is as the first, or as a later one, usually has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveToml {
    percent: f64,
    #[serde(default)]
    least: usize,
    min_reports: Option<u32>,
    success_percent: Option<f64>,
    max_failed: Option<u32>,
    max_unknown: Option<u32>,
    soak_min: Option<u32>,
    patience_h: Option<u32>,
    alpha: Option<f64>,
    then: Option<Then>,
}

/// A fleet, and what goes wrong in it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct World {
    pub(crate) fleet: Mix,
    pub(crate) faults: Faults,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseToml {
    #[serde(default)]
    flaw: Vec<FlawToml>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlawToml {
    harm: String,
    share: f64,
    only: Option<String>,
}

/// Reads a file of any of the three kinds.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not what it should be", file.display()))
}

/// What is wrong with a release.
pub(crate) fn flaws(file: &Path) -> anyhow::Result<Vec<Flaw>> {
    let ReleaseToml { flaw } = read(file)?;
    let one = |it: FlawToml| {
        let only = it.only.map(|only| format!(":{only}")).unwrap_or_default();
        format!("{}:{}{only}", it.harm, it.share).parse()
    };
    flaw.into_iter().map(one).collect::<anyhow::Result<_>>().with_context(|| file.display().to_string())
}

impl Policy {
    /// Makes a plan of it for a fleet.
    pub(crate) fn plan(&self, mut plan: Plan, fleet: &Fleet) -> anyhow::Result<Plan> {
        if let Some(group) = &self.group {
            group.clone_into(&mut plan.group);
        }
        plan.lane = self.lane.unwrap_or(Lane::Normal);
        plan.rate.nodes_per_min = self.nodes_per_min;
        plan.revert_on_stop = !self.keeps_going;
        let budget = |max_unavailable| Disruption { by: "site".to_owned(), max_unavailable };
        plan.budget = self.max_unavailable.map(budget).into_iter().collect();
        let word = self.preset.as_deref().unwrap_or("usual");
        let preset = Preset::parse(word).context("preset is one of usual, careful and emergency")?;
        let mut plan = fleet.plan(plan, preset, self.hold_out_percent)?;
        if !self.wave.is_empty() {
            let places: Vec<u16> = fleet.lots(&plan)?.into_iter().map(|(place, _)| place).collect();
            plan.waves = self.waves(&places)?;
        }
        plan.check().context("the policy cannot be followed")?;
        debug_assert_eq!(text::salt(&plan), plan.salt);
        Ok(plan)
    }

    fn waves(&self, places: &[u16]) -> anyhow::Result<Vec<Wave>> {
        let mut waves: Vec<Wave> = Vec::new();
        for (at, wave) in self.wave.iter().enumerate() {
            ensure!((0.0..=100.0).contains(&wave.percent), "wave {}: percent is 0 to 100", at + 1);
            let is_last = at + 1 == self.wave.len();
            let to = if is_last { RING } else { ring(places, wave.percent, wave.least.max(1)) };
            let before = waves.last().map_or(0, |wave| wave.to);
            let inside = u32::try_from(members(places, to) - members(places, before)).unwrap_or(u32::MAX);
            let gate = match at {
                0 => Gate { min_reports: inside.clamp(1, 90), ..Gate::of_first_wave() },
                _ => Gate::of_later_wave(inside, 3600),
            };
            let ppm = |share: f64| (share.clamp(0.0, 1.0) * 1e6) as u32;
            let gate = Gate {
                min_reports: wave.min_reports.unwrap_or(gate.min_reports),
                success_ppm: wave.success_percent.map_or(gate.success_ppm, |percent| ppm(percent / 100.0)),
                max_failed: wave.max_failed.unwrap_or(gate.max_failed),
                max_unknown: wave.max_unknown.unwrap_or(gate.max_unknown),
                soak_s: wave.soak_min.map_or(gate.soak_s, |minutes| minutes.saturating_mul(60)),
                patience_s: wave.patience_h.map_or(gate.patience_s, |hours| hours.saturating_mul(3600)),
                alpha_ppm: wave.alpha.map_or(gate.alpha_ppm, ppm),
                then: wave.then.unwrap_or(gate.then),
                ..gate
            };
            waves.push(Wave { to, gate });
        }
        Ok(waves)
    }
}
