//! What a plan would do to this fleet, before anybody signs it: who is in which wave, which variant each node would take
//! and why some take none, what runs now, and what the first wave would notice.
//!
//! A number here was counted on the nodes as they described themselves last. What a node has not said of itself it
//! cannot prove, so a variant that asks for it does not fit: the same rule as on the node.

use std::collections::BTreeMap;
use std::fmt;

use package::index::Release;
use wire::facts::{Fact, FactName, Facts};
use wire::select::{BadSelector, Selector};

use crate::fleet::coverage::cover;
use crate::rollout::offer::{is_canary, place};
use crate::rollout::plan::{Gate, Plan};
use crate::rollout::policy::{FIRST_WAVE, power};

/// One node, as the hub knows it.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it said of itself.
    pub facts: &'a Facts,
    /// Whether an assignment of its own goes before every rollout.
    pub pinned: bool,
    /// Whether it is in the penalty box now.
    pub boxed: bool,
}

/// What a plan would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Nodes that the hub knows.
    pub fleet: usize,
    /// Nodes of the group.
    pub members: usize,
    /// Canaries that the hub knows.
    pub canaries: usize,
    /// By wave.
    pub waves: Vec<Share>,
    /// What members run now of the first target's model, by release; `None`: they have not said.
    pub runs: BTreeMap<Option<u64>, usize>,
    /// Members by the variant that they would take; empty if no release was given.
    pub variants: BTreeMap<String, usize>,
    /// Members that would take none, by what they lack, most first.
    pub lacks: Vec<(String, usize)>,
    /// Members whose own assignment goes before.
    pub pinned: usize,
    /// Members in the penalty box.
    pub boxed: usize,
    /// Names in the expression that are labels: as strong as whoever sets them.
    pub labels: Vec<String>,
}

/// A wave's part of the members.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The first place behind its ring.
    pub to: u16,
    /// Members that it adds.
    pub members: usize,
    /// What its gate asks.
    pub gate: Gate,
}

