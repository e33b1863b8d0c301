//! Takes out the branches of a graph whose condition is known once its shapes are.
//!
//! Exporters write `If` where a shape decides (is this dimension 1? then squeeze it), and the two branches then give other shapes,
//! which tract does not take. With numbers for shapes the condition is a constant: the branch that is taken moves to the place of
//! the `If`, and the other goes.

use std::collections::{BTreeSet, HashMap};

use tract_onnx::ops::logic::If;
use tract_onnx::prelude::{InferenceFact, InferenceModel, InferenceModelExt, TractResult};
use tract_onnx::tract_hir::internal::{Factoid, InletId, OutletId, TVec};

/// The most branches that are taken out of one graph.
const BRANCHES_MAX: usize = 4096;

/// Takes out what is known; the graph's facts are inferred on the way.
pub(super) fn taken(model: &mut InferenceModel) -> TractResult<()> {
    for _ in 0..BRANCHES_MAX {
        // A branch that is not taken may be wrong for these shapes: what can be inferred is enough.
        drop(model.analyse(true));
        let known = model.eval_order()?.into_iter().find_map(|node| {
            let branch = model.nodes[node].op_as::<If>()?;
            let condition = model.outlet_fact(*model.nodes[node].inputs.first()?).ok()?.value.concretize()?;
            let holds = condition.cast_to_scalar::<bool>().ok()?;
            Some((node, holds, branch.clone()))
        });
        let Some((node, holds, branch)) = known else { return Ok(()) };
        take(model, node, holds, branch)?;
    }
    Ok(())
}

/// Puts the nodes of a branch into the place of the `If` at `node`.
fn take(model: &mut InferenceModel, node: usize, holds: bool, branch: If) -> TractResult<()> {
    let If { then_body, else_body, .. } = branch;
    // What branches take from outside stands behind the condition, sorted by name: both branches' names, each once.
    let names = |body: &InferenceModel| -> Vec<String> {
        body.inputs.iter().map(|outlet| body.nodes[outlet.node].name.clone()).collect()
    };
    let outside: BTreeSet<String> = names(&then_body).into_iter().chain(names(&else_body)).collect();
    let outer = model.nodes[node].inputs.clone();
    let body = if holds { then_body } else { else_body };
    let mut now: HashMap<OutletId, OutletId> = HashMap::new();
    for (name, inner) in names(&body).iter().zip(&body.inputs) {
        let place = outside.iter().position(|other| other == name);
        if let Some(outer) = place.and_then(|place| outer.get(place + 1)) {
            now.insert(*inner, *outer);
        }
    }
    let prefix = model.nodes[node].name.clone();
    let order = body.eval_order()?;
    for inner in order {
        if body.inputs.iter().any(|input| input.node == inner) {
            continue;
        }
        let is_constant = body.nodes[inner].inputs.is_empty();
        let facts: TVec<InferenceFact> = body.nodes[inner]
            .outputs
            .iter()
            // What was inferred within the branch was inferred for branches; only constants are what they are.
            .map(|output| if is_constant { output.fact.clone() } else { InferenceFact::default() })
            .collect();
        let count = facts.len();
        let name = format!("{prefix}.{}", body.nodes[inner].name);
        let id = model.add_node(name, body.nodes[inner].op.clone(), facts)?;
        for (slot, input) in body.nodes[inner].inputs.iter().enumerate() {
            model.add_edge(now[input], InletId::new(id, slot))?;
        }
        now.extend((0..count).map(|slot| (OutletId::new(inner, slot), OutletId::new(id, slot))));
    }
    for (slot, inner) in body.outputs.iter().enumerate() {
        let (old, new) = (OutletId::new(node, slot), now[inner]);
        for inlet in model.nodes[node].outputs[slot].successors.clone() {
            model.add_edge(new, inlet)?;
        }
        model.outputs.iter_mut().filter(|output| **output == old).for_each(|output| *output = new);
    }
    Ok(())
}
