//! What this node is ordered to run, by the assignments that it accepted.
//!
//! The trust state becomes durable before the slots hear of an order, and a power cut may fall between. So orders are not
//! delivered once: at every start, and whenever something was accepted, all that stand are offered again. The slots take
//! what they have for nothing new.

use std::collections::BTreeMap;

use package::disk::Disk;
use package::name::{ModelName, VariantName};
use package::trust::Policy;
use package::trust::assignment::{Assignment, NodeFacts, Ordered, prefer, standing};
use package::trust::state::TrustState;
use wire::world::WallMs;

use crate::install::state::Order;

/// The orders that stand, one for each model that any assignment names.
pub fn orders<D: Disk>(
    state: &TrustState<D>,
    policy: &Policy,
    node: NodeFacts<'_>,
    clock_ms: WallMs,
) -> BTreeMap<ModelName, Order> {
    let assignments = standing(state.trusted(), policy, node, clock_ms);
    let mut chosen: BTreeMap<&ModelName, &Assignment> = BTreeMap::new();
    for assignment in &assignments {
        for ordered in &assignment.models {
            let best = chosen.entry(&ordered.model).or_insert(assignment);
            *best = prefer(best, assignment);
        }
    }
    let order = |(model, assignment): (&ModelName, &Assignment)| {
        let ordered = assignment.models.iter().find(|ordered| ordered.model == *model)?;
        Some((model.clone(), order_of(assignment, ordered, state.sequence())?))
    };
    chosen.into_iter().filter_map(order).collect()
}

/// `None` for a variant of a name that no variant has.
fn order_of(assignment: &Assignment, ordered: &Ordered, trust_sequence: u64) -> Option<Order> {
    Some(Order {
        release: ordered.release,
        index: ordered.index.into(),
        variant: ordered.variant.as_deref().map(VariantName::new).transpose().ok()?,
        allow_rollback: ordered.allow_rollback,
        forgive: ordered.forgive.then(|| format!("{}/{}", assignment.id, assignment.head.version)),
        trust_sequence,
    })
}