/// Reckons a preview. `release`: of the first target, from its index.
pub fn preview(plan: &Plan, release: Option<&Release>, fleet: &[Known<'_>]) -> Result<Preview, BadSelector> {
    let group = Selector::parse(&plan.group)?;
    let members: Vec<&Known<'_>> = fleet.iter().filter(|node| group.has(node.facts)).collect();
    let mut waves: Vec<Share> =
        plan.waves.iter().map(|wave| Share { to: wave.to, members: 0, gate: wave.gate.clone() }).collect();
    let mut runs = BTreeMap::new();
    for node in &members {
        let place = place(plan, node.name);
        if let Some(wave) = waves.iter_mut().find(|wave| place < wave.to) {
            wave.members += 1;
        }
        *runs
            .entry(plan.what.first().and_then(|target| running(node.facts, target.model.as_str())))
            .or_insert(0) += 1;
    }
    let covered = release.map(|release| cover(release, members.iter().map(|node| node.facts)));
    let taken = covered.iter().flat_map(|covered| &covered.variants).filter(|(_, nodes)| *nodes > 0);
    let variants = taken.map(|(variant, nodes)| (variant.clone(), *nodes as usize)).collect();
    let lacks = covered.iter().flat_map(|covered| &covered.lacks);
    let lacks = lacks.map(|missing| (missing.reason.clone(), missing.nodes as usize)).collect();
    let is_label = |name: &FactName| name.label().is_some() || !name.is_reserved();
    Ok(Preview {
        fleet: fleet.len(),
        members: members.len(),
        canaries: fleet.iter().filter(|node| is_canary(plan, node.name)).count(),
        waves,
        runs,
        variants,
        lacks,
        pinned: members.iter().filter(|node| node.pinned).count(),
        boxed: members.iter().filter(|node| node.boxed).count(),
        labels: group.names().into_iter().filter(is_label).map(|name| name.as_str().to_owned()).collect(),
    })
}

/// The release of a model that a node said it runs.
fn running(facts: &Facts, model: &str) -> Option<u64> {
    let name = FactName::new(&format!("model.{model}")).ok()?;
    match facts.get(&name)? {
        Fact::Number(release) if *release >= 0.0 && release.fract() == 0.0 => Some(*release as u64),
        _ => None,
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} nodes", self.members, self.fleet)?;
        for (release, nodes) in &self.runs {
            match release {
                Some(release) => write!(f, "; {nodes} run release {release}")?,
                None => write!(f, "; {nodes} have not said what they run")?,
            }
        }
        writeln!(f)?;
        if self.canaries > 0 {
            writeln!(f, "  canaries {:>6} nodes", self.canaries)?;
        }
        for (at, wave) in self.waves.iter().enumerate() {
            write!(f, "  wave {:<3} {:>6} nodes   ring ..{:<6}", at + 1, wave.members, wave.to)?;
            if wave.gate.max_failed == 0 {
                let seen = power(wave.members, 0.05) * 100.0;
                write!(
                    f,
                    " stops at the 1st failure; would see a failure on 5 % of nodes in {seen:.1} of 100 cases"
                )?;
                if at == 0 && wave.members < FIRST_WAVE {
                    write!(f, " ({FIRST_WAVE} nodes see 99.5)")?;
                }
            } else {
                write!(f, " success >= {} %", f64::from(wave.gate.success_ppm) / 1e4)?;
            }
            writeln!(f, "; {} min", wave.gate.soak_s / 60)?;
        }
        for (variant, nodes) in &self.variants {
            writeln!(f, "  {nodes} would take variant {variant}")?;
        }
        if !self.lacks.is_empty() {
            let lacks: Vec<String> =
                self.lacks.iter().take(8).map(|(lack, nodes)| format!("{nodes}: {lack}")).collect();
            let none: usize = self.lacks.iter().map(|(_, nodes)| nodes).sum();
            writeln!(f, "  no variant fits {none} nodes ({})", lacks.join("; "))?;
        }
        if self.pinned > 0 {
            writeln!(f, "  {} nodes are pinned by assignments of their own", self.pinned)?;
        }
        if self.boxed > 0 {
            writeln!(f, "  {} nodes failed lately and wait in the penalty box", self.boxed)?;
        }
        if !self.labels.is_empty() {
            let labels = self.labels.join(", ");
            writeln!(
                f,
                "  the group asks for labels ({labels}): where the hub sets them, it decides who is meant"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use package::name::ModelName;
    use wire::hash::Hash;

    use super::*;
    use crate::rollout::plan::Target;
    use crate::rollout::policy::{Preset, waves};
    use crate::rollout::text;

    #[test]
    fn a_preview_counts_what_nodes_said() {
        let facts = |site: &str, release: Option<u64>| {
            let mut facts = Facts::default();
            let mut set = |name: &str, fact| facts.set(FactName::new(name).unwrap(), fact).unwrap();
            set("site", Fact::Text(site.to_owned()));
            if let Some(release) = release {
                set("model.smollm2", Fact::Number(release as f64));
            }
            facts
        };
        let kinds = [facts("oslo", Some(6)), facts("oslo", None), facts("bergen", Some(5))];
        let names: Vec<String> = (0..300).map(|n| format!("pump-{n}")).collect();
        let known =
            |at: usize| Known { name: &names[at], facts: &kinds[at % 3], pinned: at == 0, boxed: at == 1 };
        let fleet: Vec<Known<'_>> = (0..300).map(known).collect();
        let model = ModelName::new("smollm2").unwrap();
        let what = Target { model, release: 7, index: Hash::of(b"7"), size: 1, variant: None };
        let mut plan = Plan::to_all(vec![what], Vec::new(), "ann", 0);
        plan.group = "site == \"oslo\"".to_owned();
        plan.hold_out_percent = 5;
        plan.salt = text::salt(&plan);
        let mut places: Vec<u16> =
            (0..300).filter(|at| at % 3 != 2).map(|at| place(&plan, &names[at])).collect();
        places.sort_unstable();
        plan.waves = waves(Preset::Usual, &places, 5);
        let preview = preview(&plan, None, &fleet).unwrap();
        assert_eq!((preview.fleet, preview.members), (300, 200));
        assert_eq!(preview.runs, [(None, 100), (Some(6), 100)].into());
        assert_eq!(preview.waves.iter().map(|wave| wave.members).sum::<usize>(), 200);
        assert!((102..110).contains(&preview.waves[0].members), "{:?}", preview.waves[0]);
        assert_eq!((preview.pinned, preview.boxed), (1, 1));
        let text = preview.to_string();
        assert!(
            text.starts_with("200 of 300 nodes; 100 have not said what they run; 100 run release 6\n"),
            "{text}"
        );
        assert!(text.contains("in 99.") && text.contains("labels (site)"), "{text}");
    }
}
