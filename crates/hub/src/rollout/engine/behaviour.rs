//! How nodes behave with a release and without: troubles for test B, figures for test C.

use wire::body::Behaviour;
use wire::world::WallMs;

use crate::rollout::engine::{Active, Engine, Seen};
use crate::rollout::figures::{Hour, Sampled, Told};
use crate::rollout::plan::{PlanId, Target};
use crate::rollout::step::{Event, NodeNo, Sample};

impl Active {
    /// Whether the open wave's gate compares figures.
    fn compares(&self) -> bool {
        let gate = self.plan.gate(self.rollout.wave);
        self.rollout.phase.is_open() && gate.alpha_ppm > 0 && !gate.compare.is_empty()
    }

    /// What a node is in the comparison of figures.
    fn sampled(&mut self, node: NodeNo, seen: &Seen) -> Option<Sampled> {
        let treated = self.members.contains_key(&node);
        if !treated && !self.fit(node, seen).in_group {
            return None;
        }
        let runs = |target: &Target| {
            let slot = seen.slots.iter().find(|slot| slot.model == target.model.as_str())?;
            slot.manifest.filter(|_| (slot.current == Some(target.release)) == treated)
        };
        Some(Sampled { treated, runs: self.plan.what.iter().map(runs).collect() })
    }
}

impl Engine {
    /// A node is in trouble, as it says or as its silence does: it started again without having been told to, a rule of its own
    /// fired, it went into safe mode. What it tells late counts only for waves that were open when it happened.
    pub fn troubled(&mut self, node: NodeNo, at_ms: WallMs, now_ms: WallMs) {
        let is_of_now = |active: &Active| at_ms >= active.rollout.since_ms;
        let ids: Vec<PlanId> =
            self.rollouts.iter().filter(|(_, it)| is_of_now(it)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.trouble(id, node, now_ms));
    }

    /// A node told how a model behaved for a while that began at `at_ms`.
    pub fn behaved(&mut self, node: NodeNo, behaviour: &Behaviour, at_ms: WallMs, hour: &Hour) {
        for active in self.rollouts.values_mut() {
            let is_it = |target: &Target| target.model.as_str() == behaviour.model;
            if let (Some(told), Some(at)) = (&mut active.told, active.plan.what.iter().position(is_it)) {
                told.hear(node, at, behaviour.manifest, at_ms, hour);
            }
        }
    }

    /// The rollouts whose open wave compares figures that are not in memory, and when the wave opened.
    pub fn unread(&self) -> Vec<(PlanId, WallMs)> {
        let mut unread = Vec::new();
        for (id, active) in &self.rollouts {
            let since_ms = active.rollout.since_ms;
            if active.compares() && active.told.as_ref().is_none_or(|told| told.since_ms() != since_ms) {
                unread.push((*id, since_ms));
            }
        }
        unread
    }

    /// Takes in what nodes told of a rollout's models.
    pub fn recall(&mut self, id: PlanId, told: Told) {
        if let Some(active) = self.rollouts.get_mut(&id) {
            active.told = Some(told);
        }
    }

    /// Compares the figures of those that have a release with those of the others, once a minute.
    pub(super) fn weigh(&mut self, id: PlanId, now_ms: WallMs) {
        let Some(active) = self.rollouts.get_mut(&id).filter(|active| active.compares()) else { return };
        let Some(mut told) = active.told.take() else { return };
        let is_new = told.since_ms() == active.rollout.since_ms && told.is_due(now_ms);
        let gate = active.plan.gate(active.rollout.wave);
        let metrics: Vec<&str> = gate.compare.iter().map(|one| one.metric.as_str()).collect();
        let who = |node| active.sampled(node, self.fleet.get(&node)?);
        let figures = is_new.then(|| told.arms(&metrics, who, now_ms));
        active.told = Some(told);
        if let Some(figures) = figures.filter(|figures| *figures != active.rollout.tests.figures) {
            self.step(id, Event::Behaved(Sample::Figures(figures)), now_ms);
        }
    }

    /// Counts what befell a node of the group for the test against the hold-out.
    pub(super) fn trouble(&mut self, id: PlanId, node: NodeNo, now_ms: WallMs) {
        let (Some(active), Some(seen)) = (self.rollouts.get(&id), self.fleet.get(&node)) else { return };
        let Some(view) = active.rollout.seen.filter(|_| active.rollout.phase.is_open()) else { return };
        let treated = active.members.contains_key(&node);
        if treated || active.group.has(&seen.facts) {
            let of_treated = u32::try_from(active.members.len()).unwrap_or(u32::MAX);
            let sample = Sample::Trouble { treated, of_treated, of_held_out: view.held_out };
            self.step(id, Event::Behaved(sample), now_ms);
        }
    }
}
