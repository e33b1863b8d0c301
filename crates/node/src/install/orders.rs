//! What this node is ordered to run, by the assignments that it accepted.
//!
//! The trust state becomes durable before the slots hear of an order, and a power cut may fall between. So orders are not
//! delivered once: at every start, and whenever something was accepted, all that stand are offered again. The slots take
//! what they have for nothing new. An order whose window is closed waits here, and is offered when it opens. An order to answer
//! beside what runs stands apart from the one that says what runs: each is the best of its kind.

use std::collections::BTreeMap;

use package::digest::Digest;
use package::disk::Disk;
use package::name::{ModelName, VariantName};
use package::trust::Policy;
use package::trust::assignment::{Assignment, NodeFacts, Ordered, prefer, standing};
use package::trust::state::TrustState;
use package::trust::window::Judged;
use wire::world::WallMs;

use crate::install::state::{Beside, Order};

/// What time it is for people here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The time, if the clock can be believed.
    pub now_ms: Option<WallMs>,
    /// How many seconds people here are ahead of UTC.
    pub offset_s: i32,
}

/// The orders that stand, one for each model that any assignment names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// To be followed now.
    pub due: BTreeMap<ModelName, Order>,
    /// Releases that shall answer beside the current one.
    pub beside: BTreeMap<ModelName, Order>,
    /// To be followed when their windows open.
    pub waiting: BTreeMap<ModelName, Waiting>,
}

/// An order whose window is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The release's index.
    pub index: Digest,
    /// In how long to look again, if that is known.
    pub in_ms: Option<i64>,
    /// Why it waits, for people.
    pub why: String,
}

/// The orders that stand.
pub fn orders<D: Disk>(
    state: &TrustState<D>,
    policy: &Policy,
    node: NodeFacts<'_>,
    clock_ms: WallMs,
    local: Local,
) -> Orders {
    let assignments = standing(state.trusted(), policy, node, clock_ms);
    let mut chosen: BTreeMap<(&ModelName, bool), (&Assignment, &Ordered)> = BTreeMap::new();
    for assignment in &assignments {
        for ordered in &assignment.models {
            let best =
                chosen.entry((&ordered.model, ordered.shadow.is_some())).or_insert((assignment, ordered));
            if !std::ptr::eq(best.0, assignment) && std::ptr::eq(prefer(best.0, assignment), assignment) {
                *best = (assignment, ordered);
            }
        }
    }
    let mut orders = Orders::default();
    for ((model, is_beside), (assignment, ordered)) in chosen {
        if is_beside {
            let order = order_of(assignment, ordered, state.sequence());
            orders.beside.extend(order.map(|order| (model.clone(), order)));
        } else if let Some((in_ms, why)) = waits(assignment, local) {
            let index = ordered.index.into();
            orders.waiting.insert(model.clone(), Waiting { index, in_ms, why });
        } else if let Some(order) = order_of(assignment, ordered, state.sequence()) {
            orders.due.insert(model.clone(), order);
        }
    }
    orders
}

/// Why an assignment's window is closed, and for how long.
fn waits(assignment: &Assignment, local: Local) -> Option<(Option<i64>, String)> {
    match assignment.when.as_ref()?.judge(local.now_ms, local.offset_s) {
        Judged::Now | Judged::Forced => None,
        Judged::In { ms } => {
            let minutes = (ms / 60_000).max(1);
            Some((Some(ms), format!("window: it opens in {} h {} min", minutes / 60, minutes % 60)))
        }
        Judged::NoTime => {
            Some((None, "window: no time, since this node's clock cannot be believed".to_owned()))
        }
    }
}

/// `None` for a variant of a name that no variant has.
fn order_of(assignment: &Assignment, ordered: &Ordered, trust_sequence: u64) -> Option<Order> {
    let word = || format!("{}/{}", assignment.id, assignment.head.version);
    Some(Order {
        release: ordered.release,
        index: ordered.index.into(),
        variant: ordered.variant.as_deref().map(VariantName::new).transpose().ok()?,
        allow_rollback: ordered.allow_rollback,
        forgive: ordered.forgive.then(word),
        rollout: assignment.rollout.clone(),
        beside: ordered.shadow.map(|limits| Beside { word: word(), limits, compared: 0, is_told: false }),
        trust_sequence,
    })
}
