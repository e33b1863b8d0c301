//! From what somebody wants to a plan.

use wire::world::WallMs;

use crate::experiment::plan::{BadPlan, Harm, Plan, What};
use crate::experiment::split::place;
use crate::experiment::text::salt;
use crate::rollout::plan::Rate;

/// What somebody wants.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What is compared, with the rings of its arms.
    pub what: What,
    /// Which nodes take part.
    pub group: String,
    /// How long it takes at most, in seconds.
    pub for_s: u32,
    /// When it is stopped for its harm.
    pub harm: Harm,
    /// How fast documents go out.
    pub rate: Rate,
    /// Whether the releases may be older than what nodes have committed.
    pub allow_rollback: bool,
    /// How long its documents hold, in seconds.
    pub valid_s: u32,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    pub note: String,
}

/// Makes the plan. `now_ms` becomes the time at which it was made.
pub fn plan(draft: Draft, targets_version: u64, now_ms: WallMs) -> Result<Plan, BadPlan> {
    let mut plan = Plan {
        what: draft.what,
        group: draft.group,
        for_s: draft.for_s,
        harm: draft.harm,
        rate: draft.rate,
        allow_rollback: draft.allow_rollback,
        valid_s: draft.valid_s,
        created_by: draft.created_by,
        created_ms: now_ms - now_ms.rem_euclid(1000),
        note: draft.note,
        targets_version,
        salt: [0; 8],
    };
    plan.salt = salt(&plan);
    plan.check()?;
    Ok(plan)
}

/// How many of these nodes each arm has.
pub fn sizes<'a>(plan: &Plan, members: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut sizes = vec![0; plan.arms().len()];
    for name in members {
        let arm = plan.arm_of(place(plan, name)).and_then(|arm| sizes.get_mut(arm.at));
        if let Some(size) = arm {
            *size += 1;
        }
    }
    sizes
}
