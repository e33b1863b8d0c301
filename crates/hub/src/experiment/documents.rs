//! Every assignment that an experiment can ever hand out: one for each arm, and one way back for all of them. They follow
//! from the plan, byte for byte, as those of a rollout do, and somebody's key signs them ahead.
//!
//! All carry the plan's id, so a node keeps one line of versions for them: from an arm to the way back, and never again to
//! an arm. The way back holds for whoever accepted a document of an arm, and nobody else. What answers beside the current release
//! is ordered by a word that nodes of before refuse; its way back orders nothing, so that nothing answers beside any more.

use package::trust::canonical::Value;
use package::trust::hex::to_hex;

use crate::experiment::plan::{Plan, Which};
use crate::experiment::text::id;
use crate::rollout::documents::{self, STANDING_MS, Words, assignment};
use crate::rollout::plan::PlanId;

/// A document that follows from a plan of an experiment.
pub type Planned = documents::Planned<Which>;

/// All documents of a plan, in the order in which they may be needed.
pub fn of(plan: &Plan) -> Vec<Planned> {
    let id = id(plan);
    plan.documents().into_iter().map(|which| planned(plan, id, which)).collect()
}

fn planned(plan: &Plan, id: PlanId, which: Which) -> Planned {
    let arms = plan.arms();
    let shadow = plan.shadow().map(|shadow| &shadow.limits);
    let arm = arms.iter().find(|arm| plan.opens(arm.at) == which);
    let ring = |from: u16, to: u16| {
        let (from, to) = (u64::from(from).into(), u64::from(to).into());
        ("ring", Value::object([("from", from), ("salt", to_hex(&plan.salt).into()), ("to", to)]))
    };
    let labels = ("labels", Value::object([]));
    let (targets, selector) = match arm {
        Some(arm) => {
            let expr = ("expr", plan.group.as_str().into());
            (std::slice::from_ref(arm.target), Value::object([labels, expr, ring(arm.from, arm.to)]))
        }
        None => {
            let to = arms.last().map_or(0, |arm| arm.to);
            let base = plan.two().map(|arms| std::slice::from_ref(&arms.base));
            (base.unwrap_or_default(), Value::object([labels, ring(0, to), ("after", 1u64.into())]))
        }
    };
    // Who comes back after a year must find a way.
    let expires_ms = if which == Which::Back { plan.created_ms + STANDING_MS } else { plan.expires_ms() };
    let words = Words {
        id,
        rollout: id,
        version: which.version(),
        created_ms: plan.created_ms,
        expires_ms,
        targets,
        shadow,
        rollback: plan.allow_rollback || which == Which::Back,
        selector,
        targets_version: plan.targets_version,
    };
    Planned { id, version: which.version(), kind: which, expires_ms, value: assignment(&words) }
}
