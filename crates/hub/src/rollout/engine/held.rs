//! What experiments hold on nodes: rollouts leave a model alone there, unless it is an emergency; and the other way round.

use package::name::ModelName;
use wire::world::WallMs;

use crate::rollout::engine::{AWAKE_MS, Engine};
use crate::rollout::hold::Held;
use crate::rollout::member::Standing;
use crate::rollout::plan::{Lane, Plan, PlanId};
use crate::rollout::step::{NodeNo, Phase};

impl Engine {
    /// An experiment holds a model on a node; `alone`: rollouts wait for it.
    pub fn hold(&mut self, node: NodeNo, model: &ModelName, id: PlanId, alone: bool) {
        let held = self.held.entry(node).or_default();
        if !held.iter().any(|held| held.by == id) {
            held.push(Held { by: id, model: model.clone(), alone });
        }
    }

    /// An experiment is over.
    pub fn let_go(&mut self, id: PlanId) {
        self.held.retain(|_, held| {
            held.retain(|held| held.by != id);
            !held.is_empty()
        });
    }

    /// The experiment, other than `but`, that holds a model on a node.
    pub fn holder(&self, node: NodeNo, model: &ModelName, but: Option<PlanId>) -> Option<PlanId> {
        let held = self.held.get(&node)?;
        held.iter().find(|held| held.model == *model && Some(held.by) != but).map(|held| held.by)
    }

    /// The rollout of a model that is under way on a node.
    pub fn under_way(&self, node: NodeNo, model: &ModelName) -> Option<PlanId> {
        let is_it = |(_, active): &(&PlanId, &super::Active)| {
            let Some(member) = active.members.get(&node) else { return false };
            let comes = member.standing.is_pending() || member.standing == Standing::Unknown;
            let goes = active.rollout.phase == Phase::Reverting && member.standing.is_out();
            let same = active.plan.what.iter().any(|target| target.model == *model);
            active.is_active() && same && (comes || goes)
        };
        self.rollouts.iter().find(is_it).map(|(id, _)| *id)
    }

    /// What a node shall do changes: the revision that says so.
    pub fn change(&mut self, node: NodeNo) -> u64 {
        self.desired += 1;
        if let Some(seen) = self.fleet.get_mut(&node) {
            seen.state.revision = self.desired;
        }
        self.changes.nodes.insert(node);
        self.desired
    }

    /// Whether a node was heard of in the last hour.
    pub fn is_awake(&self, node: NodeNo, now_ms: WallMs) -> bool {
        self.fleet.get(&node).is_some_and(|seen| now_ms.saturating_sub(seen.seen_ms) < AWAKE_MS)
    }

    /// The experiment that keeps a rollout from a node.
    pub(super) fn kept_by(&self, node: NodeNo, plan: &Plan) -> Option<(PlanId, Lane)> {
        let is_it = |held: &&Held| held.alone && plan.what.iter().any(|target| target.model == held.model);
        let holder = self.held.get(&node)?.iter().find(is_it)?;
        Some((holder.by, Lane::Normal))
    }
}
