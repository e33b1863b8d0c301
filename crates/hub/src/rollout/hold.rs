//! A model on a node that takes part in an experiment: what rollouts and other experiments find there.

use package::name::ModelName;

use crate::rollout::plan::PlanId;

/// A model on a node that takes part in an experiment.
#[derive(Debug)]
pub struct Held {
    /// The experiment.
    pub by: PlanId,
    /// The model.
    pub model: ModelName,
    /// Rollouts wait for it: they would change what is compared.
    pub alone: bool,
}
