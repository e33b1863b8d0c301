//! Looks at rules and interlocks on behalf of the actuators, a few times a second and whenever a rule changed its mind.
//!
//! What was not judged since the last look, because its sources were silent, is told as such: it neither renews anybody's word nor
//! holds an interlock open.

use std::collections::BTreeSet;

use wire::world::MonoNs;

use super::acting::Actors;
use crate::act::reins::{LOOK_NS, Reins};
use crate::decide::Rule;
use crate::flow::Flow;
use crate::flow::actuator::Interlock;
use crate::flow::rule::Standing;
use crate::pipeline::Pipeline;

/// What is looked at, and who is told.
pub(super) struct Reining {
    actors: Actors,
    reins: Reins,
    /// By actuator.
    interlocks: Vec<(usize, Interlock)>,
    /// Readings of each source at the last look.
    counts: Vec<u64>,
    looked_ns: MonoNs,
}

impl Reining {
    /// For the actuators of a flow.
    pub(super) fn new(flow: &Flow, actors: Actors) -> Reining {
        let interlocks = flow.actuators.iter().enumerate();
        let interlocks =
            interlocks.filter_map(|(at, config)| Some((at, config.interlock.clone()?))).collect();
        let (reins, counts) = (Reins::new(flow.thens.clone()), vec![0; flow.sources.len()]);
        Reining { actors, reins, interlocks, counts, looked_ns: 0 }
    }

    /// Another flow takes over; its actuators are the same.
    pub(super) fn follow(&mut self, flow: &Flow) {
        self.interlocks = interlocks(flow);
        self.counts = vec![0; flow.sources.len()];
        self.reins.follow(flow.thens.clone());
    }

    /// Looks, if it is time or `at_once`.
    pub(super) fn look(&mut self, pipeline: &Pipeline, now_ns: MonoNs, at_once: bool) {
        if !at_once && now_ns.saturating_sub(self.looked_ns) < LOOK_NS {
            return;
        }
        self.looked_ns = now_ns;
        let counts: Vec<u64> = (0..self.counts.len()).map(|source| pipeline.counts(source).0).collect();
        let stepped: BTreeSet<usize> =
            (0..counts.len()).filter(|source| counts[*source] != self.counts[*source]).collect();
        self.counts = counts;
        for (actuator, Interlock { when, sources }) in &self.interlocks {
            // One that speaks of no source is as true now as ever.
            if sources.is_empty() || !sources.is_disjoint(&stepped) {
                let latest = sources.iter().filter_map(|source| Some(pipeline.latest(*source)?.0)).max();
                self.actors.interlock(*actuator, when.holds(pipeline.board(), latest.unwrap_or_default()));
            }
        }
        let rule = |name: &wire::id::PartName| -> Option<&Rule> {
            pipeline.rules().iter().find(|rule| rule.config().name == *name)
        };
        let fires = |name: &wire::id::PartName| {
            let rule = rule(name)?;
            let is_judged = !rule.config().sources.is_disjoint(&stepped);
            is_judged.then(|| rule.standing() == Standing::Firing)
        };
        for pull in self.reins.look(fires, now_ns) {
            self.actors.pull(pull);
        }
    }
}

/// By actuator.
fn interlocks(flow: &Flow) -> Vec<(usize, Interlock)> {
    let all = flow.actuators.iter().enumerate();
    all.filter_map(|(at, config)| Some((at, config.interlock.clone()?))).collect()
}
